"""List every error code with its status, type and cause, for the documentation."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from workers import errors
from workers.errors import GatewayError, UpstreamRejected, UpstreamTimeout


class ErrorRow(Struct, frozen=True):
    """One code and its cause, in words for the caller. `code` is None for an error without one.

    `permanent`: the same request would meet the error again, so it carries `x-should-retry: false`.
    """

    status: int
    type: str
    code: str | None
    cause: str
    permanent: bool


FURTHER = {
    "invalid_http": (errors.InvalidRequest, "The request is not valid HTTP/1.1."),
    "document_without_text": (
        errors.DocumentUnreadable,
        "The document has no text: it is empty, or a scan.",
    ),
    "document_type_unsupported": (
        errors.DocumentUnreadable,
        "Files of this kind cannot be read.",
    ),
    "model_not_allowed": (errors.Forbidden, "The key may not use this model."),
    "price_unknown": (errors.Forbidden, "The key has a budget, the model has no known price."),
    "xsrf_refused": (errors.Forbidden, "A cookie was sent without the token of its page."),
    "history_off": (errors.Forbidden, "The chat history is switched off on this server."),
    "history_unavailable": (errors.Forbidden, "Guests have no chat history on the server."),
    "conversation_not_found": (errors.NotFound, "There is no such conversation."),
    "shares_off": (errors.Forbidden, "Read-only links are turned off on this server."),
    "message_not_found": (errors.NotFound, "There is no such message."),
    "share_not_found": (errors.NotFound, "There is no such link."),
    "file_not_found": (errors.NotFound, "There is no such file."),
    "session_changed": (
        errors.SessionEnded,
        "The browser has signed in, or with another key, since the page was opened.",
    ),
    "abandoned": (errors.Stopped, "No client was reading the answer any more."),
}
"""Codes that are set where an error is raised, not by its class."""


def error_rows() -> list[ErrorRow]:
    """Return every code, ordered by status."""
    return rows_of(*tree(GatewayError))


def rows_of(*kinds: type[GatewayError]) -> list[ErrorRow]:
    """Return the codes of some errors, ordered by status."""
    rows = [row for kind in kinds for row in _rows(kind)]
    return sorted(rows, key=_order)


def tree(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
    """Return a class and its subclasses, without those defined outside `workers.errors`."""
    if kind.__module__ == errors.__name__:
        yield kind
        for child in kind.__subclasses__():
            yield from tree(child)


def _rows(kind: type[GatewayError]) -> Iterator[ErrorRow]:
    if issubclass(kind, UpstreamRejected):
        return  # its status and code are those of the upstream
    causes: dict[str | None, str] = {kind.code: kind.summary}
    if issubclass(kind, UpstreamTimeout):
        causes = dict(kind.CAUSES)
    causes |= {code: why for code, (raised, why) in FURTHER.items() if raised is kind}
    for code, cause in causes.items():
        yield ErrorRow(kind.status, kind.type, code, cause, kind.permanent)


def _order(row: ErrorRow) -> tuple[int, str, str]:
    return (row.status, row.type, row.code or "")
