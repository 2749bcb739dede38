"""HTTP/1.1 from the client's side: one connection, one exchange at a time, no pool.

A `Connection` writes a request whole, parses the answer with llhttp (httptools) and pushes it to
its `Receiver`; what arrived in one read is handed on in one call. An upstream is hostile input:
heads, trailers and chunk extensions are capped, bytes nobody asked for cost the connection, and an
answer ends cleanly only when its own framing says so.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Mapping
from typing import NamedTuple, Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from workers.errors import UpstreamDisconnected, UpstreamError, UpstreamUnavailable
from workers.units import KIB

ONE_WRITE_BYTES = 64 * KIB
"""Bodies up to this size are copied behind their head and leave in one write."""
SLICE_BYTES = 256 * KIB
"""Larger bodies are offered to the socket in slices, so that TLS never holds a second copy."""
LINGER_S = 1.0
LINGER_BYTES = 64 * KIB
INFORMATIONAL = (100, 102, 103)
TOO_LONG = "The head of the upstream's answer is too long."

_USUAL = (
    "access-control-allow-origin access-control-expose-headers age alt-svc cache-control "
    "cf-cache-status cf-ray connection content-encoding content-length content-type date "
    "keep-alive location nel pragma report-to retry-after server server-timing set-cookie "
    "strict-transport-security transfer-encoding vary via x-accel-buffering "
    "x-content-type-options x-frame-options x-request-id x-robots-tag"
)
NAMES = {
    spelt.encode(): name for name in _USUAL.split() for spelt in (name, name.title(), name.upper())
}
"""Usual header names as sent, and in lower case: half the cost of reading a head."""


class Head(NamedTuple):
    """The head of an answer; header names are lower-case, the last of equal names wins."""

    status: int
    headers: Mapping[str, str]


class Receiver(Protocol):
    """Whoever sent the request. Calls come in this order; after `on_end` or `on_lost` none."""

    def on_sent(self) -> None:
        """Learn that the whole request has been given to the socket."""

    def on_begun(self) -> None:
        """Learn that an answer has begun: the request must never be sent again."""

    def on_head(self, head: Head) -> None:
        """Take the final head."""

    def on_complete(self) -> None:
        """Let go of the connection: the whole answer has been read."""

    def on_data(self, data: bytes) -> None:
        """Take body bytes."""

    def on_end(self) -> None:
        """Learn that the last body bytes have been handed on."""

    def on_lost(self, error: UpstreamError, *, stale: bool) -> None:
        """Learn why there will be no whole answer; `stale`: kept, and not one byte came."""


class Keeper(Protocol):
    """The pool that connections belong to."""

    def joined(self, connection: Connection) -> None:
        """Count an open connection."""

    def parked(self, connection: Connection) -> None:
        """Keep an idle connection for the next exchange."""

    def leaving(self, connection: Connection) -> None:
        """Never hand this connection out again; idempotent."""

    def gone(self, connection: Connection) -> None:
        """Forget a connection whose descriptor is closed."""


class _Drain:
    """Receives the rest of an answer whose owner is finished."""

    def on_sent(self) -> None: ...

    def on_begun(self) -> None: ...

    def on_head(self, head: Head) -> None: ...

    def on_complete(self) -> None: ...

    def on_data(self, data: bytes) -> None: ...

    def on_end(self) -> None: ...

    def on_lost(self, error: UpstreamError, *, stale: bool) -> None: ...


_DRAIN = _Drain()


class Connection(asyncio.Protocol):
    """One socket to an upstream. It closes itself; its keeper is told."""

    __slots__ = (
        "_begun",
        "_done",
        "_fields",
        "_head",
        "_head_only",
        "_headers",
        "_keeper",
        "_linger_left",
        "_linger_timer",
        "_max_head_bytes",
        "_parser",
        "_pieces",
        "_poll",
        "_quiet_bytes",
        "_reading",
        "_receiver",
        "_refusal",
        "_reusable",
        "_reused",
        "_status",
        "_transport",
        "_unsent",
        "_writable",
        "on_body",
        "on_header",
    )

    def __init__(self, keeper: Keeper, max_head_bytes: int) -> None:
        self._keeper = keeper
        self._max_head_bytes = max_head_bytes
        self._transport: asyncio.Transport | None = None
        self._poll = select.poll()
        self._receiver: Receiver | None = None
        self._pieces: list[bytes] = []
        self._fields: dict[bytes, bytes] = {}
        # Straight from the parser into C, without a Python frame; trailers end in _fields unread.
        self.on_body = self._pieces.append
        self.on_header = self._fields.__setitem__
        self._parser: HttpResponseParser | None = None
        self._unsent: memoryview | None = None
        self._writable = self._reading = True
        self._reused = False
        self._linger_timer: asyncio.TimerHandle | None = None
        self._begin(head_only=False)

    def _begin(self, *, head_only: bool) -> None:
        self._head_only = head_only
        self._head: Head | None = None
        self._headers: dict[str, str] = {}
        self._quiet_bytes = 0
        self._status = 0
        self._refusal: str | None = None
        self._begun = self._done = self._reusable = False
        self._linger_left = LINGER_BYTES

    # What the pool and the exchange call

    @property
    def reused(self) -> bool:
        """Say whether an exchange has been completed here before the present one."""
        return self._reused

    @property
    def usable(self) -> bool:
        """Say whether an idle connection can take a request.

        One look at the socket: while the loop is behind, a close or stray bytes may already have
        arrived, and a request written now would meet them.
        """
        transport = self._transport
        return transport is not None and not transport.is_closing() and not self._poll.poll(0)

    def start(self, receiver: Receiver, head: bytes, body: bytes) -> None:
        """Send a request and push its answer to `receiver`."""
        transport = self._transport
        self._receiver = receiver
        self._begin(head_only=head.startswith(b"HEAD "))
        if transport is None or transport.is_closing():
            self._lose(None)
        elif len(body) <= ONE_WRITE_BYTES:
            transport.write(head + body if body else head)
            if not transport.is_closing():
                receiver.on_sent()
        else:
            self._unsent = memoryview(body)
            transport.write(head)
            self._send_on()

    def pause(self) -> None:
        """Stop reading from the socket; idempotent."""
        if self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on; idempotent."""
        if not self._reading and self._transport is not None:
            self._reading = True
            self._transport.resume_reading()

    def drop(self) -> None:
        """Close without a word to the receiver."""
        self._receiver = None
        self.close()

    def linger(self) -> None:
        """Let the answer end unread for `LINGER_S` and `LINGER_BYTES`, then close.

        What is missing is often just the end of the chunked framing, and not worth a connection.
        """
        if self._unsent is not None:
            self.drop()
            return
        self._receiver = _DRAIN
        self._linger_timer = asyncio.get_running_loop().call_later(LINGER_S, self.drop)
        self.resume()

    def close(self) -> None:
        """Close at once; the receiver hears of it when the socket is gone."""
        self._keeper.leaving(self)
        self._stop_timer()
        self._unsent = None
        if self._transport is not None:
            self._transport.abort()  # close() would wait for the peer's close_notify under TLS

    def fail(self, error: UpstreamError, *, stale: bool = False) -> None:
        """Close at once and hand `error` to the receiver."""
        receiver, self._receiver = self._receiver, None
        self.close()
        if receiver is not None:
            receiver.on_lost(error, stale=stale)

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over the socket; under TLS it has been verified by now."""
        self._transport = cast("asyncio.Transport", transport)
        self._parser = HttpResponseParser(self)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._poll.register(sock.fileno(), select.POLLIN)
        self._keeper.joined(self)

    def data_received(self, data: bytes) -> None:
        """Parse what one read brought and push it on."""
        receiver, parser = self._receiver, self._parser
        if receiver is None or parser is None:
            self.close()  # nobody asked: what came next could be taken for the next answer
            return
        if not self._begun:
            self._begun = True
            receiver.on_begun()
        self._quiet_bytes += len(data)
        error: UpstreamError | None = None
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as cause:
            self._reusable = False
            error = UpstreamError(self._refusal)
            error.__cause__ = cause.with_traceback(None)
        if self._done:
            receiver.on_complete()
            self._finish()
        elif receiver is _DRAIN:
            self._count_lingering(len(data))
        self._push(receiver, error)

    def eof_received(self) -> None:
        """End an answer that lasts until the connection closes; any other is cut.

        Under TLS only a proper close_notify comes here.
        """
        receiver = self._receiver
        if receiver is not None and self._status and self._lasts_until_close():
            receiver.on_complete()
            self.drop()
            receiver.on_end()
        else:
            self._lose(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the loss to whoever still waits."""
        self._lose(exc)
        self._transport = None
        self._parser = None  # parser and connection refer to each other
        self._keeper.gone(self)

    def pause_writing(self) -> None:
        """Stop offering slices of the body."""
        self._writable = False

    def resume_writing(self) -> None:
        """Go on with the body."""
        self._writable = True
        self._send_on()

    # What the parser calls

    def on_message_begin(self) -> None:
        """Begin a head, the final one or an informational one."""
        if self._done:
            raise ValueError("bytes after the end")
        self._fields.clear()

    def on_headers_complete(self) -> None:
        """Take a final head; informational ones are skipped, a change of protocol is refused."""
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status < 200:
            if status not in INFORMATIONAL:
                raise ValueError("no such informational answer")
            return
        fields = self._fields
        if self._quiet_bytes > self._max_head_bytes:  # no head is longer than what was read
            self._check_size(fields)
        self._headers = headers = {
            NAMES.get(name) or name.lower().decode("latin-1"): value.decode("latin-1").strip()
            for name, value in fields.items()
        }
        headers.pop("set-cookie", None)
        self._status = status
        self._head = Head(status, headers)
        self._done = self._head_only

    def on_message_complete(self) -> None:
        """End the answer."""
        assert self._parser is not None
        if self._status and not self._done:
            self._done = True
            self._reusable = self._parser.should_keep_alive()

    # Inside

    def _push(self, receiver: Receiver, error: UpstreamError | None) -> None:
        """Hand on what the parser has gathered. The receiver may call anything from in here."""
        done, pieces = self._done, self._pieces
        progress = bool(pieces)
        if self._head is not None:
            head, self._head = self._head, None
            progress = True
            receiver.on_head(head)
        if pieces:
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            if not self._head_only:
                receiver.on_data(data)
        if done:
            receiver.on_end()
        elif self._receiver is not receiver:
            return
        elif error is not None:
            self.fail(error)
        elif progress:
            self._quiet_bytes = 0
        elif self._quiet_bytes > self._max_head_bytes:
            # An endless head, trailer, or chunk extension.
            self.fail(UpstreamError(TOO_LONG))

    def _finish(self) -> None:
        """Let go of the receiver: be idle, or close if this connection cannot be used again."""
        transport, self._receiver = self._transport, None
        self._stop_timer()
        if (
            self._reusable
            and self._unsent is None
            and transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        ):
            self.resume()  # an idle connection must notice that its peer leaves
            self._reused = True
            self._keeper.parked(self)
        else:
            self.close()

    def _check_size(self, fields: dict[bytes, bytes]) -> None:
        size = sum(len(name) + len(value) + 4 for name, value in fields.items())
        if size > self._max_head_bytes:
            self._refusal = TOO_LONG
            raise ValueError("head too long")

    def _count_lingering(self, size: int) -> None:
        self._linger_left -= size
        if self._linger_left < 0:
            self.drop()

    def _lasts_until_close(self) -> bool:
        """Say whether the answer has no framing of its own (RFC 9112, section 6.3)."""
        coding = self._headers.get("transfer-encoding")
        if coding is not None:
            return not coding.lower().endswith("chunked")
        return "content-length" not in self._headers

    def _lose(self, cause: Exception | None) -> None:
        error = UpstreamDisconnected() if self._begun else UpstreamUnavailable()
        error.__cause__ = cause
        self.fail(error, stale=self._reused and not self._begun)

    def _send_on(self) -> None:
        """Offer slices of the body while the socket takes them."""
        transport = self._transport
        while self._unsent is not None and self._writable and transport is not None:
            if transport.is_closing():
                return
            piece, rest = self._unsent[:SLICE_BYTES], self._unsent[SLICE_BYTES:]
            self._unsent = rest if rest.nbytes else None
            transport.write(piece)
            if self._unsent is None and self._receiver is not None and not transport.is_closing():
                self._receiver.on_sent()

    def _stop_timer(self) -> None:
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None
