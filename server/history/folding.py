"""Fold texts for the search, find words in them, and cut excerpts around what was found.

Folding ignores case and width (NFKC): a search finds full-width letters by plain ones. The page
does the same (`webui/static/js/chat/search_words.js`); one table of cases tests both.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice, takewhile
from typing import NamedTuple

BEFORE = 16
"""Columns of an excerpt before the first mark: a narrow list must show it."""
AFTER = 120
"""Columns from the beginning of the first mark on."""
NEAR = 60
"""Words that begin within so many letters are shown together."""
BLOCK = 2048
MAX_PLACES = 200
"""Places of one word that are looked at."""
MAX_FILE_CHARS = 1_000_000
"""Of the text of a file so much is searched."""

GAPLESS = re.compile(
    "[\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u2e80-\u312f\u31a0-\u31ff\u3400-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)
"""Letters of scripts without gaps between words: each may begin one."""
WIDE = re.compile(
    "[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff00-\uff60\U0001f300-\U0003ffff]"
)
GAPS = re.compile(r"\s+")


class WordPlace(NamedTuple):
    """Where a word stands in a text. `is_start`: it begins like one of the text's words."""

    start: int
    end: int
    word: str
    is_start: bool


class Excerpt(NamedTuple):
    """A part of a text, and the words in it, in UTF-16 units."""

    text: str
    matches: list[tuple[int, int]]


def fold(text: str) -> str:
    """Return a text without case, width and NUL."""
    if text.isascii():
        return text.lower().replace("\0", " ")
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return folded.replace("\0", " ")


def fold_long(text: str) -> str:
    """Fold a text in blocks, between which other threads can run."""
    return "".join(fold(block) for block in _blocks(text))


def search_words(query: str) -> list[str]:
    """Return the folded words of a query, each once."""
    return list(dict.fromkeys(fold(query).split()))


def find_places(text: str, words: Sequence[str]) -> list[WordPlace]:
    """Find folded words in a text; of each those that begin words, if there are any."""
    folded = _Folded(text)
    found: list[WordPlace] = []
    for word in words:
        places = list(folded.places(word))
        starts = [place for place in places if place.is_start]
        found += starts or places
    return sorted(found)


def excerpt_of(text: str, words: Sequence[str]) -> Excerpt:
    """Cut an excerpt where most of the folded words are near each other; else the start."""
    places = find_places(text, words)
    best = max(range(len(places)), key=lambda at: _nearby(places, at), default=None)
    start = 0 if best is None else places[best].start
    first = _beginning(text, start)
    last = _reach(text, start, AFTER)
    pieces, matches = [], []
    at, length = first, 0
    for place in _joined(places):
        begin, end = max(place[0], first), min(place[1], last)
        if begin >= end:
            continue
        before = _one_line(text[at:begin], is_first=at == first)
        pieces += [before, text[begin:end]]
        length += _utf16(before)
        matches.append((length, length + _utf16(text[begin:end])))
        length = matches[-1][1]
        at = end
    pieces.append(_one_line(text[at:last], is_first=at == first))
    head = "…" if text[:first].strip() else ""
    tail = "…" if text[last:].strip() else ""
    shift = len(head)
    return Excerpt(
        head + "".join(pieces).rstrip() + tail, [(a + shift, b + shift) for a, b in matches]
    )


class _Folded:
    """A folded text, and from where in the text its letters come."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._is_plain = text.isascii()
        blocks = [text] if self._is_plain else list(_blocks(text))
        folded = [fold(block) for block in blocks]
        self.text = "".join(folded)
        self._blocks = blocks
        self._origins: dict[int, list[int]] = {}
        self._begins, self._starts = [0], [0]
        for block, piece in zip(blocks, folded, strict=True):
            self._begins.append(self._begins[-1] + len(piece))
            self._starts.append(self._starts[-1] + len(block))

    def places(self, word: str) -> Iterator[WordPlace]:
        """Find a word, without overlaps."""
        at = -len(word)
        for _ in range(MAX_PLACES):
            at = self.text.find(word, at + len(word))
            if at < 0:
                return
            end = self._origin(at + len(word) - 1, after=True)
            yield WordPlace(self._origin(at), end, word, _begins_word(self.text, at))

    def _origin(self, at: int, *, after: bool = False) -> int:
        """Return where the letter of the text begins (or ends) that became a folded one."""
        if self._is_plain:
            return at + after
        number = bisect_right(self._begins, at) - 1
        if number not in self._origins:
            self._origins[number] = list(_map_block(self._blocks[number]))
        origins = self._origins[number]
        inside = at - self._begins[number]
        begin = origins[inside]
        if after:
            later = (origin for origin in origins[inside:] if origin > begin)
            begin = next(later, len(self._blocks[number]))
        return self._starts[number] + begin


def _blocks(text: str) -> Iterator[str]:
    """Cut a text into blocks, never between what is folded together."""
    start = 0
    while start < len(text):
        end = min(start + BLOCK, len(text))
        while end < len(text) and _joins(text[end]):
            end += 1
        yield text[start:end]
        start = end


def _map_block(block: str) -> Iterator[int]:
    """Return for each letter of a folded block where it comes from."""
    start = 0
    while start < len(block):
        end = start + 1
        while end < len(block) and _joins(block[end]):
            end += 1
        yield from [start] * len(fold(block[start:end]))
        start = end


def _joins(letter: str) -> bool:
    """Return True for what is folded together with the letter before it."""
    return letter > "\u02ff" and (
        unicodedata.category(letter)[0] == "M"
        or "\u1160" <= letter <= "\u11ff"  # the rest of a Hangul syllable
        or letter in "\uff9e\uff9f"  # voice marks of narrow katakana
    )


def _is_letter(letter: str) -> bool:
    return unicodedata.category(letter)[0] in "LNM"


def _begins_word(text: str, at: int) -> bool:
    if at == 0:
        return True
    before, letter = text[at - 1], text[at]
    if not _is_letter(before) or not _is_letter(letter):
        return True
    return bool(GAPLESS.match(before) or GAPLESS.match(letter))


def _nearby(places: Sequence[WordPlace], first: int) -> int:
    """Return how many of the words are near a place, at it and after it."""
    most = places[first].start + NEAR
    near = takewhile(lambda place: place.start < most, islice(places, first, None))
    return len({place.word for place in near})


def _beginning(text: str, start: int) -> int:
    """Return where an excerpt begins: at a word not far before a place."""
    lowest, columns = start, 0
    while lowest > 0:
        columns += _columns(text[lowest - 1])
        if columns > BEFORE:
            break
        lowest -= 1
    while lowest < start and _joins(text[lowest]):
        lowest += 1
    if lowest == 0:
        return 0
    spaced = (at for at in range(lowest, start + 1) if text[at - 1].isspace())
    begun = (at for at in range(lowest, start) if _is_letter(text[at]) and _begins_word(text, at))
    return next(spaced, next(begun, lowest))


def _reach(text: str, start: int, columns: int) -> int:
    at = start
    while at < len(text) and columns > 0:
        columns -= _columns(text[at])
        at += 1
    while at < len(text) and _joins(text[at]):
        at += 1
    return at


def _columns(letter: str) -> int:
    return 2 if WIDE.match(letter) else 1


def _joined(places: Sequence[WordPlace]) -> list[tuple[int, int]]:
    """Return the places without overlaps, in their order."""
    joined: list[tuple[int, int]] = []
    for start, end, _, _ in places:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _one_line(text: str, *, is_first: bool) -> str:
    """Return a text with one space for each gap in it."""
    line = GAPS.sub(" ", text)
    return line.lstrip() if is_first else line


def _utf16(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
