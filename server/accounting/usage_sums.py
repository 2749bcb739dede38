"""Sum daily usage rows by day, key and model, over spans of UTC days."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from operator import add
from typing import Literal, NamedTuple

from msgspec import structs

from server.store.key import BudgetPeriod
from server.store.rows import UsageDay
from workers.errors import InvalidRequest

Grouping = Literal["day", "key", "model"]
FIELD_OF: dict[Grouping, str] = {"day": "day", "key": "key_id", "model": "model"}
"""The field of a daily row that each grouping goes by; they are its first fields."""
DAYS_SHOWN = 30
MAX_SPAN_DAYS = 3660


class Span(NamedTuple):
    """UTC days, both included."""

    first: date
    last: date

    @property
    def texts(self) -> tuple[str, str]:
        """Return both days as ISO dates."""
        return self.first.isoformat(), self.last.isoformat()

    @property
    def days(self) -> int:
        """Count the days."""
        return (self.last - self.first).days + 1

    def before(self) -> Span | None:
        """Return the span of the same length just before, or None before the year 1."""
        if self.first.toordinal() <= self.days:
            return None
        length = timedelta(days=self.days)
        return Span(self.first - length, self.last - length)


def read_span(start: str | None, end: str | None, days: int = DAYS_SHOWN) -> Span:
    """Read a span of days: without `end` it ends today, without `start` it has `days` days.

    Raises InvalidRequest.
    """
    last = _read_day("end", end) if end else datetime.fromtimestamp(time.time(), UTC).date()
    if start:
        first = _read_day("start", start)
    else:
        first = date.fromordinal(max(last.toordinal() - days + 1, 1))
    if first > last or (last - first).days > MAX_SPAN_DAYS:
        raise InvalidRequest(
            "'start' must not be after 'end', nor ten years before it.", param="start"
        )
    return Span(first, last)


def spent_by_period(days: Iterable[UsageDay], today: date) -> dict[BudgetPeriod, int]:
    """Sum the cost of daily rows over the budget periods that a day lies in, in micro-dollars."""
    first: dict[BudgetPeriod, str] = {
        "day": today.isoformat(),
        "week": (today - timedelta(days=today.weekday())).isoformat(),
        "month": today.replace(day=1).isoformat(),
        "total": "",
    }
    spent = dict.fromkeys(first, 0)
    for row in days:
        for period, since in first.items():
            if row.day >= since:
                spent[period] += row.cost_microusd
    return spent


def _read_day(name: str, text: str) -> date:
    try:
        # date.fromisoformat also reads 20261122 and 2026-W47-7 (since Python 3.11).
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            raise ValueError(text)
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest(f"'{name}' must be a day, as in 2026-11-22.", param=name) from error


def add_up(days: Iterable[UsageDay], groups: Sequence[Grouping]) -> list[UsageDay]:
    """Sum daily rows by the given groups, in the order they first appear.

    The fields that the rows are not grouped by are empty.
    """
    grouped = [group in groups for group in FIELD_OF]
    sums: dict[tuple[str, ...], Sequence[int]] = {}
    for day in days:
        row = structs.astuple(day)
        marks = row[: len(grouped)]
        mark = tuple([mark if kept else "" for mark, kept in zip(marks, grouped, strict=True)])
        amounts = row[len(grouped) :]
        known = sums.get(mark)
        sums[mark] = amounts if known is None else list(map(add, known, amounts))
    return [UsageDay(mark[0], mark[1], mark[2], *amounts) for mark, amounts in sums.items()]
