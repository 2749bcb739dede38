"""Check what the head of an answer says, and make the error of an answer that was blocked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from workers.errors import UpstreamError, UpstreamRejected
from workers.providers.error_page import is_compression
from workers.providers.openai.mending.finish_reasons import CONTENT_FILTER

SUCCESSES: Final = (200, 201, 203)
"""The statuses of answers: frameworks such as NestJS answer each POST with 201, and 203 is what
proxies make of 200. Others announce no body, a part of one, or an answer that is still to come."""
_NOT_AN_ANSWER: Final = ("text/html", "application/xhtml+xml")
_BLOCKED: Final = (
    "The upstream of this model blocked the request: its content filter found something."
)


def check_readable(headers: Mapping[str, str]) -> None:
    """Raise UpstreamError for an answer that cannot be read, or that is a page for people.

    The content decides, not its label: upstreams send events as `text/plain` or
    `application/octet-stream`, and whole answers where a stream was requested.
    """
    if is_compression(headers.get("content-encoding", "")):
        raise UpstreamError(
            "The upstream of this model sent compressed data although none was requested."
        )
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _NOT_AN_ANSWER:
        raise UpstreamError


def blocked_error() -> UpstreamError:
    """Return the error for a prompt or answer that the upstream's content filter has blocked."""
    return UpstreamRejected(_BLOCKED, code=CONTENT_FILTER)
