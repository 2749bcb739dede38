"""Forget single requests after the retention time; their daily sums stay."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta

from server.store import Store
from workers.errors import StoreUnavailable

FIRST_AFTER_S = 60.0
EVERY_S = 6 * 3600.0

log = logging.getLogger("roxy.retention")


class Retention:
    """Prune the store a minute after the start and every six hours."""

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
            first_kept = datetime.fromtimestamp(time.time(), UTC).date() - timedelta(
                days=self._days
            )
            try:
                gone = await self._store.prune(first_kept.isoformat())
            except StoreUnavailable as error:
                log.warning("old usage was not pruned: %s", error)
            else:
                if gone:
                    log.info("%d usage rows older than %s pruned", gone, first_kept)
