"""The text of OpenDocument files: ODT, ODS and ODP (OASIS OpenDocument 1.3, part 3)."""

from __future__ import annotations

from server.documents.extract import TextCollector, Unreadable
from server.documents.office.zip_parts import XmlEvent, ZipParts, whole_number

UNREAD = frozenset({"annotation", "tracked-changes", "forms", "date-time", "page-number"})
MAX_REPEATED = 256
"""A sheet repeats its last empty cell up to the last column there can be."""


def read_open_document(parts: ZipParts, out: TextCollector) -> None:
    """Add the text of an OpenDocument file."""
    for event in parts.events("META-INF/manifest.xml"):
        if event.kind == "start" and event.name == "encryption-data":
            raise Unreadable("password", "encrypted OpenDocument")
    kind = parts.read("mimetype").decode("ascii", "replace").strip()
    is_sheet = "spreadsheet" in kind
    is_text = not is_sheet and "presentation" not in kind
    pages = _page_count(parts) if is_text else 0
    if pages > 1:
        out.units = pages
        out.begin("page")
    reader = _Reader(out, is_sheet=is_sheet, has_pages=pages > 1, has_slides=not is_text)
    for event in parts.events("content.xml"):
        reader.take(event)


def _page_count(parts: ZipParts) -> int:
    for event in parts.events("meta.xml"):
        if event.kind == "start" and event.name == "document-statistic":
            return whole_number(event.attributes.get("page-count", ""), 0)
    return 0


class _Reader:
    """Turn the events of `content.xml` into lines."""

    def __init__(
        self, out: TextCollector, *, is_sheet: bool, has_pages: bool, has_slides: bool
    ) -> None:
        self._out = out
        self._is_sheet = is_sheet
        self._has_pages = has_pages
        self._has_slides = has_slides and not is_sheet
        self._skipped = 0
        self._in_body = False
        self._depth = 0
        self._words: list[str] = []
        self._prefix = ""
        self._lists = 0
        self._new_page = False
        self._row: list[str] | None = None
        self._row_times = 1
        self._gap = 0
        self._cell: list[str] = []
        self._cell_times = 1

    def take(self, event: XmlEvent) -> None:
        """Take the next event."""
        kind, name, attributes = event
        if kind == "text":
            if self._depth and not self._skipped:
                self._words.append(name)
        elif name in UNREAD:
            self._skipped += 1 if kind == "start" else -1
        elif name == "body":
            self._in_body = kind == "start"
        elif self._skipped or not self._in_body:
            return
        elif kind == "start":
            self._start(name, attributes)
        else:
            self._end(name)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if name in ("p", "h"):
            self._depth += 1
            level = whole_number(attributes.get("outline-level", ""), 1)
            self._prefix = f"{'#' * min(level, 6)} " if name == "h" else "- " * bool(self._lists)
        elif name == "s":
            self._words.append(" " * min(whole_number(attributes.get("c", ""), 1), MAX_REPEATED))
        elif name in ("tab", "line-break"):
            self._words.append("\t" if name == "tab" else "\n")
        elif name == "soft-page-break":
            self._new_page = True
        elif name == "list":
            self._lists += 1
        elif name == "page" and self._has_slides:
            self._out.begin("slide")
        elif name == "notes" and self._has_slides:
            self._out.line("Notes:")
        elif name == "table" and self._is_sheet:
            self._out.begin("sheet", attributes.get("name", ""))
        else:
            self._start_table_part(name, attributes)

    def _start_table_part(self, name: str, attributes: dict[str, str]) -> None:
        if name == "table-row":
            self._row, self._gap = [], 0
            self._row_times = _repeated(attributes, "number-rows-repeated")
        elif name in ("table-cell", "covered-table-cell"):
            self._cell = []
            self._cell_times = _repeated(attributes, "number-columns-repeated")

    def _end(self, name: str) -> None:
        if name in ("p", "h"):
            self._depth -= 1
            if not self._depth:
                self._end_paragraph()
        elif name == "list":
            self._lists -= 1
        elif name in ("table-cell", "covered-table-cell") and self._row is not None:
            self._end_cell(self._row)
        elif name == "table-row" and self._row is not None:
            separator = "\t" if self._is_sheet else " | "
            for _ in range(self._row_times if self._row else 0):
                self._out.line(separator.join(self._row))
            self._row = None

    def _end_paragraph(self) -> None:
        text, self._words = "".join(self._words).strip(), []
        if self._row is not None:
            self._cell.append(" ".join(text.split()))
            return
        if self._new_page and self._has_pages:
            self._out.begin("page")
        self._new_page = False
        self._out.line(self._prefix + text if text else "")

    def _end_cell(self, row: list[str]) -> None:
        text = " ".join(filter(None, self._cell))
        if not text:
            self._gap = min(self._gap + self._cell_times, MAX_REPEATED)
            return
        row += [""] * self._gap + [text] * self._cell_times
        self._gap = 0


def _repeated(attributes: dict[str, str], name: str) -> int:
    return min(whole_number(attributes.get(name, ""), 1), MAX_REPEATED)
