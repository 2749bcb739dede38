"""Build the heads of answers as bytes. Every answer of the gateway begins with `answer_head`.

A handler writes a head together with its body, or with the first frames of a stream, in one call
of `HTTPConnection.write`. Tornado's `write_headers` is not used: it looks up, checks and encodes
each header of each answer.
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
"""The headers of every event stream.

`no-transform` keeps proxies from compressing, and so buffering, the stream; nginx buffers an answer
unless it carries `X-Accel-Buffering: no`.
"""
NO_STORE = {"Cache-Control": "no-store"}
"""For whole answers, which may hold secrets or prompts: no cache may store them.

RFC 9111, section 5.2.2.5. Event streams carry the `Cache-Control` of `STREAM_HEAD` instead.
"""
CHUNKED = b"Transfer-Encoding: chunked\r\n"


@lru_cache(maxsize=128)
def _status_line(status: int) -> bytes:
    """Return the status line and the headers that every answer carries."""
    reason = responses.get(status, "Unknown")
    return (
        f"HTTP/1.1 {status} {reason}\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        "Referrer-Policy: no-referrer\r\n"
    ).encode("latin-1")


def answer_head(status: int, headers: Mapping[str, str], *, close: bool) -> bytes:
    """Return a head up to its last header; the caller adds more lines, or the blank line.

    `close`: the connection ends with this answer. Raises ValueError for a header that contains a
    line break.
    """
    text = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if text.count("\n") != len(headers) or text.count("\r") != len(headers):
        raise ValueError("a header contains a line break")
    head = _status_line(status) + text.encode("latin-1")
    return head + CLOSE if close else head


def chunk(data: bytes) -> bytes:
    """Frame bytes as one chunk (RFC 9112, section 7.1). An empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
