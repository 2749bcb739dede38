"""The HTTP server under Tornado's handlers: it listens, counts, keeps time and finds handlers.

What a connection does is in `server.http.client_connection`. One ticker a second looks after all
of them, so that no request needs a timer. Under TLS connections are accepted here, which bounds
unfinished handshakes like everything else and lets them be ended at a stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Mapping
from time import monotonic
from typing import Any

from tornado.httputil import (
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerRequest,
    RequestStartLine,
)
from tornado.web import Application, RequestHandler

from server.http.client_connection import HttpLimits, Phase, Wire
from server.http.client_exchange import Exchange

TICK_S = 1.0
BACKLOG = 2048
ACCEPTS_AT_ONCE = 64
TLS_FAREWELL_S = 2.0
LOOK_AGAIN_S = 0.01

Shortcuts = Mapping[str, tuple[type[RequestHandler], dict[str, Any]]]


class GatewayServer:
    """Serve an application on listening sockets, keeping `HttpLimits` for every connection.

    `shortcuts` gives handler and arguments of paths that need no search among the rules. `tls`
    makes every connection speak TLS.
    """

    def __init__(
        self,
        application: Application,
        limits: HttpLimits,
        shortcuts: Shortcuts,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.limits = limits
        self.stopping = False
        self._application = application
        self._shortcuts = shortcuts
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self.done.set_result(None)
        self._wires: set[Wire] = set()
        self._greetings: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._tls_sockets: list[socket.socket] = []
        self._ticker: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None

    async def serve_on(self, sockets: list[socket.socket]) -> None:
        """Begin to accept connections; the sockets are closed with the server."""
        for sock in sockets:
            if self._tls is not None:
                sock.settimeout(0)
                sock.listen(BACKLOG)
                self._tls_sockets.append(sock)
            else:
                self._servers.append(
                    await self._loop.create_server(self._make_wire, sock=sock, backlog=BACKLOG)
                )
        self._tick()

    @property
    def open_connections(self) -> int:
        """Give how many clients are connected, those included that are being taken leave of."""
        return len(self._wires) + len(self._greetings)

    @property
    def answering(self) -> int:
        """Count the clients that are still owed bytes."""
        return sum(wire.phase is Phase.ANSWER or wire.writing() for wire in self._wires)

    def stop_listening(self) -> None:
        """Accept no more connections and close the idle ones."""
        self.stopping = True
        for server in self._servers:
            server.close()
        for sock in self._tls_sockets:
            self._loop.remove_reader(sock)
            sock.close()
        self._servers.clear()
        self._tls_sockets.clear()
        for task in self._greetings:
            task.cancel()
        for wire in list(self._wires):
            if wire.phase is Phase.IDLE and not wire.writing():
                wire.close()

    async def finish_answers(self, timeout_s: float) -> None:
        """Accept nothing more and wait, at most `timeout_s`, until every answer has left.

        A job ends when its upstream does; what a slow reader has not taken is still here then.
        """
        self.stop_listening()
        deadline = self._loop.time() + timeout_s
        while self.answering and self._loop.time() < deadline:  # noqa: ASYNC110
            # A connection tells nobody that its last byte has left.
            await asyncio.sleep(LOOK_AGAIN_S)

    async def aclose(self) -> None:
        """Close everything and wait until the last descriptor is closed."""
        self.stop_listening()
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        if self._greetings:
            await asyncio.wait(self._greetings)
        for wire in list(self._wires):
            wire.abort()
        if self._wires:
            self._emptied = self._loop.create_future()
            await self._emptied

    # What connections call

    def joined(self, wire: Wire) -> bool:
        """Count a connection; False when there are too many."""
        # Those that greet under TLS were counted when they were accepted.
        room = self._tls is not None or len(self._wires) < self.limits.max_connections
        self._wires.add(wire)
        return room and not self.stopping

    def gone(self, wire: Wire) -> None:
        """Forget a connection whose descriptor is closed."""
        self._wires.discard(wire)
        if self._emptied is not None and not self._wires and not self._emptied.done():
            self._emptied.set_result(None)

    def find_delegate(
        self, exchange: Exchange, start_line: RequestStartLine, headers: HTTPHeaders
    ) -> HTTPMessageDelegate:
        """Find the handler: at once for the busiest paths, else as Tornado does, rule by rule.

        Raises HTTPInputError.
        """
        rule = self._shortcuts.get(start_line.path)
        if rule is None:
            return self._application.start_request(self, exchange)
        request = HTTPServerRequest(connection=exchange, start_line=start_line, headers=headers)
        return self._application.get_handler_delegate(request, *rule)

    # Inside

    def _make_wire(self) -> Wire:
        return Wire(self, "http" if self._tls is None else "https")

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                sock, _address = listener.accept()
            except BlockingIOError:
                return
            except OSError:  # out of descriptors, perhaps: look again at the next tick
                self._loop.remove_reader(listener)
                return
            if self.open_connections >= self.limits.max_connections:
                sock.close()
                continue
            sock.settimeout(0)
            task = self._loop.create_task(self._greet(sock), name="TLS handshake")
            self._greetings.add(task)
            task.add_done_callback(self._greetings.discard)

    async def _greet(self, sock: socket.socket) -> None:
        """Do a handshake. Whoever leaves in it, or speaks no TLS, is nobody's error."""
        with contextlib.suppress(OSError):
            await self._loop.connect_accepted_socket(
                self._make_wire,
                sock,
                ssl=self._tls,
                ssl_handshake_timeout=self.limits.head_timeout_s,
                ssl_shutdown_timeout=TLS_FAREWELL_S,
            )

    def _tick(self) -> None:
        self._ticker = self._loop.call_later(TICK_S, self._tick)
        for sock in self._tls_sockets:
            self._loop.add_reader(sock, self._accept, sock)
        now = monotonic()
        for wire in list(self._wires):
            wire.check(now)
