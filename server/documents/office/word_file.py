"""The text of Word files (DOCX; ECMA-376, part 1, section 17)."""

from __future__ import annotations

import re

from server.documents.extract import TextCollector
from server.documents.office.zip_parts import XmlEvent, ZipParts, whole_number

HEADING = re.compile(r"heading ([1-6])", re.IGNORECASE)
UNREAD = frozenset({"Fallback", "del", "moveFrom"})
"""Elements that say again what stands elsewhere, or what was deleted."""


def read_word(parts: ZipParts, out: TextCollector) -> None:
    """Add the text of a Word file: headings and lists as Markdown, tables with a line per row."""
    main = parts.main("word/document.xml")
    folder = main.rpartition("/")[0]
    pages = _page_count(parts)
    if pages > 1:
        out.units = pages
        out.begin("page")
    reader = _WordReader(out, _headings(parts, f"{folder}/styles.xml"), has_pages=pages > 1)
    for event in parts.events(main):
        reader.take(event)
    for kind, title in (("footnotes", "Footnotes"), ("endnotes", "Endnotes")):
        if f"{folder}/{kind}.xml" in parts.names:
            reader.title = title
            for event in parts.events(f"{folder}/{kind}.xml"):
                reader.take(event)


def _page_count(parts: ZipParts) -> int:
    """Return how many pages the program that saved the file has counted; 0: it has not said."""
    inside = False
    for event in parts.events("docProps/app.xml"):
        if event.kind == "text" and inside:
            return whole_number(event.name)
        inside = event.kind == "start" and event.name == "Pages"
    return 0


def _headings(parts: ZipParts, name: str) -> dict[str, int]:
    """Return the levels of the heading styles by their ids, which are in the writer's language."""
    levels: dict[str, int] = {}
    style = ""
    for event in parts.events(name):
        if event.kind != "start":
            continue
        if event.name == "style":
            style = event.attributes.get("styleId", "")
        elif event.name == "name" and (found := HEADING.fullmatch(event.attributes.get("val", ""))):
            levels[style] = int(found[1])
    return levels


class _WordReader:
    """Turn the events of one part into lines."""

    def __init__(self, out: TextCollector, headings: dict[str, int], *, has_pages: bool) -> None:
        self.title = ""
        """A heading that goes before the next line."""
        self._out = out
        self._headings = headings
        self._has_pages = has_pages
        self._skipped = 0
        self._in_text = False
        self._words: list[str] = []
        self._prefix = ""
        self._new_page = False
        self._rows: list[list[str]] = []
        self._cells: list[list[str]] = []

    def take(self, event: XmlEvent) -> None:
        """Take the next event."""
        if event.kind == "text":
            if self._in_text and not self._skipped:
                self._words.append(event.name)
        elif event.name in UNREAD:
            self._skipped += 1 if event.kind == "start" else -1
        elif self._skipped:
            return
        elif event.kind == "start":
            self._start(event.name, event.attributes)
        else:
            self._end(event.name)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "t":
            self._in_text = True
        elif name in ("tab", "ptab"):
            self._words.append("\t")
        elif name in ("br", "cr"):
            self._new_page |= attributes.get("type") == "page"
            self._words.append("\n")
        elif name == "lastRenderedPageBreak":
            self._new_page = True
        elif name == "pStyle":
            level = self._headings.get(attributes.get("val", ""), 0)
            self._prefix = f"{'#' * level} " if level else self._prefix
        elif name == "numPr":
            self._prefix = self._prefix or "- "
        elif name == "tr":
            self._rows.append([])
        elif name == "tc":
            self._cells.append([])

    def _end(self, name: str) -> None:
        if name == "t":
            self._in_text = False
        elif name == "p":
            self._end_paragraph()
        elif name == "tc" and self._cells:
            cell = " ".join(self._cells.pop())
            if self._rows:
                self._rows[-1].append(cell)
        elif name == "tr" and self._rows:
            self._write(" | ".join(self._rows.pop()))

    def _end_paragraph(self) -> None:
        text = "".join(self._words)
        words, prefix = text.strip("\n "), self._prefix
        self._words, self._prefix = [], ""
        before = self._new_page and not text.endswith("\n")
        if before:
            self._turn_page()
        self._write(prefix + words if words else "")
        self._turn_page()

    def _write(self, line: str) -> None:
        if self._cells:
            if line:
                self._cells[-1].append(line.replace("\n", " "))
            return
        if self.title and line:
            self._out.line(f"\n{self.title}:")
            self.title = ""
        self._out.line(line)

    def _turn_page(self) -> None:
        if self._new_page and self._has_pages and not self._cells:
            self._out.begin("page")
        self._new_page = self._new_page and bool(self._cells)
