"""Write budgets in words, in the form of a text that belongs to the budget's period."""

from __future__ import annotations

from types import SimpleNamespace

from server.accounting.counters import Budget
from webui.shell.texts import Language
from workers.money import in_full, rounded


def left_in_words(budget: Budget, language: Language) -> str:
    """Return what is left of a budget; a budget that is overspent has nothing left."""
    return language.figures.written(rounded(max(budget.left_microusd, 0)))


def budget_in_words(forms: SimpleNamespace, budget: Budget, language: Language) -> str:
    """Return a text about a budget: with what is `{spent}`, what is `{left}`, and the `{limit}`."""
    written = language.figures.written
    return language.by_period(
        forms,
        budget.period,
        spent=written(rounded(budget.spent_microusd)),
        left=left_in_words(budget, language),
        limit=written(in_full(budget.limit_microusd)),
    )
