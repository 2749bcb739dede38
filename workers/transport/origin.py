"""Connections to one origin (scheme, host and port): kept alive, reused last in, first out.

Taking and returning a connection are O(1). One sweep per origin closes what was idle for too long,
not one timer per connection.
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
from workers.transport.upstream_connection import ConnectionEvents, UpstreamConnection
from workers.transport.upstream_exchange import UpstreamExchange

log = logging.getLogger("roxy.transport")


class OriginAddress(NamedTuple):
    """Where to connect to; with `tls` under TLS, always verified."""

    host: str
    port: int
    tls: bool


class ConnectionSettings(NamedTuple):
    """What all origins of a transport share; `tls` returns the context, made when first needed."""

    connect_timeout_s: float
    max_head_bytes: int
    idle_s: float
    tls: Callable[[], Awaitable[ssl.SSLContext]]


def in_turn(found: Sequence[tuple[int, object]]) -> list[str]:
    """Return each address once, alternating between families, otherwise in the order found.

    So that a host without a working IPv6 route costs one share of the time (RFC 8305, section 4).
    """
    families: dict[int, dict[str, None]] = {}
    for family, address in found:
        families.setdefault(family, {})[str(address)] = None
    return [one for row in zip_longest(*families.values()) for one in row if one is not None]


class Origin:
    """The connections to one origin. `aclose` leaves none behind."""

    def __init__(
        self, address: OriginAddress, settings: ConnectionSettings, *, closed: bool = False
    ) -> None:
        self.address = address
        self.open: set[UpstreamConnection] = set()
        self.idle: dict[UpstreamConnection, float] = {}
        self.connecting: dict[asyncio.Task[None], UpstreamExchange] = {}
        self._settings = settings
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = closed
        self._emptied: asyncio.Event | None = None
        self._events = ConnectionEvents(self._add, self._park, self._withdraw, self._forget)

    def exchange(self, head: bytes, body: bytes) -> UpstreamExchange:
        """Begin an exchange on the connection that became idle last, or on a fresh one."""
        exchange = UpstreamExchange(self._connect_for, head, body)
        if self._closed:
            exchange.fail(UpstreamUnavailable("The gateway is stopping."))
        else:
            exchange.open(self._take())
        return exchange

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

    # Called by a connection, see ConnectionEvents

    def _add(self, connection: UpstreamConnection) -> None:
        """Count an open connection."""
        self.open.add(connection)

    def _park(self, connection: UpstreamConnection) -> None:
        """Keep an idle connection for the next exchange."""
        loop = asyncio.get_running_loop()
        self.idle[connection] = loop.time()
        if self._sweeper is None:
            self._sweeper = loop.call_later(self._settings.idle_s, self._sweep)

    def _withdraw(self, connection: UpstreamConnection) -> None:
        """Take a connection out of reuse."""
        self.idle.pop(connection, None)

    def _forget(self, connection: UpstreamConnection) -> None:
        """Forget a closed connection."""
        self.open.discard(connection)
        if not self.open and self._emptied is not None:
            self._emptied.set()

    # Inside

    def _connect_for(self, exchange: UpstreamExchange) -> asyncio.Task[None]:
        """Open a fresh connection for `exchange` in the background."""
        task = asyncio.get_running_loop().create_task(self._connect(exchange))
        self.connecting[task] = exchange
        task.add_done_callback(self.connecting.pop)
        return task

    def _take(self) -> UpstreamConnection | None:
        while self.idle:
            connection, _ = self.idle.popitem()
            if connection.usable:
                return connection
            connection.close()
        return None

    def _sweep(self) -> None:
        """Close what has been idle for too long."""
        loop = asyncio.get_running_loop()
        expired = loop.time() - self._settings.idle_s
        for connection in [one for one, since in self.idle.items() if since <= expired]:
            connection.close()
        self._sweeper = None
        if self.idle:
            wait_s = next(iter(self.idle.values())) - expired  # dicts keep their order: the oldest
            self._sweeper = loop.call_later(wait_s, self._sweep)

    async def _connect(self, exchange: UpstreamExchange) -> None:
        connection = UpstreamConnection(self._events, self._settings.max_head_bytes)
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

    async def _open(self, connection: UpstreamConnection) -> None:
        """Try the host's addresses one after another, each with an equal share of the time.

        The name is looked up in a step of its own: a cancelled create_connection leaves the future
        of a failed look-up behind, which is logged as an exception that was never retrieved.
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
                except ssl.SSLError:  # an OSError, but a bad certificate is the same everywhere
                    raise
                except OSError as error:
                    failure = error
                else:
                    return
            raise failure

    def _discard(self, connection: UpstreamConnection) -> None:
        """Forget a connection that failed to open: the loop may not call `connection_lost`."""
        connection.drop()
        self._forget(connection)
