"""Decisions while Redis is away, by `limits.when_store_is_down`.

With "share", each node admits its share of a limit: the limit divided by the number of nodes that
lived when Redis was last heard. Budgets and guests cannot be shared so, because what others spend
is not known; their requests are refused.
"""

from __future__ import annotations

from functools import lru_cache

from msgspec import structs

from server.accounting.account import Account
from server.accounting.counters import UNLIMITED, Shared, Standing, Taken
from server.accounting.redis_counters.known_scopes import KnownScope
from server.config.settings import WhenDown
from server.store.key import COUNT_LIMITS, Limits
from workers.errors import LimitsUnavailable

RETRY_AFTER_S = 2.0
"""Redis is found within two seconds of its return."""


class LocalShares:
    """Accounts of this node's shares; they exist only while Redis is away."""

    def __init__(self, when_down: WhenDown) -> None:
        self._when_down = when_down
        self._accounts: dict[str, Account] = {}

    def take(
        self,
        known: KnownScope,
        limits: Limits,
        use: tuple[int, int],
        shared: Shared | None,
        nodes: int,
        now: float,
    ) -> Standing:
        """Count a request against the node's share and return what remains of it.

        `use` is its tokens and cost. Raises LimitsUnavailable or RateLimited.
        """
        limited = shared is not None or known.is_guest or is_limited(limits)
        if not limited or self._when_down == "allow":
            return UNLIMITED
        tokens, cost_microusd = use
        beyond = limits.budget_microusd is not None and cost_microusd > 0
        if self._when_down == "refuse" or beyond or shared is not None or known.is_guest:
            raise LimitsUnavailable(retry_after_s=RETRY_AFTER_S)
        share = share_of(limits, nodes)
        account = self._open(known, share, now)
        account.running = len(known.leases)
        if (share.tokens_per_minute or tokens) < tokens <= (limits.tokens_per_minute or 0):
            # It fits into the limit but into no share, so only Redis can admit it.
            raise LimitsUnavailable(retry_after_s=RETRY_AFTER_S)
        if not account.admits(tokens, 0, now, 0.0):
            raise account.refusal(tokens, 0, now, 0.0, together=False)
        account.take(tokens, 0, now)
        return account.standing(now, 0.0)

    def settle(self, taken: Taken, tokens: int, now: float) -> None:
        """Correct the share by the true number of tokens."""
        account = self._accounts.get(taken.scope)
        if account is not None and account.tokens is not None and taken.tokens is not None:
            account.tokens.add(tokens - taken.tokens, now)

    def give_back(self, taken: Taken, now: float) -> None:
        """Return a request to the share."""
        account = self._accounts.get(taken.scope)
        if account is not None:
            account.give_back(taken.tokens or 0, now)

    def clear(self) -> None:
        """Forget the shares: Redis counts again."""
        self._accounts.clear()

    def _open(self, known: KnownScope, share: Limits, now: float) -> Account:
        account = self._accounts.get(known.name)
        if account is None:
            account = self._accounts[known.name] = Account()
            last = known.account()
            if last is not None:
                # A bucket that is half full stays half full: levels above a lower limit are kept
                # in proportion, so that a share is not spent again.
                account = self._accounts[known.name] = scaled(last, share, now)
        if account.limits is not share:
            account.adopt(share, now)
        return account


def scaled(last: Account, share: Limits, now: float) -> Account:
    """Return an account under `share` whose buckets are as full as those of `last`."""
    account = Account()
    account.adopt(share, now)
    for old, new in ((last.requests, account.requests), (last.tokens, account.tokens)):
        if old is not None and new is not None:
            new.level = old.drain(now) * new.limit / old.limit
    return account


def is_limited(limits: Limits) -> bool:
    """Return True if there is any limit or a budget."""
    return limits.budget_microusd is not None or any(
        getattr(limits, name) is not None for name in COUNT_LIMITS
    )


@lru_cache(maxsize=4096)
def share_of(limits: Limits, nodes: int) -> Limits:
    """Return the limits of one of `nodes` nodes, each at least 1; the budget is left out."""
    parts = {
        name: max(1, value // max(1, nodes))
        for name in COUNT_LIMITS
        if (value := getattr(limits, name)) is not None
    }
    return structs.replace(limits, budget_microusd=None, **parts)
