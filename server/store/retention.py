"""Delete old usage rows and idle counters; daily sums stay."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta

from server.store.store import Store
from workers.errors import StoreUnavailable
from workers.units import DAY_S, HOUR_S, MINUTE_S

FIRST_AFTER_S = MINUTE_S
"""The first run waits, so that it does not slow down the start."""
EVERY_S = 6 * HOUR_S
COUNTERS_IDLE_AFTER_S = 2 * DAY_S
"""Longer than the window of any limit but budgets. Guests' counters contain their addresses."""

log = logging.getLogger("roxy.retention")


class Retention:
    """A task that prunes the store every six hours, until `aclose`."""

    def __init__(self, store: Store, days: int) -> None:
        self._store = store
        self._days = days
        self._task = asyncio.get_running_loop().create_task(self._run(), name="retention")

    async def aclose(self) -> None:
        """Cancel the task."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        wait_s = FIRST_AFTER_S
        while True:
            await asyncio.sleep(wait_s)
            wait_s = EVERY_S
            try:
                await self.prune()
            except StoreUnavailable as error:
                log.warning("cannot delete old usage rows: %s", error)

    async def prune(self) -> None:
        """Prune the store once. Raises StoreUnavailable."""
        now = time.time()
        first_kept = datetime.fromtimestamp(now, UTC).date() - timedelta(days=self._days)
        deleted = await self._store.prune(first_kept.isoformat())
        if deleted:
            log.info("deleted %d usage rows older than %s", deleted, first_kept)
        await self._store.drop_counters(now - COUNTERS_IDLE_AFTER_S)
