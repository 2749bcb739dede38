"""The counters of the keeper, as a child uses them; see `server.accounting.counters.Counters`.

A take is one call; all that are made in one turn of the event loop travel together. Settling is a
report. The keeper holds each lease of a child and settles what is left when the child ends.
"""

from __future__ import annotations

import time

from server.accounting.counters import GuestLimits, Shared, Standing, Taken
from server.nodes.counter_calls import (
    GIVE_BACK,
    SETTLE,
    STANDING,
    TAKE,
    Settle,
    SharedTake,
    Take,
)
from server.nodes.link import Link
from server.store.key import Limits
from workers.errors import BudgetExceeded, RateLimited

KNOWN_FOR_S = 1.0
"""How long a standing is good enough for the headers of answers that take nothing."""
MAX_KNOWN = 10_000


class KeeperCounters:
    """Ask the keeper to count."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.trouble: str | None = None
        self._known: dict[str, tuple[Standing, float]] = {}

    async def take(
        self,
        scope: str,
        limits: Limits,
        tokens: int = 0,
        cost_microusd: int = 0,
        shared: Shared | None = None,
    ) -> Taken:
        """Take everything or nothing; a take whose request was cancelled is given back."""
        second = None
        if shared is not None:
            assert isinstance(shared.limits, GuestLimits)
            second = SharedTake(shared.scope, shared.limits)
        question = _question(scope, limits, tokens, cost_microusd, second)
        try:
            taken = await self._link.call(TAKE, question, unwanted=self.give_back)
        except (RateLimited, BudgetExceeded):
            await self.standing(scope, limits)  # for the headers of the refusal
            raise
        self._note(scope, taken.standing)
        return taken

    def settle(self, taken: Taken, tokens: int, cost_microusd: int) -> None:
        """Replace what was taken by the true usage."""
        self._link.report(SETTLE, Settle(taken.lease, tokens, cost_microusd))

    def give_back(self, taken: Taken) -> None:
        """Return everything that was taken."""
        self._link.report(GIVE_BACK, taken.lease)

    async def standing(self, scope: str, limits: Limits) -> Standing:
        """Return what remains now."""
        standing = await self._link.call(STANDING, _question(scope, limits))
        self._note(scope, standing)
        return standing

    def known_standing(self, scope: str, _limits: Limits) -> Standing | None:
        """Return what the keeper has said in the last KNOWN_FOR_S."""
        standing, until = self._known.get(scope, (None, 0.0))
        return standing if until > time.monotonic() else None

    def _note(self, scope: str, standing: Standing) -> None:
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[scope] = (standing, time.monotonic() + KNOWN_FOR_S)

    async def aclose(self) -> None:
        """Do nothing: what is unsent leaves with the link."""


def _question(
    scope: str,
    limits: Limits,
    tokens: int = 0,
    cost_microusd: int = 0,
    shared: SharedTake | None = None,
) -> Take:
    if isinstance(limits, GuestLimits):
        return Take(scope, None, limits, tokens, cost_microusd, shared)
    return Take(scope, limits, None, tokens, cost_microusd, shared)
