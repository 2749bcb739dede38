"""The protocol of limit counters, its result types, and the errors for refusals.

Callers do not know where the counts are: in memory, in another process, or in Redis. Only `take`
must have its result before a request continues. `settle` and `give_back` return at once; a remote
implementation sends them in its own time, and repeats them until they are acknowledged.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import msgspec

from server.accounting.limits import (
    Meter,
    format_duration,
    rate_limit_headers,
)
from server.store.key import BudgetPeriod, Limits
from server.store.rows import CounterRow
from workers.errors import BudgetExceeded, RateLimited
from workers.money import in_full

RUNNING_WAIT_S = 1.0
"""When a running request will end is unknown; clients retry after a second."""

BUDGET_NAMES: dict[BudgetPeriod, str] = {
    "day": "daily budget",
    "week": "weekly budget",
    "month": "monthly budget",
    "total": "total budget",
}


class GuestLimits(Limits, frozen=True):
    """Limits of one guest, or of all guests together."""

    requests_per_day: int | None = None


class Shared(NamedTuple):
    """A second scope that a request also counts for, with its limits: all guests together."""

    scope: str
    limits: Limits


class Budget(msgspec.Struct, frozen=True):
    """A budget in micro-dollars; `reserved` is held by running requests. `reset_s` None: never."""

    limit_microusd: int
    spent_microusd: int
    reserved_microusd: int
    period: BudgetPeriod
    reset_s: float | None

    @property
    def left_microusd(self) -> int:
        """What is neither spent nor reserved; negative after an overspend."""
        return self.limit_microusd - self.spent_microusd - self.reserved_microusd


class Standing(msgspec.Struct, frozen=True):
    """What remains of every limit of a scope at one moment; None: there is no such limit."""

    requests: Meter | None = None
    requests_day: Meter | None = None
    tokens: Meter | None = None
    concurrent_limit: int | None = None
    running: int = 0
    budget: Budget | None = None

    @property
    def has_room(self) -> bool:
        """Whether one more request may be counted, as far as limits of requests say."""
        meters = [meter for meter in (self.requests, self.requests_day) if meter is not None]
        is_busy = self.concurrent_limit is not None and self.running >= self.concurrent_limit
        return not is_busy and all(meter.remaining >= 1 for meter in meters)

    def headers(self) -> dict[str, str]:
        """Return the `x-ratelimit-*` headers; of two request limits, that with fewer remaining."""
        requests, day = self.requests, self.requests_day
        if day is not None and (requests is None or day.remaining < requests.remaining):
            requests = day
        return rate_limit_headers(requests, self.tokens)


UNLIMITED = Standing()


class Taken(msgspec.Struct, frozen=True):
    """What `Counters.take` counted on one scope, to be settled or given back; a Lease carries it.

    `tokens` is None when the scope had no token limit; `shared` is the second scope, or "". `lease`
    is unique over all processes and nodes: what is settled or given back twice counts once.
    `standing` is what remains of the scope's limits after the take.
    """

    scope: str
    tokens: int | None = None
    cost_microusd: int = 0
    shared: str = ""
    lease: str = ""
    standing: Standing = UNLIMITED


def lease_ids() -> Iterator[str]:
    """Return an endless series of ids that no other process makes."""
    process = os.urandom(8).hex()
    return (f"{process}-{number:x}" for number in itertools.count(1))


class Counters(Protocol):
    """Count what scopes use and refuse what exceeds their limits.

    A scope is a key id, "guest:ADDRESS" or "guests". Tokens are whole, money is micro-dollars.
    """

    @property
    def trouble(self) -> str | None:
        """Why the counters cannot be reached now, in words; None: they can."""

    async def take(
        self,
        scope: str,
        limits: Limits,
        tokens: int = 0,
        cost_microusd: int = 0,
        shared: Shared | None = None,
    ) -> Taken:
        """Take one request, its tokens, its money and a slot among the running, all or nothing.

        Raises RateLimited or BudgetExceeded, and then nothing was taken.
        """

    def settle(self, taken: Taken, tokens: int, cost_microusd: int) -> None:
        """Replace what was taken by the true usage and free the slot; only the first call counts.

        The lease ends with the first of `settle` and `give_back`.
        """

    def give_back(self, taken: Taken) -> None:
        """Return everything that was taken; only the first call counts.

        Only for a request that reached no upstream: any other stays counted as a request, so it is
        settled, with 0 tokens if it failed.
        """

    async def standing(self, scope: str, limits: Limits) -> Standing:
        """Return what remains now."""

    def known_standing(self, scope: str, limits: Limits) -> Standing | None:
        """Return what remains, as far as it is known in this process; None: nothing is known."""


class UnsavedCounters(Protocol):
    """Counters in memory, which a store keeps: the ledger writes the rows that have changed.

    A protocol, because the ledger also runs where counters are kept elsewhere, and tests replace
    them.
    """

    def on_unsaved(self, listener: Callable[[], None]) -> None:
        """Call `listener` when rows have become unsaved."""

    def take_unsaved(self) -> Sequence[CounterRow]:
        """Return the rows that changed since the last call, for the store."""


def too_many_requests(limit: int, per: str, wait_s: float, who: str = "") -> RateLimited:
    """Return the error for a used-up request limit, with the time until one is free."""
    return RateLimited(
        f"Rate limit reached for requests{who}: {limit} per {per}."
        f" Try again in {format_duration(wait_s)}.",
        limit="requests",
        retry_after_s=wait_s,
    )


def too_many_tokens(limit: int, asked: int, wait_s: float) -> RateLimited:
    """Return the error for a token limit that is used up for now."""
    return RateLimited(
        f"Rate limit reached for tokens: {limit} per minute, this request may use {asked}."
        f" Try again in {format_duration(wait_s)}.",
        limit="tokens",
        retry_after_s=wait_s,
    )


def never_fits(limit: int, asked: int) -> RateLimited:
    """Return the error for a request larger than the whole token limit: waiting cannot help."""
    return RateLimited(
        f"This request may use {asked} tokens, more than this key's whole limit of {limit} per"
        " minute, so it can never fit. Shorten the prompt or ask for a lower max_tokens.",
        limit="tokens",
        retry_after_s=None,
        should_retry=False,
    )


def too_many_concurrent(limit: int) -> RateLimited:
    """Return the error for too many running requests."""
    return RateLimited(
        f"Too many concurrent requests: the limit is {limit}. Try again when one is done.",
        limit="concurrency",
        retry_after_s=RUNNING_WAIT_S,
    )


def never_affordable(budget: Budget, cost_microusd: int) -> BudgetExceeded:
    """Return the error for a request that may cost more than the whole budget."""
    return BudgetExceeded(
        f"This request may cost up to {in_full(cost_microusd)}, more than this key's whole"
        f" {BUDGET_NAMES[budget.period]} of {in_full(budget.limit_microusd)}, so it can never fit."
        " Ask for a lower max_tokens, fewer choices or a cheaper model, or shorten the prompt."
    )


def held_by_others(budget: Budget, cost_microusd: int) -> RateLimited:
    """Return the error while running requests have reserved the rest of the budget."""
    return RateLimited(
        f"Running requests of this key have reserved {in_full(budget.reserved_microusd)} of its"
        f" {BUDGET_NAMES[budget.period]} of {in_full(budget.limit_microusd)}, and this one may cost"
        f" up to {in_full(cost_microusd)}. Try again when one of them is complete. A lower"
        " max_tokens reserves less.",
        limit="budget",
        retry_after_s=RUNNING_WAIT_S,
    )


def over_budget(budget: Budget, cost_microusd: int) -> BudgetExceeded:
    """Return the error for a budget whose rest cannot cover the request's highest cost."""
    return BudgetExceeded(
        f"This key's {BUDGET_NAMES[budget.period]} cannot cover this request:"
        f" {in_full(budget.spent_microusd)} spent, {in_full(budget.reserved_microusd)} reserved by"
        f" running requests, {in_full(budget.limit_microusd)} limit, and this request may cost up"
        f" to {in_full(cost_microusd)}. A lower max_tokens reserves less.",
        retry_after_s=budget.reset_s,
    )
