"""Open connections to the PostgreSQL database of a URL, which may name several hosts.

Behind a pooler in transaction mode (pgbouncer) each statement may meet another server connection.
There no statement is prepared under a name, no setting is made for a session, and LISTEN does not
work. A pooler is recognised by its own process number, which differs from the server's.
"""

from __future__ import annotations

import asyncio
import re
from asyncio import FIRST_COMPLETED
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from urllib.parse import parse_qs, urlsplit

import asyncpg

if TYPE_CHECKING:
    Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
    Opening: TypeAlias = Coroutine[Any, Any, Connection]

APPLICATION_NAME = "roxy"
DEFAULT_PORT = 5432
NEXT_HOST_S = 0.15
LATE_HOST_S = 1.0
"""How long a host may take after another one has answered: asyncpg 0.32 logs an error for some that
are cancelled while they connect."""
HOST = re.compile(r"(\[[^]]+\]|[^:\[\]]+)(?::(\d+))?")


class Host(NamedTuple):
    """A server that a URL names."""

    name: str
    port: int


class Connector:
    """Opens connections; `address`, which has no password, is safe to show.

    `pooled`: a pooler stands in between, as the first connection finds out. A host of several may
    take `next_host_s` to connect until the next one is asked, too.
    """

    def __init__(self, url: str, *, next_host_s: float = NEXT_HOST_S) -> None:
        self._url = url
        self._next_host_s = next_host_s
        self.address = address_of(url)
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
                    asked, timeout=self._next_host_s if left else None, return_when=FIRST_COMPLETED
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


def address_of(url: str) -> str:
    """Return the host, port and name of a database, without user and password."""
    parts = urlsplit(url)
    hosts = parts.netloc.rpartition("@")[2] or "localhost"
    return f"{hosts}/{parts.path.lstrip('/')}"
