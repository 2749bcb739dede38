"""Watch the database: whether it can be used, and what other nodes have changed.

A poll each POLL_S reads one row. While the database is away the poll is what finds it again. A
connection that listens for NOTIFY, where there is no pooler in between, only makes the next poll
come at once; a notification that is lost costs half a second.

The mark is the number and the token of the last change that was passed on. Numbers have no gaps, so
a missing row means that it was deleted for its age, or that the database is another one now: then
`StoreChanges(all=True)` says to read everything again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

from server.store.postgres.connector import Connector
from server.store.postgres.database_state import DatabaseState
from server.store.postgres.postgres_connections import READ, WRITE, Connections
from server.store.postgres.postgres_errors import BROKE, CALL_ERRORS, PHRASES, READ_ONLY, outage_of
from server.store.postgres.postgres_keys import CHANNEL, SELECT_KEYS, SELECT_META, key_of_record
from server.store.rows import StoreChanges
from server.store.store import OWNER_META
from workers.errors import StoreUnavailable

if TYPE_CHECKING:
    from server.store.postgres.connector import Connection

log = logging.getLogger("roxy.store")

POLL_S = 0.5
AWAY_POLL_S = 0.25
"""How often a database that is away is tried."""
PRUNE_EVERY_POLLS = 600
MAX_CHANGES = 1000
"""More changes than these in one poll are passed on as `all`."""
HINT_CHECK_POLLS = 60
LATE_S = 0.1
"""How much later than its limit a poll ends when the event loop was busy meanwhile."""
MAX_BROKEN = 4
"""Polls in a row whose new connection broke until the database counts as away."""
MAX_LATE = 5
PRUNE_CHANGES = (
    "DELETE FROM changes WHERE at < now() - interval '1 hour'"
    f" AND number < (SELECT last - {MAX_CHANGES} FROM change_count)"
)
"""Whoever has missed these reads everything again. The last ones stay, so that a quiet hour costs
nothing."""
PRUNE_BATCHES = "DELETE FROM batches WHERE at < now() - interval '30 days'"
"""No batch waits in the files of a node for longer."""

STANDING = (
    "SELECT last, token, pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'"
    " FROM change_count"
)
CHANGES = "SELECT number, token, kind, id FROM changes WHERE number >= $1 ORDER BY number LIMIT $2"


class Mark(NamedTuple):
    """The last change that was passed on."""

    number: int
    token: uuid.UUID


class ChangeWatch:
    """A task that polls until `aclose`.

    All connections, of which the first ones are used for the polls, are closed when the
    database is found away. `probe_write` tries whether writing works again.
    """

    def __init__(
        self,
        connector: Connector,
        state: DatabaseState,
        connections: Sequence[Connections],
        *,
        poll_limit_s: float,
        probe_write: Callable[[], Awaitable[None]],
    ) -> None:
        self._connector = connector
        self._state = state
        self._connections = connections[0]
        self._all = connections
        self._poll_limit_s = poll_limit_s
        self._probe_write = probe_write
        self._listeners: list[Callable[[StoreChanges], None]] = []
        self._own: set[int] = set()
        self._mark: Mark | None = None
        self._hint: Connection | None = None
        self._polls = 0
        self._late = 0
        self._broken = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the mark, and poll from now on."""
        self._mark = Mark(*(await self._connections.run(_standing))[:2])
        self._task = asyncio.create_task(self._run(), name="database watch")

    async def aclose(self) -> None:
        """End the task and the connection that listens."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._drop_hint()

    def listen(self, listener: Callable[[StoreChanges], None]) -> None:
        """Call `listener` with what other nodes change from now on."""
        self._listeners.append(listener)

    def expect(self, numbers: Sequence[int]) -> None:
        """Keep the numbers of own changes, which are not passed on; call it before the commit."""
        self._own.update(numbers)

    def forget(self, numbers: Sequence[int]) -> None:
        """Pass on these own changes after all: whether they were committed is not known."""
        self._own.difference_update(numbers)

    async def _run(self) -> None:
        while True:
            self._state.wake.clear()
            try:
                await self.poll()
            except Exception:
                log.exception("looking for changes in the database failed")
            wait_s = POLL_S if self._state.away is None else AWAY_POLL_S
            # Not wait_for(): before Python 3.12 it can lose a cancellation.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._state.wake.wait()

    async def poll(self) -> None:
        """Look once: note whether the database works, and pass on what others have changed."""
        began = time.monotonic()
        try:
            last, token, read_only = await self._connections.run(
                _standing, limit_s=self._poll_limit_s, probe=True
            )
        except StoreUnavailable as error:
            if self._was_late(error.__cause__, time.monotonic() - began):
                return
            reason = outage_of(error.__cause__) if error.__cause__ is not None else None
            if reason == BROKE and self._broken < MAX_BROKEN:
                # A connection may end at any time: the next poll, at once, shows what it means.
                self._broken += 1
                self._state.wake.set()
                return
            self._state.note(away=reason or "it does not answer")
            for each in self._all:
                each.cut()
            self._drop_hint()
            return
        self._late = 0
        self._broken = 0
        self._state.note(read_only=PHRASES[READ_ONLY] if read_only else None)
        if read_only:
            for each in self._all:
                each.drop_idle()  # new connections may lead to the new primary
        elif self._state.failing is not None:
            await self._probe_write()
        mark = Mark(last, token)
        if mark != self._mark:
            await self._pass_on(mark)
        await self._keep_hint()
        self._polls += 1
        if self._polls % PRUNE_EVERY_POLLS == 0 and self._state.trouble is None:
            await self._prune()

    def _was_late(self, cause: BaseException | None, took_s: float) -> bool:
        """Return whether the event loop was busy for so long that the poll could not be answered.

        Then the next poll comes at once. After MAX_LATE in a row the database counts as away.
        """
        if not isinstance(cause, TimeoutError) or took_s < self._poll_limit_s + LATE_S:
            return False
        self._late += 1
        self._state.wake.set()
        return self._late <= MAX_LATE

    # Changes

    async def _pass_on(self, now: Mark) -> None:
        try:
            found = await self._connections.run(partial(self._read_changes, now), begin=READ)
        except StoreUnavailable:
            return  # the mark stays, so the next poll reads them
        if found is None:
            self._mark = now
            self._own.clear()
            self._tell(StoreChanges(all=True))
            return
        self._mark, changes = found
        self._own = {number for number in self._own if number > self._mark.number}
        if changes is not None:
            self._tell(changes)

    async def _read_changes(
        self, now: Mark, db: Connection
    ) -> tuple[Mark, StoreChanges | None] | None:
        """Read what came after the mark; None: it cannot be known."""
        mark = self._mark
        assert mark is not None
        rows = await db.fetch(CHANGES, mark.number, MAX_CHANGES)
        if mark.number:
            # Another row, or none: another history, from a backup or after a fail-over that has
            # lost commits; or the rows were deleted for their age.
            if not rows or Mark(rows[0]["number"], rows[0]["token"]) != mark:
                return None
            rows = rows[1:]
        elif not rows or rows[0]["number"] != 1:
            return None
        if rows:
            mark = Mark(rows[-1]["number"], rows[-1]["token"])
        if mark.number < now.number:  # more than are read at once, or some were deleted
            return None
        new = [row for row in rows if row["number"] not in self._own]
        if any(row["kind"] == "all" for row in new):
            return None
        return mark, await self._read_changed(db, new) if new else None

    async def _read_changed(self, db: Connection, rows: Sequence[asyncpg.Record]) -> StoreChanges:
        ids = sorted({row["id"].decode() for row in rows if row["kind"] == "key"})
        keys = await db.fetch(f"{SELECT_KEYS} WHERE k.id = ANY($1)", ids) if ids else []
        owner = b""
        if any(row["kind"] == "owner" for row in rows):
            owner = await db.fetchval(SELECT_META, OWNER_META) or b""
        return StoreChanges(
            keys=tuple(key_of_record(row, self._connector.address) for row in keys),
            sessions=tuple(row["id"] for row in rows if row["kind"] == "session"),
            owner=owner,
        )

    def _tell(self, changes: StoreChanges) -> None:
        for listener in self._listeners:
            try:
                listener(changes)
            except Exception:  # the others must still be called
                log.exception("a listener failed for changes of another node")

    # The hint

    async def _keep_hint(self) -> None:
        """Open the connection that listens where it is missing; now and then, try it."""
        if self._connector.pooled:
            return
        if self._hint is not None and self._hint.is_closed():
            self._drop_hint()
        try:
            async with asyncio.timeout(self._poll_limit_s):
                if self._hint is None:
                    self._hint = await self._connector.open()
                    await self._hint.add_listener(CHANNEL, self._hinted)
                elif self._polls % HINT_CHECK_POLLS == 0:
                    await self._hint.execute("SELECT 1")
        except CALL_ERRORS as error:
            log.debug("no connection listens for changes: %s", outage_of(error))
            self._drop_hint()

    def _hinted(self, *_: object) -> None:
        self._state.wake.set()

    def _drop_hint(self) -> None:
        if self._hint is not None:
            self._hint.terminate()
            self._hint = None

    async def _prune(self) -> None:
        """Delete changes and batches that are so old that nothing asks for them."""
        for statement in (PRUNE_CHANGES, PRUNE_BATCHES):
            with contextlib.suppress(StoreUnavailable):
                await self._connections.run(partial(_execute, statement), begin=WRITE)


async def _execute(statement: str, db: Connection) -> None:
    await db.execute(statement)


async def _standing(db: Connection) -> tuple[int, uuid.UUID, bool]:
    row = await db.fetchrow(STANDING)
    if row is None:
        raise asyncpg.ConnectionDoesNotExistError("the database is not that of a gateway")
    return row[0], row[1], row[2]
