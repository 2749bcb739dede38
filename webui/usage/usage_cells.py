"""Format the cells of the table on the usage page."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from server.accounting.counters import Budget, Counters
from server.store.key import Key
from server.store.rows import UsageDay
from webui.keys.budget_words import budget_in_words, left_in_words
from webui.shell.figures import NONE
from webui.shell.texts import Language, fill
from webui.usage.usage_table import RankedRow
from workers.money import exactly, rounded


class Cells(NamedTuple):
    """What a row, or the whole table, used; `estimated` says how much of it is an estimate."""

    requests: str
    failed: str
    estimated: str
    tokens_in: str
    tokens_out: str
    cost: str
    exact_cost: str
    estimated_cost: str
    unpriced: str
    mean_ttft: str
    mean_duration: str


class RowCells(NamedTuple):
    """A row: its name and what it used; `note` is the state of a key.

    `left` and `budget` are what is left of a key's budget, and of how much; "" without one.
    """

    name: str
    note: str
    href: str
    cells: Cells
    value: int
    share: str
    left: str
    budget: str
    statement: str


def row_cells(
    row: RankedRow, language: Language, budget: Budget | None = None, statement: str = ""
) -> RowCells:
    """Return the cells of a row; `statement` is the link to a key's statement."""
    return RowCells(
        row.name,
        row.note,
        row.href,
        cells_of(row.sums, language),
        row.value,
        row.share,
        left_in_words(budget, language) if budget else "",
        budget_in_words(language.texts.usage.of_limit, budget, language) if budget else "",
        statement,
    )


async def budgets_of(keys: Iterable[Key], counters: Counters) -> dict[str, Budget]:
    """Return the budgets of those keys that have one, by their ids."""
    limited = [key for key in keys if key.limits.budget_microusd is not None]
    standings = await asyncio.gather(*(counters.standing(key.id, key.limits) for key in limited))
    return {
        key.id: standing.budget
        for key, standing in zip(limited, standings, strict=True)
        if standing.budget is not None
    }


def cells_of(sums: UsageDay, language: Language) -> Cells:
    """Return sums as text."""
    texts, figures = language.texts, language.figures
    count, written = figures.count, figures.written
    estimated, unpriced = sums.estimated_requests, sums.unpriced_requests
    tokens = language.plural(texts.usage.token_count, sums.estimated_tokens)
    part = figures.share(sums.estimated_cost_microusd, sums.cost_microusd)
    mark = "≈ " if estimated else ""
    return Cells(
        requests=count(sums.requests),
        failed=count(sums.failed),
        estimated=language.plural(texts.usage.estimated_requests, estimated, tokens=tokens)
        if estimated
        else "",
        tokens_in=mark + count(sums.prompt_tokens),
        tokens_out=mark + count(sums.completion_tokens),
        cost=written(rounded(sums.cost_microusd)),
        exact_cost=written(exactly(sums.cost_microusd)),
        estimated_cost=fill(texts.usage.share_estimated, share=part)
        if sums.estimated_cost_microusd
        else "",
        unpriced=fill(texts.usage.unpriced, count=count(unpriced)) if unpriced else "",
        mean_ttft=_duration(sums.mean_ttft_ms, language),
        mean_duration=_duration(sums.mean_duration_ms, language),
    )


def _duration(ms: int | None, language: Language) -> str:
    return NONE if ms is None else language.figures.duration(ms)
