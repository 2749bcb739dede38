"""Format the cells of the list of keys."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import NamedTuple

from server.accounting.counters import Budget
from server.store.key import Key
from webui.keys.budget_words import budget_in_words, left_in_words
from webui.keys.key_rows import KeyRow, Moment, Sparkline
from webui.shell.texts import Language, fill
from workers.money import exactly, rounded

NOTE_SHOWN = 160
"""The letters of a note that a list shows; the form has the whole."""


class Tab(NamedTuple):
    """A link to the keys in use, or to the revoked ones."""

    name: str
    href: str
    total: str
    is_current: bool


class Heading(NamedTuple):
    """A column that the list can be sorted by: `href` sorts by it, or the other way round.

    `sort` is the value of `aria-sort`, "" for a column that the list is not sorted by.
    """

    href: str
    sort: str


class Instant(NamedTuple):
    """A cell with an instant; `absent` is shown when there is none."""

    label: str
    moment: Moment | None
    absent: str


class BudgetCell(NamedTuple):
    """What is spent and left of a budget; `high` is where the meter changes its colour."""

    left: str
    words: str
    spent: int
    limit: int
    high: int


class KeyCells(NamedTuple):
    """A row of the list. `step` is what the row's button does: "disable" or "enable".

    `statement` is the link to its last whole month, or to this one for a key that is not older.
    """

    id: str
    name: str
    note: str
    redacted: str
    shown_status: str
    tone: str
    limits: str
    models: str
    models_title: str
    instants: tuple[Instant, ...]
    spend: str
    exact_spend: str
    unpriced: str
    unpriced_title: str
    budget: BudgetCell | None
    spark: Sparkline
    step: str
    step_label: str
    step_name: str
    statement: str


def key_cells(row: KeyRow, language: Language) -> KeyCells:
    """Return the cells of a row."""
    key, use = row.key, row.use
    texts, figures = language.texts, language.figures
    is_active = key.status == "active"
    act = texts.keys.disable_key if is_active else texts.keys.enable_key
    return KeyCells(
        id=key.id,
        name=key.name,
        note=_note(key.note),
        redacted=key.redacted,
        shown_status=row.shown_status,
        tone=row.tone,
        limits=row.limits,
        models=row.models,
        models_title=", ".join(key.models or ()),
        instants=_instants(key, language),
        spend=figures.written(rounded(use.cost_microusd)),
        exact_spend=figures.written(exactly(use.cost_microusd)),
        unpriced=fill(texts.keys.unpriced, count=figures.count(use.unpriced))
        if use.unpriced
        else "",
        unpriced_title=language.plural(texts.keys.unpriced_title, use.unpriced),
        budget=_budget_cell(row.budget, language) if row.budget else None,
        spark=row.spark,
        step="disable" if is_active else "enable",
        step_label=texts.keys.disable if is_active else texts.keys.enable,
        step_name=fill(act, name=key.name),
        statement=_statement(key, time.time()),
    )


def _statement(key: Key, now: float) -> str:
    def month(instant: float) -> str:
        return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m")

    is_new = month(key.created_at) == month(now)
    return f"/usage/statement?key={key.id}&month={'this' if is_new else 'last'}"


def _note(note: str) -> str:
    """Return a note on one line, shortened."""
    line = " ".join(note.split())
    return line if len(line) <= NOTE_SHOWN else line[: NOTE_SHOWN - 1] + "…"


def _instants(key: Key, language: Language) -> tuple[Instant, ...]:
    texts, figures = language.texts, language.figures

    def moment(instant: float | None) -> Moment | None:
        return None if instant is None else Moment.of(instant, figures)

    return (
        Instant(texts.keys.created, moment(key.created_at), ""),
        Instant(texts.keys.last_used, moment(key.last_used_at), texts.keys.never_used),
        Instant(texts.keys.expires, moment(key.expires_at), texts.keys.never),
    )


def _budget_cell(budget: Budget, language: Language) -> BudgetCell:
    limit = budget.limit_microusd
    return BudgetCell(
        left=left_in_words(budget, language),
        words=budget_in_words(language.texts.keys.spent, budget, language),
        spent=budget.spent_microusd,
        limit=limit,
        high=limit * 4 // 5,
    )
