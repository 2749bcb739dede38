"""Declare the calls of a child to the counters of its keeper, and the reports around them."""

from __future__ import annotations

from msgspec import Struct

from server.accounting.counters import GuestLimits, Standing, Taken
from server.nodes.procedure import Procedure, procedure
from server.store.key import Limits


class SharedTake(Struct, array_like=True, frozen=True):
    """The second scope that a request counts for."""

    scope: str
    limits: GuestLimits


class Take(Struct, array_like=True, frozen=True):
    """The arguments of `Counters.take`. Of the two kinds of limits, one is set."""

    scope: str
    limits: Limits | None
    guest_limits: GuestLimits | None = None
    tokens: int = 0
    cost_microusd: int = 0
    shared: SharedTake | None = None


class Settle(Struct, array_like=True, frozen=True):
    """The true usage of a lease."""

    lease: str
    tokens: int
    cost_microusd: int


class Troubles(Struct, array_like=True, frozen=True):
    """What the keeper's store and counters report; None: nothing is wrong."""

    store: str | None
    counters: str | None


class WrongKey(Struct, array_like=True, frozen=True):
    """A wrong key that an address has sent, to the API or to the form for signing in."""

    address: str
    at_form: bool


TAKE: Procedure[Take, Taken] = procedure("take", Take, Taken)
SETTLE: Procedure[Settle, None] = procedure("settle", Settle)
GIVE_BACK: Procedure[str, None] = procedure("give_back", str)
STANDING: Procedure[Take, Standing] = procedure("standing", Take, Standing)
"""Of a `Take`, only the scope and its limits count."""
TROUBLES: Procedure[Troubles, None] = procedure("troubles", Troubles)
"""A report of the keeper, at the start and whenever something has changed."""
WRONG_KEY: Procedure[WrongKey, None] = procedure("wrong_key", WrongKey)
"""A report of a child to the keeper, which passes it on to all others."""
