"""Connections to one PostgreSQL database, and calls on them that never wait for long.

    connections = Connections(door, state, size=2, limit_s=0.9)
    rows = await connections.run(lambda db: db.fetch("SELECT ..."))
    await connections.run(change, begin=WRITE)          # one transaction

A few connections are opened for each kind of calls, when they are needed. A call that fails or is
cancelled leaves a connection of unknown state, so it is closed at once, without waiting for the
server; only errors about values are followed by a rollback. asyncpg's own pool is not used: when a
call is cancelled or a connection is given back, it waits for a server that hangs.

Behind a pooler in transaction mode (pgbouncer) each statement may meet another server connection.
There no statement is prepared under a name, no setting is made for a session, and LISTEN does not
work. A pooler is recognised by its own process number, which differs from the server's.
"""

from __future__ import annotations

import asyncio
import logging
import re
from asyncio import FIRST_COMPLETED
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar
from urllib.parse import parse_qs, urlsplit

import asyncpg

from server.store.postgres.postgres_errors import (
    CALL_ERRORS,
    CANCELED,
    DATA_ERRORS,
    is_connection_lost,
    outage_of,
)
from server.store.store import TOO_SLOW, UNREADABLE
from workers.errors import StoreUnavailable

if TYPE_CHECKING:
    Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
    Opening: TypeAlias = Coroutine[Any, Any, Connection]

log = logging.getLogger("roxy.store")

Result = TypeVar("Result")

WRITE = "BEGIN"
READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
READ_SUMS = f"{READ}; SET LOCAL work_mem = '32MB'"
"""For reads that add up many rows: within the usual 4 MB the sums of 100,000 keys are sorted on the
disk, which takes the server twice the time (tests/bench/spend.py)."""
"""All statements of a read see the same moment."""
APPLICATION_NAME = "roxy"
DEFAULT_PORT = 5432
NEXT_HOST_S = 0.15
"""How long a host of several may take to connect until the next one is asked, too. A poll has half
a second for all of them."""
LATE_HOST_S = 1.0
"""How long a host may take after another one has answered: asyncpg 0.32 logs an error for some that
are cancelled while they connect."""
HOST = re.compile(r"(\[[^]]+\]|[^:\[\]]+)(?::(\d+))?")


class Host(NamedTuple):
    """A server that a URL names."""

    name: str
    port: int


class Door:
    """Opens connections. `pooled` is found out by the first one; `place` is safe to show."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.place = place_of(url)
        self.pooled = False
        self._hosts = deque(hosts_of(url))
        self._late: set[asyncio.Task[Connection]] = set()
        # With several hosts the first that answers may be a standby, which takes no writes.
        named = "target_session_attrs" in parse_qs(urlsplit(url).query)
        self._attributes = "read-write" if len(self._hosts) > 1 and not named else None

    async def open(self, statement_s: float | None = None) -> Connection:
        """Open a connection. Raises what asyncpg and the network raise."""
        settings = {"application_name": APPLICATION_NAME}
        if not self.pooled:
            settings |= {"jit": "off"}
            if statement_s is not None:
                settings |= {
                    "statement_timeout": str(int(statement_s * 1000)),
                    "idle_in_transaction_session_timeout": str(int(statement_s * 2000)),
                }
        connect = partial(
            asyncpg.connect,
            self._url,
            statement_cache_size=0 if self.pooled else 200,
            server_settings=settings,
            target_session_attrs=self._attributes,
        )
        if len(self._hosts) > 1:
            return await self._open_any(connect)
        return await connect()

    async def _open_any(self, connect: Callable[..., Opening]) -> Connection:
        """Connect to the host that was used last; after a while ask the next one as well.

        asyncpg asks one after the other, and would wait for a host that is gone, which answers
        nothing at all, until no time is left for the one that has taken over.
        """
        loop = asyncio.get_running_loop()
        left = deque(self._hosts)
        asked: dict[asyncio.Task[Connection], Host] = {}
        errors: list[BaseException] = []
        try:
            while left or asked:
                if left:
                    host = left.popleft()
                    opening = connect(host=host.name, port=host.port)
                    asked[loop.create_task(opening, name=f"connection to {host.name}")] = host
                done, _ = await asyncio.wait(
                    asked, timeout=NEXT_HOST_S if left else None, return_when=FIRST_COMPLETED
                )
                for one in done:
                    host, error = asked.pop(one), one.exception()
                    if error is None:
                        self._hosts.remove(host)
                        self._hosts.appendleft(host)
                        self._leave_late(asked)
                        return one.result()
                    errors.append(error)
        except asyncio.CancelledError:
            self._leave_late(asked, 0.0)
            raise
        raise errors[0]

    def _leave_late(
        self, asked: Iterable[asyncio.Task[Connection]], within_s: float = LATE_HOST_S
    ) -> None:
        """Close connections that are needed no more when they come, or give them up."""
        loop = asyncio.get_running_loop()
        for one in asked:
            self._late.add(one)
            one.add_done_callback(self._drop)
            loop.call_later(within_s, one.cancel)

    def _drop(self, late: asyncio.Task[Connection]) -> None:
        self._late.discard(late)
        if not late.cancelled() and late.exception() is None:
            late.result().terminate()

    async def aclose(self) -> None:
        """Cancel the connections that come late."""
        for late in self._late:
            late.cancel()
        if self._late:
            await asyncio.wait(self._late)

    async def open_first(self) -> Connection:
        """Open the first connection and find out whether a pooler stands in between."""
        self.pooled = True  # until it is known: what works behind a pooler works everywhere
        connection = await self.open()
        try:
            process = await connection.fetchval("SELECT pg_backend_pid()")
            self.pooled = process != connection.get_server_pid()
        except BaseException:
            connection.terminate()
            raise
        return connection


def hosts_of(url: str) -> Sequence[Host]:
    """Return the hosts of a URL that names several; nothing for one, which asyncpg reads itself."""
    parts = urlsplit(url).netloc.rpartition("@")[2].split(",")
    if len(parts) < 2:
        return ()
    found = [HOST.fullmatch(part) for part in parts]
    return [Host(one[1].strip("[]"), int(one[2] or DEFAULT_PORT)) for one in found if one]


def place_of(url: str) -> str:
    """Return the host, port and name of a database, without user and password."""
    parts = urlsplit(url)
    hosts = parts.netloc.rpartition("@")[2] or "localhost"
    return f"{hosts}/{parts.path.lstrip('/')}"


class DatabaseState:
    """Whether the database can be used; each change is one log line.

    `away` is why no call works, `read_only` and `failing` why writes do not; None: they work. Calls
    that fail set `wake`, so that whoever watches the database looks at once.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self.away: str | None = None
        self.read_only: str | None = None
        self.failing: str | None = None
        self.wake = asyncio.Event()

    @property
    def trouble(self) -> str | None:
        """Return the current trouble, or None."""
        return self.away or self.read_only or self.failing

    def note(self, *, away: str | None = None, read_only: str | None = None) -> None:
        """Keep what a look at the database has found."""
        before = self.trouble
        self.away, self.read_only = away, read_only
        self._tell(before)

    def note_write(self, failing: str | None) -> None:
        """Keep why the last write failed, of those that reached the database; None: it did not."""
        before = self.trouble
        self.failing = failing
        self._tell(before)

    def _tell(self, before: str | None) -> None:
        """Log the first failure and the recovery, not each call between."""
        if self.trouble is not None and before is None:
            log.error("the database %s cannot be used: %s", self.place, self.trouble)
        elif self.trouble is None and before is not None:
            log.warning("the database %s can be used again", self.place)


class Connections:
    """Up to `size` connections for one kind of calls, each of which takes at most `limit_s`.

    A call waits for its turn, its connection and its statements within that time.
    """

    def __init__(
        self,
        door: Door,
        state: DatabaseState,
        *,
        size: int,
        limit_s: float,
        reads: bool = False,
    ) -> None:
        self._door = door
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
            return await self._use(await self._door.open(self._limit_s), work, begin, limit_s)
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
