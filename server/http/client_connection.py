"""One client's connection: HTTP/1.1 without I/O waits, tasks or timers of its own.

A `Wire` reads heads, pushes bodies to the handler as they come and answers in order. It asks for
nothing but what its transport tells it, and once a second its server's ticker:

- requests sent ahead wait, unread beyond `AHEAD_BYTES`, until the answer before them has left;
- a client that leaves is noticed at once in every phase, by the ticker while reading is paused;
- broken HTTP is answered in the API's error shape, unless an answer has begun;
- a connection that is closed while its client may still be sending is heard out first, since
  most clients drop an answer that a reset follows (RFC 9112, section 9.6).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import socket
from time import monotonic
from typing import Protocol, cast

import msgspec
from tornado.httputil import HTTPHeaders, HTTPInputError, HTTPMessageDelegate, RequestStartLine

from server.http.chunked_body import ChunkedBody
from server.http.client_exchange import Exchange, Peer
from server.http.connection_errors import no_http, wire_answer
from server.http.request_head import CHUNKED, find_head_end, parse_head, without_blank_lines
from workers.errors import GatewayError, HeadTooLarge, RequestTimeout
from workers.units import KIB

log = logging.getLogger("roxy.http")

BODY_GRACE_S = 10.0
SLOWEST_BODY_BYTES_PER_S = KIB
LINGER_S = 2.0
AHEAD_BYTES = 64 * KIB
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
GONE = (7, 8)
"""TCP's states after the peer's reset and close (linux/include/net/tcp_states.h)."""


class HttpLimits(msgspec.Struct, frozen=True):
    """How long a client may take, in seconds, and how large its head may be, in bytes."""

    head_timeout_s: float = 10.0
    body_timeout_s: float = 60.0
    idle_timeout_s: float = 75.0
    write_timeout_s: float = 60.0
    max_header_bytes: int = 32 * KIB
    max_connections: int = 20_000


class Phase(enum.Enum):
    """What a connection is doing."""

    IDLE = 1
    HEAD = 2
    BODY = 3
    ANSWER = 4
    FAREWELL = 5
    """All is said; what still comes is dropped."""
    CLOSING = 6
    """What is written still has to leave."""


class Keeper(Protocol):
    """The server that a connection belongs to."""

    limits: HttpLimits
    stopping: bool
    done: asyncio.Future[None]
    """What writes give that leave at once: one for all."""

    def joined(self, wire: Wire) -> bool:
        """Count a connection; False when there are too many."""

    def gone(self, wire: Wire) -> None:
        """Forget a connection whose descriptor is closed."""

    def find_delegate(
        self, exchange: Exchange, start_line: RequestStartLine, headers: HTTPHeaders
    ) -> HTTPMessageDelegate:
        """Find who handles a request. Raises HTTPInputError."""


class Wire(asyncio.Protocol):
    """A connection; it closes itself, and its keeper is told."""

    def __init__(self, keeper: Keeper, scheme: str) -> None:
        self._keeper = keeper
        self._scheme = scheme
        self._peer = Peer("", scheme)
        self._transport: asyncio.Transport | None = None
        self.phase = Phase.IDLE
        self._since = monotonic()
        self._received = 0
        self._unread = b""
        self._searched = 0
        self._exchange: Exchange | None = None
        self._left = 0
        self._chunks: ChunkedBody | None = None
        self._expects = self._takes_body = self._closes = False
        self._writable = self._reading = True
        self._drained: asyncio.Future[None] | None = None
        self._unsent = 0
        self._progress = 0.0

    # What the server calls

    @property
    def socket(self) -> socket.socket:
        """Give the socket, for its options."""
        assert self._transport is not None
        return cast("socket.socket", self._transport.get_extra_info("socket"))

    def writing(self) -> bool:
        """Say whether written bytes are still here."""
        return not self._writable

    def check(self, now: float) -> None:
        """Close the connection if its client takes too long or has left; `now` is monotonic."""
        limits, lasted = self._keeper.limits, now - self._since
        if not self._writable:
            self._check_progress(now)
        elif self.phase is Phase.IDLE:
            if lasted > limits.idle_timeout_s:
                self.close()
        elif self.phase is Phase.HEAD:
            if lasted > limits.head_timeout_s:
                self._refuse(RequestTimeout())
        elif self.phase is Phase.BODY and self._body_is_slow(lasted, limits):
            self._refuse(RequestTimeout())
        elif self.phase is Phase.FAREWELL:
            if lasted > LINGER_S:
                self.close()
        elif self.phase is not Phase.CLOSING and not self._reading and self._peer_has_left():
            self.abort()

    def close(self) -> None:
        """Close once what is written has left."""
        self._enter(Phase.CLOSING)
        self._unread = b""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._enter(Phase.CLOSING)
        if self._transport is not None:
            self._transport.abort()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over the socket; under TLS the handshake is done."""
        self._transport = cast("asyncio.Transport", transport)
        self._since = monotonic()
        address = transport.get_extra_info("peername")
        if not self._keeper.joined(self) or address is None:
            self.abort()
            return
        if isinstance(address, tuple):
            self._peer = Peer(address[0], self._scheme)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Whatever the socket does not take at once counts as a client that does not keep up.
        self._transport.set_write_buffer_limits(high=1, low=0)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        phase = self.phase
        if phase is Phase.IDLE:
            self._enter(Phase.HEAD)
        elif phase is Phase.FAREWELL or phase is Phase.CLOSING:
            return
        self._received += len(data)
        self._unread = self._unread + data if self._unread else data
        self._go_on()

    def eof_received(self) -> None:
        """Take the client for gone, though it may have closed its half only."""
        if self.phase in (Phase.IDLE, Phase.FAREWELL, Phase.CLOSING):
            self.close()
        else:
            self.abort()
        self._drop_exchange()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Tell whoever still answers."""
        self.phase = Phase.CLOSING
        self._transport = None
        self._unread = b""
        self._keeper.gone(self)
        self._drop_exchange()
        if self._drained is not None:
            self._drained.cancel()
            self._drained = None

    def pause_writing(self) -> None:
        """Note that the client does not keep up."""
        self._writable = False
        self._unsent = 0
        self._note_progress()

    def resume_writing(self) -> None:
        """Go on: all has left."""
        self._writable = True
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)
        if self.phase is Phase.ANSWER and self._exchange is None:
            self._next()

    # What the exchange calls

    def send(self, data: bytes) -> asyncio.Future[None]:
        """Write; the future is done once the socket has taken it all."""
        if self._transport is not None:
            self._transport.write(data)
            if not self._writable:
                if self._drained is None:
                    self._drained = asyncio.get_running_loop().create_future()
                return self._drained
        return self._keeper.done

    def ready(self, exchange: Exchange) -> None:
        """Push the body that has come so far, and what comes from now on."""
        if exchange is not self._exchange:
            return
        if self._expects:
            self._expects = False
            self.send(CONTINUE)
        self._takes_body = True
        self._go_on()

    def answered(self, exchange: Exchange) -> None:
        """Go on with the next request, or close."""
        if exchange is not self._exchange:
            return
        self._exchange = None
        if self.phase is Phase.BODY:
            self._say_farewell()
        elif self._closes or self._keeper.stopping:
            if self._unread:
                self._say_farewell()
            else:
                self.close()
        elif self._writable:
            self._next()

    # Inside

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._since = monotonic()

    def _next(self) -> None:
        """Wait for the next request; what has come of it is read in a moment."""
        if self._unread:
            self._enter(Phase.HEAD)
            asyncio.get_running_loop().call_soon(self._go_on)
        else:
            self._enter(Phase.IDLE)

    def _go_on(self) -> None:
        """Read what can be read now."""
        try:
            if self.phase is Phase.HEAD and self._unread:
                self._read_head()
            if self.phase is Phase.BODY and self._takes_body and self._unread:
                self._read_body()
        except HTTPInputError:
            self._refuse(no_http())
        if self._reading is not (len(self._unread) <= AHEAD_BYTES):
            self._switch_reading()

    def _switch_reading(self) -> None:
        self._reading = not self._reading
        if self._transport is None or self.phase is Phase.CLOSING:
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
        most = self._keeper.limits.max_header_bytes
        if end > most or (end < 0 and len(data) > most):
            self._refuse(HeadTooLarge())
        elif end < 0:
            self._searched = max(0, len(data) - 3)
        else:
            self._searched = 0
            self._unread = data[end + 4 :]
            self._begin(*parse_head(data[: end + 4]))

    def _begin(self, start_line: RequestStartLine, headers: HTTPHeaders, length: int) -> None:
        self._exchange = exchange = Exchange(self, self._peer)
        asks = headers.get("Connection")
        self._closes = start_line.version != "HTTP/1.1" or (
            asks is not None and "close" in asks.lower()
        )
        delegate = self._keeper.find_delegate(exchange, start_line, headers)
        if length == 0:
            self.phase = Phase.ANSWER
            exchange.begin(delegate, start_line, headers, bodiless=True)
            return
        self._expects = (
            "Expect" in headers
            and headers["Expect"].lower() == "100-continue"
            and start_line.version == "HTTP/1.1"
        )
        self._takes_body = False
        self._left = length
        self._chunks = ChunkedBody() if length == CHUNKED else None
        self._received = len(self._unread)
        self._enter(Phase.BODY)
        exchange.begin(delegate, start_line, headers, bodiless=False)

    def _read_body(self) -> None:
        exchange, data = self._exchange, self._unread
        assert exchange is not None
        if self._chunks is not None:
            piece, self._unread, complete = self._chunks.feed(data)
        else:
            piece, self._unread = data, b""
            if len(data) > self._left:
                piece, self._unread = data[: self._left], data[self._left :]
            self._left -= len(piece)
            complete = not self._left
        waiting = exchange.feed(piece) if piece else None
        if complete and self._exchange is exchange:
            self.phase = Phase.ANSWER
            exchange.complete()
        elif waiting is not None:
            self._takes_body = False
            waiting.add_done_callback(lambda _: self.ready(exchange))

    def _refuse(self, error: GatewayError) -> None:
        """Answer what cannot be served, unless another answer has begun, and part."""
        if self._exchange is None or not self._exchange.begun:
            self.send(wire_answer(error))
        self._say_farewell()
        self._drop_exchange()

    def _say_farewell(self) -> None:
        """Send nothing more, and hear the client out for a moment."""
        self._enter(Phase.FAREWELL)
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
        limit_s = self._keeper.limits.write_timeout_s
        if self._note_progress():
            return
        if now - self._progress > limit_s:
            log.info("a reader made no progress for %g s: connection closed", limit_s)
            self.abort()
        elif not self._reading and self._peer_has_left():
            self.abort()

    def _note_progress(self) -> bool:
        """Say whether bytes have left since the last look."""
        size = self._transport.get_write_buffer_size() if self._transport is not None else 0
        if size == self._unsent:
            return False
        self._unsent = size
        self._progress = monotonic()
        return True

    def _body_is_slow(self, lasted: float, limits: HttpLimits) -> bool:
        rate = self._received / max(lasted, 0.001)
        slowest = SLOWEST_BODY_BYTES_PER_S * (1 if lasted <= limits.body_timeout_s else 64)
        return lasted > min(BODY_GRACE_S, limits.body_timeout_s) and rate < slowest

    def _peer_has_left(self) -> bool:
        """Ask the kernel, since nothing is read to the end here."""
        if not hasattr(socket, "TCP_INFO"):
            return False
        with contextlib.suppress(OSError):
            return self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in GONE
        return False
