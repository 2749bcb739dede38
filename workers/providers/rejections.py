"""Map the rejections of upstreams to errors for the client: one mapping for all providers.

What a rejection is about decides (`rejection_kinds`), not its status alone. An error about the
request keeps the upstream's message, redacted. All other errors have messages of their own: error
pages, hosts and credentials never reach a client. What the upstream says of those is for the owner.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from workers.errors import (
    OwnFault,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from workers.providers.error_page import (
    cut_members,
    event_data,
    is_markup,
    page_words,
    plain_page,
)
from workers.providers.problem import Problem, find_problem, read_problem
from workers.providers.redaction import redact
from workers.providers.refused_members import refused_cap, refused_member
from workers.providers.rejection_kinds import IN_BAND, STATUSES_OF_REQUESTS, KindName, kind_of
from workers.providers.sent_texts import SentTexts
from workers.providers.stated_wait import reset_s, retry_after_s, wait_in_words

if TYPE_CHECKING:
    from workers.catalog.catalog import Deployment

CREDENTIALS_REJECTED = "The gateway's credentials for this model's upstream were refused."
NO_CREDIT = "The gateway's account with this model's upstream has no credit left."
MODEL_UNKNOWN = (
    "This model's upstream does not know it under the name that the gateway is configured with."
)
ADDRESS_WRONG = (
    "Nothing answers at the address that the gateway is configured with for this model's upstream."
)
BLOCKED = "This model's upstream, or a proxy in front of it, blocked the request."
FILTERED = "The content filter of this model's upstream refused the request."
TOO_LONG = "The request is longer than the context window of the model. Shorten the conversation."
UNSUPPORTED = "The upstream of this model does not support a feature that the request needs."

MAX_OWNER_CHARS = 300
"""How much of an upstream's words the owner is shown."""
CONTENT_FILTER = "content_filter"
CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
"""The codes by which clients recognise these two: agents shorten the conversation on the second."""

_OWN: dict[KindName, tuple[str, OwnFault]] = {
    "credentials": (CREDENTIALS_REJECTED, "credentials"),
    "denied": (CREDENTIALS_REJECTED, ""),  # not put aside: it may be about one prompt
    "credit": (NO_CREDIT, "credit"),
    "model": (MODEL_UNKNOWN, "model"),
    "address": (ADDRESS_WRONG, "base_url"),
}
_ABOUT_THE_REQUEST: dict[KindName, tuple[str | None, str | None]] = {
    "filtered": (FILTERED, CONTENT_FILTER),
    "too_long": (TOO_LONG, CONTEXT_LENGTH_EXCEEDED),
    "too_large": (TOO_LONG, CONTEXT_LENGTH_EXCEEDED),
    "unsupported": (UNSUPPORTED, None),
    "resource": (None, None),
    "rejected": (None, None),
}
"""The message where the upstream's has none, and the code; None: the upstream's."""


def error_by_status(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    deployment: Deployment,
    sent: SentTexts | None = None,
) -> UpstreamError:
    """Return the error for an HTTP answer whose status is not that of a completion.

    `headers` have lower-case names; `sent` are the texts of the request.
    """
    if 300 <= status < 400:
        return UpstreamError(
            "The upstream of this model answered with a redirect, which is not followed."
        )
    if status < 300:
        return UpstreamError()
    page = event_data(plain_page(body, headers.get("content-encoding", "")))
    problem = find_problem(page) or read_problem(cut_members(page))
    if problem is None:
        if status == 403 and (is_markup(page) or not page.strip()):
            return UpstreamUnavailable(BLOCKED, should_retry=False)
        words = page_words(page)
        problem = Problem("", words=words, wait_s=wait_in_words(words))
    if status >= 500 and problem.status is not None and problem.status < 500:
        status = problem.status  # a proxy's own status for an error of the upstream behind it
    kind = kind_of(status, problem, sent)
    if kind == "credit" and status == 429 and _passes(problem, headers):
        kind = "rate"
    wait_s = _longest_known(retry_after_s(headers), problem.wait_s)
    if wait_s is None and kind == "rate":
        wait_s = reset_s(headers)
    return _error_of(kind, status, problem, deployment, wait_s, sent)


def error_in_band(
    problem: Problem, deployment: Deployment, sent: SentTexts | None = None
) -> UpstreamError:
    """Return the error for one that came with status 200, in a stream or as the whole answer.

    Without a status in its JSON, words in its type, code and message decide.
    """
    status = problem.status or IN_BAND
    kind = kind_of(status, problem, sent)
    if kind == "credit" and status in (IN_BAND, 429) and _passes(problem, {}):
        kind = "rate"
    return _error_of(kind, status, problem, deployment, problem.wait_s, sent)


def secret_rejected(status: int, problem: Problem | None) -> bool:
    """Return whether an upstream does not accept the deployment's secret.

    Google answers 400 to a wrong key, also at its OpenAI-compatible endpoint.
    """
    return kind_of(status, problem or Problem("")) in ("credentials", "denied")


def _passes(problem: Problem, headers: Mapping[str, str]) -> bool:
    """Return whether words of an empty account describe a limit that passes.

    Google writes "check your plan and billing details" for limits per minute too, with a wait.
    """
    if "insufficientquota" in problem.marks or "billing" in problem.marks:
        return False
    return problem.wait_s is not None or retry_after_s(headers) is not None


def _longest_known(in_headers: float | None, in_body: float | None) -> float | None:
    """Return the wait of the headers; that of the body where they state none, or 0."""
    return in_headers or in_body or in_headers


def _error_of(
    kind: KindName,
    status: int,
    problem: Problem,
    deployment: Deployment,
    wait_s: float | None,
    sent: SentTexts | None,
) -> UpstreamError:
    error = _made(kind, status, problem, deployment, wait_s)
    if kind not in _ABOUT_THE_REQUEST:
        error.upstream_words = _words_for_the_owner(problem, deployment, sent)
    if kind in ("rejected", "failed", "unsupported", ""):
        error.refused_member = refused_member(problem) or ""
    if kind in ("rejected", "failed", "unsupported", "too_long", "") and not error.refused_member:
        error.refused_cap = refused_cap(problem)
    return error


def _made(
    kind: KindName, status: int, problem: Problem, deployment: Deployment, wait_s: float | None
) -> UpstreamError:
    if kind in _OWN:
        message, fault = _OWN[kind]
        return UpstreamUnavailable(message, own_fault=fault, should_retry=False)
    if kind in _ABOUT_THE_REQUEST:
        default, code = _ABOUT_THE_REQUEST[kind]
        return UpstreamRejected(
            redact(problem.message, deployment) or default,
            code=code or _harmless(problem.code, deployment),
            param=_harmless(problem.param, deployment),
            # Another deployment may have the feature, or a larger limit per minute.
            retryable=kind == "too_large"
            or (kind == "unsupported" and status not in STATUSES_OF_REQUESTS),
        )
    if kind == "rate":
        return UpstreamRateLimited(retry_after_s=wait_s)
    if kind == "timeout":
        return UpstreamTimeout("upstream", retry_after_s=wait_s)
    if kind == "overloaded":
        return UpstreamOverloaded(retry_after_s=wait_s)
    return UpstreamUnavailable(retry_after_s=wait_s) if kind == "failed" else UpstreamError()


def _words_for_the_owner(problem: Problem, deployment: Deployment, sent: SentTexts | None) -> str:
    """Return an upstream's words without secrets, and without what they quote of the request."""
    words = redact(" ".join((problem.message or problem.words).split()), deployment)
    if len(words) > MAX_OWNER_CHARS:
        words = words[: MAX_OWNER_CHARS - 1].rstrip() + "…"
    return words if sent is None else sent.unquoted(words, known=deployment.upstream_model)


def _harmless(name: str | None, deployment: Deployment) -> str | None:
    """Return a code or the name of a member, or None if it says who the operator is."""
    return name if name is None or redact(name, deployment) == name else None
