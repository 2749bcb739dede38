"""Counters in the memory of this process, saved by the ledger.

`take` never suspends: it checks and takes in one step, so that parallel requests cannot pass a
limit together. A scope is created by its first take and dropped when it holds nothing; instead of a
timer, each new scope checks two old ones. What was saved of a scope is found when it is first used,
so that a start does not read what millions of keys have spent. Beyond `max_scopes`, the oldest
scopes that hold nothing are dropped first, then the oldest without running requests.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from server.accounting.account import BUDGET_KINDS, WINDOW_S, Account
from server.accounting.counters import UNLIMITED, Shared, Standing, Taken, lease_ids
from server.identity.client_addresses import GUEST_PREFIX
from server.store.key import Limits
from server.store.rows import CounterRow
from workers.errors import StoreUnavailable

FindLate = Callable[[str, Sequence[CounterRow]], Iterable[tuple[float, int]]]

MAX_SCOPES = 100_000
VISITS = 2
"""Old scopes checked for each new one: more than one, so that checking outpaces growth."""
VISITS_WHEN_CROWDED = 64
"""Bounds the time of one take; `max_scopes` can be exceeded when all of them must stay."""


class MemoryCounters:
    """Keep every scope's account; see `Counters` and `UnsavedCounters` of server.accounting.

    `clock` is monotonic and measures; `wall` is Unix time and only names periods and saved rows.
    `find` returns the saved rows of a scope at once; without it, call `restore`. `find_late` then
    returns the costs that these rows do not know, each with its time.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        max_scopes: int = MAX_SCOPES,
        find: Callable[[str], Sequence[CounterRow]] = lambda _scope: (),
        find_late: FindLate | None = None,
    ) -> None:
        self._find = find
        self._find_late = find_late
        self._clock = clock
        self._wall = wall
        self._max_scopes = max_scopes
        self._accounts: dict[str, Account] = {}
        self._visit_order: deque[str] = deque()
        self._unsaved: set[str] = set()
        self._listener: Callable[[], None] | None = None
        self._lease_ids = lease_ids()
        self._leases: set[str] = set()

    @property
    def trouble(self) -> str | None:
        """Return None: memory is always there."""
        return None

    def __len__(self) -> int:
        return len(self._accounts)

    async def take(
        self,
        scope: str,
        limits: Limits,
        tokens: int = 0,
        cost_microusd: int = 0,
        shared: Shared | None = None,
    ) -> Taken:
        """Take everything or nothing; see the protocol."""
        now, wall = self._clock(), self._wall()
        account = self._open(scope, limits, now)
        if not account.admits(tokens, cost_microusd, now, wall):
            raise account.refusal(tokens, cost_microusd, now, wall, together=False)
        if shared is not None:
            together = self._open(shared.scope, shared.limits, now)
            if not together.admits(0, 0, now, wall):
                raise together.refusal(0, 0, now, wall, together=True)
            together.take(0, 0, now)
            self._keep(shared.scope, together, now)
        account.take(tokens, cost_microusd, now)
        self._keep(scope, account, now)
        lease = next(self._lease_ids)
        self._leases.add(lease)
        return Taken(
            scope,
            tokens if account.tokens is not None else None,
            cost_microusd,
            shared.scope if shared is not None else "",
            lease,
            account.standing(now, wall),
        )

    def settle(self, taken: Taken, tokens: int, cost_microusd: int) -> None:
        """Replace what was taken by the true usage; see the protocol."""
        if not self._ends(taken):
            return
        now = self._clock()
        account = self._accounts[taken.scope]
        account.leave(taken.cost_microusd)
        # Either may be None when the key's limits were changed while the request ran.
        if account.tokens is not None and taken.tokens is not None:
            account.tokens.add(tokens - taken.tokens, now)
        if cost_microusd:
            account.spend(cost_microusd, now, self._wall())
        self._note(taken.scope)
        if taken.shared:
            self._accounts[taken.shared].leave(0)

    def charge_late(self, scope: str, cost_microusd: int, at: float) -> None:
        """Add a cost of a past moment to the budgets whose period it lies in; it may be negative.

        For what a killed process has used: its requests and tokens were counted when they were
        taken, the money was only reserved.
        """
        if not cost_microusd or scope.startswith(GUEST_PREFIX):
            return
        now = self._clock()
        account = self._accounts.get(scope)
        if account is None:
            if self._find_late is not None:
                return  # it is found with the rows when the scope is first used
            account = Account()
        account.spend_late(cost_microusd, now, self._wall(), at)
        self._keep(scope, account, now)

    def give_back(self, taken: Taken) -> None:
        """Return everything that was taken; see the protocol."""
        if not self._ends(taken):
            return
        now = self._clock()
        account = self._accounts[taken.scope]
        account.leave(taken.cost_microusd)
        account.give_back(taken.tokens or 0, now)
        self._note(taken.scope)
        if taken.shared:
            together = self._accounts[taken.shared]
            together.leave(0)
            together.give_back(0, now)
            self._note(taken.shared)

    async def standing(self, scope: str, limits: Limits) -> Standing:
        """Return what remains now."""
        return self._standing(self._account(scope, self._clock()), limits)

    def known_standing(self, scope: str, limits: Limits) -> Standing:
        """Return what remains now; nothing is known if what was saved cannot be read."""
        try:
            account = self._account(scope, self._clock())
        except StoreUnavailable:
            return UNLIMITED
        return self._standing(account, limits)

    # Saving

    def on_unsaved(self, listener: Callable[[], None]) -> None:
        """Call `listener` when rows have become unsaved."""
        self._listener = listener

    def take_unsaved(self) -> Sequence[CounterRow]:
        """Return the rows of every scope that changed since the last call."""
        now, wall = self._clock(), self._wall()
        scopes, self._unsaved = self._unsaved, set()
        return [
            row
            for scope in scopes
            if (account := self._accounts.get(scope)) is not None
            for row in account.rows(scope, now, wall)
        ]

    def restore(self, rows: Iterable[CounterRow]) -> None:
        """Continue from saved rows; call it before the first take.

        Rows whose window has passed, and budgets of guests, are left out.
        """
        now, wall = self._clock(), self._wall()
        for row in rows:
            if not _still_counts(row, wall):
                continue
            account = self._accounts.get(row.scope)
            if account is None:
                account = self._accounts[row.scope] = Account()
                self._visit_order.append(row.scope)
            account.restore(row, now, wall)

    # Inside

    def _standing(self, account: Account, limits: Limits) -> Standing:
        now = self._clock()
        if account.limits is not limits:
            account = account.with_limits(limits, now)
        return account.standing(now, self._wall())

    def _account(self, scope: str, now: float) -> Account:
        """Return a scope's account, or one from its saved rows, which is not kept."""
        account = self._accounts.get(scope)
        if account is None:
            account, wall, saved = Account(), self._wall(), self._find(scope)
            for row in saved:
                if _still_counts(row, wall):
                    account.restore(row, now, wall)
            if self._find_late is not None and not scope.startswith(GUEST_PREFIX):
                for at, cost_microusd in self._find_late(scope, saved):
                    account.spend_late(cost_microusd, now, wall, at)
        return account

    def _ends(self, taken: Taken) -> bool:
        """End a lease; False: it has ended before."""
        if taken.lease not in self._leases:
            return False
        self._leases.remove(taken.lease)
        return True

    def _open(self, scope: str, limits: Limits, now: float) -> Account:
        """Return a scope's account, or a new one that is kept only once something is taken."""
        account = self._account(scope, now)
        # By identity: a changed key is a new object, and comparing all fields would cost more here.
        if account.limits is not limits:
            account.adopt(limits, now)
        return account

    def _keep(self, scope: str, account: Account, now: float) -> None:
        if scope not in self._accounts:
            self._make_room(now)
            self._accounts[scope] = account
            self._visit_order.append(scope)
        self._note(scope)

    def _note(self, scope: str) -> None:
        if not self._unsaved and self._listener is not None:
            self._listener()
        self._unsaved.add(scope)

    def _make_room(self, now: float) -> None:
        """Check the oldest scopes and drop those that hold nothing."""
        crowded = len(self._accounts) >= self._max_scopes
        for _ in range(min(len(self._visit_order), VISITS_WHEN_CROWDED if crowded else VISITS)):
            scope = self._visit_order.popleft()
            if self._accounts[scope].is_idle(now):
                del self._accounts[scope]
            else:
                self._visit_order.append(scope)
        while len(self._accounts) >= self._max_scopes and self._drop_oldest():
            pass

    def _drop_oldest(self) -> bool:
        for _ in range(min(len(self._visit_order), VISITS_WHEN_CROWDED)):
            scope = self._visit_order.popleft()
            account = self._accounts[scope]
            # A running request settles its account later, and spent money must not be forgotten.
            if not account.running and account.tallies is None:
                del self._accounts[scope]
                return True
            self._visit_order.append(scope)
        return False


def _still_counts(row: CounterRow, wall: float) -> bool:
    """Return whether a saved row says anything about now."""
    if row.kind in BUDGET_KINDS:
        # Older versions saved sums of guests, who have no budgets.
        return not row.scope.startswith(GUEST_PREFIX)
    return wall - row.updated_at < WINDOW_S.get(row.kind, float("inf"))
