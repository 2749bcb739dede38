"""How long gateways in tests wait for their stores, which a busy machine makes slow.

Only a test of a store that hangs may find one away because it is slow: such a test lowers the
patience while the store hangs.
"""

from __future__ import annotations

from support.waiting import PATIENCE_S

from server.store.patience import StorePatience

HASTY_S = 3.0
"""For databases that hang or are locked: long for a busy machine, and short for a test."""


def patient_stores(**other: float) -> StorePatience:
    """Return the patience of stores that are never away because they are slow, but for `other`."""
    longest = dict.fromkeys(StorePatience.__struct_fields__, PATIENCE_S)
    return StorePatience(**(longest | other))


def lose_patience(patience: StorePatience) -> None:
    """Have a Redis that hangs be found away as soon as outside of tests."""
    usual = StorePatience()
    patience.redis_reply_s = usual.redis_reply_s
    patience.redis_connect_s = usual.redis_connect_s


def be_patient(patience: StorePatience) -> None:
    """Wait for Redis as long as a busy machine needs."""
    patience.redis_reply_s = patience.redis_connect_s = PATIENCE_S
