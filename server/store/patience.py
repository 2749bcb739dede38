"""How long databases and Redis are waited for until they count as away."""

from __future__ import annotations

from msgspec import Struct


class StorePatience(Struct):
    """The longest waits, in seconds. Those for Redis are read each time that one begins.

    With the defaults no answer waits much longer than a second for a store that is away.
    """

    sqlite_s: float = 1.5
    """A call waits for the lock of the file; another program rarely holds it for longer."""
    postgres_s: float = 0.9
    """The longest call."""
    redis_reply_s: float = 0.4
    """A server that is silent for longer is away. With connecting again it stays below 1 s."""
    redis_connect_s: float = 0.6
    """Connecting and the checks: a server that hangs accepts connections and answers nothing."""
    redis_start_s: float = 5.0
    """A start tries to connect for so long."""
    sums_s: float = 0.7
    """A request waits for the database's sums until so long after the first that needed them."""
