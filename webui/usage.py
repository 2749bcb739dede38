"""Usage for the owner: what was used in a span of days, by model, key and day.

Everything that is chosen is in the address, so a view can be kept, sent and gone back to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, cast

from msgspec import Struct, structs

from server.handlers.queries import Span, read_span, refuse_unknown
from server.handlers.usage import add_up
from server.store import UsageDay
from webui.filters import People, link, model_choices
from webui.pages import OwnerPageHandler
from webui.usage_cells import row_cells, total_cells
from webui.usage_chart import METRICS, Metric, draw
from webui.usage_table import Ranking, rank
from webui.usage_tiles import Sums, Tile, tiles
from workers.errors import InvalidRequest

PRESETS = (7, 30, 90)
DAYS_SHOWN = 30
GROUPS = {"model": "Model", "key": "Key", "day": "Day"}
PARAMETERS = ("days", "start", "end", "model", "key", "metric", "by")
MOST_SINGLE_REQUESTS = 50_000
"""Of how many single requests a percentile is found: some 50 ms in the database's thread."""

Group = Literal["model", "key", "day"]


class View(Struct, frozen=True):
    """What the address asks for; `start` and `end` as they were typed go before `days`."""

    days: int = DAYS_SHOWN
    start: str = ""
    end: str = ""
    model: str = ""
    key: str = ""
    metric: Metric = "requests"
    by: Group = "model"

    @property
    def preset(self) -> int:
        """Give the days of the preset in use; 0: days of one's own."""
        return 0 if self.start or self.end else self.days

    def span(self) -> Span:
        """Give the days that are meant. Raises InvalidRequest."""
        return read_span(self.start, self.end, self.days)

    def link(self, place: str = "", **changes: object) -> str:
        """Give the address of this view with some changes; what is usual is left away."""
        stated = structs.asdict(structs.replace(self, **changes))
        usual = structs.asdict(View())
        different = {name: value for name, value in stated.items() if value != usual[name]}
        return link("/usage", **different) + place

    def csv(self, span: Span) -> str:
        """Give the address of the table as a file."""
        return link(
            "/api/v1/usage",
            format="csv",
            start=span.first,
            end=span.last,
            group_by=self.by,
            model=self.model,
            key=self.key,
        )


class Found(NamedTuple):
    """The sums of the span and of the one before it; None: the calendar has none.

    `days` are those of everybody together, `groups` those of the table.
    """

    days: Sequence[UsageDay]
    groups: list[dict[str, Any]]
    now: Sums
    before: Sums | None


class UsagePageHandler(OwnerPageHandler):
    """The page at `/usage`."""

    section = "Usage"

    async def get(self) -> None:
        """Show tiles, a chart and a table of one view."""
        view = self._view()
        span = view.span()
        people = People(self.services.keys.list())
        people.check(view.key)
        found = await self._find(view, span)
        table = self._table(found, view, people)
        self.show(
            "usage/page.html",
            view=view,
            span=span,
            presets=PRESETS,
            metrics=METRICS,
            groups=GROUPS,
            keys=people.choices(view.key),
            models=model_choices(self._models(found.days), view.model),
            filtered=bool(view.model or view.key),
            tiles=_tiles(found, span),
            chart=draw(found.days, span, view.metric) if found.days else None,
            table=table,
            rows=[row_cells(row) for row in table.rows] if table else [],
            total=total_cells(table) if table else None,
        )

    def _view(self) -> View:
        refuse_unknown(self.request.query_arguments, PARAMETERS)
        stated = {name: self.get_query_argument(name, "") for name in PARAMETERS}
        days = stated["days"] or str(DAYS_SHOWN)
        _one_of("days", days, [str(one) for one in PRESETS])
        _one_of("metric", stated["metric"] or "requests", list(METRICS))
        _one_of("by", stated["by"] or "model", list(GROUPS))
        return View(
            int(days),
            stated["start"],
            stated["end"],
            stated["model"],
            stated["key"],
            cast(Metric, stated["metric"] or "requests"),
            cast(Group, stated["by"] or "model"),
        )

    async def _find(self, view: View, span: Span) -> Found:
        each = await self._days(view, span)
        # A year of many keys takes a while to add up; answers are streaming meanwhile.
        days, groups = await asyncio.to_thread(_gather, each, view.by)
        now = await self._sums(view, span, days)
        earlier = span.before()
        if earlier is None:
            return Found(days, groups, now, None)
        each = await self._days(view, earlier)
        past, _ = await asyncio.to_thread(_gather, each, "model")
        return Found(days, groups, now, await self._sums(view, earlier, past))

    async def _days(self, view: View, span: Span) -> Sequence[UsageDay]:
        return await self.services.store.usage_by(
            span.first.isoformat(),
            span.last.isoformat(),
            key_id=view.key or None,
            model=view.model or None,
        )

    async def _sums(self, view: View, span: Span, days: Sequence[UsageDay]) -> Sums:
        """Add up; the percentile is known while every single request is still on record."""
        total = Sums.of(days)
        if not 0 < total.ttft_count <= MOST_SINGLE_REQUESTS:
            return total
        found = await self.services.store.ttft_percentile(
            95,
            span.first.isoformat(),
            span.last.isoformat(),
            key_id=view.key or None,
            model=view.model or None,
        )
        if found.requests < total.ttft_count:
            return total
        return structs.replace(total, ttft_p95_ms=found.value)

    def _models(self, days: Sequence[UsageDay]) -> set[str]:
        return {*self.services.catalog.models, *(day.model for day in days)}

    def _table(self, found: Found, view: View, people: People) -> Ranking | None:
        if not found.days:
            return None
        return rank(found.groups, found.now, view.by, view.metric, people, view.link)


def _gather(each: Sequence[UsageDay], by: Group) -> tuple[list[UsageDay], list[dict[str, Any]]]:
    """Add up everybody, and the groups of the table."""
    days = [UsageDay(key_id="", **row) for row in add_up(each, ("day", "model"))]
    return days, add_up(each if by == "key" else days, (by,))


def _tiles(found: Found, span: Span) -> list[Tile]:
    return tiles(found.now, found.before, span.days)


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise InvalidRequest(f"'{name}' takes {', '.join(known)}.", param=name)
