"""A store on a disk that is full, locked or slow when the test says so."""

from __future__ import annotations

import asyncio
from collections import deque

from server.store.rows import Batch
from server.store.store import Store


class FlakyStore:
    """Pass batches on to a real store, but for the failures that were scripted.

    Clear `gate` to make it hang; `attempts` counts calls, `batches` holds what was written.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._failures: deque[Exception] = deque()
        self._changed = asyncio.Condition()
        self.gate = asyncio.Event()
        self.gate.set()
        self.attempts = 0
        self.batches: list[Batch] = []

    def fail(self, error: Exception, times: int = 1) -> None:
        """Refuse the next calls."""
        self._failures.extend([error] * times)

    async def record(self, batch: Batch) -> None:
        """Write a batch, or fail as scripted."""
        self.attempts += 1
        await self._tell()
        await self.gate.wait()
        if self._failures:
            raise self._failures.popleft()
        await self._store.record(batch)
        self.batches.append(batch)
        await self._tell()

    async def saw(self, attempts: int) -> None:
        """Wait until so many calls were made."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.attempts >= attempts)

    async def wrote(self, rows: int) -> None:
        """Wait until so many usage rows were written."""
        async with self._changed:
            await self._changed.wait_for(lambda: sum(len(b.rows) for b in self.batches) >= rows)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
