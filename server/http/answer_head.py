"""Heads of answers as bytes: built once where they are constant, joined where they are not.

Handlers write a whole head with its body, or with the first frames of a stream, in one call to
`HTTPConnection.write`, whose contract allows a pre-encoded head. Tornado's `write_headers` would
build, look up and check every header of every answer anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from http.client import responses

LAST_CHUNK = b"0\r\n\r\n"
CLOSE = b"Connection: close\r\n"
STREAM_HEAD = (
    b"Content-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache, no-transform\r\n"
    b"X-Accel-Buffering: no\r\n"
)
"""The headers that every event stream has, whatever carries it."""
CHUNKED = b"Transfer-Encoding: chunked\r\n"


@lru_cache(maxsize=128)
def status_line(status: int) -> bytes:
    """Give the status line with what every answer carries after it."""
    reason = responses.get(status, "Unknown")
    return f"HTTP/1.1 {status} {reason}\r\nX-Content-Type-Options: nosniff\r\n".encode("latin-1")


def header_lines(headers: Mapping[str, str]) -> bytes:
    """Encode headers. Raises ValueError for a value that would end its line."""
    text = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if text.count("\n") != len(headers) or text.count("\r") != len(headers):
        raise ValueError("a header value contains a line break")
    return text.encode("latin-1")


def chunk(data: bytes) -> bytes:
    """Frame bytes for a chunked body; `data` must not be empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)
