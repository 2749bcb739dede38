"""Connections to one PostgreSQL database, and calls on them that never wait for long.

    connections = Connections(connector, state, size=2, limit_s=0.9)
    rows = await connections.run(lambda db: db.fetch("SELECT ..."))
    await connections.run(change, begin=WRITE)          # one transaction

A few connections are opened for each kind of calls, when they are needed. A call that fails or is
cancelled leaves a connection of unknown state, so it is closed at once, without waiting for the
server; only errors about values are followed by a rollback. asyncpg's own pool is not used: when a
call is cancelled or a connection is given back, it waits for a server that hangs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from server.store.postgres.connector import Connector
from server.store.postgres.database_state import DatabaseState
from server.store.postgres.postgres_errors import (
    CALL_ERRORS,
    CANCELED,
    DATA_ERRORS,
    is_connection_lost,
    outage_of,
    write_trouble,
)
from server.store.store import TOO_SLOW, UNREADABLE
from workers.errors import StoreUnavailable

if TYPE_CHECKING:
    from server.store.postgres.connector import Connection

Result = TypeVar("Result")

WRITE = "BEGIN"
READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
"""All statements of a read see the same moment."""
READ_SUMS = f"{READ}; SET LOCAL work_mem = '32MB'"
"""For reads that add up many rows: within the usual 4 MB the sums of 100,000 keys are sorted on the
disk, which takes the server twice the time (tests/bench/spend.py)."""


class Connections:
    """Up to `size` connections for one kind of calls, each of which takes at most `limit_s`.

    A call waits for its turn, its connection and its statements within that time.
    """

    def __init__(
        self,
        connector: Connector,
        state: DatabaseState,
        *,
        size: int,
        limit_s: float,
        reads: bool = False,
    ) -> None:
        self._connector = connector
        self._state = state
        self._limit_s = limit_s
        self._reads = reads
        self._room = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._running: set[asyncio.Timeout] = set()
        self._closed = False

    async def run(
        self,
        work: Callable[[Connection], Awaitable[Result]],
        *,
        begin: str | None = None,
        limit_s: float | None = None,
        probe: bool = False,
    ) -> Result:
        """Run `work` with a connection and return its result. Raises StoreUnavailable.

        `begin` is the statement that opens a transaction, committed at the end; without one `work`
        is a single statement that may be repeated. `probe` tries even while the database is away.
        """
        if self._closed or (self._state.away is not None and not probe):
            raise self._refusal()
        limit_s = self._limit_s if limit_s is None else limit_s
        try:
            async with asyncio.timeout(limit_s) as deadline:
                self._running.add(deadline)
                try:
                    async with self._room:
                        return await self._turn(work, begin, limit_s)
                finally:
                    self._running.discard(deadline)
        except CALL_ERRORS as error:
            reason = outage_of(error)
            if reason is None:
                raise
            if not probe:
                self._state.wake.set()
            if getattr(error, "sqlstate", None) == CANCELED and self._reads:
                raise StoreUnavailable(TOO_SLOW) from error
            raise self._refusal() from error

    def _refusal(self) -> StoreUnavailable:
        return StoreUnavailable(UNREADABLE) if self._reads else StoreUnavailable()

    async def _turn(
        self, work: Callable[[Connection], Awaitable[Result]], begin: str | None, limit_s: float
    ) -> Result:
        while (idle := self._take_idle()) is not None:
            try:
                return await self._use(idle, work, begin, limit_s)
            except _NotBegun:
                pass  # the server had closed it between two calls: try another one
        try:
            return await self._use(await self._connector.open(self._limit_s), work, begin, limit_s)
        except _NotBegun as failure:
            raise failure.error from None

    async def _use(
        self,
        connection: Connection,
        work: Callable[[Connection], Awaitable[Result]],
        begin: str | None,
        limit_s: float,
    ) -> Result:
        """Run `work` and keep the connection, or close it. Raises _NotBegun if it was broken."""
        self._busy.add(connection)
        begun = False
        try:
            if begin is not None:
                await connection.execute(_opening(begin, limit_s))
                begun = True
            result = await work(connection)
            if begun:
                await _commit(connection)
        except DATA_ERRORS:
            if begun:
                await connection.execute("ROLLBACK")
            self._keep(connection)
            raise
        except CALL_ERRORS as error:
            if not begun and is_connection_lost(error):
                raise _NotBegun(error) from error
            raise
        else:
            self._keep(connection)
            return result
        finally:
            if connection in self._busy:  # not kept
                self._busy.discard(connection)
                connection.terminate()

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    def _keep(self, connection: Connection) -> None:
        self._busy.discard(connection)
        if self._closed or connection.is_closed():
            connection.terminate()
        else:
            self._idle.append(connection)

    def drop_idle(self) -> None:
        """Close the connections that no call uses."""
        for connection in self._idle:
            connection.terminate()
        self._idle.clear()

    def cut(self) -> None:
        """Close every connection without waiting.

        The calls on them fail, and so do those that wait for one, or for the server to open one.
        """
        self.drop_idle()
        for connection in tuple(self._busy):
            connection.terminate()
        now = asyncio.get_running_loop().time()
        for deadline in self._running:
            if not deadline.expired():
                deadline.reschedule(now)

    async def aclose(self, within_s: float) -> None:
        """Refuse further calls and close the connections, those in use without waiting."""
        self._closed = True
        idle, self._idle = self._idle, []
        try:
            async with asyncio.timeout(within_s):
                for connection in idle:
                    await connection.close()
        except CALL_ERRORS:
            pass  # the server notices the end of the connection by itself
        finally:
            for connection in (*idle, *self._busy):
                connection.terminate()


async def write(
    connections: Connections,
    state: DatabaseState,
    work: Callable[[Connection], Awaitable[Result]],
    *,
    begin: str | None = WRITE,
    limit_s: float | None = None,
) -> Result:
    """Run a call that writes, and keep whether writing works. Raises StoreUnavailable."""
    try:
        result = await connections.run(work, begin=begin, limit_s=limit_s)
    except StoreUnavailable as error:
        if (reason := write_trouble(error.__cause__)) is not None:
            state.note_write(reason)
        raise
    state.note_write(None)
    return result


class _NotBegun(Exception):
    """A connection was broken before the first statement, or one that may be repeated."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def _opening(begin: str, limit_s: float) -> str:
    """Return the statements that open a transaction, sent together in one round trip.

    The limits are set for the transaction only: a pooler would give those of a session to others.
    """
    limit_ms = max(int(limit_s * 1000), 1)
    return (
        f"{begin}; SET LOCAL statement_timeout = {limit_ms};"
        f" SET LOCAL idle_in_transaction_session_timeout = {limit_ms * 2}"
    )


async def _commit(connection: Connection) -> None:
    # The server answers COMMIT with ROLLBACK when a statement of the transaction has failed.
    done = await connection.execute("COMMIT")
    if done != "COMMIT":
        raise RuntimeError(f"the transaction was not committed but ended with {done}")
