"""Delete old usage rows and idle counters; daily sums stay."""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta

from server.store.store import Store
from server.store.usage_queries import SumsQuery
from workers.errors import StoreUnavailable
from workers.units import DAY_S, HOUR_S, MINUTE_S

FIRST_AFTER_S = MINUTE_S
"""The first run waits, so that it does not slow down the start."""
EVERY_S = 6 * HOUR_S
COUNTERS_IDLE_AFTER_S = 2 * DAY_S
"""Longer than the window of any limit but budgets. Guests' counters contain their addresses."""

CONFIRMED_BY = 3
FIRST_DAY, LAST_DAY = "0001-01-01", "9999-12-31"
EARLIEST = date(1970, 1, 1)

log = logging.getLogger("roxy.retention")


class Retention:
    """A task that prunes the store every six hours, until `aclose`.

    `wall` is Unix time. A clock that is far ahead must not delete everything: ages count from the
    newest day with requests when that is earlier than now, and such a day must be confirmed by
    CONFIRMED_BY days with requests within the retention time, since the clock may have been wrong
    when requests were recorded, too.
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
                if self._store.trouble is None:
                    log.warning("cannot delete old usage rows: %s", error)
                else:  # the store has logged that it is away; it is tried again soon
                    wait_s = self._first_after_s
            except Exception:
                log.exception("cannot delete old usage rows")

    def _last_sure(self, active: Sequence[date]) -> date:
        """Return the newest of the days with requests that others confirm, or the oldest day."""
        for place in range(len(active) - 1, -1, -1):
            since = active[place] - timedelta(days=self._days)
            first = bisect_right(active, since)
            if place - first + 1 >= CONFIRMED_BY:
                return active[place]
        return active[0] if active else EARLIEST

    async def prune(self) -> None:
        """Prune the store once. Raises StoreUnavailable."""
        sums = await self._store.usage_by(SumsQuery(FIRST_DAY, LAST_DAY, ("day",)))
        active = [date.fromisoformat(one.day) for one in sums]
        today = min(datetime.fromtimestamp(self._wall(), UTC).date(), self._last_sure(active))
        first_kept = today - timedelta(days=self._days)
        deleted = await self._store.prune(first_kept.isoformat())
        if deleted:
            log.info("deleted %d usage rows older than %s", deleted, first_kept)
        await self._store.drop_counters(self._wall() - COUNTERS_IDLE_AFTER_S)
