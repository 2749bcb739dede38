"""Answers to faults that are found before a request has a handler."""

from __future__ import annotations

from server.http.answer_head import NO_STORE, answer_head
from server.http.request_id import new_request_id
from workers.errors import GatewayError, InvalidRequest


def error_answer(error: GatewayError) -> bytes:
    """Return a whole error answer, after which the connection closes."""
    body = error.encoded()
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "X-Request-Id": new_request_id(),
    }
    headers |= NO_STORE | error.headers()
    return answer_head(error.status, headers, close=True) + b"\r\n" + body


def invalid_http() -> InvalidRequest:
    """Return the error for bytes that are not HTTP."""
    return InvalidRequest("This is not valid HTTP/1.1.", code="invalid_http")
