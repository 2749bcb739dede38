"""Connections to one origin (scheme, host and port): kept alive, reused last in, first out.

Taking and parking are O(1); what is idle for too long is closed by one sweep per origin, not by a
timer per connection.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from itertools import zip_longest
from typing import NamedTuple

from workers.errors import UpstreamError, UpstreamTimeout, UpstreamUnavailable
from workers.transport.upstream_connection import Connection
from workers.transport.upstream_exchange import Exchange

log = logging.getLogger("roxy.transport")


class Address(NamedTuple):
    """Where an origin is; `tls` says whether it is spoken to under TLS, always verified."""

    host: str
    port: int
    tls: bool


class Settings(NamedTuple):
    """What all origins of a transport share; `tls` makes the context, once, when first needed."""

    connect_timeout_s: float
    max_head_bytes: int
    idle_s: float
    tls: Callable[[], Awaitable[ssl.SSLContext]]


def in_turn(found: Sequence[tuple[int, object]]) -> list[str]:
    """Give addresses once each, families in turn, in the order in which they were found."""
    families: dict[int, dict[str, None]] = {}
    for family, address in found:
        families.setdefault(family, {})[str(address)] = None
    return [one for row in zip_longest(*families.values()) for one in row if one is not None]


class Origin:
    """The connections to one origin. `aclose` leaves none behind."""

    def __init__(self, address: Address, settings: Settings, *, closed: bool = False) -> None:
        self.address = address
        self.open: set[Connection] = set()
        self.idle: dict[Connection, float] = {}
        self.connecting: dict[asyncio.Task[None], Exchange] = {}
        self._settings = settings
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = closed
        self._emptied: asyncio.Event | None = None

    def exchange(self, head: bytes, body: bytes) -> Exchange:
        """Begin an exchange on the connection that became idle last, or on a fresh one."""
        exchange = Exchange(self, head, body)
        if self._closed:
            exchange.fail(UpstreamUnavailable("The gateway is stopping."))
        else:
            exchange.open(self._take())
        return exchange

    def connect(self, exchange: Exchange) -> asyncio.Task[None]:
        """Open a fresh connection for `exchange` in the background."""
        task = asyncio.get_running_loop().create_task(self._connect(exchange))
        self.connecting[task] = exchange
        task.add_done_callback(self.connecting.pop)
        return task

    async def aclose(self) -> None:
        """Close every connection, fail every exchange, and wait until all descriptors are gone."""
        self._closed = True
        self._emptied = asyncio.Event()
        if self._sweeper is not None:
            self._sweeper.cancel()
        stopping = UpstreamUnavailable("The gateway is stopping.")
        connecting = dict(self.connecting)
        for task, exchange in connecting.items():
            exchange.fail(stopping)
            task.cancel()
        for connection in tuple(self.open):
            connection.fail(stopping)
        if connecting:
            await asyncio.wait(connecting)
        if self.open:
            await self._emptied.wait()

    # What a connection calls

    def joined(self, connection: Connection) -> None:
        """Count an open connection."""
        self.open.add(connection)

    def parked(self, connection: Connection) -> None:
        """Keep an idle connection for the next exchange."""
        loop = asyncio.get_running_loop()
        self.idle[connection] = loop.time()
        if self._sweeper is None:
            self._sweeper = loop.call_later(self._settings.idle_s, self._sweep)

    def leaving(self, connection: Connection) -> None:
        """Never hand this connection out again."""
        self.idle.pop(connection, None)

    def gone(self, connection: Connection) -> None:
        """Forget a closed connection."""
        self.open.discard(connection)
        if not self.open and self._emptied is not None:
            self._emptied.set()

    # Inside

    def _take(self) -> Connection | None:
        while self.idle:
            connection, _ = self.idle.popitem()
            if connection.usable:
                return connection
            connection.close()
        return None

    def _sweep(self) -> None:
        """Close what has been idle for too long; the oldest come first."""
        loop = asyncio.get_running_loop()
        expired = loop.time() - self._settings.idle_s
        for connection in [one for one, since in self.idle.items() if since <= expired]:
            connection.close()
        self._sweeper = None
        if self.idle:
            wait_s = next(iter(self.idle.values())) - expired
            self._sweeper = loop.call_later(wait_s, self._sweep)

    async def _connect(self, exchange: Exchange) -> None:
        connection = Connection(self, self._settings.max_head_bytes)
        error: UpstreamError
        try:
            await self._open(connection)
            exchange.attach(connection)
            return
        except asyncio.CancelledError:
            self._discard(connection)
            raise
        except TimeoutError:
            error = UpstreamTimeout("connect", self._settings.connect_timeout_s)
        except (OSError, UnicodeError) as cause:  # refused, no route, no such name, TLS refused
            error = UpstreamUnavailable()
            error.__cause__ = cause.with_traceback(None)
        except Exception:
            log.exception("connecting to %s failed", self.address.host)
            error = UpstreamUnavailable()
        self._discard(connection)
        exchange.fail(error)

    async def _open(self, connection: Connection) -> None:
        """Try the host's addresses in turn, each with an equal share of the time.

        Looking the name up is a step of its own, because create_connection would leave a failed
        look-up behind when it is cancelled, to be logged as an error nobody retrieved.
        """
        host, port, tls = self.address
        loop = asyncio.get_running_loop()
        limit_s = self._settings.connect_timeout_s
        failure = OSError("the name has no address")
        async with asyncio.timeout(limit_s):
            context = await self._settings.tls() if tls else None
            name = host if tls else None
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = in_turn([(family, sockaddr[0]) for family, *_, sockaddr in found])
            for address in addresses:
                try:
                    async with asyncio.timeout(limit_s / len(addresses)):
                        await loop.create_connection(
                            lambda: connection, address, port, ssl=context, server_hostname=name
                        )
                except ssl.SSLError:
                    raise
                except OSError as error:
                    failure = error
                else:
                    return
            raise failure

    def _discard(self, connection: Connection) -> None:
        """Forget a connection whose opening failed: the loop may close it without telling."""
        connection.drop()
        self.gone(connection)
