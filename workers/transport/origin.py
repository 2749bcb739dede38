"""Connections to one origin (scheme, host and port): kept alive, reused last in, first out.

Taking and returning a connection are O(1). One sweep per origin closes what was idle for too long,
not one timer per connection.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from workers.errors import UpstreamError, UpstreamTimeout, UpstreamUnavailable
from workers.transport.dialer import Dialer, begin_protocol
from workers.transport.upstream_connection import ConnectionEvents, UpstreamConnection
from workers.transport.upstream_exchange import UpstreamExchange
from workers.upstream_route import DIRECT, UpstreamRoute, parse_proxy

log = logging.getLogger("roxy.transport")

BAD_CERTIFICATE = "The certificate of this model's upstream is not valid."


class OriginAddress(NamedTuple):
    """Where to connect to, and how to get there; with `tls` under TLS, always verified."""

    host: str
    port: int
    tls: bool
    route: UpstreamRoute = DIRECT


class ConnectionSettings(NamedTuple):
    """What all origins of a transport share.

    `tls` returns the context for a CA file, or the usual one for ""; made when first needed.
    """

    connect_timeout_s: float
    idle_s: float
    tls: Callable[[str], Awaitable[ssl.SSLContext]]
    dialer: Dialer


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
        self._proxy = parse_proxy(address.route.proxy) if address.route.proxy else None
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = closed
        self._emptied: asyncio.Event | None = None
        self._events = ConnectionEvents(self._add, self._park, self._withdraw, self._forget)

    def exchange(self, head: bytes, body: bytes) -> UpstreamExchange:
        """Begin an exchange on the connection that became idle last, or on a fresh one."""
        if self._proxy is not None and not self.address.tls:
            head = self._absolute(head)
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
        task.add_done_callback(self._forget_task)
        return task

    def _forget_task(self, task: asyncio.Task[None] | None) -> None:
        if task is not None:
            self.connecting.pop(task, None)

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
        connection = UpstreamConnection(self._events)
        error: UpstreamError
        try:
            await self._open(connection)
            self._forget_task(asyncio.current_task())  # who is woken next sees it connected
            exchange.attach(connection)
            return
        except asyncio.CancelledError:
            self._discard(connection)
            raise
        except TimeoutError:
            error = UpstreamTimeout("connect", self._settings.connect_timeout_s)
        except ssl.SSLCertVerificationError as cause:  # the next handshake would fail as well
            error = UpstreamUnavailable(BAD_CERTIFICATE, own_fault="certificate")
            error.__cause__ = cause.with_traceback(None)
        except (OSError, UnicodeError) as cause:  # refused, no route, no such name, TLS refused
            error = UpstreamUnavailable()
            error.__cause__ = cause.with_traceback(None)
        except Exception:
            log.exception("connecting to %s failed", self.address.host)
            error = UpstreamUnavailable()
        error.reached = False
        self._discard(connection)
        self._forget_task(asyncio.current_task())
        exchange.fail(error)

    async def _open(self, connection: UpstreamConnection) -> None:
        """Connect, then make the TLS handshake with the address that was reached first."""
        host, port, tls, route = self.address
        dialer = self._settings.dialer
        async with asyncio.timeout(self._settings.connect_timeout_s):
            context = await self._settings.tls(route.ca_file) if tls else None
            if route.socket_path:
                transport = await dialer.open_unix(route.socket_path)
            elif self._proxy is None:
                transport = await dialer.open(host, port)
            elif tls:
                transport = await dialer.open_tunnel(self._proxy, host, port)
            else:
                transport = await dialer.open(self._proxy.host, self._proxy.port)
            try:
                await begin_protocol(transport, connection, context, host)
            except BaseException as error:
                transport.abort()
                if not isinstance(error, ssl.SSLCertVerificationError):  # the same at each address
                    dialer.note_broken(transport)
                raise

    def _absolute(self, head: bytes) -> bytes:
        """Return a head as a proxy needs it (RFC 9112, section 3.2.2), with its credentials.

        Through a tunnel under TLS the head stays as it is, and the proxy never sees it.
        """
        assert self._proxy is not None
        method, _, rest = head.partition(b" ")
        target, _, fields = rest.partition(b"\r\n")
        host, port = self.address.host, self.address.port
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return b"%b http://%b%b\r\n%b%b" % (
            method,
            authority.encode("ascii"),
            target,
            self._proxy.authorization,
            fields,
        )

    def _discard(self, connection: UpstreamConnection) -> None:
        """Forget a connection that failed to open: the loop may not call `connection_lost`."""
        connection.drop()
        self._forget(connection)
