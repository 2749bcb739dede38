"""Erase conversations that are kept no longer.

These are: conversations in the trash for a day, those that have not changed for
`history.retention_days`, files whose conversation was never saved, and everything of a key that was
revoked 30 days ago. The same task makes old files searchable.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from server.history.step_history import StepHistory
from server.history.steps import erasing_steps
from server.store.store import Store
from workers.errors import StoreUnavailable
from workers.units import DAY_S, HOUR_S, MINUTE_S

FIRST_AFTER_S = MINUTE_S
EVERY_S = HOUR_S
TRASH_S = DAY_S
STRAY_S = DAY_S
ERASURES_S = 30 * DAY_S
"""A page that was closed for longer reads its whole list again."""
REVOKED_S = 30 * DAY_S

log = logging.getLogger("roxy.retention")


class HistoryRetention:
    """A task that erases once an hour, until `aclose`; `wall` is Unix time."""

    def __init__(
        self,
        history: StepHistory,
        store: Store,
        days: int,
        *,
        wall: Callable[[], float] = time.time,
        first_after_s: float = FIRST_AFTER_S,
    ) -> None:
        self._history = history
        self._store = store
        self._days = days
        self._wall = wall
        self._first_after_s = first_after_s
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run(), name="history retention")

    async def aclose(self) -> None:
        """Cancel the task."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        wait_s = self._first_after_s
        while True:
            await asyncio.sleep(wait_s)
            wait_s = EVERY_S
            try:
                await self.erase()
                await self._history.read_old_files()
            except StoreUnavailable as error:
                log.warning("cannot erase old conversations: %s", error)
            except Exception:
                log.exception("cannot erase old conversations")

    async def erase(self) -> None:
        """Erase once what is due. Raises StoreUnavailable."""
        erased = await self._erase_expired() + await self._erase_revoked()
        await self._history.write(erasing_steps.forget_erasures(self._before(ERASURES_S)))
        await self._history.wipe()
        if erased:
            log.info("erased %d conversations that are kept no longer", erased)

    async def _erase_expired(self) -> int:
        oldest = self._before(self._days * DAY_S) if self._days else None
        erased = 0
        while True:
            found = await self._history.scan(
                erasing_steps.find_expired(self._before(TRASH_S), self._before(STRAY_S), oldest)
            )
            for place in found:
                erased += await self._history.erase_without_wipe(*place)
            if not found:
                return erased

    async def _erase_revoked(self) -> int:
        people = await self._history.scan(erasing_steps.find_people())
        keys = await self._store.find_keys([one.person for one in people])
        valid = {key.id for key in keys if key.status != "revoked"}
        now, erased = int(self._wall() * 1000), 0
        for one in people:
            if one.person in valid:
                if one.revoked_at is not None:
                    await self._history.write(erasing_steps.note_revoked(one.person, None))
            elif one.revoked_at is None:
                await self._history.write(erasing_steps.note_revoked(one.person, now))
            elif one.revoked_at <= self._before(REVOKED_S):
                erased += await self._history.erase_all(one.person)
                await self._history.write(erasing_steps.drop_person(one.person))
        return erased

    def _before(self, age_s: float) -> int:
        """Return the time that lies so long ago, in milliseconds since 1970."""
        return int((self._wall() - age_s) * 1000)
