"""Split a stream of server-sent events into payloads, wherever the bytes are split. No I/O.

Only `data:` lines matter to a completion stream. Comments, `event:`, `id:` and `retry:` lines and
events without data are dropped. Source: HTML Living Standard 9.2.5 and 9.2.6, with one difference:
a lone CR does not end a line. CR and the newlines between several data lines become spaces, because
the payload is one JSON text, in which they can only be white space.
"""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"


class EventSplitter:
    """Turn bytes into event payloads.

    `overlong` becomes true when one event, or one line, is larger than `max_event_bytes`; after
    that there are no more payloads. Pieces of a line wait in a list and are joined once, so that
    many small reads cost no quadratic time.
    """

    __slots__ = (
        "_at_start",
        "_between",
        "_event",
        "_event_bytes",
        "_max_bytes",
        "_partial",
        "_partial_bytes",
        "overlong",
    )

    def __init__(self, max_event_bytes: int) -> None:
        self.overlong = False
        self._max_bytes = max_event_bytes
        self._at_start = True
        self._between = True  # no event and no line has begun
        self._event: list[bytes] = []  # the data lines of the event that has begun
        self._event_bytes = 0
        self._partial: list[bytes] = []  # the pieces of the line that has begun
        self._partial_bytes = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Read the next bytes of the body; return the payloads of the events they complete."""
        if not self._between or len(data) > self._max_bytes or b"\r" in data:
            return self._feed_lines(data)
        # Fast paths for what nearly every read is: one whole event, or several, as `data: {...}`.
        # With its only newlines at the end, the read is one line and its blank line.
        if data.find(b"\n") == len(data) - 2 > 6 and data[-1] == 10 and data[:6] == b"data: ":
            payloads = [data[6:-2]]
        elif data[:6] == b"data: " and data[-2:] == b"\n\n":
            payloads = data[6:-2].split(b"\n\ndata: ")
            # Another newline belongs to a comment, another field or a second data line.
            if data.count(b"\n") != 2 * len(payloads) or b"" in payloads:
                return self._feed_lines(data)
        else:
            return self._feed_lines(data)
        self._at_start = False
        return payloads

    def finish(self) -> bytes:
        """Return the payload of an event without its blank line at the end of the body, or b""."""
        payloads = self._feed_lines(b"\n\n")
        return payloads[0] if payloads else b""

    def _feed_lines(self, data: bytes) -> list[bytes]:
        payloads: list[bytes] = []
        *lines, rest = data.split(b"\n")
        if lines and self._partial:
            lines[0] = self._joined(lines[0])
        if lines and self._at_start:
            self._at_start = False
            lines[0] = lines[0].removeprefix(_BOM)  # one BOM is ignored (9.2.5)
        for line in lines:
            if line and line != b"\r":
                self._take_line(line)
            elif self._event:
                payloads.append(self._close_event())
        if rest and not self.overlong:
            self._partial.append(rest)
            self._partial_bytes += len(rest)
            self._check(self._partial_bytes)
        self._between = not (self._partial or self._event or self.overlong)
        return [payload for payload in payloads if payload]

    def _take_line(self, line: bytes) -> None:
        if not self.overlong:
            self._check(len(line))
        if not self.overlong and line.startswith(b"data:"):
            self._event.append(line)
            self._event_bytes += len(line)

    def _joined(self, end: bytes) -> bytes:
        self._check(self._partial_bytes + len(end))
        line = b"" if self.overlong else b"".join((*self._partial, end))
        self._partial.clear()
        self._partial_bytes = 0
        return line

    def _close_event(self) -> bytes:
        values = [line[5:].removesuffix(b"\r").removeprefix(b" ") for line in self._event]
        self._event.clear()
        self._event_bytes = 0
        payload = values[0] if len(values) == 1 else b" ".join(values)
        return payload.replace(b"\r", b" ")

    def _check(self, line_bytes: int) -> None:
        if self._event_bytes + line_bytes > self._max_bytes:
            self.overlong = True
            self._event.clear()
            self._partial.clear()
