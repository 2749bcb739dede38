"""Browsers that have signed in: who presents the id in the cookie is who gave the key.

    session_id = await sessions.begin("key_ab12", digest_of(secret))
    sessions.find(session_id, time.time())      # the session, or None: no I/O

Only the SHA-256 of an id is kept, in memory and in the store; the id itself is in the cookie alone.
A session ends when it has not been used for `IDLE_S`, is older than `ABSOLUTE_S`, or its key is
revoked, disabled or given a new secret. Whether its key is good at all is for `Authentication` to
ask each time. When it was last seen, and that it has ended, is written behind.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Callable

from msgspec import structs

from server.keys.key_ring import KeyRing
from server.store.key import Key
from server.store.rows import SessionRow
from server.store.store import Store
from workers.errors import StoreUnavailable
from workers.units import DAY_S, HOUR_S

log = logging.getLogger("roxy.sessions")

IDLE_S = 12 * HOUR_S
ABSOLUTE_S = 7 * DAY_S
SEEN_EVERY_S = 60
"""How exactly it is known when a session was last seen."""
WRITE_AFTER_S = 2.0
MAX_PER_PRINCIPAL = 100
ID_BYTES = 32


def digest_of_id(session_id: str) -> bytes:
    """Give what is kept of a session's id."""
    return hashlib.sha256(session_id.encode()).digest()


class Sessions:
    """Every session. `aclose` writes what is not written yet."""

    def __init__(
        self, store: Store, keys: KeyRing, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._clock = clock
        self._rows: dict[bytes, SessionRow] = {}
        self._seen: dict[bytes, int] = {}
        self._ended: set[bytes] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._writer: asyncio.Task[None] | None = None
        keys.on_change(self._key_changed)

    def __len__(self) -> int:
        return len(self._rows)

    async def load(self) -> None:
        """Read everything from the store, once, at start."""
        for row in await self._store.load_sessions():
            self._rows[row.digest] = row
        self._end_old(self._clock())

    async def aclose(self) -> None:
        """Write what is not written yet, or leave it."""
        if self._timer is not None:
            self._timer.cancel()
        if self._writer is not None:
            await self._writer
        await self._write()
        if self._timer is not None:
            self._timer.cancel()

    async def begin(self, principal: str, credential: bytes) -> str:
        """Make a session and give its id; `credential` is the SHA-256 of the key that was given.

        Raises StoreUnavailable.
        """
        now = self._clock()
        self._end_old(now)
        session_id = secrets.token_urlsafe(ID_BYTES)
        at = int(now)
        row = SessionRow(digest_of_id(session_id), principal, credential, at, at)
        await self._store.put_session(row)
        self._rows[row.digest] = row
        own = [one for one in self._rows.values() if one.principal == principal]
        for oldest in sorted(own, key=lambda one: one.seen_at)[:-MAX_PER_PRINCIPAL]:
            self.end(oldest)
        return session_id

    def find(self, session_id: str, now: float) -> SessionRow | None:
        """Find a session that has not ended and note that it was used; `now` in Unix seconds."""
        row = self._rows.get(digest_of_id(session_id))
        if row is None:
            return None
        if _is_old(row, now):
            self.end(row)
            return None
        if now - row.seen_at >= SEEN_EVERY_S:
            row = structs.replace(row, seen_at=int(now))
            self._rows[row.digest] = row
            self._seen[row.digest] = row.seen_at
            self._write_soon()
        return row

    def end(self, session: SessionRow) -> None:
        """End a session at once; ending it twice is no error."""
        if self._rows.pop(session.digest, None) is not None:
            self._seen.pop(session.digest, None)
            self._ended.add(session.digest)
            self._write_soon()

    def _end_old(self, now: float) -> None:
        for row in [one for one in self._rows.values() if _is_old(one, now)]:
            self.end(row)

    def _key_changed(self, key: Key) -> None:
        for row in [one for one in self._rows.values() if one.principal == key.id]:
            if key.status != "active" or row.credential != key.digest:
                self.end(row)

    # Writing behind

    def _write_soon(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(WRITE_AFTER_S, self._write_now)

    def _write_now(self) -> None:
        self._timer = None
        if self._writer is not None and not self._writer.done():
            self._write_soon()
            return
        self._writer = asyncio.get_running_loop().create_task(self._write(), name="sessions")

    async def _write(self) -> None:
        """Write once; what cannot be written now is tried again."""
        seen, self._seen = self._seen, {}
        ended, self._ended = self._ended, set()
        if not seen and not ended:
            return
        try:
            await self._store.note_sessions(seen, ended)
        except StoreUnavailable as error:
            log.warning("sessions are not written, it is tried again: %s", error)
            self._seen = {**seen, **self._seen}
            self._ended |= ended
            self._write_soon()


def _is_old(row: SessionRow, now: float) -> bool:
    return now - row.created_at >= ABSOLUTE_S or now - row.seen_at >= IDLE_S
