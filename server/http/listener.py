"""The HTTP server under Tornado's handlers: it accepts connections, checks them and finds handlers.

`server.http.client_connection` serves each connection. One timer checks all of them every second,
so that no request needs a timer. Under TLS, connections are accepted here and not by asyncio:
unfinished handshakes then count as connections, and end when the server stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Mapping
from typing import Any

from tornado.httputil import (
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerRequest,
    RequestStartLine,
)
from tornado.web import RequestHandler

from server.http.client_connection import (
    ClientConnection,
    ClientConnections,
    ConnectionState,
    HttpLimits,
)
from server.http.client_exchange import ClientExchange
from server.http.listening import BACKLOG
from server.http.request_head import served_target
from server.http.request_lifecycle import GatewayApplication

CHECK_EVERY_S = 1.0
ACCEPTS_AT_ONCE = 64
"""Connections accepted in one turn of the loop, so that a flood does not stop running answers."""
TLS_SHUTDOWN_S = 2.0
"""How long a client may take to answer TLS's close_notify; asyncio waits 30 s by default."""
POLL_S = 0.01
BEFORE_ANSWER = (ConnectionState.IDLE, ConnectionState.HEAD, ConnectionState.BODY)

Shortcuts = Mapping[str, tuple[type[RequestHandler], dict[str, Any]]]


class GatewayServer:
    """Serve an application on listening sockets, and hold each connection to `HttpLimits`.

    `shortcuts` maps paths to handlers and their arguments, without a search among the rules. With
    `tls`, every connection uses TLS.
    """

    def __init__(
        self,
        application: GatewayApplication,
        limits: HttpLimits,
        shortcuts: Shortcuts,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._limits = limits
        self.connections = ClientConnections(limits, self._find_delegate, counts_here=tls is None)
        self._application = application
        self._shortcuts = shortcuts
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._tls_sockets: list[socket.socket] = []
        self._timer: asyncio.TimerHandle | None = None

    async def serve_on(self, sockets: list[socket.socket]) -> None:
        """Start to accept connections; the sockets close with the server."""
        for sock in sockets:
            if self._tls is not None:
                sock.settimeout(0)
                sock.listen(BACKLOG)
                self._tls_sockets.append(sock)
            else:
                unix = sock.family == socket.AF_UNIX
                create = self._loop.create_unix_server if unix else self._loop.create_server
                self._servers.append(
                    await create(self._make_connection, sock=sock, backlog=BACKLOG)
                )
        self._check_all()

    @property
    def open_connections(self) -> int:
        """Return the number of connections, including those in a TLS handshake."""
        return len(self.connections) + len(self._handshakes)

    @property
    def answering(self) -> int:
        """Return the number of connections whose answer is not complete or not yet sent."""
        return sum(
            connection.state is ConnectionState.ANSWER or connection.writing()
            for connection in self.connections
        )

    def _close_listeners(self) -> None:
        for server in self._servers:
            server.close()
        for sock in self._tls_sockets:
            self._loop.remove_reader(sock)
            sock.close()
        self._servers.clear()
        self._tls_sockets.clear()

    async def leave(self, timeout_s: float) -> None:
        """Accept no more connections; serve each open one until it has sent one more request.

        A load balancer knows that a connection which is refused carried no request, and may send
        the request to another gateway. It cannot know that of a kept-alive connection which closes
        as it sends: so those close after an answer, and the idle ones after `timeout_s`.
        """
        self.connections.leaving = True
        self._close_listeners()
        deadline = self._loop.time() + timeout_s
        while self._waiting and self._loop.time() < deadline:  # noqa: ASYNC110
            # Connections announce no change of state, so that requests need not either.
            await asyncio.sleep(POLL_S)

    async def depart(self, timeout_s: float) -> None:
        """Leave new connections to another process with the same socket; serve those of here.

        Each ends with its next answer, which says so. Wait, at most `timeout_s`, until none is
        open: by then clients have given up the idle ones, so that no request meets its end there.
        """
        self.connections.departure.begun = True
        self._close_listeners()
        deadline = self._loop.time() + timeout_s
        while self.open_connections and self._loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)

    @property
    def _waiting(self) -> bool:
        """Return whether a connection may still bring a request."""
        return bool(self._handshakes) or any(
            connection.state in BEFORE_ANSWER for connection in self.connections
        )

    def stop_listening(self) -> None:
        """Accept no more connections and close the idle ones."""
        self.connections.stopping = True
        self._close_listeners()
        for task in self._handshakes:
            task.cancel()
        for connection in self.connections:
            if connection.state is ConnectionState.IDLE and not connection.writing():
                connection.close()

    async def finish_answers(self, timeout_s: float) -> None:
        """Stop listening and wait, at most `timeout_s`, until every answer is sent.

        A job ends when its upstream does; what a slow client has not read is still buffered then.
        """
        self.stop_listening()
        deadline = self._loop.time() + timeout_s
        while self.answering and self._loop.time() < deadline:  # noqa: ASYNC110
            # asyncio reports a drained buffer to the connection only, not the last byte sent.
            await asyncio.sleep(POLL_S)

    def check_connections(self) -> None:
        """Close each connection whose client has left or takes too long."""
        now = self.connections.clock()
        for connection in self.connections:
            connection.check(now)

    async def aclose(self) -> None:
        """Close all connections and wait until the last descriptor is closed."""
        self.stop_listening()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._handshakes:
            await asyncio.wait(self._handshakes)
        for connection in self.connections:
            connection.abort()
        await self.connections.wait_empty()

    def _find_delegate(
        self, exchange: ClientExchange, start_line: RequestStartLine, headers: HTTPHeaders
    ) -> HTTPMessageDelegate:
        """Find the handler: at once for the most used paths, else rule by rule.

        Raises HTTPInputError for a request that Tornado cannot represent, such as two Host headers.
        """
        rule = self._shortcuts.get(start_line.path)
        if rule is None:
            start_line = start_line._replace(path=served_target(start_line.path))
        request = HTTPServerRequest(connection=exchange, start_line=start_line, headers=headers)
        if rule is not None:
            return self._application.get_handler_delegate(request, *rule)
        # The last rule takes every path, so a handler is always found.
        return self._application.find_handler(request)

    def _make_connection(self) -> ClientConnection:
        return ClientConnection(self.connections, "http" if self._tls is None else "https")

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                sock, _address = listener.accept()
            except BlockingIOError:
                return
            except OSError:  # perhaps out of descriptors: `_check_all` adds the reader again
                self._loop.remove_reader(listener)
                return
            if self.open_connections >= self._limits.max_connections:
                sock.close()
                continue
            sock.settimeout(0)
            task = self._loop.create_task(self._handshake(sock), name="TLS handshake")
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _handshake(self, sock: socket.socket) -> None:
        """Do a TLS handshake. A client that leaves or sends no TLS is not an error to log."""
        with contextlib.suppress(OSError):
            await self._loop.connect_accepted_socket(
                self._make_connection,
                sock,
                ssl=self._tls,
                ssl_handshake_timeout=self._limits.head_timeout_s,
                ssl_shutdown_timeout=TLS_SHUTDOWN_S,
            )

    def _check_all(self) -> None:
        self._timer = self._loop.call_later(CHECK_EVERY_S, self._check_all)
        for sock in self._tls_sockets:
            self._loop.add_reader(sock, self._accept, sock)
        self.check_connections()
