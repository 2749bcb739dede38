"""Split a stream of server-sent events into payloads, wherever the bytes are split. No I/O.

Only `data:` lines matter to a completion stream. Comments, `event:`, `id:` and `retry:` lines and
events without data are dropped. Source: HTML Living Standard 9.2.5 and 9.2.6, with differences:

- CR and the newlines between several data lines become spaces, because the payload is one JSON
  text, in which they can only be white space. A lone CR ends a line only in a stream without LF.
- Lines of JSON that are no field at all (a whole answer, or JSON lines) are payloads too.
- A `data:` line after one that is a whole payload begins the next event: some servers send one
  newline between events.
"""

from __future__ import annotations

import re

import msgspec

_BOM = b"\xef\xbb\xbf"
DONE = b"[DONE]"
PADDING = b" \t\r\n\0"
"""What may stand around JSON that is no event: servers in C send the end of their strings."""
_CR_LINE = re.compile(rb"\r(?=\r|:|data:|event:|id:|retry:)")
_CR_SEARCH_BYTES = 65_536
"""How far into the body a line that ends with CR alone is looked for."""
_CLOSINGS = (b"}", b"]")


def is_json(text: bytes) -> bool:
    """Return whether this is one complete JSON text."""
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _is_whole(text: bytes) -> bool:
    """Return whether this is a payload that nothing can follow: a JSON object, list or end mark."""
    text = text.strip()
    return text == DONE or (text[:1] in (b"{", b"[") and text[-1:] in _CLOSINGS and is_json(text))


class EventSplitter:
    """Turn bytes into event payloads.

    `is_bare` is true while the only payload is one JSON text without a field name. `overlong`
    becomes true when one event, or one line, is larger than `max_event_bytes`; after that there are
    no more payloads. Pieces of a line wait in a list and are joined once, so that many small reads
    cost no quadratic time.
    """

    __slots__ = (
        "_at_start",
        "_bare",
        "_between",
        "_cr_ends",
        "_event",
        "_event_bytes",
        "_first",
        "_max_bytes",
        "_one_newline",
        "_partial",
        "_partial_bytes",
        "is_bare",
        "overlong",
    )

    def __init__(self, max_event_bytes: int) -> None:
        self.overlong = False
        self.is_bare = False
        self._first = True  # no payload has come
        self._max_bytes = max_event_bytes
        self._at_start = True
        self._between = True  # no event and no line has begun
        self._bare = False  # the event that has begun consists of lines without a field name
        self._cr_ends = False  # a CR alone ends a line
        self._one_newline = False  # events are parted by one newline
        self._event: list[bytes] = []  # the data of the event that has begun, by line
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
        self._at_start = self._first = False
        return payloads

    def finish(self) -> list[bytes]:
        """Return the payloads that the end of the body completes, without a blank line."""
        payloads = self._feed_lines(b"\n\n")
        if self._bare and not self.overlong:
            payloads.append(self._close_event())
        return [payload for payload in payloads if payload]

    def _feed_lines(self, data: bytes) -> list[bytes]:
        payloads: list[bytes] = []
        data = self._with_newlines(data)
        *lines, rest = data.split(b"\n")
        if lines and self._partial:
            lines[0] = self._joined(lines[0])
        if lines and self._at_start:
            self._at_start = False
            lines[0] = lines[0].removeprefix(_BOM)  # one BOM is ignored (9.2.5)
        for line in lines:
            if line and line != b"\r":
                self._take_line(line, payloads)
            elif self._event and not self._bare:
                payloads.append(self._close_event())
        if rest and not self.overlong:
            self._partial.append(rest)
            self._partial_bytes += len(rest)
            self._check(self._partial_bytes)
        self._between = not (self._partial or self._event or self.overlong)
        return [payload for payload in payloads if payload]

    def _with_newlines(self, data: bytes) -> bytes:
        """Return the data with LF as line end, where the stream uses CR alone."""
        if not self._cr_ends and self._at_start and self._partial_bytes < _CR_SEARCH_BYTES:
            begun = b"".join(self._partial) + data
            if b"\r" in begun:
                found = _CR_LINE.search(begun.partition(b"\n")[0])
                if found is not None:
                    self._cr_ends = True
                    self._partial.clear()
                    self._partial_bytes = 0
                    data = begun
        if self._cr_ends:
            return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return data

    def _take_line(self, line: bytes, payloads: list[bytes]) -> None:
        if not self.overlong:
            self._check(len(line))
        if self.overlong:
            return
        if line.startswith(b"data:"):
            if self._bare:
                self._drop_event()
            elif len(self._event) == 1 and _is_whole(self._event[0]):
                payloads.append(self._close_event())
                self._one_newline = True
            self._add(line[5:].removesuffix(b"\r").removeprefix(b" "), len(line))
            if self._one_newline and len(self._event) == 1 and _is_whole(self._event[0]):
                payloads.append(self._close_event())
        elif self._bare or (not self._event and line[:1] in (b"{", b"[")):
            if line.endswith(b"\0"):
                line = line.rstrip(PADDING)
            self._add(line, len(line))
            self._bare = True
            at_end = len(self._event) == 1 or line.rstrip(b"\r") in _CLOSINGS
            if at_end and _is_whole(b" ".join(self._event)):
                payloads.append(self._close_event())

    def _add(self, value: bytes, size: int) -> None:
        self._event.append(value)
        self._event_bytes += size

    def _joined(self, end: bytes) -> bytes:
        self._check(self._partial_bytes + len(end))
        line = b"" if self.overlong else b"".join((*self._partial, end))
        self._partial.clear()
        self._partial_bytes = 0
        return line

    def _close_event(self) -> bytes:
        """Return the payload of the event, or b"" for lines that are neither fields nor JSON."""
        payload = self._event[0] if len(self._event) == 1 else b" ".join(self._event)
        dropped = self._bare and not _is_whole(payload)
        if payload and not dropped:
            self.is_bare = self._bare and self._first
            self._first = False
        self._drop_event()
        return b"" if dropped else payload.replace(b"\r", b" ")

    def _drop_event(self) -> None:
        self._event.clear()
        self._event_bytes = 0
        self._bare = False

    def _check(self, line_bytes: int) -> None:
        if self._event_bytes + line_bytes > self._max_bytes:
            self.overlong = True
            self._event.clear()
            self._partial.clear()
