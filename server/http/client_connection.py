"""Serve HTTP/1.1 on one client's connection, without tasks or timers per connection.

A `ClientConnection` reads heads, pushes bodies to the handler as they arrive and answers in order.
It acts on events of its transport, and on `check`, which its server calls once a second:

- pipelined requests wait until the answer before them is written; reading pauses while more than
  `AHEAD_BYTES` of them are buffered;
- a client that leaves is noticed at once in every state; while reading is paused, by `check`;
- malformed HTTP is answered with an error in the API's shape, unless an answer has begun;
- before a connection closes while its client may still be sending, it lingers and drops what
  arrives: most clients discard an answer that a reset follows (RFC 9112, section 9.6).
"""

from __future__ import annotations

import asyncio
import enum
import logging
import socket
from collections.abc import Callable, Iterator
from time import monotonic
from typing import cast

import msgspec
from tornado.httputil import HTTPHeaders, HTTPInputError, HTTPMessageDelegate, RequestStartLine

from server.http.chunked_body import ChunkedBody
from server.http.client_exchange import ClientExchange, Departure, Peer
from server.http.client_reading import (
    Pace,
    ReadingClient,
    acknowledged_bytes,
    peer_has_left,
    prepare_socket,
)
from server.http.connection_errors import error_answer, invalid_http
from server.http.request_head import CHUNKED, find_head_end, parse_head, without_blank_lines
from workers.errors import GatewayError, HeadTooLarge, RequestTimeout
from workers.units import KIB

log = logging.getLogger("roxy.http")

BODY_GRACE_S = 10.0
"""How long the rate of a body is not judged: a pause at its start is no sign of a slow client."""
SLOWEST_BODY_BYTES_PER_S = KIB
LATE_BODY_FACTOR = 64
"""Past `body_timeout_s` a body may go on only at this multiple of the slowest rate."""
LINGER_S = 2.0
"""How long a client may take to read the last answer; nginx's `lingering_timeout` is 5 s."""
AHEAD_BYTES = 64 * KIB
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class HttpLimits(msgspec.Struct, frozen=True):
    """What a client may use, from the settings: times in seconds, the size of a head in bytes."""

    head_timeout_s: float
    body_timeout_s: float
    idle_timeout_s: float
    write_timeout_s: float
    max_header_bytes: int
    max_connections: int
    min_read_bytes_per_s: int = 0


class ConnectionState(enum.Enum):
    """What a connection is doing."""

    IDLE = 1
    HEAD = 2
    BODY = 3
    ANSWER = 4
    LINGER = 5
    """Everything is written; what still arrives is dropped."""
    CLOSING = 6
    """What is written has yet to leave."""


def body_is_slow(received: int, lasted_s: float, timeout_s: float) -> bool:
    """Return whether a body has arrived too slowly so far: dripped, or late and not fast."""
    slowest = SLOWEST_BODY_BYTES_PER_S * (1 if lasted_s <= timeout_s else LATE_BODY_FACTOR)
    return lasted_s > min(BODY_GRACE_S, timeout_s) and received < slowest * lasted_s


FindDelegate = Callable[
    ["ClientExchange", RequestStartLine, HTTPHeaders],
    HTTPMessageDelegate,
]
"""Find the handler of a request. May raise HTTPInputError."""


class ClientConnections:
    """The open connections of one server, and what they share.

    `counts_here`: connections past `limits.max_connections` are refused when they are added; a
    server that accepts them itself, as under TLS, has counted them before.
    """

    def __init__(
        self, limits: HttpLimits, find_delegate: FindDelegate, *, counts_here: bool
    ) -> None:
        self.limits = limits
        self.pace = Pace(limits.write_timeout_s, limits.min_read_bytes_per_s)
        self.find_delegate = find_delegate
        self.clock: Callable[[], float] = monotonic
        """Measures the limits of time, in seconds."""
        self.leaving = False
        """Whether connections close after their next answer."""
        self.departure = Departure()
        self.stopping = False
        self._counts_here = counts_here
        self._open: set[ClientConnection] = set()
        self._emptied: asyncio.Future[None] | None = None
        self.written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """The result of every write that the socket takes at once: one future for all."""
        self.written.set_result(None)

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[ClientConnection]:
        """Iterate over a copy: connections remove themselves."""
        return iter(list(self._open))

    def add(self, connection: ClientConnection) -> bool:
        """Add a connection; False when it must be closed at once."""
        room = not self._counts_here or len(self._open) < self.limits.max_connections
        self._open.add(connection)
        return room and not self.stopping

    def remove(self, connection: ClientConnection) -> None:
        """Remove a connection whose descriptor is closed."""
        self._open.discard(connection)
        if self._emptied is not None and not self._open and not self._emptied.done():
            self._emptied.set_result(None)

    async def wait_empty(self) -> None:
        """Wait until the last descriptor is closed."""
        if self._open:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied


class ClientConnection(asyncio.Protocol):
    """One connection, from its first byte until its descriptor is closed."""

    def __init__(self, connections: ClientConnections, scheme: str) -> None:
        self._connections = connections
        self._scheme = scheme
        self._peer = Peer("", scheme)
        self._transport: asyncio.Transport | None = None
        self.state = ConnectionState.IDLE
        self._since = connections.clock()
        self._received = 0
        self._unread = b""
        self._searched = 0
        self._exchange: ClientExchange | None = None
        self._body_left = 0
        self._chunks: ChunkedBody | None = None
        self._continue_due = False
        self._closes = False
        self._writable = self._reading = True
        self._drained: asyncio.Future[None] | None = None
        self._unsent = 0
        self._drained_bytes = 0
        self._client = ReadingClient(connections.pace)

    # Calls of the server

    @property
    def socket(self) -> socket.socket:
        """Return the socket, for its options."""
        assert self._transport is not None
        return cast("socket.socket", self._transport.get_extra_info("socket"))

    def writing(self) -> bool:
        """Return whether written bytes are still buffered here."""
        return not self._writable

    def check(self, now: float) -> None:
        """Close the connection if its client takes too long or has left by `now` on the clock."""
        limits, lasted = self._connections.limits, now - self._since
        if not self._writable:
            self._check_progress(now)
        elif self.state is ConnectionState.IDLE:
            if lasted > limits.idle_timeout_s:
                self.close()
        elif self.state is ConnectionState.HEAD:
            if lasted > limits.head_timeout_s:
                self._refuse(RequestTimeout())
        elif self.state is ConnectionState.BODY and body_is_slow(
            self._received, lasted, limits.body_timeout_s
        ):
            self._refuse(RequestTimeout())
        elif self.state is ConnectionState.LINGER:
            if lasted > LINGER_S:
                self.close()
        elif (
            self.state is not ConnectionState.CLOSING
            and not self._reading
            and peer_has_left(self.socket)
        ):
            self.abort()

    def close(self) -> None:
        """Close once what is written has left."""
        self._enter(ConnectionState.CLOSING)
        self._unread = b""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._enter(ConnectionState.CLOSING)
        if self._transport is not None:
            self._transport.abort()

    # Calls of the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to serve; under TLS, after the handshake."""
        self._transport = cast("asyncio.Transport", transport)
        self._since = self._connections.clock()
        address = transport.get_extra_info("peername")
        if not self._connections.add(self) or address is None:
            self.abort()
            return
        if isinstance(address, tuple):
            self._peer = Peer(address[0], self._scheme)
            prepare_socket(self.socket)
        # With these limits, pause_writing is called as soon as the socket does not take a write
        # whole: the client does not keep up, and the upstream has to pause.
        self._transport.set_write_buffer_limits(high=1, low=0)

    def data_received(self, data: bytes) -> None:
        """Buffer the bytes and read what is complete."""
        state = self.state
        if state is ConnectionState.IDLE:
            self._enter(ConnectionState.HEAD)
        elif state is ConnectionState.LINGER or state is ConnectionState.CLOSING:
            return
        self._received += len(data)
        self._unread = self._unread + data if self._unread else data
        self._read()

    def eof_received(self) -> None:
        """Close, as if the client had left.

        A client may close only its sending half and still read (RFC 9112, section 9.6), but few
        HTTP clients do, and an upstream request would run on for each one that has really left.
        """
        if self.state in (ConnectionState.IDLE, ConnectionState.LINGER, ConnectionState.CLOSING):
            self.close()
        else:
            self.abort()
        self._drop_exchange()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Report to the exchange that the client has left."""
        self.state = ConnectionState.CLOSING
        self._transport = None
        self._unread = b""
        self._connections.remove(self)
        self._drop_exchange()
        if self._drained is not None:
            self._drained.cancel()  # not a result: a reader would resume for a closed connection
            self._drained = None

    def pause_writing(self) -> None:
        """Note that the client does not keep up, and from when on."""
        self._writable = False
        self._unsent = 0
        connections = self._connections
        self._client.begin(connections.pace, self._taken_bytes(), connections.clock())

    def resume_writing(self) -> None:
        """Resume the writer: everything has left."""
        connections = self._connections
        self._client.waits(connections.pace, self._taken_bytes(), connections.clock())
        self._writable = True
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)
        if self.state is ConnectionState.ANSWER and self._exchange is None:
            self._start_next()

    # Calls of the exchange

    def send(self, data: bytes) -> asyncio.Future[None]:
        """Write. The future is done once the socket has taken everything."""
        if self._transport is not None:
            self._transport.write(data)
            if not self._writable:
                if self._drained is None:
                    self._drained = asyncio.get_running_loop().create_future()
                return self._drained
        return self._connections.written

    def exchange_finished(self, exchange: ClientExchange) -> None:
        """Continue with the next request, or close."""
        if exchange is not self._exchange:
            return
        self._exchange = None
        if self.state is ConnectionState.BODY:
            self._linger()
        elif (
            self._closes
            or exchange.closes
            or self._connections.leaving
            or self._connections.stopping
        ):
            if self._unread:
                self._linger()
            else:
                self.close()
        elif self._writable:
            self._start_next()

    def exchange_released(self, exchange: ClientExchange) -> None:
        """Ask for the body, if the client waits for that, and read it."""
        if exchange is not self._exchange:
            return
        if self._continue_due and not exchange.over:
            self.send(CONTINUE)
        self._continue_due = False
        self._read()

    def _enter(self, state: ConnectionState) -> None:
        self.state = state
        self._since = self._connections.clock()

    def _start_next(self) -> None:
        """Wait for the next request, or read what is buffered of it.

        By `call_soon`, because answering many pipelined requests at once must not recurse.
        """
        if self._unread:
            self._enter(ConnectionState.HEAD)
            asyncio.get_running_loop().call_soon(self._read)
        else:
            self._enter(ConnectionState.IDLE)

    def _read(self) -> None:
        """Read from the buffer what this state allows."""
        try:
            if self.state is ConnectionState.HEAD and self._unread:
                self._read_head()
            if self.state is ConnectionState.BODY and self._unread:
                self._read_body()
        except HTTPInputError:
            self._refuse(invalid_http())
        if self._reading is not (len(self._unread) <= AHEAD_BYTES):
            self._switch_reading()

    def _switch_reading(self) -> None:
        self._reading = not self._reading
        if self._transport is None or self.state is ConnectionState.CLOSING:
            return
        if self._reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _read_head(self) -> None:
        data = self._unread
        if data.startswith(b"\r\n"):
            data = self._unread = without_blank_lines(data)
        end = find_head_end(data, self._searched)
        most = self._connections.limits.max_header_bytes
        if end > most or (end < 0 and len(data) > most):
            self._refuse(HeadTooLarge())
        elif end < 0:
            self._searched = max(0, len(data) - 3)
        else:
            self._searched = 0
            self._unread = data[end + 4 :]
            self._begin(*parse_head(data[: end + 4]))

    def _begin(self, start_line: RequestStartLine, headers: HTTPHeaders, length: int) -> None:
        self._exchange = exchange = ClientExchange(
            self._peer,
            self.send,
            self.exchange_finished,
            self.exchange_released,
            self._connections.departure,
        )
        asks = headers.get("Connection")
        self._closes = start_line.version != "HTTP/1.1" or (
            asks is not None and "close" in asks.lower()
        )
        delegate = self._connections.find_delegate(exchange, start_line, headers)
        if length == 0:
            self.state = ConnectionState.ANSWER
            exchange.begin(delegate, start_line, headers)
            exchange.complete()
            return
        self._body_left = length
        self._chunks = ChunkedBody() if length == CHUNKED else None
        self._received = len(self._unread)
        self._enter(ConnectionState.BODY)
        exchange.begin(delegate, start_line, headers)
        self._continue_due = (
            "Expect" in headers
            and headers["Expect"].lower() == "100-continue"
            and start_line.version == "HTTP/1.1"
        )
        if not exchange.held:
            self.exchange_released(exchange)

    def _read_body(self) -> None:
        exchange, data = self._exchange, self._unread
        assert exchange is not None
        if exchange.held:
            return
        if self._chunks is not None:
            piece, self._unread, complete = self._chunks.feed(data)
        else:
            piece, self._unread = data, b""
            if len(data) > self._body_left:
                piece, self._unread = data[: self._body_left], data[self._body_left :]
            self._body_left -= len(piece)
            complete = not self._body_left
        if piece:
            exchange.feed(piece)
        if complete and self._exchange is exchange:
            self.state = ConnectionState.ANSWER
            exchange.complete()

    def _refuse(self, error: GatewayError) -> None:
        """Answer with an error, unless another answer has begun, and close."""
        if self._exchange is None or not self._exchange.begun:
            self.send(error_answer(error))
        self._linger()
        self._drop_exchange()

    def _linger(self) -> None:
        """Stop sending, and drop what arrives until the client closes or `LINGER_S` have passed."""
        self._enter(ConnectionState.LINGER)
        self._unread = b""
        transport = self._transport
        if transport is None:
            return
        if transport.can_write_eof():
            transport.write_eof()
        if not self._reading:
            self._switch_reading()

    def _drop_exchange(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.leave()

    def _check_progress(self, now: float) -> None:
        if not self._client.waits(self._connections.pace, self._taken_bytes(), now):
            log.info("a client read too slowly: connection closed")
            self.abort()
        elif not self._reading and peer_has_left(self.socket):
            self.abort()

    def _taken_bytes(self) -> int:
        """Return how much the client has taken, in all or, where that is not known, lately."""
        if self._transport is None:
            return 0
        acknowledged = acknowledged_bytes(self.socket)
        if acknowledged is not None:
            return acknowledged
        size = self._transport.get_write_buffer_size()
        self._drained_bytes += max(self._unsent - size, 0)
        self._unsent = size
        return self._drained_bytes
