"""The cells of Excel files (XLSX; ECMA-376, part 1, section 18), a line per row."""

from __future__ import annotations

import datetime as dt
import re
from typing import NamedTuple

from server.documents.extract import TextCollector
from server.documents.office.zip_parts import ZipParts, whole_number
from workers.units import DAY_S

DATE_FORMATS = frozenset({*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)})
"""The numbers of the built-in formats that show a date or a time (section 18.8.30)."""
NO_DATE_PARTS = re.compile(r'"[^"]*"|\[[^\]]*\]|\\.|_.|General', re.IGNORECASE)
DATE_PARTS = re.compile(r"[ymdhs]", re.IGNORECASE)
CELL = re.compile(r"([A-Z]{1,3})([0-9]{1,7})")
FIRST_DAY = dt.datetime(1899, 12, 30)  # noqa: DTZ001 - sheets know no time zones
DAYS_BEFORE_1904 = 1462
LAST_DAY = 2_958_466
"""The day after 9999-12-31, as Excel counts."""
MAX_GAP = 256
MAX_SHARED = 2_000_000


class _Book(NamedTuple):
    """What all sheets of a file share."""

    texts: list[str]
    dates: frozenset[int]
    days_before: int


def read_sheets(parts: ZipParts, out: TextCollector) -> None:
    """Add the cells of every sheet; cells of a row are separated by tabs."""
    main = parts.main("xl/workbook.xml")
    relations = parts.relations(main)
    sheets: list[tuple[str, str]] = []
    days_before = 0
    for kind, name, attributes in parts.events(main):
        if kind != "start":
            continue
        if name == "sheet" and attributes.get("r:id") in relations:
            hidden = " (hidden)" if attributes.get("state", "visible") != "visible" else ""
            target = relations[attributes["r:id"]]
            if target[0] == "worksheet":
                sheets.append((attributes.get("name", "") + hidden, target[1]))
        elif name == "workbookPr" and attributes.get("date1904") in ("1", "true"):
            days_before = DAYS_BEFORE_1904
    named = dict(relations.values())
    book = _Book(
        _shared_texts(parts, named.get("sharedStrings", "")),
        _date_styles(parts, named.get("styles", "")),
        days_before,
    )
    out.units = len(sheets)
    for name, path in sheets:
        out.begin("sheet", name)
        _read_rows(parts, path, book, out)


def _shared_texts(parts: ZipParts, name: str) -> list[str]:
    texts: list[str] = []
    words: list[str] = []
    in_text = in_reading = False
    for kind, tag, _ in parts.events(name):
        if kind == "text":
            if in_text and not in_reading:
                words.append(tag)
        elif tag == "t":
            in_text = kind == "start"
        elif tag == "rPh":  # how a Japanese word is read: it stands there already
            in_reading = kind == "start"
        elif tag == "si" and kind == "end":
            texts.append("".join(words))
            words = []
            if len(texts) >= MAX_SHARED:
                break
    return texts


def _date_styles(parts: ZipParts, name: str) -> frozenset[int]:
    """Return the numbers of the cell styles that show dates."""
    dates = set(DATE_FORMATS)
    styles: set[int] = set()
    in_cells, number = False, 0
    for kind, tag, attributes in parts.events(name):
        if tag == "cellXfs":
            in_cells = kind == "start"
        elif kind != "start":
            continue
        elif tag == "numFmt":
            shown = NO_DATE_PARTS.sub("", attributes.get("formatCode", ""))
            code = whole_number(attributes.get("numFmtId", ""))
            if DATE_PARTS.search(shown):
                dates.add(code)
        elif tag == "xf" and in_cells:
            if whole_number(attributes.get("numFmtId", "")) in dates:
                styles.add(number)
            number += 1
    return frozenset(styles)


def _read_rows(parts: ZipParts, name: str, book: _Book, out: TextCollector) -> None:
    cells: list[str] = []
    given: dict[str, str] = {}
    words: list[str] = []
    in_value = False
    for kind, tag, attributes in parts.events(name):
        if kind == "text":
            if in_value:
                words.append(tag)
        elif tag in ("v", "t"):
            in_value = kind == "start"
        elif tag == "c" and kind == "start":
            given, words = attributes, []
        elif tag == "c":
            _add_cell(cells, given.get("r", ""), _shown("".join(words), given, book))
        elif tag == "row" and kind == "end" and cells:
            out.line("\t".join(cells))
            cells = []
        elif tag == "sheetData" and kind == "end":
            return


def _add_cell(cells: list[str], reference: str, text: str) -> None:
    """Add a cell, after empty ones for the columns that the file leaves out."""
    if text:
        gap = _column(reference, len(cells)) - len(cells)
        cells += [""] * max(0, min(gap, MAX_GAP))
        cells.append(text)


def _shown(value: str, given: dict[str, str], book: _Book) -> str:
    """Return a cell as it is shown, in one line."""
    kind = given.get("t", "n")
    if kind == "s":
        at = whole_number(value)
        value = book.texts[at] if at < len(book.texts) else ""
    elif kind == "b":
        value = {"1": "TRUE", "0": "FALSE"}.get(value, value)
    elif kind == "n" and value and whole_number(given.get("s", "")) in book.dates:
        value = _date(value, book.days_before)
    return " ".join(value.split())


def _date(value: str, days_before: int) -> str:
    """Return a number of days as a date; for Excel 1900 was a leap year."""
    try:
        days = float(value) + days_before
    except ValueError:
        return value
    if not 0 <= days < LAST_DAY:
        return value
    moment = FIRST_DAY + dt.timedelta(seconds=round(days * DAY_S))
    if days < 1:
        return moment.strftime("%H:%M:%S")
    return moment.strftime("%Y-%m-%d" if days == int(days) else "%Y-%m-%d %H:%M:%S")


def _column(reference: str, default: int) -> int:
    """Return the number of a cell's column, from 0: C7 is in the third."""
    found = CELL.fullmatch(reference)
    if found is None:
        return default
    number = 0
    for letter in found[1]:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1
