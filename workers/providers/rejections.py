"""Map the rejections of upstreams to errors for the client: one mapping for all providers.

An error about the request keeps the upstream's message, without its host and the secret. All other
errors have messages of their own: error pages, hosts and credentials never reach a client.
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
"""The longest Retry-After that is passed on."""
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

CREDENTIALS_REJECTED = "The gateway's credentials for this model's upstream were refused."
NO_CREDIT = "The gateway's account with this model's upstream has no credit left."
MODEL_UNKNOWN = (
    "This model's upstream does not know it under the name that the gateway is configured with."
)


class Problem(NamedTuple):
    """An error as an upstream reports it; `status` is an HTTP status that its JSON contains."""

    message: str
    type: str = ""
    code: str | None = None
    param: str | None = None
    status: int | None = None


def find_problem(body: bytes) -> Problem | None:
    """Return the error in a JSON body, in any of the shapes that upstreams use, or None.

    OpenAI `{"error": {...}}`, `{"error": "..."}`, vLLM `{"object": "error", "message": ...}`,
    `{"message": ...}`, FastAPI `{"detail": ...}`, and Google's, which may be a list of one.
    """
    try:
        reported = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(reported, list) and reported:
        reported = reported[0]
    return read_problem(reported)


def read_problem(reported: Any) -> Problem | None:
    """Return the error in decoded JSON; see `find_problem`."""
    if not isinstance(reported, dict):
        return None
    error = reported.get("error") or reported.get("detail")
    if isinstance(error, dict):
        reported = {**reported, **error}
    elif isinstance(error, str):
        reported = {**reported, "message": error}
    elif isinstance(error, list):
        reported = {**reported, "message": "; ".join(filter(None, map(_validation_words, error)))}
    message = reported.get("message")
    if not isinstance(message, str) or not message.strip():
        if not error:
            return None
        message = ""
    code, param = reported.get("code"), reported.get("param")
    kind = reported.get("type") or reported.get("status")
    return Problem(
        message,
        type=kind if isinstance(kind, str) else "",
        code=code if isinstance(code, str) and _CODE.fullmatch(code) else None,
        param=param if isinstance(param, str) and _PARAM.fullmatch(param) else None,
        status=_status(code) or _status(reported.get("status")),
    )


def _validation_words(item: Any) -> str:
    """Return one of FastAPI's validation errors (`loc`, `msg`) as text."""
    if not isinstance(item, dict) or not isinstance(item.get("msg"), str):
        return ""
    place = ".".join(str(step) for step in item.get("loc") or () if step != "body")
    return f"{place}: {item['msg']}" if place else str(item["msg"])


def _status(code: Any) -> int | None:
    if isinstance(code, str) and code.isdecimal() and len(code) == 3:
        code = int(code)
    return code if type(code) is int and 400 <= code <= 599 else None


def error_by_status(
    status: int, headers: Mapping[str, str], body: bytes, deployment: Deployment
) -> UpstreamError:
    """Return the error for an HTTP answer whose status is not that of a completion.

    `headers` have lower-case names.
    """
    if 300 <= status < 400:
        return UpstreamError(
            "The upstream of this model answered with a redirect, which is not followed."
        )
    problem = find_problem(body)
    return _mapped(status, problem or Problem(""), deployment, retry_after_s(headers))


def error_in_band(problem: Problem, deployment: Deployment) -> UpstreamError:
    """Return the error for one that came with status 200, in a stream or as the whole answer.

    Without a status in its JSON, words in its type and code decide.
    """
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


def secret_rejected(status: int, problem: Problem | None) -> bool:
    """Return whether an upstream does not accept the deployment's secret.

    Google answers 400 to a wrong key, also at its OpenAI-compatible endpoint.
    """
    if status in (401, 403):
        return True
    if problem is None:
        return False
    return problem.code == "invalid_api_key" or (
        status == 400 and _KEY_TROUBLE.search(problem.message) is not None
    )


def _our_fault(status: int, problem: Problem) -> str | None:
    """Return the message for a fault of our account or configuration, or None.

    Anthropic reports an empty balance with status 400.
    """
    if secret_rejected(status, problem):
        return CREDENTIALS_REJECTED
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
    """Return a message without secret, upstream address and control characters, and capped."""
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
    """Return the wait of `retry-after-ms` or `retry-after` (seconds or a date), capped.

    `retry-after-ms` is OpenAI's and more exact, so it comes first, as in the official SDKs.
    """
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
