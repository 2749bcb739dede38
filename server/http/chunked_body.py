"""Take a chunked request body apart, strictly: no extensions, no trailers, no odd sizes.

RFC 9112, section 7.1, allows more; what proxies read differently is not taken.
"""

from __future__ import annotations

import re

from tornado.httputil import HTTPInputError

SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
LONGEST_SIZE_LINE = 17


class ChunkedBody:
    """One body; what is not consumed is given back and has to be offered again with more."""

    def __init__(self) -> None:
        self._left = 0
        self._ends_line = False
        self._last = False

    def feed(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """Give the body's bytes, what is left of `data`, and whether the body is complete.

        Raises HTTPInputError.
        """
        pieces = []
        at, size, complete = 0, len(data), False
        while at < size and not complete:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
            elif self._ends_line:
                line_end = data[at : at + 2]
                if line_end == b"\r":
                    break
                if line_end != b"\r\n":
                    raise HTTPInputError("a chunk without end")
                at += 2
                self._ends_line = False
                complete = self._last
            elif (match := SIZE_LINE.match(data, at)) is not None:
                at = match.end()
                self._left = int(match[1], 16)
                self._last = not self._left
                self._ends_line = True
            elif size - at >= LONGEST_SIZE_LINE or b"\n" in data[at:]:
                raise HTTPInputError("an odd chunk size")
            else:
                break
        return b"".join(pieces), data[at:], complete
