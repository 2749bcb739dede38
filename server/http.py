"""Tornado's HTTP server with its gaps closed: the only module that knows of sockets and streams.

What Tornado 6.6 lacks and is added here, below `HTTPConnection`, so that handlers never see it:

- TCP_NODELAY from the first byte and for good (Tornado switches it off between requests, which
  costs 43 ms of time to first token);
- separate limits for an idle connection, a slow head, a slow body and a reader that has stopped
  reading, all kept by one ticker instead of a timer per request;
- a client that left is noticed even when it had sent bytes ahead (Tornado does not read then);
- broken HTTP is answered in the API's error shape instead of a bare 400, an over-long head by 431;
- framing that two parsers could read differently (Content-Length with Transfer-Encoding, several
  lengths, unknown codings) is refused before any handler runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from http.client import responses
from time import monotonic
from typing import Any

import msgspec
from tornado import httputil, iostream, netutil
from tornado.httpserver import HTTPServer
from tornado.web import Application

from server.request_id import new_request_id
from workers.errors import GatewayError, HeadTooLarge, InvalidRequest, RequestTimeout

log = logging.getLogger("roxy.http")

TICK_S = 1.0
BODY_GRACE_S = 10.0
SLOWEST_BODY_BYTES_PER_S = 1024
UNLIMITED_BODY = 1 << 62
"""Handlers bound bodies themselves, so that the client gets to read a 413."""
BARE_400 = b"HTTP/1.1 400 Bad Request\r\n\r\n"
CLOSE_WAIT = 8
"""The TCP state of a socket whose peer has closed (linux/include/net/tcp_states.h)."""
PLAIN_LENGTH = re.compile(r"[0-9]{1,18}")


class HttpLimits(msgspec.Struct, frozen=True):
    """How long a client may take, in seconds, and how large its head may be, in bytes."""

    head_timeout_s: float = 10.0
    body_timeout_s: float = 60.0
    idle_timeout_s: float = 75.0
    write_timeout_s: float = 60.0
    max_header_bytes: int = 32 * 1024
    max_connections: int = 20_000


class Phase(enum.Enum):
    """What a connection is doing."""

    IDLE = 1
    HEAD = 2
    BODY = 3
    ANSWER = 4


def wire_answer(error: GatewayError) -> bytes:
    """Give a whole response, for faults met before a handler exists."""
    body = error.encoded()
    reason = responses.get(error.status, "Error")
    head = (
        f"HTTP/1.1 {error.status} {reason}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n"
        f"X-Request-Id: {new_request_id()}\r\n\r\n"
    )
    return head.encode("latin1") + body


class Watched(iostream.IOStream):
    """An accepted connection that remembers what it is doing since when."""

    phase = Phase.IDLE
    since = 0.0
    received = 0
    progress = 0.0
    answering = False

    def set_nodelay(self, value: bool) -> None:
        """Ignore Tornado's switching: the flag is set once, when the connection is accepted."""

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """Read, noting when a head begins and how much of a body has come."""
        count = super().read_from_fd(buf)
        if count:
            self.received += count
            if self.phase is Phase.IDLE:
                self.enter(Phase.HEAD)
        return count

    def write_to_fd(self, data: memoryview) -> int:
        """Write, noting that the reader makes progress."""
        count = super().write_to_fd(data)
        if count:
            self.progress = monotonic()
        return count

    def write(self, data: bytes | memoryview) -> asyncio.Future[None]:
        """Write; Tornado's bare answer to broken HTTP becomes one that explains itself."""
        if data == BARE_400:
            if self.answering:  # a second answer would be taken for that of the next request
                data = b""
            else:
                data = wire_answer(
                    InvalidRequest("This is not valid HTTP/1.1.", code="invalid_http")
                )
        elif data[:12] != b"HTTP/1.1 100":
            self.answering = True
        return super().write(data)

    def close(self, exc_info: Any = False) -> None:
        """Close; a head over the cap is told so first."""
        if isinstance(exc_info, iostream.UnsatisfiableReadError) and self.phase is Phase.HEAD:
            self.last_words(HeadTooLarge())
        super().close(exc_info)

    def last_words(self, error: GatewayError) -> None:
        """Try to send a final answer without waiting; the connection is about to be closed."""
        if not self.closed() and not self.writing() and not self.answering:
            with contextlib.suppress(OSError):
                self.write_to_fd(memoryview(wire_answer(error)))

    def enter(self, phase: Phase) -> None:
        """Begin a phase."""
        self.phase = phase
        self.since = self.progress = monotonic()
        if phase is not Phase.HEAD:
            self.received = 0
        if phase is Phase.IDLE:
            self.answering = False

    def check(self, now: float, limits: HttpLimits) -> None:
        """Close the connection if its client takes too long or has left."""
        lasted = now - self.since
        if self.writing():
            if now - self.progress > limits.write_timeout_s:
                log.info(
                    "a reader made no progress for %g s: connection closed", limits.write_timeout_s
                )
                self.close()
        elif self.phase is Phase.IDLE:
            if lasted > limits.idle_timeout_s:
                self.close()
        elif self.phase is Phase.HEAD:
            if lasted > limits.head_timeout_s:
                self.give_up()
        elif self.phase is Phase.BODY and self._body_is_slow(lasted, limits):
            self.give_up()
        elif self.peer_has_left():
            self.close()

    def give_up(self) -> None:
        """Close on a client that is too slow, telling it why."""
        self.last_words(RequestTimeout())
        self.close()

    def _body_is_slow(self, lasted: float, limits: HttpLimits) -> bool:
        rate = self.received / max(lasted, 0.001)
        slowest = SLOWEST_BODY_BYTES_PER_S * (1 if lasted <= limits.body_timeout_s else 64)
        return lasted > min(BODY_GRACE_S, limits.body_timeout_s) and rate < slowest

    def peer_has_left(self) -> bool:
        """Ask the kernel, since bytes sent ahead keep Tornado from reading to the end."""
        if self.closed() or not hasattr(socket, "TCP_INFO"):
            return False
        try:
            return self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == CLOSE_WAIT
        except OSError:
            return False


class WatchedTLS(Watched, iostream.SSLIOStream):
    """The same over TLS; an unfinished handshake counts as a slow head."""

    def enter(self, phase: Phase) -> None:
        """Begin a phase."""
        greeting = phase is Phase.IDLE and self.socket.version() is None
        super().enter(Phase.HEAD if greeting else phase)


def check_framing(headers: httputil.HTTPHeaders) -> None:
    """Refuse heads whose body two parsers could delimit differently. Raises HTTPInputError."""
    lengths = headers.get_list("Content-Length")
    codings = headers.get_list("Transfer-Encoding")
    if codings:
        if lengths:
            raise httputil.HTTPInputError("both Content-Length and Transfer-Encoding")
        if len(codings) > 1 or codings[0].lower() != "chunked":
            raise httputil.HTTPInputError("unknown transfer coding")
    elif lengths and (len(lengths) > 1 or not PLAIN_LENGTH.fullmatch(lengths[0])):
        raise httputil.HTTPInputError("ambiguous Content-Length")


class Exchange(httputil.HTTPMessageDelegate):
    """One request on a connection: keeps the connection's phase, passes everything on."""

    def __init__(
        self,
        application: Application,
        server_connection: object,
        connection: httputil.HTTPConnection,
        stream: Watched,
    ) -> None:
        self._application = application
        self._server_connection = server_connection
        self._connection = connection
        self._stream = stream
        self._delegate: httputil.HTTPMessageDelegate | None = None
        stream.enter(Phase.IDLE)

    def headers_received(
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
    ) -> Awaitable[None] | None:
        """Check the framing, then hand the head to the application."""
        check_framing(headers)
        self._stream.enter(Phase.BODY)
        self._delegate = self._application.start_request(self._server_connection, self._connection)
        return self._delegate.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Pass a piece of the body on."""
        assert self._delegate is not None
        return self._delegate.data_received(chunk)

    def finish(self) -> None:
        """Note that the body is complete."""
        self._stream.enter(Phase.ANSWER)
        assert self._delegate is not None
        self._delegate.finish()

    def on_connection_close(self) -> None:
        """Pass on that the client has left."""
        if self._delegate is not None:
            self._delegate.on_connection_close()


class GatewayServer(HTTPServer):
    """Serve an application on listening sockets, keeping `HttpLimits` for every connection."""

    def initialize(  # type: ignore[override]
        self, application: Application, limits: HttpLimits, tls: ssl.SSLContext | None = None
    ) -> None:
        """Prepare to serve; `tls` makes every connection speak TLS."""
        super().initialize(
            application,
            max_header_size=limits.max_header_bytes,
            max_body_size=UNLIMITED_BODY,
            ssl_options=tls,
        )
        self.conn_params.header_timeout = None  # the ticker keeps it, without a timer per request
        self._application = application
        self._limits = limits
        self._tls = tls
        self._streams: set[Watched] = set()
        self._closers: list[Callable[[], None]] = []
        self._ticker: asyncio.TimerHandle | None = None
        self._stopping = False

    def serve_on(self, sockets: list[socket.socket]) -> None:
        """Begin to accept connections."""
        for sock in sockets:
            self._closers.append(netutil.add_accept_handler(sock, self._accept))
            self._closers.append(sock.close)
        self._tick()

    @property
    def open_connections(self) -> int:
        """Give how many clients are connected."""
        return len(self._streams)

    def stop_listening(self) -> None:
        """Accept no more connections and close the idle ones."""
        for close in self._closers:
            close()
        self._closers.clear()
        self._stopping = True
        for stream in list(self._streams):
            if stream.phase is Phase.IDLE and not stream.writing():
                stream.close()

    async def aclose(self) -> None:
        """Close everything and wait until each connection's task has ended."""
        self.stop_listening()
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        await self.close_all_connections()

    def start_request(
        self, server_conn: object, request_conn: httputil.HTTPConnection
    ) -> httputil.HTTPMessageDelegate:
        """Begin one request of a connection."""
        stream: Watched = request_conn.stream  # type: ignore[attr-defined]
        if self._stopping:
            stream.close()
        return Exchange(self._application, server_conn, request_conn, stream)

    def _accept(self, connection: socket.socket, address: Any) -> None:
        if len(self._streams) >= self._limits.max_connections:
            connection.close()
            return
        try:
            if connection.family in (socket.AF_INET, socket.AF_INET6):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = self._wrap(connection)
        except (OSError, ssl.SSLError):  # gone before it was greeted
            connection.close()
            return
        stream.enter(Phase.IDLE)
        self._streams.add(stream)
        self.handle_stream(stream, address)

    def _wrap(self, connection: socket.socket) -> Watched:
        if self._tls is None:
            return Watched(connection)
        wrapped = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return WatchedTLS(wrapped)

    def _tick(self) -> None:
        self._ticker = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        now = monotonic()
        for stream in list(self._streams):
            if stream.closed():
                self._streams.discard(stream)
            else:
                stream.check(now, self._limits)

    def on_close(self, server_conn: object) -> None:
        """Forget a connection that has ended."""
        super().on_close(server_conn)
        self._streams.discard(server_conn.stream)  # type: ignore[attr-defined]
