"""The arithmetic of limits: buckets, budget periods and durations, without I/O or clocks.

A bucket is the Generic Cell Rate Algorithm as a continuous-state leaky bucket (ITU-T I.371, annex
A): one level that drains at limit / period; a take is admitted while the level stays within the
limit. The form with a theoretical arrival time is equivalent, but here whole requests stay whole
numbers, so that N takes at one moment against a limit of L admit exactly L.

Callers pass `now`, a monotonic clock in seconds, and `wall`, Unix time.
"""

from __future__ import annotations

import math
from datetime import date, timedelta
from functools import lru_cache
from typing import NamedTuple

from server.store.key import BudgetPeriod
from workers.units import DAY_S

SLACK = 1e-6
"""A millionth of a request or token: larger than rounding errors, smaller than any count."""

PERIODS: tuple[BudgetPeriod, ...] = ("day", "week", "month", "total")
PERIOD_S: dict[BudgetPeriod, float] = {
    "day": DAY_S,
    "week": 7 * DAY_S,
    "month": 31 * DAY_S,
    "total": math.inf,
}
"""The longest duration of a period of each kind."""

EPOCH = date(1970, 1, 1)


class Meter(NamedTuple):
    """What remains of one limit; `reset_s` is the time until all of it is available again."""

    limit: int
    remaining: int
    reset_s: float


class Bucket:
    """Count takes against `limit` per `period_s`.

    `level` is what has been taken and not drained yet, as of the moment `at`; above `limit` it is a
    debt. `drain` updates both.
    """

    __slots__ = ("at", "level", "limit", "per_s", "period_s")

    def __init__(self, limit: int, period_s: float, now: float, level: float = 0.0) -> None:
        self.limit = limit
        self.period_s = period_s
        self.per_s = limit / period_s
        self.level = level
        self.at = now

    def drain(self, now: float) -> float:
        """Update the level to `now` and return it."""
        elapsed_s = now - self.at
        if elapsed_s > 0.0:
            # Without the slack, a level such as 1e-16 that rounding leaves would never reach 0.
            level = self.level - elapsed_s * self.per_s
            self.level = level if level > SLACK else 0.0
            self.at = now
        return self.level

    def wait_s(self, amount: int, now: float) -> float:
        """Return the time until `amount` fits; 0.0: now. Valid only for `amount` <= `limit`."""
        over = self.drain(now) + amount - self.limit
        return over / self.per_s if over > SLACK else 0.0

    def add(self, amount: int, now: float) -> None:
        """Count `amount` without a check; a negative one is returned, down to a level of 0."""
        level = self.drain(now) + amount
        self.level = max(0.0, level)

    def resize(self, limit: int, now: float) -> None:
        """Change the limit and keep what was taken, without making any wait longer.

        What exceeds a lower limit is dropped; a debt keeps the time that it takes to drain.
        """
        level = self.drain(now)
        if level > limit:
            # A debt (level above both limits) scales with the rate, so it drains in the same time.
            self.level = min(level, max(float(limit), level * limit / self.limit))
        self.limit = limit
        self.per_s = limit / self.period_s

    def meter(self, now: float) -> Meter:
        """Return what remains; a debt shows as nothing remaining and a longer reset."""
        level = self.drain(now) if now > self.at else self.level
        remaining = int(self.limit - level + SLACK)  # 0.9999999 of a request counts as one
        return Meter(self.limit, max(0, remaining), level / self.per_s)


class Period(NamedTuple):
    """One calendar period in UTC, from `starts_at` until before `ends_at`, in Unix seconds."""

    label: str
    starts_at: float
    ends_at: float


ALL_TIME = Period("", -math.inf, math.inf)


def period_at(kind: BudgetPeriod, wall: float) -> Period:
    """Return the period of a moment; labels are "2026-11-22", "2026-W47", "2026-11" and ""."""
    return ALL_TIME if kind == "total" else _period(kind, int(wall // DAY_S))


def period_named(kind: BudgetPeriod, label: str) -> Period | None:
    """Return the period with a label; None: there is none."""
    if kind == "total":
        return ALL_TIME if label == "" else None
    try:
        # Since Python 3.11 this reads week dates (ISO 8601, "2026-W47" is its Monday). It accepts
        # other spellings too, such as "20261122"; only those that we write match below.
        first = date.fromisoformat(f"{label}-01" if kind == "month" else label)
        period = _period(kind, (first - EPOCH).days)
    except (ValueError, OverflowError):
        return None
    return period if period.label == label else None


@lru_cache(maxsize=32)
def _period(kind: BudgetPeriod, day_number: int) -> Period:
    day = EPOCH + timedelta(days=day_number)
    if kind == "day":
        label, first, after = day.isoformat(), day, day + timedelta(days=1)
    elif kind == "week":
        # The ISO year, which differs from the calendar year around 1 January.
        year, week, weekday = day.isocalendar()
        first = day - timedelta(days=weekday - 1)
        label, after = f"{year:04d}-W{week:02d}", first + timedelta(days=7)
    else:
        first = day.replace(day=1)
        # 31 days after the first of a month is always in the next month.
        label, after = f"{day:%Y-%m}", (first + timedelta(days=31)).replace(day=1)
    return Period(label, (first - EPOCH).days * DAY_S, (after - EPOCH).days * DAY_S)


class Tally:
    """Add up micro-dollars within the current period of one kind.

    The period only moves forward. After the wall clock was set back, the later period continues, so
    that its money is not spent twice; but for at most one period by the monotonic clock, so that a
    clock that was wrong does not lock a key out for longer.
    """

    __slots__ = ("kind", "period", "since", "spent_microusd")

    def __init__(self, kind: BudgetPeriod, wall: float, now: float) -> None:
        self.kind = kind
        self.period = period_at(kind, wall)
        self.since = now
        self.spent_microusd = 0

    def roll(self, wall: float, now: float) -> None:
        """Start a new period at 0 when the current one is over."""
        period = self.period
        if period.starts_at <= wall < period.ends_at:
            return
        if wall < period.starts_at and now - self.since < PERIOD_S[self.kind]:
            return
        self.period = period_at(self.kind, wall)
        self.since = now
        self.spent_microusd = 0

    def restore(self, label: str, spent_microusd: int) -> None:
        """Continue from a saved sum, if its period is not over."""
        period = period_named(self.kind, label)
        if period is not None and period.starts_at >= self.period.starts_at:
            self.period = period
            self.spent_microusd = spent_microusd

    def left_s(self, wall: float, now: float) -> float | None:
        """Return the time until the next period; None: there is none."""
        if self.kind == "total":
            return None
        if wall < self.period.starts_at:
            return PERIOD_S[self.kind] - (now - self.since)
        return self.period.ends_at - wall


def format_duration(seconds: float) -> str:
    """Format a duration as Go does, rounded up to milliseconds: "120ms", "1s", "6m0s".

    OpenAI's `x-ratelimit-reset-*` headers have this format.
    """
    # The subtraction keeps rounding errors from turning 1s into 1.001s.
    total_ms = math.ceil(seconds * 1000 - 1e-6)
    if total_ms < 1000:
        return f"{total_ms}ms" if total_ms > 0 else "0s"
    whole_s, ms = divmod(total_ms, 1000)
    minutes, second = divmod(whole_s, 60)
    tail = f"{second}.{ms:03d}".rstrip("0") + "s" if ms else f"{second}s"
    if minutes < 60:
        return f"{minutes}m{tail}" if minutes else tail
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{tail}"


def rate_limit_headers(requests: Meter | None, tokens: Meter | None) -> dict[str, str]:
    """Return OpenAI's `x-ratelimit-*` headers, each group only where there is such a limit.

    Resets are durations, not times (OpenAI, guide "Rate limits", section "Rate limits in headers").
    """
    headers: dict[str, str] = {}
    if requests is not None:
        headers["x-ratelimit-limit-requests"] = str(requests.limit)
        headers["x-ratelimit-remaining-requests"] = str(requests.remaining)
        headers["x-ratelimit-reset-requests"] = format_duration(requests.reset_s)
    if tokens is not None:
        headers["x-ratelimit-limit-tokens"] = str(tokens.limit)
        headers["x-ratelimit-remaining-tokens"] = str(tokens.remaining)
        headers["x-ratelimit-reset-tokens"] = format_duration(tokens.reset_s)
    return headers
