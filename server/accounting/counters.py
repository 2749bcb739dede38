"""What keeps count of limits: the protocol, what it hands out, and how it refuses.

Callers never know where the counts live: in this process's memory, in a keeper process, in Redis.
Only `take` needs an answer before a request goes on, so only it is awaited. The others tell or ask
what is known here: a remote backend gathers and sends them on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from server.accounting.limits import (
    Meter,
    format_duration,
    rate_limit_headers,
)
from server.store.key import BudgetPeriod, Limits
from server.store.store import CounterRow
from workers.errors import BudgetExceeded, RateLimited
from workers.money import in_full

RUNNING_WAIT_S = 1.0
"""Nobody knows when a running request ends; a second is a fair guess."""

PER: dict[BudgetPeriod, str] = {
    "day": "daily budget",
    "week": "weekly budget",
    "month": "monthly budget",
    "total": "total budget",
}


class GuestLimits(Limits, frozen=True):
    """What a guest, or all guests together, may use."""

    requests_per_day: int | None = None


class Shared(NamedTuple):
    """A second scope that a request is counted on, and its limits: "guests" for every guest."""

    scope: str
    limits: Limits


class Taken(msgspec.Struct, frozen=True):
    """What one admitted request holds until it is settled or given back.

    `tokens` is None when the scope had no token limit; `shared` is "" or the scope taken together.
    """

    scope: str
    tokens: int | None = None
    cost_microusd: int = 0
    shared: str = ""


class Budget(msgspec.Struct, frozen=True):
    """A budget in micro-dollars; `reserved` is held by running requests. `reset_s` None: never."""

    limit_microusd: int
    spent_microusd: int
    reserved_microusd: int
    period: BudgetPeriod
    reset_s: float | None


class Standing(msgspec.Struct, frozen=True):
    """What is left of every limit of a scope at one moment; None: there is no such limit."""

    requests: Meter | None = None
    requests_day: Meter | None = None
    tokens: Meter | None = None
    concurrent_limit: int | None = None
    running: int = 0
    budget: Budget | None = None

    def headers(self) -> dict[str, str]:
        """Give the `x-ratelimit-*` headers; of two request limits the one that ends first."""
        requests, day = self.requests, self.requests_day
        if day is not None and (requests is None or day.remaining < requests.remaining):
            requests = day
        return rate_limit_headers(requests, self.tokens)


UNLIMITED = Standing()


class Counters(Protocol):
    """Count what scopes use and refuse what is over their limits.

    A scope is a key id, "guest:ADDRESS" or "guests". Tokens are whole, money is micro-dollars.
    """

    async def take(
        self,
        scope: str,
        limits: Limits,
        tokens: int = 0,
        cost_microusd: int = 0,
        shared: Shared | None = None,
    ) -> Taken:
        """Take one request, its tokens, its money and a place among the running, all or nothing.

        Raises RateLimited or BudgetExceeded, and then nothing was taken.
        """

    def settle(self, taken: Taken, tokens: int, cost_microusd: int) -> None:
        """Put the true use in the place of what was taken and free the place; once per take."""

    def give_back(self, taken: Taken) -> None:
        """Return everything, as if it had never been asked for; once per take."""

    def standing(self, scope: str, limits: Limits) -> Standing:
        """Tell what is left, as far as it is known here."""

    def on_unsaved(self, listener: Callable[[], None]) -> None:
        """Call `listener` when there is something to save again; remote backends never do."""

    def take_unsaved(self) -> Sequence[CounterRow]:
        """Give the rows that changed since the last call, for the store."""

    def put_back(self, rows: Iterable[CounterRow]) -> None:
        """Count rows as unsaved again: the store did not take them."""

    def restore(self, rows: Iterable[CounterRow]) -> None:
        """Go on from what was saved, before the first take."""


def too_many_requests(limit: int, per: str, wait_s: float, who: str = "") -> RateLimited:
    """Refuse because `limit` requests per `per` are used up; honest about when one is free."""
    return RateLimited(
        f"Rate limit reached for requests{who}: {limit} per {per}."
        f" Try again in {format_duration(wait_s)}.",
        limit="requests",
        retry_after_s=wait_s,
    )


def too_many_tokens(limit: int, asked: int, wait_s: float) -> RateLimited:
    """Refuse because the tokens are used up for now."""
    return RateLimited(
        f"Rate limit reached for tokens: {limit} per minute, this request may use {asked}."
        f" Try again in {format_duration(wait_s)}.",
        limit="tokens",
        retry_after_s=wait_s,
    )


def never_fits(limit: int, asked: int) -> RateLimited:
    """Refuse a request that is larger than the whole token limit: no wait would help."""
    refusal = RateLimited(
        f"This request may use {asked} tokens, more than this key's whole limit of {limit} per"
        " minute, so it can never fit. Shorten the prompt or ask for a lower max_tokens.",
        limit="tokens",
        retry_after_s=0.0,
    )
    refusal.retry_after_s = None  # any time would be a lie
    refusal.should_retry = False
    return refusal


def too_many_at_once(limit: int) -> RateLimited:
    """Refuse because as many requests run as may."""
    return RateLimited(
        f"Too many requests at once: {limit} may run at the same time. Try again when one is done.",
        limit="concurrency",
        retry_after_s=RUNNING_WAIT_S,
    )


def never_affordable(budget: Budget, cost_microusd: int) -> BudgetExceeded:
    """Refuse a request whose worst case is more than the whole budget: no wait would help."""
    return BudgetExceeded(
        f"This request may cost up to {in_full(cost_microusd)}, more than this key's whole"
        f" {PER[budget.period]} of {in_full(budget.limit_microusd)}, so it can never fit."
        " Ask for a lower max_tokens, fewer choices or a cheaper model, or shorten the prompt."
    )


def held_by_others(budget: Budget, cost_microusd: int) -> RateLimited:
    """Refuse because running requests have reserved what the budget still has."""
    return RateLimited(
        f"For the moment other requests of this key hold {in_full(budget.reserved_microusd)} of its"
        f" {PER[budget.period]} of {in_full(budget.limit_microusd)}, and this one may cost up to"
        f" {in_full(cost_microusd)}. Try again when one is done. A lower max_tokens reserves less.",
        limit="budget",
        retry_after_s=RUNNING_WAIT_S,
    )


def over_budget(budget: Budget, cost_microusd: int) -> BudgetExceeded:
    """Refuse because what is left of the budget cannot cover the worst case of a request."""
    return BudgetExceeded(
        f"This key's {PER[budget.period]} cannot cover this request:"
        f" {in_full(budget.spent_microusd)} spent, {in_full(budget.reserved_microusd)} reserved by"
        f" running requests, {in_full(budget.limit_microusd)} limit, and this request may cost up"
        f" to {in_full(cost_microusd)}. A lower max_tokens reserves less.",
        retry_after_s=budget.reset_s,
    )
