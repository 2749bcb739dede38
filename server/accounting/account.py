"""All counts of one scope: buckets, running requests and money, in memory.

Nothing here is asynchronous, so that a caller's `admits` and `take` are one atomic step.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy

from server.accounting.counters import (
    Budget,
    GuestLimits,
    Standing,
    held_by_others,
    never_affordable,
    never_fits,
    over_budget,
    too_many_concurrent,
    too_many_requests,
    too_many_tokens,
)
from server.accounting.limits import PERIODS, Bucket, Tally
from server.store.key import BudgetPeriod, Limits
from server.store.rows import CounterRow
from workers.errors import GatewayError
from workers.units import DAY_S, MINUTE_S

NO_LIMITS = Limits()
WINDOW_S: dict[str, float] = {"requests": MINUTE_S, "requests_day": DAY_S, "tokens": MINUTE_S}
BUDGET_KINDS: dict[str, BudgetPeriod] = {f"budget_{period}": period for period in PERIODS}


class Account:
    """All counts of one scope.

    Money is added up for all four periods, so that a budget or its period can be changed at any
    time and still counts what was spent before. Guests have no budgets, so theirs is not added up:
    an account with a sum is never idle, and would keep a guest's address for ever.

    `restored` has the saved levels of buckets and the clock's time at which they were saved, by
    kind, until the first limits are applied; then it is None.
    """

    __slots__ = (
        "day",
        "limits",
        "requests",
        "reserved",
        "restored",
        "running",
        "tallies",
        "tokens",
    )

    def __init__(self) -> None:
        self.limits = NO_LIMITS
        self.requests: Bucket | None = None
        self.day: Bucket | None = None
        self.tokens: Bucket | None = None
        self.running = 0
        self.reserved = 0
        self.tallies: dict[BudgetPeriod, Tally] | None = None
        self.restored: dict[str, tuple[float, float]] | None = None

    def adopt(self, limits: Limits, now: float) -> None:
        """Apply new or changed limits and keep what was used under the old ones."""
        self.limits = limits
        per_day = limits.requests_per_day if isinstance(limits, GuestLimits) else None
        self.requests = self._bucket("requests", self.requests, limits.requests_per_minute, now)
        self.day = self._bucket("requests_day", self.day, per_day, now)
        self.tokens = self._bucket("tokens", self.tokens, limits.tokens_per_minute, now)
        self.restored = None

    def with_limits(self, limits: Limits, now: float) -> Account:
        """Return a copy of the account with other limits applied."""
        shown = copy(self)
        shown.requests, shown.day, shown.tokens = map(copy, (self.requests, self.day, self.tokens))
        shown.adopt(limits, now)
        return shown

    def _bucket(
        self, kind: str, old: Bucket | None, limit: int | None, now: float
    ) -> Bucket | None:
        """Return the bucket for a limit: the old one resized, or a new one with its saved level."""
        if limit is None:
            return None
        if old is not None:
            old.resize(limit, now)
            return old
        level, at = (self.restored or {}).get(kind, (0.0, now))
        bucket = Bucket(limit, WINDOW_S[kind], at, level)
        # At most one full window is restored, so that a restart with a debt locks out no longer.
        bucket.level = min(bucket.drain(now), float(limit))
        return bucket

    def admits(self, tokens: int, cost_microusd: int, now: float, wall: float) -> bool:
        """Return whether every limit has room; changes nothing."""
        limits = self.limits
        return (
            (self.requests is None or not self.requests.wait_s(1, now))
            and (self.day is None or not self.day.wait_s(1, now))
            and (self.tokens is None or not self.tokens.wait_s(tokens, now))
            and (limits.concurrent_requests is None or self.running < limits.concurrent_requests)
            and (limits.budget_microusd is None or self.affords(cost_microusd, now, wall))
        )

    def affords(self, cost_microusd: int, now: float, wall: float) -> bool:
        """Return whether the budget covers a cost besides what is spent and reserved."""
        budget = self.limits.budget_microusd
        if budget is None or cost_microusd == 0:  # free models work after the budget is spent
            return True
        spent = 0
        if self.tallies is not None:
            tally = self.tallies[self.limits.budget_period]
            tally.roll(wall, now)
            spent = tally.spent_microusd
        return spent + self.reserved + cost_microusd <= budget

    def refusal(
        self, tokens: int, cost_microusd: int, now: float, wall: float, *, together: bool
    ) -> GatewayError:
        """Return the error for a refusal: first what no wait resolves, then the longest wait."""
        if self.tokens is not None and tokens > self.tokens.limit:
            return never_fits(self.tokens.limit, tokens)
        budget = None if self.affords(cost_microusd, now, wall) else self.budget(now, wall)
        if budget is not None and cost_microusd > budget.limit_microusd:
            return never_affordable(budget, cost_microusd)
        if budget is not None and cost_microusd > budget.limit_microusd - budget.spent_microusd:
            return over_budget(budget, cost_microusd)
        # From here on waiting helps; only after the longest wait does the request fit.
        waits: list[tuple[float, GatewayError]] = []
        who = " by all guests together" if together else ""
        for bucket, per in ((self.requests, "minute"), (self.day, "day")):
            if bucket is not None and (wait_s := bucket.wait_s(1, now)):
                waits.append((wait_s, too_many_requests(bucket.limit, per, wait_s, who)))
        if self.tokens is not None and (wait_s := self.tokens.wait_s(tokens, now)):
            waits.append((wait_s, too_many_tokens(self.tokens.limit, tokens, wait_s)))
        if waits:
            return max(waits, key=lambda wait: wait[0])[1]
        if budget is not None:
            return held_by_others(budget, cost_microusd)
        return too_many_concurrent(self.limits.concurrent_requests or 0)

    def take(self, tokens: int, cost_microusd: int, now: float) -> None:
        """Count a request that `admits` has just allowed."""
        if self.requests is not None:
            self.requests.add(1, now)
        if self.day is not None:
            self.day.add(1, now)
        if self.tokens is not None:
            self.tokens.add(tokens, now)
        self.running += 1
        self.reserved += cost_microusd

    def leave(self, cost_microusd: int) -> None:
        """Count a request as ended and release its reserved money."""
        self.running -= 1
        self.reserved -= cost_microusd

    def give_back(self, tokens: int, now: float) -> None:
        """Return a request and its tokens to the buckets."""
        if self.requests is not None:
            self.requests.add(-1, now)
        if self.day is not None:
            self.day.add(-1, now)
        if self.tokens is not None:
            self.tokens.add(-tokens, now)

    def spend(self, cost_microusd: int, now: float, wall: float) -> None:
        """Add a cost to the tally of every period; a guest's is added nowhere."""
        if isinstance(self.limits, GuestLimits):
            return
        for tally in self.all_tallies(now, wall).values():
            _, starts_at, ends_at = tally.period
            if not starts_at <= wall < ends_at:
                tally.roll(wall, now)
            tally.spent_microusd += cost_microusd

    def spend_late(self, cost_microusd: int, now: float, wall: float, at: float) -> None:
        """Add a cost of a past moment to each tally whose current period the moment lies in."""
        for tally in self.all_tallies(now, wall).values():
            tally.roll(wall, now)
            if tally.period.starts_at <= at < tally.period.ends_at:
                tally.spent_microusd = max(tally.spent_microusd + cost_microusd, 0)

    def all_tallies(self, now: float, wall: float) -> dict[BudgetPeriod, Tally]:
        """Return the tallies, created on first use: most scopes never spend money."""
        if self.tallies is None:
            self.tallies = {period: Tally(period, wall, now) for period in PERIODS}
        return self.tallies

    def budget(self, now: float, wall: float) -> Budget | None:
        """Return the state of the budget; None: there is none."""
        limit = self.limits.budget_microusd
        if limit is None:
            return None
        period = self.limits.budget_period
        tally = self.tallies[period] if self.tallies is not None else Tally(period, wall, now)
        tally.roll(wall, now)
        return Budget(limit, tally.spent_microusd, self.reserved, period, tally.left_s(wall, now))

    def standing(self, now: float, wall: float) -> Standing:
        """Return what remains of every limit."""
        return Standing(
            self.requests.meter(now) if self.requests is not None else None,
            self.day.meter(now) if self.day is not None else None,
            self.tokens.meter(now) if self.tokens is not None else None,
            self.limits.concurrent_requests,
            self.running,
            self.budget(now, wall) if self.limits.budget_microusd is not None else None,
        )

    def is_idle(self, now: float) -> bool:
        """Return whether a new account would be equal, so that this one can be dropped."""
        return (
            not self.running
            and self.tallies is None
            and not self._awaits_limits(now)
            and (self.requests is None or not self.requests.drain(now))
            and (self.day is None or not self.day.drain(now))
            and (self.tokens is None or not self.tokens.drain(now))
        )

    def _awaits_limits(self, now: float) -> bool:
        """Return whether restored levels still count once limits are applied."""
        return any(now - at < WINDOW_S[kind] for kind, (_, at) in (self.restored or {}).items())

    def rows(self, scope: str, now: float, wall: float) -> Iterable[CounterRow]:
        """Return the rows that must survive a restart."""
        buckets = (("requests", self.requests), ("requests_day", self.day), ("tokens", self.tokens))
        for kind, bucket in buckets:
            if bucket is not None:
                yield CounterRow(scope, kind, bucket.drain(now), "", wall)
        for period, tally in (self.tallies or {}).items():
            spent = tally.spent_microusd
            yield CounterRow(scope, f"budget_{period}", spent, tally.period.label, wall)

    def restore(self, row: CounterRow, now: float, wall: float) -> None:
        """Restore a saved row; bucket levels are applied when the first take brings the limits."""
        if (period := BUDGET_KINDS.get(row.kind)) is not None:
            self.all_tallies(now, wall)[period].restore(row.period, int(row.value))
        elif row.kind in WINDOW_S:
            # Levels drain during the downtime too; a wall clock that was set back counts as none.
            away_s = max(0.0, wall - row.updated_at)
            self.restored = (self.restored or {}) | {row.kind: (float(row.value), now - away_s)}
