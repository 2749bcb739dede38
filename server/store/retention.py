"""Forget single requests after the retention time, and counters that have run full; sums stay."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta

from server.store.store import Store
from workers.errors import StoreUnavailable
from workers.units import DAY_S, HOUR_S, MINUTE_S

FIRST_AFTER_S = MINUTE_S
EVERY_S = 6 * HOUR_S
COUNTERS_FULL_AFTER_S = 2 * DAY_S
"""No limit but a budget looks back longer than a day; guests' counters hold their addresses."""

log = logging.getLogger("roxy.retention")


class Retention:
    """Prune the store a minute after the start and every six hours, until `aclose`."""

    def __init__(self, store: Store, days: int) -> None:
        self._store = store
        self._days = days
        self._task = asyncio.get_running_loop().create_task(self._run(), name="retention")

    async def aclose(self) -> None:
        """Stop."""
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
                log.warning("old usage was not pruned: %s", error)

    async def prune(self) -> None:
        """Forget once. Raises StoreUnavailable."""
        now = time.time()
        first_kept = datetime.fromtimestamp(now, UTC).date() - timedelta(days=self._days)
        gone = await self._store.prune(first_kept.isoformat())
        if gone:
            log.info("%d usage rows older than %s pruned", gone, first_kept)
        await self._store.drop_counters(now - COUNTERS_FULL_AFTER_S)
