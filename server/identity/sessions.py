"""Sessions of browsers that have signed in: the id in the cookie stands for the key.

    session_id = await sessions.begin("key_ab12", digest_of(secret))
    sessions.find(session_id, time.time())      # the session, or None; may raise Unread

Memory and store hold only the SHA-256 of an id; the id itself is in the cookie alone. It ends with
a dot and a tag that says whose it is, so that pages can say it once the session has ended. A
session ends when it has not been used for `IDLE_S`, is older than `ABSOLUTE_S`, or its key is
revoked, disabled or given a new secret. `Authentication` checks the key itself at each request. The
time of the last use and the end of a session are written behind. Where other processes write to the
store, too, a session that is not in memory is looked up there.
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
from server.keys.read_through import Absent, Reads, Unread
from server.store.key import Key
from server.store.rows import SessionRow, StoreChanges
from server.store.store import Store
from workers.errors import StoreUnavailable
from workers.units import DAY_S, HOUR_S

log = logging.getLogger("roxy.sessions")

IDLE_S = 12 * HOUR_S
ABSOLUTE_S = 7 * DAY_S
SEEN_EVERY_S = 60
"""How exact the time of the last use is: at most one write per session in this time."""
WRITE_AFTER_S = 2.0
MAX_PER_PRINCIPAL = 100
ID_BYTES = 32
TAG_SEPARATOR = "."


def digest_of_id(session_id: str) -> bytes:
    """Return the digest under which a session is kept."""
    return hashlib.sha256(session_id.encode()).digest()


class Sessions:
    """All sessions. `aclose` writes what is still unwritten."""

    def __init__(
        self,
        store: Store,
        keys: KeyRing,
        *,
        tag_of: Callable[[str, bytes], str] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._tag_of = tag_of
        self._wall = wall
        self._rows: dict[bytes, SessionRow] = {}
        self._seen: dict[bytes, int] = {}
        self._ended: set[bytes] = set()
        self._absent = Absent()
        self._reads = Reads()
        self._fails = False
        self._timer: asyncio.TimerHandle | None = None
        self._writer: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        keys.on_change(self._key_changed)
        store.on_foreign_change(self._changed_by_others)

    def __len__(self) -> int:
        return len(self._rows)

    async def load(self) -> None:
        """Load all sessions from the store, once, at the start."""
        for row in await self._store.load_sessions():
            self._rows[row.digest] = row
        self._end_old(self._wall())

    async def aclose(self) -> None:
        """Write what is still unwritten; a store that fails is not tried again."""
        if self._timer is not None:
            self._timer.cancel()
        await self._reads.wait()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._writer is not None:
            await self._writer
        await self._write()
        if self._timer is not None:  # set again by a write that failed
            self._timer.cancel()

    async def begin(self, principal: str, credential: bytes) -> str:
        """Make a session and return its id; `credential` is the SHA-256 of the key.

        Raises StoreUnavailable.
        """
        now = self._wall()
        self._end_old(now)
        session_id = secrets.token_urlsafe(ID_BYTES)
        if self._tag_of is not None:
            session_id += TAG_SEPARATOR + self._tag_of(principal, credential)
        at = int(now)
        row = SessionRow(digest_of_id(session_id), principal, credential, at, at)
        await self._store.put_session(row)
        self._rows[row.digest] = row
        own = [one for one in self._rows.values() if one.principal == principal]
        for oldest in sorted(own, key=lambda one: one.seen_at)[:-MAX_PER_PRINCIPAL]:
            self.end(oldest)
        return session_id

    def find(self, session_id: str, now: float) -> SessionRow | None:
        """Find a session that has not ended, and note its use; `now` in Unix seconds.

        Raises Unread.
        """
        digest = digest_of_id(session_id)
        row = self._rows.get(digest)
        if row is None:
            if self._store.shared and digest not in self._ended and digest not in self._absent:
                raise Unread(lambda: self._reads.once(digest, lambda: self._read(digest)))
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
        """End a session at once; a second call has no effect."""
        if self._rows.pop(session.digest, None) is not None:
            self._seen.pop(session.digest, None)
            self._ended.add(session.digest)
            self._write_soon()

    async def sign_out(self, session: SessionRow) -> None:
        """End a session; all processes of this gateway have ended it on return.

        While the store cannot be written, the others end it as soon as it can.
        """
        self.end(session)
        await self._write()

    async def _read(self, digest: bytes) -> None:
        """Read a session into memory. Raises StoreUnavailable."""
        row = await self._store.find_session(digest)
        if row is None or digest in self._ended or digest in self._absent:
            self._absent.add(digest)
        else:
            self._rows.setdefault(digest, row)

    def _changed_by_others(self, changes: StoreChanges) -> None:
        for digest in changes.sessions:
            self._forget(digest)
        if changes.all:
            task = asyncio.create_task(self._compare_all(), name="sessions read again")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _compare_all(self) -> None:
        """Forget the sessions that have ended in the store."""
        mine = set(self._rows)
        try:
            kept = {row.digest for row in await self._store.load_sessions()}
        except StoreUnavailable as error:
            log.warning("the sessions in memory cannot be compared with the store: %s", error)
            return
        for digest in mine - kept:
            self._forget(digest)

    def _forget(self, digest: bytes) -> None:
        """Forget a session that another process has ended."""
        self._rows.pop(digest, None)
        self._seen.pop(digest, None)
        self._absent.add(digest)

    def _end_old(self, now: float) -> None:
        for row in [one for one in self._rows.values() if _is_old(one, now)]:
            self.end(row)

    def _key_changed(self, key: Key) -> None:
        for row in [one for one in self._rows.values() if one.principal == key.id]:
            if key.status != "active" or row.credential != key.digest:
                self.end(row)

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
        """Write once, and try later what fails."""
        seen, self._seen = self._seen, {}
        ended, self._ended = self._ended, set()
        if not seen and not ended:
            return
        try:
            await self._store.note_sessions(seen, ended)
        except Exception as error:
            bug = None if isinstance(error, StoreUnavailable) else error
            if bug or not self._fails:
                log.warning("cannot write sessions, trying again: %s", error, exc_info=bug)
            self._fails = True
            self._seen = {**seen, **self._seen}  # what was noted during the write is newer
            self._ended |= ended
            self._write_soon()
        else:
            self._fails = False


def _is_old(row: SessionRow, now: float) -> bool:
    return now - row.created_at >= ABSOLUTE_S or now - row.seen_at >= IDLE_S
