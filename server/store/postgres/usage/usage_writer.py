"""Write usage to the database, and to the spool while that is not possible."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from server.store.postgres.database_state import DatabaseState
from server.store.postgres.postgres_connections import Connections, write
from server.store.postgres.postgres_errors import DATA_ERRORS
from server.store.postgres.usage.postgres_usage import record_batch, record_in_parts
from server.store.postgres.usage.usage_spool import UsageSpool
from server.store.row_values import LeftOut
from server.store.rows import Batch
from workers.errors import StoreUnavailable

log = logging.getLogger("roxy.store")

DRAIN_RETRY_S = 1.0


class UsageWriter:
    """Records batches once each; a task saves what waits in the spool, until `aclose`."""

    def __init__(
        self, connections: Connections, state: DatabaseState, spool: UsageSpool | None
    ) -> None:
        self._connections = connections
        self._state = state
        self._spool = spool
        self._drain_due = asyncio.Event()
        self._drainer: asyncio.Task[None] | None = None
        self._left_out = LeftOut()

    @property
    def is_waiting(self) -> bool:
        """Whether usage that was recorded is not in the database yet."""
        return bool(self._spool)

    async def start(self) -> None:
        """Find what an earlier process has left, and save it from now on. Raises OSError."""
        if self._spool is None:
            return
        await self._spool.find()
        if self._spool:
            log.warning("usage that waited in %s is being saved", self._spool.path)
            self._drain_due.set()
        self._drainer = asyncio.create_task(self._drain(self._spool), name="usage spool")

    async def aclose(self) -> None:
        """End the task; what waits in the spool is left to the next start."""
        if self._drainer is not None:
            self._drainer.cancel()
            await asyncio.wait([self._drainer])
        if self._spool:
            log.warning("usage waits in %s for the next start", self._spool.path)

    async def record(self, batch: Batch) -> None:
        """Save a batch, or put it into the spool. Raises StoreUnavailable when that is full."""
        if self._state.trouble is None:
            try:
                await self._save(batch)
                return
            except StoreUnavailable:
                pass
        if self._spool is None:
            raise StoreUnavailable
        await self._spool.put(batch)
        self._drain_due.set()

    async def _save(self, batch: Batch) -> None:
        save = partial(write, self._connections, self._state)
        try:
            # Without a transaction of its own: one statement, one round trip.
            await save(partial(record_batch, batch=batch), begin=None)
            return
        except DATA_ERRORS:
            pass
        self._left_out.note(await save(partial(record_in_parts, batch=batch)))

    async def _drain(self, spool: UsageSpool) -> None:
        """Save what waits in the spool, the oldest first, whenever the database works."""
        while True:
            await self._drain_due.wait()
            self._drain_due.clear()
            try:
                while self._state.trouble is None and (piece := await spool.oldest()):
                    for batch in piece.batches:
                        await self._save(batch)
                    await spool.drop(piece)
                    if not spool:
                        log.info("the usage that waited in %s is saved", spool.path)
            except (StoreUnavailable, OSError) as error:
                log.debug("usage that waits cannot be saved yet: %s", error)
            except Exception:
                log.exception("usage that waits cannot be saved; it is tried again")
            if spool:
                await asyncio.sleep(DRAIN_RETRY_S)
                self._drain_due.set()
