"""The arithmetic of limits: buckets, budget periods, durations. No I/O, no clocks of its own.

A bucket is the Generic Cell Rate Algorithm in its continuous-state leaky bucket form (ITU-T I.371,
annex A): one level that drains at limit / period, and a take is admitted while the level stays
within the limit. It is the same rule as the form with a theoretical arrival time, but whole
requests stay whole numbers, so that N takes at one moment against a limit of L admit exactly L.

`now` is a monotonic clock in seconds, `wall` is Unix time; both are given by the caller.
"""

from __future__ import annotations

import math
from datetime import date, timedelta
from functools import lru_cache
from typing import NamedTuple

from server.store.key import BudgetPeriod

MINUTE_S = 60.0
DAY_S = 86_400.0

SLACK = 1e-6
"""A millionth of a request or token: more than float noise, less than anything that counts."""

PERIODS: tuple[BudgetPeriod, ...] = ("day", "week", "month", "total")
PERIOD_S: dict[BudgetPeriod, float] = {
    "day": DAY_S,
    "week": 7 * DAY_S,
    "month": 31 * DAY_S,
    "total": math.inf,
}
"""The longest that a period of each kind lasts."""

EPOCH = date(1970, 1, 1)


class Meter(NamedTuple):
    """What is left of one limit; `reset_s` is how long until all of it is there again."""

    limit: int
    remaining: int
    reset_s: float


class Bucket:
    """Count takes against `limit` per `period_s`.

    `level` is what has been taken and not drained yet; over `limit` it is a debt. It is right at
    the moment `at`; `drain` brings it up to date.
    """

    __slots__ = ("at", "level", "limit", "per_s", "period_s")

    def __init__(self, limit: int, period_s: float, now: float, level: float = 0.0) -> None:
        self.limit = limit
        self.period_s = period_s
        self.per_s = limit / period_s
        self.level = level
        self.at = now

    def drain(self, now: float) -> float:
        """Give the level as of now."""
        elapsed_s = now - self.at
        if elapsed_s > 0.0:
            level = self.level - elapsed_s * self.per_s
            self.level = level if level > SLACK else 0.0
            self.at = now
        return self.level

    def wait_s(self, amount: int, now: float) -> float:
        """Tell how long until `amount` fits; 0.0: now. Only true when `amount` <= `limit`."""
        over = self.drain(now) + amount - self.limit
        return over / self.per_s if over > SLACK else 0.0

    def add(self, amount: int, now: float) -> None:
        """Count `amount` without asking; a negative one is given back, never beyond empty."""
        level = self.drain(now) + amount
        self.level = max(0.0, level)

    def resize(self, limit: int, now: float) -> None:
        """Change the limit and keep what was taken, without locking anybody out for longer.

        What no longer fits under a lower limit is forgiven, and a debt keeps its length in time.
        """
        level = self.drain(now)
        if level > limit:
            self.level = min(level, max(float(limit), level * limit / self.limit))
        self.limit = limit
        self.per_s = limit / self.period_s

    def meter(self, now: float) -> Meter:
        """Tell what is left; a debt shows as nothing left and as a longer reset."""
        level = self.drain(now)
        remaining = int(self.limit - level + SLACK)
        return Meter(self.limit, max(0, remaining), level / self.per_s)


class Period(NamedTuple):
    """One calendar period in UTC, from `starts_at` until before `ends_at`, in Unix seconds."""

    label: str
    starts_at: float
    ends_at: float


ALL_TIME = Period("", -math.inf, math.inf)


def period_at(kind: BudgetPeriod, wall: float) -> Period:
    """Find the period of a moment; labels are "2026-11-22", "2026-W47", "2026-11" and ""."""
    return ALL_TIME if kind == "total" else _period(kind, int(wall // DAY_S))


def period_named(kind: BudgetPeriod, label: str) -> Period | None:
    """Find a period by its label; None: there is no such period."""
    if kind == "total":
        return ALL_TIME if label == "" else None
    try:
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
        year, week, weekday = day.isocalendar()
        first = day - timedelta(days=weekday - 1)
        label, after = f"{year:04d}-W{week:02d}", first + timedelta(days=7)
    else:
        first = day.replace(day=1)
        label, after = f"{day:%Y-%m}", (first + timedelta(days=31)).replace(day=1)
    return Period(label, (first - EPOCH).days * DAY_S, (after - EPOCH).days * DAY_S)


class Tally:
    """Add up micro-dollars within the current period of one kind.

    The period only moves forward. When the wall clock was set back, the later period goes on (its
    money is not given out twice), but for no longer than one period by the monotonic clock (nobody
    is locked out by a clock that was wrong).
    """

    __slots__ = ("kind", "period", "since", "spent_microusd")

    def __init__(self, kind: BudgetPeriod, wall: float, now: float) -> None:
        self.kind = kind
        self.period = period_at(kind, wall)
        self.since = now
        self.spent_microusd = 0

    def roll(self, wall: float, now: float) -> None:
        """Begin again at 0 when the period is over."""
        period = self.period
        if period.starts_at <= wall < period.ends_at:
            return
        if wall < period.starts_at and now - self.since < PERIOD_S[self.kind]:
            return
        self.period = period_at(self.kind, wall)
        self.since = now
        self.spent_microusd = 0

    def restore(self, label: str, spent_microusd: int) -> None:
        """Go on from a saved sum, if its period is not over."""
        period = period_named(self.kind, label)
        if period is not None and period.starts_at >= self.period.starts_at:
            self.period = period
            self.spent_microusd = spent_microusd

    def left_s(self, wall: float, now: float) -> float | None:
        """Tell how long until it begins again; None: never."""
        if self.kind == "total":
            return None
        if wall < self.period.starts_at:
            return PERIOD_S[self.kind] - (now - self.since)
        return self.period.ends_at - wall


def format_duration(seconds: float) -> str:
    """Write a duration as Go does, rounded up to milliseconds: "120ms", "1s", "6m0s"."""
    # Float noise must not turn 1s into 1.001s.
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
    """Give OpenAI's `x-ratelimit-*` headers, each family only where there is such a limit.

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
