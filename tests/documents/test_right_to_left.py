"""Hebrew and Arabic come in their order of reading, however their glyphs are written in a file."""

# ruff: noqa: RUF001 (letters of other scripts are what this is about)
from __future__ import annotations

import random

import pytest
from support.inputs.office_files import placed_pdf

from server.documents.extract import TextCollector
from server.documents.pdf_pages import read_pdf
from server.documents.right_to_left import Glyph, read_page, reads_from_right

AS_SEEN = {
    # A line from left to right, as the eye sees it: its order of reading.
    "ריצק טסקט": "טקסט קציר",
    "ملاس": "سالم",
    "ﻡﻼﺳ": "سلام",  # forms of the letters, with a ligature of two
    "4202 ماع": "عام 4202",
    "5.21 םולש": "שלום 5.21",
    "ديدجلا Python 3.11 باتك": "كتاب Python 3.11 الجديد",
    "read םולש now": "read שלום now",
    "read (םלוע םולש) now": "read (שלום עולם) now",
    "read 3.11 now": "read 3.11 now",
    ".ךלה זאו (םולש) :רמא": "אמר: (שלום) ואז הלך.",
    "۱۲۳ شهوژپ": "پژوهش ۱۲۳",
}


def line(text: str, x: float = 50.0, y: float = 700.0) -> list[Glyph]:
    """Return the glyphs of a line; a space is a gap."""
    places = [(letter, x + 10 * at) for at, letter in enumerate(text) if letter != " "]
    return [Glyph(letter, left, y, left, left + 10, 20) for letter, left in places]


@pytest.mark.parametrize(("seen", "read"), AS_SEEN.items())
def test_a_line_is_read_as_it_is_seen_in_whatever_order_it_was_written(
    seen: str, read: str
) -> None:
    glyphs = line(seen)
    assert read_page(glyphs) == read
    for seed in range(3):
        random.Random(seed).shuffle(glyphs)
        assert read_page(glyphs) == read


def test_letters_of_one_glyph_and_marks_keep_their_letter() -> None:
    ligature = [Glyph("ا", 60, 700, 60, 65, 20), Glyph("ل", 60, 700, 65, 70, 20)]
    assert read_page([*line("ه", 50), *ligature, *line("ج", 70)]) == "جلاه"
    marks = [Glyph("\u05b0", 63, 700, 63, 66, 20), Glyph("\u05bc", 61, 700, 61, 69, 20)]
    assert read_page([*marks, *line("אב")]) == "ב\u05b0\u05bcא"


def test_lines_go_from_top_to_bottom_and_columns_stay_apart() -> None:
    right = line("בא", 400, 700) + line("דג", 400, 670)
    left = line("וה", 50, 700) + line("חז", 50, 670)
    assert read_page(right + left) == "אב\nגד\nהו\nזח"
    assert read_page(line("דג", 50, 670) + line("בא", 50, 700)) == "אב\nגד"
    cells = line("חמ", 50, 700) + line("ריחמ", 300, 700)
    assert read_page(cells) == "מחיר\nמח"


def test_pages_of_other_languages_are_left_alone() -> None:
    assert not reads_from_right("A page of English that quotes one word, שלום, and goes on." * 2)
    assert reads_from_right("קטע בעברית with some English")
    assert not reads_from_right("12.5")


def test_an_arabic_page_is_read_from_its_file() -> None:
    seen = ["(ملاعلا) ابحرم", "USD 12.5 :رعسلا"]
    letters = [
        (letter, 50.0 + 10 * at, 700.0 - 30 * row)
        for row, text in enumerate(seen)
        for at, letter in enumerate(text)
        if letter != " "
    ]
    for seed in range(3):
        random.Random(seed).shuffle(letters)
        out = TextCollector()
        read_pdf(placed_pdf(letters), out)
        assert out.extract("pdf", is_cut=False).text == (
            "[Page 1]\nمرحبا (العالم)\nالسعر: USD 12.5"
        )
