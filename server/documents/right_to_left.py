"""Lines of Hebrew and Arabic in their order of reading, from where their glyphs stand on a page.

PDF files have no order of reading. Programs write Arabic glyph by glyph, from the left or from the
right, with ligatures of several letters and marks that are glyphs of their own, and what PDFium
makes of it is cut and reversed in places. Where a glyph stands is certain: here a line is put
together from left to right as it is seen, and then turned into the order of reading, the inverse
of Unicode's bidirectional algorithm (UAX 9). Latin words and numbers keep the order that is seen,
so "12.5 USD" in a line of Arabic is "USD 12.5", as it looks there.
"""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

LETTERS = re.compile("[\u05be-\u07ff\u0840-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
PRESENTATION_FORMS = re.compile("[\ufb1d-\ufdff\ufe70-\ufefc]+")
"""Letters in the shape of their place in a word; NFKC gives the letters themselves."""
MIRRORED = str.maketrans("()[]{}<>«»", ")(][}{><»«")
OPENING, CLOSING = "([{«", ")]}»"
SAME_LINE = 0.5
"""How far from the line, in its heights, a raised or lowered letter still stands on it."""
SPACE = 0.13
"""How wide a gap between letters, in heights of a line, is a space: a third of an em is usual."""
COLUMN = 2.0
"""How wide a gap, in heights of a line, is between columns."""
SAME_PLACE = 0.05
"""How close, in points, the origins of letters are that are one glyph."""
MAX_ROWS = 2000
"""Rows of a page that are put in order; a page with more is no page of text."""


class Glyph(NamedTuple):
    """A letter or mark: `origin` and `baseline` in points, `left` and `right` of its box."""

    text: str
    origin: float
    baseline: float
    left: float
    right: float
    size: float


class Cluster(NamedTuple):
    """What stands in one place: a letter with its marks, or the letters of a ligature."""

    text: str
    left: float
    right: float


def has_letters(text: str) -> bool:
    """Return whether a text has letters that are read from right to left."""
    return LETTERS.search(text) is not None


def reads_from_right(text: str) -> bool:
    """Return whether a tenth of the letters of a page are read from right to left.

    On other pages the order of the rest matters more, columns for example, which PDFium keeps.
    """
    found = sum(1 for _ in LETTERS.finditer(text))
    return found > 0 and found * 10 >= sum(letter.isalpha() for letter in text)


def read_page(glyphs: Sequence[Glyph]) -> str:
    """Return the text of a page in its order of reading."""
    written = {id(glyph): at for at, glyph in enumerate(glyphs)}
    rows = sorted(rows_of(glyphs), key=lambda row: min(written[id(one)] for one in row))
    lines = [clusters_of(row) for row in in_order(rows)]
    balance = sum(direction(one.text) for line in lines for one in line)
    return "\n".join(logical(line, from_right=balance < 0) for line in lines).strip()


def rows_of(glyphs: Sequence[Glyph]) -> Iterator[list[Glyph]]:
    """Group glyphs that stand on one line; what is farther apart than a column's gap is another."""
    rows: list[list[Glyph]] = []
    by_line: dict[int, list[list[Glyph]]] = {}
    for glyph in glyphs:
        near = int(glyph.baseline // 8)
        open_rows = [row for at in (near - 1, near, near + 1) for row in by_line.get(at, ())]
        row = next((row for row in reversed(open_rows) if stands_on(glyph, row[0])), None)
        if row is None:
            row = []
            rows.append(row)
            by_line.setdefault(near, []).append(row)
        row.append(glyph)
    for row in rows:
        ordered = sorted(row, key=lambda one: one.left)
        begun, end = 0, ordered[0].right
        size = max(one.size for one in row)
        for at, glyph in enumerate(ordered):
            if glyph.left - end > COLUMN * size:
                yield ordered[begun:at]
                begun = at
            end = max(end, glyph.right)
        yield ordered[begun:]


def stands_on(glyph: Glyph, first: Glyph) -> bool:
    """Return whether a glyph stands on the line that another began."""
    return abs(glyph.baseline - first.baseline) < SAME_LINE * max(glyph.size, first.size)


def in_order(rows: list[list[Glyph]]) -> list[list[Glyph]]:
    """Put rows of one column from top to bottom; columns keep the order in which they came."""
    if len(rows) > MAX_ROWS:
        return rows
    ordered: list[list[Glyph]] = []
    for row in rows:
        at = len(ordered)
        while at and is_above(row, ordered[at - 1]):
            at -= 1
        ordered.insert(at, row)
    return ordered


def is_above(row: list[Glyph], other: list[Glyph]) -> bool:
    """Return whether a row stands above another one and over it, or beside it on its right."""
    if stands_on(row[0], other[0]):
        return row[0].left > other[0].left  # cells of one line
    overlaps = row[0].left < other[-1].right and other[0].left < row[-1].right
    return overlaps and row[0].baseline > other[0].baseline


def clusters_of(row: Sequence[Glyph]) -> list[Cluster]:
    """Return the clusters of a row from left to right, with the spaces between words."""
    places: list[list[Glyph]] = []
    for glyph in sorted(row, key=lambda one: one.origin):
        if places and abs(places[-1][0].origin - glyph.origin) < SAME_PLACE:
            places[-1].append(glyph)
        else:
            places.append([glyph])
    letters = [place for place in places if not all(is_mark(one.text) for one in place)]
    marks = [place for place in places if all(is_mark(one.text) for one in place)]
    if not letters:
        letters, marks = places, []
    for mark in marks:
        middle = (mark[0].left + mark[-1].right) / 2
        min(letters, key=lambda place: distance(place, middle)).extend(mark)
    size = max(one.size for one in row)
    spaced: list[Cluster] = []
    end = math.inf
    for one in sorted(map(cluster_of, letters), key=lambda one: one.left):
        if one.left - end > SPACE * size:
            spaced.append(Cluster(" ", end, one.left))
        spaced.append(one)
        end = one.right if end == math.inf else max(end, one.right)
    return spaced


@functools.lru_cache(4096)
def is_mark(text: str) -> bool:
    """Return whether a glyph is a vowel point or accent, which belongs to a letter."""
    return unicodedata.category(text) == "Mn"


def distance(place: Sequence[Glyph], at: float) -> float:
    """Return how far a point is from the letters of a place."""
    left, right = min(one.left for one in place), max(one.right for one in place)
    return max(left - at, at - right, 0.0) + abs(at - (left + right) / 2) / 1000


def cluster_of(place: Sequence[Glyph]) -> Cluster:
    """Join what stands in one place: letters in their order of reading, then their marks."""
    if len(place) == 1:
        (only,) = place
        return Cluster(plain_letters(only.text), min(only.origin, only.left), only.right)
    letters = [one for one in place if not is_mark(one.text)]
    marks = [one for one in place if is_mark(one.text)]
    from_right = any(has_letters(one.text) for one in letters)
    letters.sort(key=lambda one: one.left, reverse=from_right)
    text = "".join(one.text for one in [*letters, *marks])
    own = [one for one in place if abs(one.origin - place[0].origin) < SAME_PLACE]
    left = min(place[0].origin, *(one.left for one in own))
    right = max(one.right for one in own)
    return Cluster(plain_letters(text), left, right)


@functools.lru_cache(4096)
def plain_letters(text: str) -> str:
    """Return letters without the shape of their place in a word, and marks in their usual order."""
    plain = PRESENTATION_FORMS.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    return unicodedata.normalize("NFC", plain)


@functools.lru_cache(4096)
def direction(text: str) -> int:
    """Return 1 for Latin and other letters from the left, -1 for letters from the right, else 0."""
    for letter in text:
        kind = unicodedata.bidirectional(letter)
        if kind in ("R", "AL"):
            return -1
        if kind == "L":
            return 1
    return 0


def logical(line: Sequence[Cluster], *, from_right: bool) -> str:
    """Return a line as it is read. `from_right`: how the page reads, where the line can be both."""
    strong = [found for one in line if (found := direction(one.text))]
    if -1 not in strong:
        return "".join(one.text for one in line).rstrip()
    if strong[0] == strong[-1]:
        from_right = strong[0] < 0
    words = [one.text for one in line]
    if not from_right:
        return "".join(turned_runs(words, -1)).rstrip()
    return "".join(turned_runs(facing(words[::-1]), 1)).rstrip()


def facing(words: list[str]) -> list[str]:
    """Turn brackets the way they face when they are read.

    PDFium has turned some of them already, so what is seen does not say it: what opens comes first.
    """
    mirrored = [word.translate(MIRRORED) for word in words]
    if is_balanced(mirrored):
        return mirrored
    if is_balanced(words):
        return words
    for opening, closing in zip(OPENING, CLOSING, strict=True):
        places = [at for at, word in enumerate(mirrored) if word in (opening, closing)]
        if len(places) % 2 == 0:
            for n, at in enumerate(places):
                mirrored[at] = closing if n % 2 else opening
    return mirrored


def turned_runs(words: list[str], wanted: int) -> list[str]:
    """Turn each run of one direction around, with what stands inside it; numbers go with Latin."""
    kinds = [kind_of(word, wanted) for word in words]
    made: list[str] = []
    at = 0
    while at < len(words):
        if kinds[at] != wanted:
            made.append(words[at])
            at += 1
            continue
        end = at + 1  # the run goes on to its last word that another of the kind precedes
        for further in range(at + 1, len(words)):
            if kinds[further] == wanted:
                end = further + 1
            elif kinds[further] == -wanted:
                break
        run = words[at:end][::-1]
        made += run if wanted > 0 else turned_runs(facing(run), 1)
        at = end
    return made


def kind_of(word: str, wanted: int) -> int:
    """Return the direction of a word; digits go from the left, and are nothing beside Latin."""
    if found := direction(word):
        return found
    is_number = any(unicodedata.bidirectional(letter) in ("EN", "AN") for letter in word)
    return 1 if is_number and wanted > 0 else 0


def is_balanced(words: Sequence[str]) -> bool:
    """Return whether brackets open before they close."""
    depth = 0
    for letter in "".join(words):
        depth += (letter in OPENING) - (letter in CLOSING)
        if depth < 0:
            return False
    return depth == 0
