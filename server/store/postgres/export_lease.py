"""Which of the nodes that share a database writes the export of the keys: a lease that expires."""

from __future__ import annotations

import contextlib
import secrets

from server.store.postgres.database_state import DatabaseState
from server.store.postgres.postgres_connections import Connections, write
from workers.errors import StoreUnavailable

LEASE_S = 30
TAKE_LEASE = (
    "INSERT INTO leases (name, holder, expires_at)"
    f" VALUES ('export', $1, now() + interval '{LEASE_S} s')"
    " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at"
    " WHERE leases.holder = excluded.holder OR leases.expires_at < now() RETURNING holder"
)
END_LEASE = "DELETE FROM leases WHERE holder = $1"


class ExportLease:
    """The lease of the export, as one node takes it."""

    def __init__(self, connections: Connections, state: DatabaseState) -> None:
        self._connections = connections
        self._state = state
        self._holder = secrets.token_hex(16)
        self._is_held = False

    async def take(self) -> bool:
        """Take or renew the lease for LEASE_S; False: another node has it, or it is not known."""
        try:
            holder = await self._connections.run(lambda db: db.fetchval(TAKE_LEASE, self._holder))
        except StoreUnavailable:
            return False
        self._is_held = holder is not None
        return self._is_held

    async def end(self) -> None:
        """End the lease if this node has it, so that another one need not wait."""
        if not self._is_held:
            return
        with contextlib.suppress(StoreUnavailable):
            await write(
                self._connections, self._state, lambda db: db.execute(END_LEASE, self._holder)
            )
