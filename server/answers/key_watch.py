"""End requests, and readers of kept answers, whose secret is no longer valid.

The key ring refuses new requests. Those admitted before are ended here: at once when their key is
disabled, revoked or given a new secret, and by one timer when the key expires or the grace period
of a rotated secret ends. Keys that no request has used since the start are not watched: the ring
reports each key that it reads.
"""

from __future__ import annotations

import asyncio
import heapq
import time

from server.answers.kept_answers import KeptAnswers
from server.identity.authentication import EndedKey
from server.keys.key_ring import KeyEnding, KeyRing
from server.store.key import Key, current_status
from workers.errors import StoreUnavailable
from workers.run.pool import Engine

MAX_SLEEP_S = 60.0
"""The longest sleep of the timer: the wall clock may be set meanwhile, and keys expire by it."""


RETRY_S = 1


class KeyWatch:
    """Watch the keys that the ring has read; `close` stops it."""

    def __init__(self, keys: KeyRing, engine: Engine, answers: KeptAnswers) -> None:
        self._engine = engine
        self._answers = answers
        self._keys = keys
        self._due: dict[str, int] = {}
        self._order: list[tuple[int, str]] = []
        """A heap of what `_due` has, and of what it had before."""
        self._timer: asyncio.TimerHandle | None = None
        self._review_task: asyncio.Task[None] | None = None
        keys.on_read(self._read)
        keys.on_change(self._changed)

    def close(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
        if self._review_task is not None:
            self._review_task.cancel()

    def _read(self, key: Key) -> None:
        if key.id not in self._due:
            self._note(key, time.time())
            self._set_timer()

    def _changed(self, key: Key) -> None:
        self._review(key, time.time())
        self._set_timer()

    def _review(self, key: Key, now: float) -> None:
        """End what may not continue, and note when to check again."""
        for job in [job for job in self._engine.jobs.values() if job.lane == key.id]:
            why = why_refused(key, job.credential, now)
            if why is not None:
                job.close("cancelled", EndedKey(why))
        for reader in self._answers.readers(key.id):
            why = why_refused(key, reader.credential, now)
            if why is not None:
                reader.end(EndedKey(why))
        self._note(key, now)

    def _note(self, key: Key, now: float) -> None:
        ends = [at for at in (key.expires_at, key.previous_until) if at is not None and at > now]
        if ends and key.status == "active":
            self._due[key.id] = min(ends)
            heapq.heappush(self._order, (min(ends), key.id))
        else:
            self._due.pop(key.id, None)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._order and self._due.get(self._order[0][1]) != self._order[0][0]:
            heapq.heappop(self._order)
        if self._order:
            wait_s = min(max(self._order[0][0] - time.time(), 0.0), MAX_SLEEP_S)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._review_task is None or self._review_task.done():
            loop = asyncio.get_running_loop()
            self._review_task = loop.create_task(self._review_due(), name="keys that end")

    async def _review_due(self) -> None:
        now = time.time()
        while self._order and self._order[0][0] <= now:
            at, key_id = heapq.heappop(self._order)
            if self._due.get(key_id) != at:
                continue
            try:
                self._review(await self._keys.get(key_id), now)
            except StoreUnavailable:  # the key is not in memory: look again shortly
                self._due[key_id] = int(now) + RETRY_S
                heapq.heappush(self._order, (self._due[key_id], key_id))
        self._set_timer()


def why_refused(key: Key, credential: bytes, now: float) -> KeyEnding | None:
    """Return why the secret with this SHA-256 is not valid for a key, or None if it is."""
    status = current_status(key.status, key.expires_at, now)
    if status != "active":
        return status
    if credential == key.digest:
        return None
    if credential == key.previous_digest and (key.previous_until or 0) > now:
        return None
    return "replaced"
