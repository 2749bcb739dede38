"""Serve the usage page: what was used in a span of days, by model, key and day.

Every choice is in the URL, so a view can be bookmarked and shared.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple, cast

from msgspec import Struct, structs

from server.accounting.usage_sums import DAYS_SHOWN, Grouping, Span, add_up, read_span
from server.http.query import refuse_unknown
from server.store.rows import UsageDay
from webui.shell.filters import People, link, model_choices, read_key_filter
from webui.shell.pages import PageHandler
from webui.shell.texts import Language
from webui.usage.calendar import (
    MONTHS,
    Month,
    day_start,
    local_day,
    month_labels,
    month_span,
    read_offset,
    span_before,
)
from webui.usage.usage_cells import RowCells, budgets_of, cells_of, row_cells
from webui.usage.usage_chart import (
    FIELDS_OF,
    METRICS,
    MOST_SERIES,
    STACKINGS,
    KeySums,
    Metric,
    Stacking,
    draw,
    metric_labels,
    stacking_labels,
)
from webui.usage.usage_table import MOST_ROWS, Ranking, rank
from webui.usage.usage_tiles import Earlier, Sums, tiles
from workers.errors import InvalidRequest

PRESETS = (7, 30, 90)
GROUPS: tuple[Grouping, ...] = ("model", "key", "day")
PARAMETERS = ("days", "month", "start", "end", "model", "key", "metric", "stack", "by")
MOST_SINGLE_REQUESTS = 50_000
"""The percentile reads single requests: 50,000 take about 50 ms in the database's thread."""


class View(Struct, frozen=True):
    """The choices in the URL.

    `start` and `end` as typed take precedence over `month`, and this over `days`.
    """

    days: int = DAYS_SHOWN
    month: Month = ""
    start: str = ""
    end: str = ""
    model: str = ""
    key: str = ""
    metric: Metric = "requests"
    stack: Stacking = "model"
    by: Grouping = "model"

    @property
    def preset(self) -> int:
        """Return the number of days of the chosen preset, or 0 when there is another choice."""
        return 0 if self.start or self.end or self.month else self.days

    @property
    def chosen_month(self) -> Month:
        """Return the chosen month, or "" when days were typed."""
        return "" if self.start or self.end else self.month

    def span(self, today: date) -> Span:
        """Return the chosen days; `today` is the owner's day. Raises InvalidRequest."""
        if self.chosen_month:
            return month_span(self.chosen_month, today)
        return read_span(self.start, self.end, self.days)

    def link(self, place: str = "", **changes: object) -> str:
        """Return the URL of this view with some changes; defaults are left out."""
        stated = structs.asdict(structs.replace(self, **changes))
        usual = structs.asdict(View())
        different = {name: value for name, value in stated.items() if value != usual[name]}
        return link("/usage", **different) + place

    def csv(self, span: Span) -> str:
        """Return the URL of the table as a CSV file."""
        return link(
            "/usage/file",
            start=span.first,
            end=span.last,
            by=self.by,
            model=self.model,
            key=self.key,
        )


class Found(NamedTuple):
    """The sums of the span and of the span before it (None before the year 1).

    `days` are summed over all keys, `groups` are the rows of the table.
    """

    days: Sequence[UsageDay]
    groups: list[UsageDay]
    now: Sums
    before: Sums | None


class UsagePageHandler(PageHandler):
    """The page at `/usage`."""

    access = "owner"
    section = "usage"
    translated = True

    async def get(self) -> None:
        """Show tiles, a chart and a table of one view."""
        view = sent = self._view()
        language = self.language()
        texts = language.texts
        offset = read_offset(self.request.headers)
        today = local_day(time.time(), offset)
        span = self._span(view, today)
        key_filter = await read_key_filter(self, sent.key, lambda key: sent.link(key=key))
        if key_filter is None:
            return
        view = structs.replace(view, key=key_filter.chosen)
        found = await self._find(view, span)
        key_ids = {group.key_id for group in found.groups}
        people = await People.find(self.services.keys, key_ids, texts)
        table = self._table(found, view, people)
        stacked = await self._largest_keys(view, span) if table and view.stack == "key" else None
        # In a thread: years of many models would hold up the answers that are streaming.
        chart = (
            await asyncio.to_thread(draw, found.days, span, view.metric, language, stacked)
            if table
            else None
        )
        self.show(
            "usage/page.html",
            view=view,
            span=span,
            presets=PRESETS,
            months=month_labels(texts),
            offset=offset // timedelta(minutes=1),
            today=today,
            span_words=language.figures.name_days(*span),
            day_start=day_start(offset),
            metrics=metric_labels(texts),
            stackings=stacking_labels(texts),
            groups=_group_words(texts),
            share_of_metric=_share_words(view.metric, texts),
            key_filter=key_filter,
            models=model_choices(self._models(found.days), view.model),
            filtered=bool(view.model or view.key),
            statement=_statement(view, span, view.key),
            tiles=tiles(found.now, found.before, _earlier(view, span, language), language),
            chart=chart,
            table=table,
            rows=await self._rows(table, view, span),
            total=cells_of(table.total, language) if table else None,
        )

    def _view(self) -> View:
        refuse_unknown(self.request.query_arguments, PARAMETERS)
        stated = {name: self.get_query_argument(name, "") for name in PARAMETERS}
        days = stated["days"] or str(DAYS_SHOWN)
        _one_of("days", days, [str(one) for one in PRESETS])
        _one_of("metric", stated["metric"] or "requests", METRICS)
        _one_of("by", stated["by"] or "model", GROUPS)
        _one_of("month", stated["month"], ["", *MONTHS])
        _one_of("stack", stated["stack"] or "model", STACKINGS)
        return View(
            int(days),
            cast(Month, stated["month"]),
            stated["start"],
            stated["end"],
            stated["model"],
            stated["key"],
            cast(Metric, stated["metric"] or "requests"),
            cast(Stacking, stated["stack"] or "model"),
            cast(Grouping, stated["by"] or "model"),
        )

    def _span(self, view: View, today: date) -> Span:
        """Return the chosen days; days that cannot be shown are refused in the page's language."""
        try:
            return view.span(today)
        except InvalidRequest:
            self.said = self.language().texts.usage.bad_days
            raise

    async def _find(self, view: View, span: Span) -> Found:
        days = await self._days(view, span)
        now = await self._sums(view, span, days)
        groups = await self._groups(view, span, days)
        earlier = span_before(span, view.chosen_month)
        if earlier is None:
            return Found(days, groups, now, None)
        past = await self._days(view, earlier)
        return Found(days, groups, now, await self._sums(view, earlier, past))

    async def _days(self, view: View, span: Span) -> Sequence[UsageDay]:
        return await self.services.store.usage_by(
            span.first.isoformat(),
            span.last.isoformat(),
            ("day", "model"),
            key_id=view.key or None,
            model=view.model or None,
        )

    async def _groups(self, view: View, span: Span, days: Sequence[UsageDay]) -> list[UsageDay]:
        """Return the rows of the table; of keys, only the largest and one more."""
        if view.by != "key":
            return await asyncio.to_thread(add_up, days, (view.by,))
        return await self.services.store.usage_ranking(
            span.first.isoformat(),
            span.last.isoformat(),
            "key_id",
            FIELDS_OF[view.metric],
            key_id=view.key or None,
            model=view.model or None,
            limit=MOST_ROWS + 1,
        )

    async def _largest_keys(self, view: View, span: Span) -> KeySums:
        """Return the sums by day of the keys that the chart shows, with their names."""
        store, days = self.services.store, (span.first.isoformat(), span.last.isoformat())
        largest = await store.usage_ranking(
            *days,
            "key_id",
            FIELDS_OF[view.metric],
            key_id=view.key or None,
            model=view.model or None,
            limit=MOST_SERIES,
        )
        ids = [one.key_id for one in largest]
        people = await People.find(self.services.keys, ids, self.language().texts)
        sums = await store.usage_by(*days, ("day", "key_id"), key_id=ids, model=view.model or None)
        return KeySums(sums, {key_id: people.name(key_id) for key_id in ids})

    async def _rows(self, table: Ranking | None, view: View, span: Span) -> list[RowCells]:
        """Return the rows of the table; those of keys with what is left and their statement."""
        if table is None:
            return []
        if view.by != "key":
            return [row_cells(row, self.language()) for row in table.rows]
        keys = await self.services.keys.find_all({row.sums.key_id for row in table.rows})
        budgets = await budgets_of(keys.values(), self.services.counters)
        return [
            row_cells(
                row,
                self.language(),
                budgets.get(row.sums.key_id),
                _statement(view, span, row.sums.key_id) if row.href else "",
            )
            for row in table.rows
        ]

    async def _sums(self, view: View, span: Span, days: Sequence[UsageDay]) -> Sums:
        """Add up; the percentile is added while every single request is still on record.

        Requests are deleted after the retention time, daily sums stay; a percentile of some of the
        requests would be wrong.
        """
        total = await asyncio.to_thread(Sums.of, days)
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
        return rank(
            found.groups, found.now, view.by, view.metric, people, view.link, self.language()
        )


def _earlier(view: View, span: Span, language: Language) -> Earlier:
    """Return what the figures are compared with."""
    before = span_before(span, view.chosen_month) if view.chosen_month else None
    return Earlier(span.days, language.figures.name_days(*before) if before else "")


def _group_words(texts: Any) -> dict[Grouping, tuple[str, str, str]]:
    """Return of each grouping the label, the heading and the name of the table."""
    return {
        "model": (texts.usage.model, texts.usage.per_model, texts.usage.usage_per_model),
        "key": (texts.usage.key, texts.usage.per_key, texts.usage.usage_per_key),
        "day": (texts.usage.day, texts.usage.per_day, texts.usage.usage_per_day),
    }


def _share_words(metric: Metric, texts: Any) -> str:
    """Return the heading of the column with the shares."""
    return {
        "requests": str(texts.usage.share_requests),
        "tokens": str(texts.usage.share_tokens),
        "cost": str(texts.usage.share_cost),
    }[metric]


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise InvalidRequest(f"'{name}' must be one of {', '.join(known)}.", param=name)


def _statement(view: View, span: Span, key_id: str) -> str:
    """Return the link to the statement of a key for the days of a view."""
    days: dict[str, object] = {"start": span.first, "end": span.last}
    if view.chosen_month:
        days = {"month": view.chosen_month}
    return link("/usage/statement", key=key_id, **days)
