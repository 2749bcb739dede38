"""Read through: look up in memory what may first have to be read from the store.

`KeyRing` and `Sessions` raise Unread where memory does not know; `when_read` reads and looks again.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

Found = TypeVar("Found")

ABSENT_FOR_S = 1.0
MAX_ABSENT = 10_000
MAX_READS = 5
"""Reads of one look-up: a key, then a session, and what was pushed out of memory between."""


class Unread(Exception):
    """What is looked up may be in the store: await `read`, then look it up again."""

    def __init__(self, read: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self.read = read


class Absent:
    """Digests that the store did not have; it is asked for each once in ABSENT_FOR_S at most.

    The time is bounded because another process may add one at any moment.
    """

    def __init__(self) -> None:
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def __contains__(self, digest: bytes) -> bool:
        until = self._until.get(digest)
        return until is not None and time.monotonic() < until

    def add(self, digest: bytes) -> None:
        """Remember that the store does not have a digest."""
        self._until[digest] = time.monotonic() + ABSENT_FOR_S
        self._until.move_to_end(digest)
        while len(self._until) > MAX_ABSENT:
            self._until.popitem(last=False)

    def discard(self, digest: bytes) -> None:
        """Forget a digest: the store has it now."""
        self._until.pop(digest, None)


class Reads:
    """Reads under way by digest: all that look up the same digest wait for one read."""

    def __init__(self) -> None:
        self._running: dict[bytes, asyncio.Task[None]] = {}

    async def once(self, digest: bytes, read: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Wait for the read of a digest, and start it if none runs."""
        task = self._running.get(digest)
        if task is None:
            # A task of its own: whoever began it may leave before the others.
            task = self._running[digest] = asyncio.create_task(read(), name="look-up")
            task.add_done_callback(lambda done: self._end(digest, done))
        await asyncio.shield(task)

    async def wait(self) -> None:
        """Wait until no read runs."""
        if self._running:
            await asyncio.wait(self._running.values())

    def _end(self, digest: bytes, task: asyncio.Task[None]) -> None:
        self._running.pop(digest, None)
        if not task.cancelled():
            task.exception()  # whoever waited for it may have left


async def when_read(look_up: Callable[[], Found]) -> Found:
    """Return what a look-up finds, after the reads that it needs. Raises StoreUnavailable."""
    for _ in range(MAX_READS):
        try:
            return look_up()
        except Unread as unread:
            await unread.read()
    return look_up()
