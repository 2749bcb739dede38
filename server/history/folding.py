"""Fold texts for the search, and cut excerpts around what was found.

Folding ignores case and width (NFKC): a search finds
full-width letters by plain ones.
"""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

BEFORE = 40
"""Characters of an excerpt before the match."""
AFTER = 100
LONGEST_MAPPED = 200_000
"""Beyond this, an excerpt of a text that is not ASCII begins at its start: mapping is slow."""


class Excerpt(NamedTuple):
    """A part of a text, and the match in it, in UTF-16 units."""

    text: str
    match: tuple[int, int]


def fold(text: str) -> str:
    """Return a text without case, width and NUL."""
    if text.isascii():
        return text.lower().replace("\0", " ")
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return folded.replace("\0", " ")


def search_words(query: str) -> list[str]:
    """Return the folded words of a query, each once."""
    return list(dict.fromkeys(fold(query).split()))


def excerpt_of(text: str, word: str) -> Excerpt:
    """Cut an excerpt around the first place of a folded word; without one, the start."""
    start, end = _place(text, word)
    first = max(start - BEFORE, 0)
    last = min(max(end, start) + AFTER, len(text))
    before, match, after = text[first:start], text[start:end], text[end:last]
    shown_before = ("…" if first else "") + _one_line(before)
    shown_match, shown_after = _one_line(match), _one_line(after)
    begins = _utf16(shown_before)
    tail = "…" if last < len(text) else ""
    return Excerpt(
        shown_before + shown_match + shown_after + tail, (begins, begins + _utf16(shown_match))
    )


def _place(text: str, word: str) -> tuple[int, int]:
    """Return where the word begins and ends in the text as it is."""
    if text.isascii():
        at = text.lower().find(word)
        return (at, at + len(word)) if at >= 0 else (0, 0)
    if len(text) > LONGEST_MAPPED:
        return (0, 0)
    folded: list[str] = []
    origins: list[int] = []
    start = 0
    while start < len(text):
        end = start + 1
        while end < len(text) and unicodedata.combining(text[end]):
            end += 1
        piece = fold(text[start:end])
        folded.append(piece)
        origins += [start] * len(piece)
        start = end
    at = "".join(folded).find(word)
    if at < 0:
        return (0, 0)
    last = at + len(word)
    return origins[at], origins[last] if last < len(origins) else len(text)


def _one_line(text: str) -> str:
    """Return a text with spaces for its line ends, of the same length."""
    return text.translate({10: " ", 13: " ", 9: " "})


def _utf16(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
