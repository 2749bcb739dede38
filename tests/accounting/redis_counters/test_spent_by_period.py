"""The sums of a key by which a budget continues after Redis has lost its own."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from server.accounting.limits import PERIODS, period_at
from server.accounting.usage_sums import spent_by_period
from server.store.rows import UsageDay
from workers.units import DAY_S

SPENT_ON = {0: 1, 1: 10, 6: 100, 7: 1_000, 21: 10_000, 22: 100_000, 400: 1_000_000}
"""Micro-dollars by how many days before Sunday, 22 November 2026, they were spent."""


def days_before(today: date) -> list[UsageDay]:
    """Return the daily rows of the spending."""
    return [
        UsageDay((today - timedelta(days=ago)).isoformat(), "", "", cost_microusd=cost)
        for ago, cost in SPENT_ON.items()
    ]


def test_each_period_has_the_sum_of_its_days() -> None:
    spent = spent_by_period(days_before(date(2026, 11, 22)), date(2026, 11, 22))
    assert spent == {"day": 1, "week": 111, "month": 11_111, "total": 1_111_111}
    assert spent_by_period([], date(2026, 11, 22)) == dict.fromkeys(PERIODS, 0)


def test_a_new_day_and_week_begin_at_midnight() -> None:
    spent = spent_by_period(days_before(date(2026, 11, 22)), date(2026, 11, 23))
    assert (spent["day"], spent["week"], spent["month"]) == (0, 0, 11_111)


@pytest.mark.parametrize("first", [date(2024, 12, 20), date(2026, 12, 25), date(2028, 2, 20)])
def test_periods_begin_when_those_of_the_counters_do(first: date) -> None:
    # Around the ends of years, weeks with the number 53 and a leap day.
    every = [UsageDay(str(first + timedelta(n)), "", "", cost_microusd=1) for n in range(-40, 1)]
    for later in range(20):
        today = first + timedelta(later)
        rows = [
            *every,
            *(
                UsageDay(str(first + timedelta(n)), "", "", cost_microusd=1)
                for n in range(1, later + 1)
            ),
        ]
        now = (today - date(1970, 1, 1)).days * DAY_S
        spent = spent_by_period(rows, today)
        for period in ("day", "week", "month"):
            starts = period_at(period, now).starts_at
            assert spent[period] == min(len(rows), (now - starts) / DAY_S + 1)
