"""Delete old usage rows and idle counters; daily sums stay."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
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
    """A task that prunes the store every six hours, until `aclose`.

    `wall` is Unix time. A clock that is far ahead must not delete everything, so ages count from
    the newest request when that is earlier than now.
    """

    def __init__(
        self,
        store: Store,
        days: int,
        *,
        wall: Callable[[], float] = time.time,
        first_after_s: float = FIRST_AFTER_S,
        every_s: float = EVERY_S,
    ) -> None:
        self._wall = wall
        self._first_after_s = first_after_s
        self._every_s = every_s
        self._store = store
        self._days = days
        self._task = asyncio.get_running_loop().create_task(self._run(), name="retention")

    async def aclose(self) -> None:
        """Cancel the task."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        wait_s = self._first_after_s
        while True:
            await asyncio.sleep(wait_s)
            wait_s = self._every_s
            try:
                await self.prune()
            except StoreUnavailable as error:
                log.warning("cannot delete old usage rows: %s", error)
            except Exception:
                log.exception("cannot delete old usage rows")

    async def prune(self) -> None:
        """Prune the store once. Raises StoreUnavailable."""
        newest = (await self._store.usage_rows(limit=1)).rows
        now = min([self._wall(), *(row.at for row in newest)])
        first_kept = datetime.fromtimestamp(now, UTC).date() - timedelta(days=self._days)
        deleted = await self._store.prune(first_kept.isoformat())
        if deleted:
            log.info("deleted %d usage rows older than %s", deleted, first_kept)
        await self._store.drop_counters(self._wall() - COUNTERS_IDLE_AFTER_S)
