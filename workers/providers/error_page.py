"""Read the body of a rejection as text, whatever an upstream or a proxy made of it."""

from __future__ import annotations

import re
import zlib

from workers.units import KIB

MAX_PAGE_BYTES = 256 * KIB
"""How much of a compressed page is read."""
MAX_WORDS_CHARS = 2000

_COMPRESSIONS = frozenset(
    ("br", "compress", "dcb", "dcz", "deflate", "gzip", "x-compress", "x-gzip", "zstd")
)
_GZIP = b"\x1f\x8b"
_EVENT_LINE = re.compile(rb"^data:[ ]?(.*)$", re.MULTILINE)
_EVENT_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")
_MEMBER = re.compile(
    r'"(?P<name>message|msg|detail|error|code|type|status|param)"\s*:\s*'
    r'(?:"(?P<text>(?:[^"\\]|\\.){1,2000})|(?P<number>\d{3,6})\b)'
)
_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)")


def plain_page(body: bytes, encoding: str) -> bytes:
    """Return a page without its compression, or b"" where it cannot be undone.

    Proxies compress pages although no encoding was asked for, some without saying so. gzip and
    deflate are known; RFC 9110, section 8.4.1.2, notes that some senders omit deflate's zlib frame.
    """
    encoding = encoding.strip().lower()
    if body.startswith(_GZIP) or encoding in ("gzip", "x-gzip"):
        return _inflated(body, zlib.MAX_WBITS | 16)
    if encoding == "deflate":
        return _inflated(body, zlib.MAX_WBITS) or _inflated(body, -zlib.MAX_WBITS)
    return b"" if is_compression(encoding) and body[:1] not in (b"{", b"[") else body


def is_compression(encoding: str) -> bool:
    """Return whether a Content-Encoding names a compression.

    `none` and `utf-8` are no encodings, but are sent as such: the former keeps proxies from
    compressing a stream.
    """
    return not _COMPRESSIONS.isdisjoint(map(str.strip, encoding.lower().split(",")))


def _inflated(body: bytes, window_bits: int) -> bytes:
    """Return what can be read; a page that was cut ends early."""
    try:
        return zlib.decompressobj(window_bits).decompress(body, MAX_PAGE_BYTES)
    except zlib.error:
        return b""


def event_data(page: bytes) -> bytes:
    """Return the data of the first event if a page is an event stream, else the page itself."""
    if not page.lstrip().startswith(_EVENT_STARTS):
        return page
    line = _EVENT_LINE.search(page)
    return line[1] if line else b""


def is_markup(page: bytes) -> bool:
    """Return whether a page is HTML or XML: a proxy's, whose words describe the proxy."""
    return page.lstrip()[:1] == b"<"


def page_words(page: bytes) -> str:
    """Return the text of a page for its classification; of markup, nothing."""
    if is_markup(page):
        return ""
    return page[: 4 * MAX_WORDS_CHARS].decode(errors="replace").strip()[:MAX_WORDS_CHARS]


def cut_members(page: bytes) -> dict[str, object]:
    """Return the members of an error whose JSON was cut, the first of each name.

    Errors that quote the whole request are longer than what is read of them.
    """
    if page[:1] not in (b"{", b"[") or page.rstrip()[-1:] in (b"}", b"]"):
        return {}
    found: dict[str, object] = {}
    for member in _MEMBER.finditer(page.decode(errors="replace")):
        text = member["text"]
        value = int(member["number"]) if text is None else _ESCAPE.sub(_unescaped, text)
        found.setdefault(member["name"], value)
    return found


def _unescaped(escape: re.Match[str]) -> str:
    letter = escape[0][1]
    if letter == "u":
        code = escape[0][2:]
        return chr(int(code, 16))
    return {"n": "\n", "t": "\t", "r": "\r", "b": " ", "f": " "}.get(letter, letter)
