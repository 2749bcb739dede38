"""End the running requests of keys that may not be used any more.

Refusing new requests is the key ring's business; what was admitted before is stopped here: at once
when a key is disabled, revoked or rotated without grace, and by one timer when a key expires. A
rotation with grace lets what runs finish.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from server.keyring import KeyRing
from server.keys import Key
from workers.errors import InvalidKey
from workers.pool import Engine

LONGEST_SLEEP_S = 60.0
"""The wall clock may jump while the timer sleeps."""


class KeyWatch:
    """Watches every key of the ring; `close` stops it."""

    def __init__(
        self, keys: KeyRing, engine: Engine, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._digests: dict[str, bytes] = {}
        self._expiries: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        for key in keys.list():
            self._note(key)
        self._set_timer()
        keys.on_change(self._changed)

    def close(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()

    def _changed(self, key: Key) -> None:
        rotated = self._digests.get(key.id, key.digest) != key.digest
        self._note(key)
        if key.status != "active":
            self._end_jobs(key.id, "This key has been revoked or disabled.")
        elif rotated and key.previous_digest is None:
            self._end_jobs(key.id, "This key has been given a new secret.")
        self._set_timer()

    def _note(self, key: Key) -> None:
        self._digests[key.id] = key.digest
        if key.expires_at is not None and key.status == "active":
            self._expiries[key.id] = key.expires_at
        else:
            self._expiries.pop(key.id, None)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._expiries:
            wait_s = min(self._expiries.values()) - self._clock()
            wait_s = min(max(wait_s, 0.0), LONGEST_SLEEP_S)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._expire)

    def _expire(self) -> None:
        now = self._clock()
        for key_id in [one for one, at in self._expiries.items() if at <= now]:
            del self._expiries[key_id]
            self._end_jobs(key_id, "This key has expired.")
        self._set_timer()

    def _end_jobs(self, key_id: str, why: str) -> None:
        for job in [job for job in self._engine.jobs.values() if job.lane == key_id]:
            job.close("cancelled", InvalidKey(why))
