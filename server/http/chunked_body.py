"""Decode a chunked request body, strictly: no extensions, no trailers, no unusual sizes.

RFC 9112, section 7.1, allows more. What proxies are known to read differently is refused, since it
is how requests are smuggled past them.
"""

from __future__ import annotations

import re

from tornado.httputil import HTTPInputError

SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
MAX_SIZE_LINE_BYTES = 17
"""15 digits and the line end: enough for any size below 2^60."""


class ChunkedBody:
    """The decoder of one body; bytes that it returns unconsumed are fed again, with more."""

    def __init__(self) -> None:
        self._chunk_left = 0
        self._ends_line = False
        self._last = False

    def feed(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """Return the body's bytes, the rest of `data`, and whether the body is complete.

        Raises HTTPInputError.
        """
        pieces = []
        at, size, complete = 0, len(data), False
        while at < size and not complete:
            if self._chunk_left:
                piece = data[at : at + self._chunk_left]
                pieces.append(piece)
                at += len(piece)
                self._chunk_left -= len(piece)
            elif self._ends_line:
                line_end = data[at : at + 2]
                if line_end == b"\r":
                    break
                if line_end != b"\r\n":
                    raise HTTPInputError("a chunk without its line end")
                at += 2
                self._ends_line = False
                complete = self._last
            elif (match := SIZE_LINE.match(data, at)) is not None:
                at = match.end()
                self._chunk_left = int(match[1], 16)
                self._last = not self._chunk_left
                self._ends_line = True
            elif size - at >= MAX_SIZE_LINE_BYTES or b"\n" in data[at:]:
                raise HTTPInputError("a malformed chunk size")
            else:
                break
        return b"".join(pieces), data[at:], complete
