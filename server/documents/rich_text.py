"""The text of RTF files (Rich Text Format 1.9.1): control words are left out."""

from __future__ import annotations

import re

from server.documents.extract import TextCollector

TOKEN = re.compile(
    rb"\\([a-z]{1,32})(-?\d{1,10})? ?|\\'([0-9a-fA-F]{2})|\\([^a-z])|([{}])|[\r\n]+|([^\\{}\r\n]+)"
)
UNREAD = frozenset(
    b"fonttbl colortbl stylesheet info pict object header footer headerl headerr footerl footerr"
    b" generator listtable listoverridetable rsidtbl themedata datastore xmlnstbl fldinst".split()
)
BREAKS = {b"par": "\n", b"line": "\n", b"sect": "\n", b"row": "\n", b"tab": "\t", b"cell": " | "}
SIGNS = {
    b"emdash": "—",
    b"endash": "–",
    b"bullet": "•",
    b"lquote": "‘",
    b"rquote": "’",
    b"ldblquote": "“",
    b"rdblquote": "”",
}
NO_BREAK_SPACE = "\u00a0"
CODE_PAGES = {"932": "cp932", "936": "gb18030", "949": "cp949", "950": "big5", "10000": "mac_roman"}
KNOWN = frozenset({"437", "850", "874", *map(str, range(1250, 1259))})


def read_rich_text(data: bytes, out: TextCollector) -> None:
    """Add the text of an RTF file."""
    reader = _RichText(out)
    for found in TOKEN.finditer(data):
        reader.take(found)
    reader.flush()


class _RichText:
    """Turn the tokens of one file into text."""

    def __init__(self, out: TextCollector) -> None:
        self._out = out
        self._encoding = "cp1252"
        self._raw = bytearray()
        self._groups: list[tuple[bool, int]] = []
        self._hidden = False
        self._skip_after = 1
        self._to_skip = 0
        self._high = 0

    def take(self, token: re.Match[bytes]) -> None:
        """Take the next token."""
        word, number, byte, sign, brace, text = token.groups()
        if brace:
            self._brace(brace)
        elif word:
            self._word(word, int(number) if number else None)
        elif byte or text:
            self._bytes(bytes.fromhex(byte.decode()) if byte else text)
        elif sign == b"*":
            self._hidden = True  # a destination that old readers do not know
        elif sign == b"~":
            self._text(NO_BREAK_SPACE)
        elif sign in (b"\\", b"{", b"}"):
            self._bytes(sign)

    def flush(self) -> None:
        """Add the bytes that were collected."""
        raw, self._raw = bytes(self._raw), bytearray()
        if raw and not self._hidden:
            self._out.add(raw.decode(self._encoding, "replace"))

    def _brace(self, brace: bytes) -> None:
        self.flush()
        self._to_skip = 0
        if brace == b"{":
            self._groups.append((self._hidden, self._skip_after))
        elif self._groups:
            self._hidden, self._skip_after = self._groups.pop()

    def _bytes(self, data: bytes) -> None:
        skipped = min(self._to_skip, len(data))
        self._to_skip -= skipped
        self._raw += data[skipped:]

    def _text(self, text: str) -> None:
        self.flush()
        if not self._hidden:
            self._out.add(text)

    def _unicode(self, code: int) -> None:
        """Add a UTF-16 unit; of a surrogate pair the first waits for the second."""
        if 0xD800 <= code < 0xDC00:
            self._high = code
        elif 0xDC00 <= code < 0xE000:
            if self._high:
                self._text(chr(0x10000 + ((self._high - 0xD800) << 10) + code - 0xDC00))
            self._high = 0
        else:
            self._text(chr(code))

    def _word(self, word: bytes, number: int | None) -> None:
        if word in UNREAD:
            self.flush()
            self._hidden = True
        elif word in BREAKS or word in SIGNS:
            self._text(BREAKS.get(word) or SIGNS[word])
        elif word == b"u" and number is not None:
            self._unicode(number % 0x10000)
            self._to_skip = self._skip_after
        elif word == b"uc" and number is not None:
            self._skip_after = max(0, min(number, 8))
        elif word == b"ansicpg" and number is not None:
            page = str(number)
            known = f"cp{page}" if page in KNOWN else "cp1252"
            self._encoding = CODE_PAGES.get(page, known)
