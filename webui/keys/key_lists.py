"""Read which keys a list shows, in which order, and make the links that change it."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from server.http.query import read_choice
from server.store.rows import KeyOrder, KeyQuery
from webui.keys.key_cells import Heading, Tab
from webui.shell.filters import link
from webui.shell.pages import PageHandler
from webui.shell.texts import Language
from workers.errors import InvalidRequest

Sort = Literal["newest", "oldest", "name", "name-down", "used", "unused", "spent", "spent-least"]
ORDERS: dict[Sort, tuple[KeyOrder, bool]] = {
    "newest": ("created", True),
    "oldest": ("created", False),
    "name": ("name", False),
    "name-down": ("name", True),
    "used": ("used", True),
    "unused": ("used", False),
    "spent": ("spent", True),
    "spent-least": ("spent", False),
}
"""What each choice sorts by, and whether the largest come first."""
HEADINGS: tuple[KeyOrder, ...] = ("created", "name", "used", "spent")
"""The columns whose headings sort."""
SHOWN = ("", "revoked")


def sort_names(texts: Any) -> dict[Sort, str]:
    """Return the names of the choices."""
    return {
        "newest": texts.keys.newest,
        "oldest": texts.keys.oldest,
        "name": texts.keys.name_up,
        "name-down": texts.keys.name_down,
        "used": texts.keys.used_last,
        "unused": texts.keys.unused_longest,
        "spent": texts.keys.highest_spend,
        "spent-least": texts.keys.lowest_spend,
    }


class Headings(NamedTuple):
    """The columns that the list can be sorted by."""

    name: Heading
    created: Heading
    used: Heading
    spent: Heading


class ListView(NamedTuple):
    """The choices in the URL of the list."""

    shown: str = ""
    search: str = ""
    sort: Sort = "newest"

    @classmethod
    def read(cls, page: PageHandler) -> ListView:
        """Return the choices in a page's URL. Raises InvalidRequest."""
        shown = page.get_query_argument("show", "")
        sort = page.get_query_argument("sort", "") or cls().sort
        if shown not in SHOWN:
            raise InvalidRequest("'show' must be 'revoked', or left out.", param="show")
        search = page.get_query_argument("search", "").strip()
        return cls(shown, search, read_choice("sort", sort, tuple(ORDERS)))

    def query(self, *, since: str) -> KeyQuery:
        """Return the query of the list; `since` is the first day of what was spent."""
        order, descending = ORDERS[self.sort]
        return KeyQuery(
            search=self.search,
            revoked=self.shown == "revoked",
            order=order,
            since=since,
            descending=descending,
        )

    def link(self, **changes: object) -> str:
        """Return the URL of this list with some changes; defaults are left out."""
        stated: dict[str, object] = self._asdict()
        stated |= changes
        if stated["sort"] == "newest":
            del stated["sort"]
        stated["show"] = stated.pop("shown")
        return link("/keys", **stated)

    def headings(self) -> Headings:
        """Return the headings, each of which turns its order round when it is in use."""
        return Headings(**{order: self._heading(order) for order in HEADINGS})

    def _heading(self, order: KeyOrder) -> Heading:
        first, second = (sort for sort, (by, _) in ORDERS.items() if by == order)
        used, descending = ORDERS[self.sort]
        if used != order:
            return Heading(self.link(sort=first), "")
        other = second if self.sort == first else first
        words = "descending" if descending else "ascending"
        return Heading(self.link(sort=other), words)


def key_tabs(
    view: ListView, language: Language, *, in_use: int, revoked: int, current: str | None = None
) -> tuple[Tab, ...]:
    """Return the links to the lists; `current` names another page than the lists themselves."""
    texts, count = language.texts, language.figures.count
    return (
        Tab(
            texts.keys.in_use,
            view.link(shown=""),
            count(in_use),
            current is None and not view.shown,
        ),
        Tab(
            texts.keys.tab_revoked,
            view.link(shown="revoked"),
            count(revoked),
            current is None and bool(view.shown),
        ),
        Tab(texts.keys.invitations, "/keys/invitations", "", current == "invitations"),
    )
