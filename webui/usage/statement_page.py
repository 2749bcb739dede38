"""Serve the statement of one key: what it used in a month or in other days, on one printed page."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from functools import partial
from typing import NamedTuple

from server.accounting.usage_sums import Span, add_up
from server.http.query import refuse_unknown
from server.store.rows import UsageDay
from server.store.usage_queries import SumsQuery
from webui.keys.budget_words import budget_in_words
from webui.shell.filters import NOT_KEYS, People, link, read_key_filter
from webui.shell.texts import Language, fill
from webui.usage.calendar import day_start, month_labels
from webui.usage.usage_cells import budgets_of, cells_of
from webui.usage.usage_chart import value_of
from webui.usage.usage_section import UsageSectionHandler
from webui.usage.usage_tiles import Sums
from workers.errors import InvalidRequest
from workers.money import exactly, in_full

PARAMETERS = ("key", "month", "start", "end")


class Statement(NamedTuple):
    """What a key used in the days of a statement: in all, and by model, the highest cost first."""

    total: Sums
    models: list[UsageDay]


class StatementPageHandler(UsageSectionHandler):
    """The page at `/usage/statement`."""

    async def get(self) -> None:
        """Show the totals of a key by model; without days, those of the current month."""
        # A wrong sum is worse than none: what is misspelt is refused.
        refuse_unknown(self.request.query_arguments, PARAMETERS)
        stated = self.read_query(PARAMETERS)
        key_id = await self._read_key(stated)
        if not key_id:
            return
        month, start, end = stated["month"], stated["start"], stated["end"]
        if not (month or start or end):
            month = "this"
        await self._show_statement(key_id, month, self.read_days(month, start, end))

    async def _show_statement(self, key_id: str, month: str, span: Span) -> None:
        language = self.language()
        texts, written = language.texts, language.figures.written
        people = await People.find(self.services.keys, {key_id}, texts)
        keys = await self.services.keys.find_all({key_id}.difference(NOT_KEYS))
        budget = (await budgets_of(keys.values(), self.services.counters)).get(key_id)
        total, models = await self._add_up(key_id, span)
        self.show(
            "usage/statement.html",
            holder=people.label(key_id),
            redacted=keys[key_id].redacted if key_id in keys else "",
            key_id=key_id,
            months=month_labels(texts),
            month=month,
            span_words=language.figures.name_days(*span),
            day_start=day_start(self.offset),
            offset=self.offset // timedelta(minutes=1),
            today=self.today(),
            rows=[
                (
                    one.model,
                    self._price(one, language),
                    cells_of(one, language),
                    _cached(one, language),
                    written(exactly(one.cost_microusd)),
                )
                for one in models
            ],
            total=cells_of(total, language),
            cost=written(in_full(total.cost_microusd)),
            estimated=_estimated(total, language),
            unpriced=total.unpriced_requests,
            budget_left=budget_in_words(texts.statement.left, budget, language) if budget else "",
            made=language.figures.name_moment(time.time()),
            base_url=self.base_url(),
        )

    def _price(self, used: UsageDay, language: Language) -> str:
        """Return the prices of a model in words, by which the cost can be checked; "": unknown."""
        model = self.services.catalog.models.get(used.model)
        prices = model.prices if model is not None else None
        if prices is None:
            return ""
        texts, written = language.texts, language.figures.written
        words = fill(
            texts.statement.price,
            prompt=written(in_full(prices.prompt)),
            completion=written(in_full(prices.completion)),
        )
        if prices.cached_prompt is None or not used.cached_tokens:
            return words
        cached = fill(texts.models.cached_price, price=written(in_full(prices.cached_prompt)))
        return fill(texts.chat.list, first=words, rest=cached)

    async def _add_up(self, key_id: str, span: Span) -> Statement:
        query = SumsQuery(*span.texts, ("model",), key_id=key_id)
        days = await self.services.store.usage_by(query)
        models = sorted(
            add_up(days, ("model",)), key=lambda one: (-value_of(one, "cost"), one.model)
        )
        return Statement(await asyncio.to_thread(Sums.of, days), models)

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


def _link(stated: dict[str, str], key: str) -> str:
    """Return the URL of the statement of a key, for the days that are stated."""
    return link("/usage/statement", **{**stated, "key": key})


def _cached(used: UsageDay, language: Language) -> str:
    """Return how many of the tokens were cached, which have a price of their own; "": none."""
    if not used.cached_tokens:
        return ""
    count = language.figures.count(used.cached_tokens)
    return fill(language.texts.statement.cached, count=count)


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
