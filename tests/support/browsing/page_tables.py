"""Read the tables and links of a page as a person would: their words, row by row."""

from __future__ import annotations

from html.parser import HTMLParser


class PageTables(HTMLParser):
    """The tables of a page by their order, and where its links lead, by their words."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.links: dict[str, str] = {}
        self._words: list[str] | None = None
        self._link: tuple[str, list[str]] | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a table, a row, a cell or a link."""
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._words = []
        elif tag == "a":
            self._link = (dict(attrs).get("href") or "", [])

    def handle_endtag(self, tag: str) -> None:
        """End a cell or a link."""
        if tag in ("td", "th") and self._words is not None:
            self.tables[-1][-1].append(" ".join("".join(self._words).split()))
            self._words = None
        elif tag == "a" and self._link is not None:
            href, words = self._link
            self.links["".join(words).strip()] = href
            self._link = None

    def handle_data(self, data: str) -> None:
        """Take words."""
        if self._words is not None:
            self._words.append(data)
        if self._link is not None:
            self._link[1].append(data)


def number(text: str) -> int:
    """Read a count of a cell; an estimated one too."""
    return int(text.removeprefix("≈").replace(",", "").split()[0])
