"""Read which keys a list shows, in which order, and make the links that change it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from server.store.rows import KeyOrder, KeyQuery
from webui.keys.key_cells import Heading, Tab
from webui.shell.figures import count
from webui.shell.filters import link
from webui.shell.pages import PageHandler
from workers.errors import InvalidRequest

Sort = Literal["newest", "oldest", "name", "name-down", "used", "unused", "spent", "spent-least"]
SORTS: dict[Sort, str] = {
    "newest": "Newest first",
    "oldest": "Oldest first",
    "name": "Name, A to Z",
    "name-down": "Name, Z to A",
    "used": "Used last",
    "unused": "Not used for longest",
    "spent": "Highest spend",
    "spent-least": "Lowest spend",
}
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
LABELS: dict[KeyOrder, str] = {
    "created": "Created",
    "name": "Name and key",
    "used": "Last used",
    "spent": "Spend",
}
SHOWN = ("", "revoked")


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
        sort = page.get_query_argument("sort", "") or "newest"
        if shown not in SHOWN:
            raise InvalidRequest("'show' must be 'revoked', or left out.", param="show")
        if sort not in SORTS:
            raise InvalidRequest(f"'sort' must be one of {', '.join(SORTS)}.", param="sort")
        return cls(shown, page.get_query_argument("search", "").strip(), sort)

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
        return Headings(**{order: self._heading(order) for order in LABELS})

    def _heading(self, order: KeyOrder) -> Heading:
        first, second = (sort for sort, (by, _) in ORDERS.items() if by == order)
        used, descending = ORDERS[self.sort]
        if used != order:
            return Heading(LABELS[order], self.link(sort=first), "")
        other = second if self.sort == first else first
        words = "descending" if descending else "ascending"
        return Heading(LABELS[order], self.link(sort=other), words)


def key_tabs(
    view: ListView, *, in_use: int, revoked: int, current: str | None = None
) -> tuple[Tab, ...]:
    """Return the links to the lists; `current` names another page than the lists themselves."""
    return (
        Tab(
            "In use",
            view.link(shown=""),
            count(in_use),
            current is None and not view.shown,
        ),
        Tab(
            "Revoked",
            view.link(shown="revoked"),
            count(revoked),
            current is None and bool(view.shown),
        ),
        Tab("Invitations", "/keys/invitations", "", current == "invitations"),
    )
