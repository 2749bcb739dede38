"""The text of e-books (EPUB 3.3): the chapters in their order of reading."""

from __future__ import annotations

import posixpath
from html.parser import HTMLParser
from urllib.parse import unquote

from server.documents.extract import TextCollector
from server.documents.office.zip_parts import ZipParts
from workers.units import MIB

MAX_CHAPTER_BYTES = 8 * MIB
BLOCKS = frozenset(
    {"p", "div", "h1", "h2", "h3", "h4", "h5", "h6", "li", "tr", "br", "section", "article"}
    | {"blockquote", "pre", "figcaption", "dt", "dd"}
)
UNREAD = frozenset({"script", "style", "title", "rt"})


def read_book(parts: ZipParts, out: TextCollector) -> None:
    """Add the text of every chapter."""
    package = ""
    for event in parts.events("META-INF/container.xml"):
        if event.kind == "start" and event.name == "rootfile":
            package = package or event.attributes.get("full-path", "")
    chapters: dict[str, str] = {}
    order: list[str] = []
    for event in parts.events(package):
        if event.kind == "start" and event.name == "item":
            path = posixpath.join(posixpath.dirname(package), unquote(event.attributes["href"]))
            chapters[event.attributes["id"]] = posixpath.normpath(path)
        elif event.kind == "start" and event.name == "itemref":
            order.append(event.attributes["idref"])
    for name in order:
        chapter = _Chapter(out)
        data = parts.read(chapters.get(name, ""), MAX_CHAPTER_BYTES)
        chapter.feed(data.decode("utf-8-sig", "replace"))
        chapter.close()
        chapter.end_line()
        out.line("")


class _Chapter(HTMLParser):
    """Turn one chapter into lines; its mark-up may have the faults that browsers accept."""

    def __init__(self, out: TextCollector) -> None:
        super().__init__()
        self._out = out
        self._words: list[str] = []
        self._skipped = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 - as the base class calls it
        """End the line before a block; headings become Markdown."""
        if tag in UNREAD:
            self._skipped += 1
        elif tag in BLOCKS:
            self.end_line()
            if tag[0] == "h" and tag[1:].isdigit():
                self._words.append("#" * int(tag[1:]) + " ")
            elif tag == "li":
                self._words.append("- ")

    def handle_endtag(self, tag: str) -> None:
        """End the line after a block."""
        if tag in UNREAD:
            self._skipped = max(self._skipped - 1, 0)
        elif tag in BLOCKS:
            self.end_line()

    def handle_data(self, data: str) -> None:
        """Collect text."""
        if not self._skipped:
            self._words.append(data)

    def end_line(self) -> None:
        """Add the line, unless it is empty."""
        line = " ".join("".join(self._words).split())
        self._words = []
        if line.strip("#- "):
            self._out.line(line)
