"""What an upstream's refusal means to the client: one mapping for all providers.

An error about the request keeps the upstream's words, cleaned of its host and our secret.
Everything else is told in our own words: error pages, hosts and credentials never reach a client.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from workers.errors import (
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from workers.units import HOUR_S

if TYPE_CHECKING:
    from workers.catalog.catalog import Deployment

MAX_WAIT_S = float(HOUR_S)
MAX_MESSAGE_CHARS = 1000

_REJECTED = (400, 413, 422)
_REJECTED_TYPES = ("invalid_request_error", "badrequesterror", "invalid_argument")
_RATE_LIMITED_WORDS = (
    "rate_limit",
    "ratelimit",
    "too_many_requests",
    "resource_exhausted",
    "slow_down",
)
_TIMED_OUT_WORDS = ("timeout", "deadline_exceeded")
_OVERLOADED_WORDS = ("overloaded", "unavailable", "server_error", "internal")
_NO_CREDIT_WORDS = ("insufficient_quota", "insufficient_credits", "billing", "credit_balance")
_NO_ACCESS_WORDS = ("authentication", "invalid_api_key", "permission", "unauthenticated")
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_PARAM = re.compile(r"[\w.\[\]-]{1,200}")
_TOO_LONG = re.compile(
    r"max(imum)? context|context[ _](length|window|size)|prompt is too long|too many tokens",
    re.IGNORECASE,
)
_KEY_TROUBLE = re.compile(
    r"(invalid|incorrect) api[ _-]?key|api[ _-]?key\b.{0,20}(not valid|invalid|expired)",
    re.IGNORECASE,
)
_NO_CREDIT = re.compile(
    r"credit balance is too low|insufficient (balance|credit|funds|quota)", re.IGNORECASE
)

CREDENTIALS_REFUSED = "The gateway's credentials for this model's upstream were refused."
NO_CREDIT = "The gateway's account with this model's upstream has no credit left."
MODEL_UNKNOWN = (
    "This model's upstream does not know it under the name that the gateway is configured with."
)


class Problem(NamedTuple):
    """An error as an upstream tells it; `status` is an HTTP status where its `code` is one."""

    message: str
    type: str = ""
    code: str | None = None
    param: str | None = None
    status: int | None = None


def find_problem(body: bytes) -> Problem | None:
    """Find the error in a JSON body of any of the shapes that upstreams use.

    OpenAI `{"error": {...}}`, `{"error": "..."}`, vLLM `{"object": "error", "message": ...}`,
    `{"message": ...}`, FastAPI `{"detail": ...}`, and Google's, which may be a list of one.
    """
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(told, list) and told:
        told = told[0]
    return read_problem(told)


def read_problem(told: Any) -> Problem | None:
    """Find the error in decoded JSON; see `find_problem`."""
    if not isinstance(told, dict):
        return None
    error = told.get("error") or told.get("detail")
    if isinstance(error, dict):
        told = {**told, **error}
    elif isinstance(error, str):
        told = {**told, "message": error}
    elif isinstance(error, list):
        told = {**told, "message": "; ".join(filter(None, map(_validation_words, error)))}
    message = told.get("message")
    if not isinstance(message, str) or not message.strip():
        if not error:
            return None
        message = ""
    code, kind, param = told.get("code"), told.get("type") or told.get("status"), told.get("param")
    return Problem(
        message,
        type=kind if isinstance(kind, str) else "",
        code=code if isinstance(code, str) and _CODE.fullmatch(code) else None,
        param=param if isinstance(param, str) and _PARAM.fullmatch(param) else None,
        status=_status(code) or _status(told.get("status")),
    )


def _validation_words(item: Any) -> str:
    """Put one of FastAPI's validation errors (`loc`, `msg`) in words."""
    if not isinstance(item, dict) or not isinstance(item.get("msg"), str):
        return ""
    place = ".".join(str(step) for step in item.get("loc") or () if step != "body")
    return f"{place}: {item['msg']}" if place else str(item["msg"])


def _status(code: Any) -> int | None:
    if isinstance(code, str) and code.isdecimal() and len(code) == 3:
        code = int(code)
    return code if type(code) is int and 400 <= code <= 599 else None


def refused(
    status: int, headers: Mapping[str, str], body: bytes, deployment: Deployment
) -> UpstreamError:
    """Map an HTTP answer that is not a completion. `headers` have lower-case names."""
    if 300 <= status < 400:
        return UpstreamError(
            "The upstream of this model answered with a redirect, which is not followed."
        )
    problem = find_problem(body)
    return _mapped(status, problem or Problem(""), deployment, retry_after_s(headers))


def told_in_band(problem: Problem, deployment: Deployment) -> UpstreamError:
    """Map an error that came with status 200, in a stream or as its only JSON."""
    words = f"{problem.type} {problem.code or ''}".lower()
    status = problem.status
    if status is None:
        status = next(
            (status for status, marks in _STATUS_BY_WORDS if any(m in words for m in marks)), 0
        )
    return _mapped(status, problem, deployment, None)


_STATUS_BY_WORDS = (
    (402, _NO_CREDIT_WORDS),
    (429, _RATE_LIMITED_WORDS),
    (401, _NO_ACCESS_WORDS),
    (400, _REJECTED_TYPES),
    (504, _TIMED_OUT_WORDS),
    (503, _OVERLOADED_WORDS),
)


def _mapped(
    status: int, problem: Problem, deployment: Deployment, wait_s: float | None
) -> UpstreamError:
    ours = _our_fault(status, problem)
    if ours is not None:
        return UpstreamUnavailable(ours)
    if status in _REJECTED:
        return _rejected(problem, deployment)
    if status == 429:
        return UpstreamRateLimited(retry_after_s=wait_s)
    if status in (408, 504):
        return UpstreamTimeout("upstream", retry_after_s=wait_s)
    if status == 409 or status >= 500:
        return UpstreamUnavailable(retry_after_s=wait_s)
    return UpstreamError()


def _our_fault(status: int, problem: Problem) -> str | None:
    """Tell what is wrong with our account or configuration; some of it comes as 400."""
    if status in (401, 403) or problem.code == "invalid_api_key":
        return CREDENTIALS_REFUSED
    if status == 400 and _KEY_TROUBLE.search(problem.message):
        return CREDENTIALS_REFUSED
    if status == 402 or (status == 429 and problem.code in _NO_CREDIT_WORDS):
        return NO_CREDIT
    if status == 400 and _NO_CREDIT.search(problem.message):
        return NO_CREDIT
    if status == 404 or problem.code == "model_not_found":
        return MODEL_UNKNOWN
    return None


def _rejected(problem: Problem, deployment: Deployment) -> UpstreamRejected:
    code = problem.code
    if code is None and _TOO_LONG.search(problem.message):
        code = "context_length_exceeded"
    return UpstreamRejected(
        redact(problem.message, deployment) or None, code=code, param=problem.param
    )


def redact(message: str, deployment: Deployment) -> str:
    """Take our secret, the upstream's address and control characters out, and cap the rest."""
    url = urlsplit(deployment.base_url)
    if deployment.secret:
        message = message.replace(deployment.secret, "[redacted]")
    for name in (deployment.base_url, url.netloc, url.hostname):
        if name:
            whole_name = rf"(?<![\w-]){re.escape(name)}(?![\w-])"
            message = re.sub(whole_name, "[upstream]", message, flags=re.IGNORECASE)
    message = "".join(char if char.isprintable() else " " for char in message).strip()
    return message if len(message) <= MAX_MESSAGE_CHARS else message[: MAX_MESSAGE_CHARS - 1] + "…"


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read the wait in seconds: `retry-after-ms`, else `retry-after` (seconds or date), capped."""
    wait_s = _number(headers.get("retry-after-ms"), 1000.0)
    if wait_s is None:
        wait_s = _number(headers.get("retry-after"), 1.0)
    if wait_s is None:
        wait_s = _until(headers.get("retry-after"))
    return None if wait_s is None else min(max(wait_s, 0.0), MAX_WAIT_S)


def _number(text: str | None, per_second: float) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number / per_second if math.isfinite(number) else None


def _until(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text or "").timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
