"""What this process knows of scopes in Redis: their last standing and their running leases.

The standing shows headers without a question, decides while Redis is away, and brings levels back
into a Redis that has lost its data.
"""

from __future__ import annotations

from collections.abc import Iterator

from server.accounting.account import Account
from server.accounting.counters import GuestLimits, Standing
from server.accounting.limits import Bucket, Tally
from server.identity.client_addresses import GUEST_PREFIX
from server.store.key import BudgetPeriod, Limits
from workers.units import DAY_S, MINUTE_S

MAX_SCOPES = 50_000
VISITS = 64
ALL_GUESTS_TAG = "guests"
MICROS = 1_000_000
MINUTE_US = int(MINUTE_S) * MICROS
DAY_US = int(DAY_S) * MICROS

Argument = str | int
NO_BUCKETS: tuple[Argument, ...] = ("", "", "")


class Held:
    """One running lease: what it reserves, and the data in which it was taken ("": in none).

    `limits` are those of its buckets if Redis was away, which may not know them.
    """

    __slots__ = ("epoch", "limits", "member", "shared")

    def __init__(
        self, member: str, epoch: str, shared: KnownScope | None, limits: Limits | None
    ) -> None:
        self.limits = NO_BUCKETS if limits is None else bucket_limits(limits)
        self.member = member
        self.epoch = epoch
        self.shared = shared


class KnownScope:
    """One scope as its last reply described it. `limits` None: there was none yet."""

    __slots__ = ("at", "epoch", "keys", "leases", "limits", "name", "reply", "wall")

    def __init__(self, name: str) -> None:
        self.name = name
        # A guest's take counts for all guests too, in one step, so they all share one hash tag.
        start = f"roxy:{{{ALL_GUESTS_TAG}}}:{name}" if self.is_guest else f"roxy:{{{name}}}"
        self.keys = (f"{start}:counts", f"{start}:running", f"{start}:late")
        self.epoch = ""
        self.limits: Limits | None = None
        self.reply: list[bytes | int] = []
        self.at = 0.0
        self.wall = 0.0
        self.leases: dict[str, Held] = {}

    @property
    def is_guest(self) -> bool:
        """True if the scope is a guest's or that of all guests, whose money is not added up."""
        return self.name == ALL_GUESTS_TAG or self.name.startswith(GUEST_PREFIX)

    def learn(self, reply: list[bytes | int], limits: Limits, now: float) -> None:
        """Keep a reply that describes the scope under `limits`."""
        epoch = reply[1]
        assert isinstance(epoch, bytes)
        self.epoch = epoch.decode()
        self.limits = limits
        self.reply = reply
        self.at = now
        self.wall = int(reply[2]) / MICROS

    def account(self) -> Account | None:
        """Return the scope as an account in memory, as it was `at`; None: nothing is known."""
        limits = self.limits
        if limits is None:
            return None
        account, at = Account(), self.at
        account.limits = limits
        _, _, _, requests, day, tokens, running, held, spent = self.reply
        if limits.requests_per_minute is not None:
            level = int(requests or 0) / MINUTE_US
            account.requests = Bucket(limits.requests_per_minute, MINUTE_S, at, level)
        if isinstance(limits, GuestLimits) and limits.requests_per_day is not None:
            account.day = Bucket(limits.requests_per_day, DAY_S, at, int(day or 0) / DAY_US)
        if limits.tokens_per_minute is not None:
            level = int(tokens or 0) / MINUTE_US
            account.tokens = Bucket(limits.tokens_per_minute, MINUTE_S, at, level)
        account.running, account.reserved = int(running), int(held)
        if limits.budget_microusd is not None:
            period = limits.budget_period
            tally = Tally(period, self.wall, at)
            tally.spent_microusd = int(spent or 0)
            account.tallies = {period: tally}
        return account

    def wall_at(self, now: float) -> float:
        """Return the server's clock in Unix seconds, as far as it is known."""
        return self.wall + now - self.at

    def standing(self, limits: Limits, now: float) -> Standing | None:
        """Return what remains under `limits`; None: not enough is known."""
        account = self.account()
        if account is None:
            return None
        if limits is not self.limits and limits != self.limits:
            if limits.budget_microusd is not None and (
                account.limits.budget_microusd is None
                or account.limits.budget_period != limits.budget_period
            ):
                return None
            account.adopt(limits, now)
        return account.standing(now, self.wall_at(now))

    def levels(self, now: float) -> tuple[Argument, ...]:
        """Return the level and limit of every bucket as `seed.lua` takes them."""
        return bucket_levels(self.account(), now)


def bucket_levels(account: Account | None, now: float) -> tuple[Argument, ...]:
    """Return the level and limit of every bucket as `seed.lua` takes them."""
    found: list[Argument] = []
    for name, period in (("requests", MINUTE_US), ("day", DAY_US), ("tokens", MINUTE_US)):
        bucket: Bucket | None = getattr(account, name, None)
        found.append("" if bucket is None else f"{bucket.drain(now) * period:.0f}")
        found.append("" if bucket is None else bucket.limit)
    return tuple(found)


class KnownScopes:
    """All scopes that this process knows, the oldest without leases dropped beyond a maximum."""

    def __init__(self, max_scopes: int = MAX_SCOPES) -> None:
        self._max_scopes = max_scopes
        self._scopes: dict[str, KnownScope] = {}

    def __iter__(self) -> Iterator[KnownScope]:
        return iter(self._scopes.values())

    def __len__(self) -> int:
        return len(self._scopes)

    def find(self, name: str) -> KnownScope | None:
        """Return a scope that is known."""
        return self._scopes.get(name)

    def open(self, name: str) -> KnownScope:
        """Return a scope, a new one if it is not known."""
        scope = self._scopes.get(name)
        if scope is None:
            if len(self._scopes) >= self._max_scopes:
                self._make_room()
            scope = self._scopes[name] = KnownScope(name)
        return scope

    def _make_room(self) -> None:
        for name in list(self._scopes)[:VISITS]:
            scope = self._scopes.pop(name)
            if scope.leases:
                self._scopes[name] = scope  # to the end: it is visited again later
                continue
            return


def take_arguments(known: KnownScope, limits: Limits) -> tuple[Argument, ...]:
    """Return what `take.lua` wants to know of a scope."""
    budget = limits.budget_microusd
    return (
        known.epoch,
        *bucket_limits(limits),
        _limit(limits.concurrent_requests),
        _limit(budget),
        _period(limits),
    )


def bucket_limits(limits: Limits) -> tuple[Argument, ...]:
    """Return the limits of requests, requests per day and tokens; "": there is none."""
    return (
        _limit(limits.requests_per_minute),
        _limit(limits.requests_per_day) if isinstance(limits, GuestLimits) else "",
        _limit(limits.tokens_per_minute),
    )


def standing_arguments(known: KnownScope, limits: Limits) -> tuple[Argument, ...]:
    """Return what `standing.lua` wants to know of a scope."""
    epoch, requests, day, tokens, _, budget, period = take_arguments(known, limits)
    return (epoch, requests, day, tokens, budget, period)


def _limit(value: int | None) -> Argument:
    return "" if value is None else value


def _period(limits: Limits) -> BudgetPeriod | str:
    return limits.budget_period if limits.budget_microusd is not None else ""
