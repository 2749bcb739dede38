"""Serve the usage page: what was used in a span of days, by model, key and day.

Every choice is in the URL, so a view can be bookmarked and shared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from msgspec import Struct, structs

from server.accounting.usage_sums import DAYS_SHOWN, Grouping, Span, add_up
from server.http.query import read_choice
from server.store.rows import UsageDay
from server.store.usage_queries import PercentileQuery, RankingQuery, SumsQuery
from webui.shell.filters import KeyFilter, People, link, model_choices, read_key_filter
from webui.shell.texts import Language
from webui.usage.calendar import MONTHS, Month, day_start, month_labels, span_before
from webui.usage.usage_cells import RowCells, budgets_of, cells_of, row_cells
from webui.usage.usage_chart import (
    FIELDS_OF,
    MAX_SERIES,
    METRICS,
    STACKINGS,
    Drawing,
    KeySums,
    Metric,
    Stacking,
    draw,
    metric_labels,
    stacking_labels,
)
from webui.usage.usage_section import UsageSectionHandler
from webui.usage.usage_table import GROUPS, MAX_ROWS, Ranking, rank
from webui.usage.usage_tiles import Earlier, Sums, tiles

PRESETS = (7, 30, 90)
PARAMETERS = ("days", "month", "start", "end", "model", "key", "metric", "stack", "by")
MAX_SINGLE_REQUESTS = 50_000
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


class UsagePageHandler(UsageSectionHandler):
    """The page at `/usage`."""

    async def get(self) -> None:
        """Show tiles, a chart and a table of one view."""
        sent = self._view()
        span = self.read_days(sent.chosen_month, sent.start, sent.end, sent.days)
        key_filter = await read_key_filter(self, sent.key, lambda key: sent.link(key=key))
        if key_filter is not None:
            await self._show_view(structs.replace(sent, key=key_filter.chosen), span, key_filter)

    async def _show_view(self, view: View, span: Span, key_filter: KeyFilter) -> None:
        language = self.language()
        texts = language.texts
        found = await self._find(view, span)
        table = await self._table(found, view)
        self.show(
            "usage/page.html",
            view=view,
            span=span,
            presets=PRESETS,
            months=month_labels(texts),
            offset=self.offset // timedelta(minutes=1),
            today=self.today(),
            span_words=language.figures.name_days(*span),
            day_start=day_start(self.offset),
            metrics=metric_labels(texts),
            stackings=stacking_labels(texts),
            groups=_group_words(texts),
            share_of_metric=_share_words(view.metric, texts),
            key_filter=key_filter,
            models=model_choices(self._models(found.days), view.model),
            filtered=bool(view.model or view.key),
            statement=_statement(view, span, view.key),
            tiles=tiles(found.now, found.before, _earlier(view, span, language), language),
            chart=await self._chart(found, view, span) if table else None,
            table=table,
            rows=await self._rows(table, view, span),
            total=cells_of(table.total, language) if table else None,
        )

    def _view(self) -> View:
        stated, usual = self.read_query(PARAMETERS), View()
        presets = [str(days) for days in PRESETS]
        return View(
            days=int(read_choice("days", stated["days"] or str(usual.days), presets)),
            month=read_choice("month", stated["month"], MONTHS),
            start=stated["start"],
            end=stated["end"],
            model=stated["model"],
            key=stated["key"],
            metric=read_choice("metric", stated["metric"] or usual.metric, METRICS),
            stack=read_choice("stack", stated["stack"] or usual.stack, STACKINGS),
            by=read_choice("by", stated["by"] or usual.by, GROUPS),
        )

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
            SumsQuery(
                *span.texts, ("day", "model"), key_id=view.key or None, model=view.model or None
            )
        )

    async def _groups(self, view: View, span: Span, days: Sequence[UsageDay]) -> list[UsageDay]:
        """Return the rows of the table; of keys, only the largest and one more."""
        if view.by != "key":
            return await asyncio.to_thread(add_up, days, (view.by,))
        return await self.services.store.usage_ranking(_ranking(view, span, MAX_ROWS + 1))

    async def _largest_keys(self, view: View, span: Span) -> KeySums:
        """Return the sums by day of the keys that the chart shows, with their names."""
        store = self.services.store
        largest = await store.usage_ranking(_ranking(view, span, MAX_SERIES))
        ids = [one.key_id for one in largest]
        people = await People.find(self.services.keys, ids, self.language().texts)
        sums = await store.usage_by(
            SumsQuery(*span.texts, ("day", "key_id"), key_id=ids, model=view.model or None)
        )
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
        if not 0 < total.ttft_count <= MAX_SINGLE_REQUESTS:
            return total
        found = await self.services.store.ttft_percentile(
            PercentileQuery(95, *span.texts, key_id=view.key or None, model=view.model or None)
        )
        if found.requests < total.ttft_count:
            return total
        return structs.replace(total, ttft_p95_ms=found.value)

    def _models(self, days: Sequence[UsageDay]) -> set[str]:
        return {*self.services.catalog.models, *(day.model for day in days)}

    async def _table(self, found: Found, view: View) -> Ranking | None:
        """Rank the rows of the table; None: nothing was used."""
        if not found.days:
            return None
        language, key_ids = self.language(), {group.key_id for group in found.groups}
        people = await People.find(self.services.keys, key_ids, language.texts)
        return rank(found.groups, found.now, view.by, view.metric, people, view.link, language)

    async def _chart(self, found: Found, view: View, span: Span) -> Drawing:
        stacked = await self._largest_keys(view, span) if view.stack == "key" else None
        # In a thread: years of many models would hold up the answers that are streaming.
        return await asyncio.to_thread(
            draw, found.days, span, view.metric, self.language(), stacked
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


def _statement(view: View, span: Span, key_id: str) -> str:
    """Return the link to the statement of a key for the days of a view."""
    days: dict[str, object] = {"start": span.first, "end": span.last}
    if view.chosen_month:
        days = {"month": view.chosen_month}
    return link("/usage/statement", key=key_id, **days)


def _ranking(view: View, span: Span, limit: int) -> RankingQuery:
    """Return the query of the keys that have used the most."""
    return RankingQuery(
        *span.texts,
        "key_id",
        FIELDS_OF[view.metric],
        limit,
        key_id=view.key or None,
        model=view.model or None,
    )
