"""Whole answers for faults that are met before a handler exists; the connection ends with them."""

from __future__ import annotations

from http.client import responses

from server.http.request_id import new_request_id
from workers.errors import GatewayError, InvalidRequest


def wire_answer(error: GatewayError) -> bytes:
    """Give a whole response, for faults met before a handler exists."""
    body = error.encoded()
    reason = responses.get(error.status, "Error")
    head = (
        f"HTTP/1.1 {error.status} {reason}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n"
        f"X-Request-Id: {new_request_id()}\r\n\r\n"
    )
    return head.encode("latin1") + body


def no_http() -> InvalidRequest:
    """Give the error for what cannot be read as HTTP."""
    return InvalidRequest("This is not valid HTTP/1.1.", code="invalid_http")
