"""Read a pasted list of names and notes: lines, cells of a spreadsheet, or CSV.

People paste all of these into the same box, and mix them. So each line is read by itself: a tab is
always between two cells; a comma or a semicolon is, unless a space follows it (`Doe, Jane` is one
name) and nothing in the line is quoted. A first line that names its columns decides for all
lines that have its separator.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

SEPARATORS = "\t,;"
QUOTED = re.compile(r' *"((?:[^"]|"")*)" *(?=[\t,;\n]|\Z)')
ADDRESS = re.compile(r" +[^\s@]+@[^\s@]+ *")
"""An address of e-mail after a separator and a space. `Jane` in `Doe, Jane` is part of a name."""
PLAIN = re.compile(r"[^\t,;\n]*")
BETWEEN = " · "
"""Between the cells that become one note."""
NAME_WORDS = frozenset({"name", "names", "full name", "namen", "nombre", "nombres", "名前", "氏名"})
NOTE_WORDS = frozenset({"note", "notes", "comment", "notiz", "notizen", "nota", "notas", "メモ"})


class _Line(NamedTuple):
    """One line: its pieces, and the separators between them."""

    pieces: Sequence[str]
    quoted: Sequence[bool]
    separators: Sequence[str]

    def cells(self, separator: str) -> list[str]:
        """Return the cells between which there is this separator; "": one cell."""
        cells = [self.pieces[0]]
        for between, piece in zip(self.separators, self.pieces[1:], strict=True):
            if between == separator:
                cells.append(piece)
            else:
                cells[-1] += between + piece
        return [cell.strip() for cell in cells]

    def separator(self) -> str:
        """Return what is between the cells of this line, "" for nothing."""
        if "\t" in self.separators:
            return "\t"
        for place, between in enumerate(self.separators):
            beside_quotes = self.quoted[place] or self.quoted[place + 1]
            following = self.pieces[place + 1]
            if beside_quotes or not following.startswith(" ") or ADDRESS.fullmatch(following):
                return between
        return ""


class _Columns(NamedTuple):
    """What the first line says: the separator, and which cells are the name and the note."""

    separator: str
    name: int
    note: int | None


def read_names(text: str) -> list[tuple[str, str]]:
    """Return the names and notes of a pasted list; lines without a name are left out."""
    lines = list(_lines(text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")))
    columns = _columns(lines[0]) if len(lines) > 1 else None
    found = []
    for line in lines[1:] if columns is not None else lines:
        if columns is not None and columns.separator:
            has_separator = columns.separator in line.separators
            cells = line.cells(columns.separator if has_separator else line.separator())
            name = cells[columns.name] if columns.name < len(cells) else ""
            rest = (
                cells[columns.note : columns.note + 1]
                if columns.note is not None
                else [cell for place, cell in enumerate(cells) if place != columns.name]
            )
        else:
            name, *rest = line.cells(line.separator())
        if name:
            found.append((name, BETWEEN.join(filter(None, rest))))
    return found


def write_names(names: Iterable[tuple[str, str]]) -> str:
    """Return names and notes as lines that `read_names` reads as the same."""
    return "\n".join(
        "\t".join(map(_cell, (name, note) if note else (name,))) for name, note in names
    )


def _cell(text: str) -> str:
    if not any(mark in text for mark in ('"', "\n", "\r", *SEPARATORS)):
        return text
    return '"' + text.replace('"', '""') + '"'


def _lines(text: str) -> Iterable[_Line]:
    """Split a text at its separators and line ends, except for those between quotes."""
    at = 0
    while at <= len(text):
        pieces, quoted, separators = list[str](), list[bool](), list[str]()
        while True:
            found = QUOTED.match(text, at)
            whole = found or PLAIN.match(text, at)
            assert whole is not None  # PLAIN matches anywhere
            pieces.append(found[1].replace('""', '"') if found else whole[0])
            quoted.append(found is not None)
            at = whole.end()
            if at == len(text) or text[at] == "\n":
                break
            separators.append(text[at])
            at += 1
        at += 1
        if any(piece.strip() for piece in pieces):
            yield _Line(pieces, quoted, separators)


def _columns(first: _Line) -> _Columns | None:
    """Return the columns that the first line names, or None if it is a line like the others."""
    for separator in dict.fromkeys([*first.separators, ""]):
        cells = [cell.casefold() for cell in first.cells(separator)]
        names = [place for place, cell in enumerate(cells) if cell in NAME_WORDS]
        if names:
            notes = [place for place, cell in enumerate(cells) if cell in NOTE_WORDS]
            return _Columns(separator, names[0], notes[0] if notes else None)
    return None
