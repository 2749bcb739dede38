"""Format the cells of the list of keys."""

from __future__ import annotations

from typing import NamedTuple

from server.accounting.counters import Budget
from server.store.key import Key
from webui.keys.key_rows import KeyRow, Moment, Sparkline
from webui.shell.figures import PERIOD_NOW, count, plural
from workers.money import exactly, in_full, rounded

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

    label: str
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
    """A row of the list. `step` is what the row's button does: "disable" or "enable"."""

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


def key_cells(row: KeyRow) -> KeyCells:
    """Return the cells of a row."""
    key, use = row.key, row.use
    step = "disable" if key.status == "active" else "enable"
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
        instants=_instants(key),
        spend=rounded(use.cost_microusd),
        exact_spend=exactly(use.cost_microusd),
        unpriced=f"and {count(use.unpriced)} unpriced" if use.unpriced else "",
        unpriced_title=f"{plural(use.unpriced, 'request')} of unknown price",
        budget=_budget_cell(row.budget) if row.budget else None,
        spark=row.spark,
        step=step,
        step_label=step.capitalize(),
    )


def _note(note: str) -> str:
    """Return a note on one line, shortened."""
    line = " ".join(note.split())
    return line if len(line) <= NOTE_SHOWN else line[: NOTE_SHOWN - 1] + "…"


def _instants(key: Key) -> tuple[Instant, ...]:
    return (
        Instant("Created", Moment.of(key.created_at), ""),
        Instant("Last used", _moment(key.last_used_at), "never used"),
        Instant("Expires", _moment(key.expires_at), "never"),
    )


def _moment(instant: float | None) -> Moment | None:
    return None if instant is None else Moment.of(instant)


def _budget_cell(budget: Budget) -> BudgetCell:
    limit, spent = budget.limit_microusd, budget.spent_microusd
    words = f"{rounded(spent)} of {in_full(limit)} {PERIOD_NOW[budget.period]}"
    left = rounded(budget.left_microusd) if budget.left_microusd > 0 else "$0"
    return BudgetCell(left, words, spent, limit, limit * 4 // 5)
