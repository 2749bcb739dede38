"""Serve the statement of one key: what it used in a month or in other days, on one printed page."""

from __future__ import annotations

import asyncio
import time
from datetime import date
from functools import partial

from server.accounting.usage_sums import Span, add_up, read_span
from server.http.query import refuse_unknown
from webui.keys.budget_words import budget_in_words
from webui.shell.filters import NOT_KEYS, People, link, read_key_filter
from webui.shell.pages import PageHandler
from webui.shell.texts import Language
from webui.usage.calendar import (
    MONTHS,
    day_start,
    local_day,
    month_labels,
    month_span,
    read_offset,
)
from webui.usage.usage_cells import budgets_of, cells_of
from webui.usage.usage_chart import value_of
from webui.usage.usage_tiles import Sums
from workers.errors import InvalidRequest
from workers.money import exactly, in_full

PARAMETERS = ("key", "month", "start", "end")


class StatementPageHandler(PageHandler):
    """The page at `/usage/statement`."""

    access = "owner"
    section = "usage"
    translated = True

    async def get(self) -> None:
        """Show the totals of a key by model; without days, those of the current month."""
        refuse_unknown(self.request.query_arguments, PARAMETERS)
        stated = {name: self.get_query_argument(name, "") for name in PARAMETERS}
        month = stated["month"]
        key_id = await self._read_key(stated)
        if not key_id:
            return
        if not (month or stated["start"] or stated["end"]):
            month = "this"
        language = self.language()
        texts, written = language.texts, language.figures.written
        offset = read_offset(self.request.headers)
        today = local_day(time.time(), offset)
        span = _month(month, today) if month else self._span(stated["start"], stated["end"])
        people = await People.find(self.services.keys, {key_id}, texts)
        keys = await self.services.keys.find_all({key_id}.difference(NOT_KEYS))
        days = await self.services.store.usage_by(
            span.first.isoformat(), span.last.isoformat(), ("model",), key_id=key_id
        )
        total = await asyncio.to_thread(Sums.of, days)
        ranked = sorted(
            add_up(days, ("model",)), key=lambda one: (-value_of(one, "cost"), one.model)
        )
        budget = (await budgets_of(keys.values(), self.services.counters)).get(key_id)
        self.show(
            "usage/statement.html",
            holder=people.label(key_id),
            redacted=keys[key_id].redacted if key_id in keys else "",
            key_id=key_id,
            months=month_labels(texts),
            month=month,
            span_words=language.figures.name_days(*span),
            day_start=day_start(offset),
            offset=int(offset.total_seconds() // 60),
            today=today,
            rows=[
                (one.model, cells_of(one, language), written(exactly(one.cost_microusd)))
                for one in ranked
            ],
            total=cells_of(total, language),
            cost=written(in_full(total.cost_microusd)),
            estimated=_estimated(total, language),
            unpriced=total.unpriced_requests,
            budget_left=budget_in_words(texts.statement.left, budget, language) if budget else "",
            made=language.figures.name_moment(time.time()),
            base_url=self.base_url(),
        )

    async def _read_key(self, stated: dict[str, str]) -> str:
        """Return the id of the stated key; "" when the page is answered: with a choice of keys."""
        sent, problem = stated["key"], ""
        try:
            found = await read_key_filter(self, sent, partial(_link, stated))
        except InvalidRequest:
            problem = self.language().texts.statement.no_such_key
            found = await read_key_filter(self, "", partial(_link, stated))
        if found is not None and not found.chosen:
            days = {name: text for name, text in stated.items() if name != "key"}
            self.show(
                "usage/choose.html",
                404 if problem else 200,
                key_filter=found,
                days=days,
                problem=problem,
            )
        return found.chosen if found is not None else ""

    def _span(self, start: str, end: str) -> Span:
        """Return the stated days; days that cannot be shown are refused in the page's language."""
        try:
            return read_span(start, end)
        except InvalidRequest:
            self.said = self.language().texts.usage.bad_days
            raise


def _link(stated: dict[str, str], key: str) -> str:
    """Return the URL of the statement of a key, for the days that are stated."""
    return link("/usage/statement", **{**stated, "key": key})


def _estimated(total: Sums, language: Language) -> str:
    """Return how much of the sums is estimated, or ""."""
    if not total.estimated_requests:
        return ""
    figures, estimated = language.figures, total.estimated_cost_microusd
    return language.plural(
        language.texts.statement.estimated,
        total.estimated_requests,
        cost=figures.written(in_full(estimated)),
        share=figures.share(estimated, total.cost_microusd),
    )


def _month(month: str, today: date) -> Span:
    """Return the days of a month by its name. Raises InvalidRequest for another name."""
    if month not in MONTHS:
        raise InvalidRequest(f"'month' must be one of {', '.join(MONTHS)}.", param="month")
    return month_span(month, today)
