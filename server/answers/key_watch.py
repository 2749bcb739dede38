"""End requests, and readers of kept answers, whose secret is no longer valid.

The key ring refuses new requests. Those admitted before are ended here: at once when their key is
disabled, revoked or given a new secret, and by one timer when the key expires or the grace period
of a rotated secret ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from server.answers.kept_answers import KeptAnswers
from server.keys.key_ring import KeyRing
from server.store.key import Key, current_status
from workers.errors import InvalidKey
from workers.run.pool import Engine

LONGEST_SLEEP_S = 60.0
"""The longest sleep of the timer: the wall clock may be set meanwhile, and keys expire by it."""


class KeyWatch:
    """Watch all keys of the ring; `close` stops it."""

    def __init__(
        self,
        keys: KeyRing,
        engine: Engine,
        answers: KeptAnswers,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._answers = answers
        self._wall = wall
        self._due: dict[str, tuple[int, Key]] = {}
        self._timer: asyncio.TimerHandle | None = None
        for key in keys.list():
            self._note(key, wall())
        self._set_timer()
        keys.on_change(self._changed)

    def close(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()

    def _changed(self, key: Key) -> None:
        self._review(key, self._wall())
        self._set_timer()

    def _review(self, key: Key, now: float) -> None:
        """End what may not continue, and note when to check again."""
        for job in [job for job in self._engine.jobs.values() if job.lane == key.id]:
            why = why_refused(key, job.credential, now)
            if why is not None:
                job.close("cancelled", InvalidKey(why))
        for reader in self._answers.readers(key.id):
            why = why_refused(key, reader.credential, now)
            if why is not None:
                reader.end(InvalidKey(why))
        self._note(key, now)

    def _note(self, key: Key, now: float) -> None:
        ends = [at for at in (key.expires_at, key.previous_until) if at is not None and at > now]
        if ends and key.status == "active":
            self._due[key.id] = (min(ends), key)
        else:
            self._due.pop(key.id, None)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due:
            wait_s = min(at for at, _ in self._due.values()) - self._wall()
            wait_s = min(max(wait_s, 0.0), LONGEST_SLEEP_S)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._look)

    def _look(self) -> None:
        now = self._wall()
        for key in [key for at, key in self._due.values() if at <= now]:
            self._review(key, now)
        self._set_timer()


def why_refused(key: Key, credential: bytes, now: float) -> str | None:
    """Return why the secret with this SHA-256 is not valid for a key, or None if it is."""
    status = current_status(key.status, key.expires_at, now)
    if status == "expired":
        return "This key has expired."
    if status != "active":
        return "This key has been revoked or disabled."
    if credential == key.digest:
        return None
    if credential == key.previous_digest and (key.previous_until or 0) > now:
        return None
    return "This key has been given a new secret."
