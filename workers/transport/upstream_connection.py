"""HTTP/1.1 towards an upstream: one connection, one exchange at a time, no pool.

An `UpstreamConnection` writes a request, parses the answer with llhttp (httptools) and pushes it to
its `AnswerReceiver`: the bytes of one read in one call. Upstream bytes are hostile input: heads,
trailers and chunk extensions are capped, unsolicited bytes close the connection, and an answer is
complete only when its framing says so.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from workers.errors import UpstreamDisconnected, UpstreamError, UpstreamUnavailable
from workers.units import KIB

ONE_WRITE_BYTES = 64 * KIB
"""A body up to this size is copied behind its head and sent in one write."""
SLICE_BYTES = 256 * KIB
"""A larger body is written in slices, because TLS would encrypt and hold a second copy of it."""
LINGER_S = 1.0
"""How long the unread rest of an answer may take before its connection is closed."""
LINGER_BYTES = 64 * KIB
"""How large the unread rest of an answer may be before its connection is closed."""
MAX_HEAD_BYTES = 64 * KIB
INFORMATIONAL = (100, 102, 103)
"""Heads to skip before the final one (RFC 9110, 15.2). 101 would change the protocol."""
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
"""Usual header names, as sent to lower-case: a look-up halves the time that a head takes."""


class UpstreamHead(NamedTuple):
    """The head of an answer. Header names are lower-case; of equal names the last one is kept."""

    status: int
    headers: Mapping[str, str]


class AnswerReceiver:
    """Receive what a connection learns about its answer, in the order of these methods.

    Nothing is called after `on_end` or `on_lost`. This class ignores everything: a connection
    gives it the rest of an answer that was released early. `UpstreamExchange` is the subclass that
    uses the answer.
    """

    __slots__ = ()

    def on_sent(self) -> None:
        """Handle that the whole request has been given to the socket."""

    def on_begun(self) -> None:
        """Handle the first byte of an answer: the request must never be sent again."""

    def on_head(self, head: UpstreamHead) -> None:
        """Handle the final head."""

    def on_complete(self) -> None:
        """Handle that the whole answer was read; the connection is free for another exchange."""

    def on_data(self, data: bytes) -> None:
        """Handle body bytes."""

    def on_end(self) -> None:
        """Handle that the last body bytes were passed on."""

    def on_lost(self, error: UpstreamError, *, stale: bool) -> None:
        """Handle that the answer is incomplete; `stale`: a kept connection, and no byte came."""


_IGNORE = AnswerReceiver()


class ConnectionEvents(NamedTuple):
    """What a connection calls when its state changes. `closing` may be called several times.

    `opened`: it can be used. `idle`: its exchange is over and the next may begin. `closing`: it
    must not be used any more. `closed`: its descriptor is closed.
    """

    opened: Callable[[UpstreamConnection], None]
    idle: Callable[[UpstreamConnection], None]
    closing: Callable[[UpstreamConnection], None]
    closed: Callable[[UpstreamConnection], None]


class UpstreamConnection(asyncio.Protocol):
    """One socket to an upstream. It closes itself and reports that through its `events`."""

    __slots__ = (
        "_begun",
        "_done",
        "_events",
        "_fields",
        "_head",
        "_head_only",
        "_headers",
        "_linger_left",
        "_linger_timer",
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

    def __init__(self, events: ConnectionEvents) -> None:
        self._events = events
        self._transport: asyncio.Transport | None = None
        self._poll = select.poll()
        self._receiver: AnswerReceiver | None = None
        self._pieces: list[bytes] = []
        self._fields: dict[bytes, bytes] = {}
        # httptools calls whatever these attributes hold: bound methods of C types save a Python
        # frame per header and body piece. Trailers end in _fields too, and are not read.
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
        self._head: UpstreamHead | None = None
        self._headers: dict[str, str] = {}
        self._quiet_bytes = 0
        self._status = 0
        self._refusal: str | None = None
        self._begun = self._done = self._reusable = False
        self._linger_left = LINGER_BYTES

    # Called by the origin and the exchange

    @property
    def reused(self) -> bool:
        """True if an exchange was completed on this connection before the present one."""
        return self._reused

    @property
    def usable(self) -> bool:
        """True if an idle connection can take a request.

        Polls the socket: a close or stray bytes may have arrived that the loop has not read yet,
        and a request written now would be lost or get the wrong answer.
        """
        transport = self._transport
        return transport is not None and not transport.is_closing() and not self._poll.poll(0)

    def start(self, receiver: AnswerReceiver, head: bytes, body: bytes) -> None:
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
        """Read from the socket again; idempotent."""
        if not self._reading and self._transport is not None:
            self._reading = True
            self._transport.resume_reading()

    def drop(self) -> None:
        """Close without notifying the receiver."""
        self._receiver = None
        self.close()

    def linger(self) -> None:
        """Read and ignore the rest of the answer, within `LINGER_S` and `LINGER_BYTES`.

        Often only the last chunk of the framing is missing after `[DONE]`; closing for it would
        cost the next request a new connection.
        """
        if self._unsent is not None:
            self.drop()
            return
        self._receiver = _IGNORE
        self._linger_timer = asyncio.get_running_loop().call_later(LINGER_S, self.drop)
        self.resume()

    def close(self) -> None:
        """Close at once; the receiver is notified when the socket is closed."""
        self._events.closing(self)
        self._stop_timer()
        self._unsent = None
        if self._transport is not None:
            self._transport.abort()  # close() would wait for the peer's close_notify under TLS

    def fail(self, error: UpstreamError, *, stale: bool = False) -> None:
        """Close at once and pass `error` to the receiver."""
        receiver, self._receiver = self._receiver, None
        self.close()
        if receiver is not None:
            receiver.on_lost(error, stale=stale)

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to use the socket; under TLS the certificate is verified by now."""
        self._transport = cast("asyncio.Transport", transport)
        self._parser = HttpResponseParser(self)
        sock = transport.get_extra_info("socket")
        # Without this a body's last segment waits for the ACK of the one before it (RFC 896).
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._poll.register(sock.fileno(), select.POLLIN)
        self._events.opened(self)

    def data_received(self, data: bytes) -> None:
        """Parse the bytes of one read and push the result on."""
        receiver, parser = self._receiver, self._parser
        if receiver is None or parser is None:
            self.close()  # unsolicited: it would be taken for the answer to the next request
            return
        if not self._begun:
            self._begun = True
            receiver.on_begun()
        self._quiet_bytes += len(data)
        error: UpstreamError | None = None
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as cause:
            # httptools wraps what our callbacks raise in an HttpParserError, too.
            self._reusable = False
            error = UpstreamError(self._refusal)
            error.__cause__ = cause.with_traceback(None)
        if self._done:
            receiver.on_complete()
            self._finish()
        elif receiver is _IGNORE:
            self._count_lingering(len(data))
        self._push(receiver, error)

    def eof_received(self) -> None:
        """Complete an answer that lasts until the connection closes; any other was cut.

        Under TLS the loop calls this for a close_notify only, so that an attacker who cuts
        the connection cannot make an answer look complete.
        """
        receiver = self._receiver
        if receiver is not None and self._status and self._lasts_until_close():
            receiver.on_complete()
            self.drop()
            receiver.on_end()
        else:
            self._lose(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the loss to the receiver, if there still is one."""
        self._lose(exc)
        self._transport = None
        self._parser = None  # the parser holds our bound methods: a cycle for the collector
        self._events.closed(self)

    def pause_writing(self) -> None:
        """Stop writing slices of the body."""
        self._writable = False

    def resume_writing(self) -> None:
        """Write the next slices of the body."""
        self._writable = True
        self._send_on()

    # Called by the parser

    def on_message_begin(self) -> None:
        """Begin a head: the final one, or an informational one before it."""
        if self._done:
            raise ValueError("bytes after the end")
        self._fields.clear()

    def on_headers_complete(self) -> None:
        """Keep the final head; skip informational ones, refuse a change of protocol."""
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status < 200:
            if status not in INFORMATIONAL:
                raise ValueError("no such informational answer")
            return
        fields = self._fields
        # llhttp has no limit for heads. The exact size is counted only where it can be too large.
        if self._quiet_bytes > MAX_HEAD_BYTES:
            self._check_size(fields)
        self._headers = headers = {
            NAMES.get(name) or name.lower().decode("latin-1"): value.decode("latin-1").strip()
            for name, value in fields.items()
        }
        headers.pop("set-cookie", None)  # an upstream's cookies are not for clients
        self._status = status
        self._head = UpstreamHead(status, headers)
        # A Content-Length in the answer to HEAD announces no body (RFC 9112, 6.3), but httptools
        # cannot skip it: the answer ends here, and _reusable stays false.
        self._done = self._head_only

    def on_message_complete(self) -> None:
        """Note that the answer is complete."""
        assert self._parser is not None
        if self._status and not self._done:
            self._done = True
            self._reusable = self._parser.should_keep_alive()

    # Inside

    def _push(self, receiver: AnswerReceiver, error: UpstreamError | None) -> None:
        """Pass on what the parser has gathered. The receiver may call any method meanwhile."""
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
        elif self._quiet_bytes > MAX_HEAD_BYTES:
            # An endless head, trailer or chunk extension: bytes came, but nothing to pass on.
            self.fail(UpstreamError(TOO_LONG))

    def _finish(self) -> None:
        """Release the receiver; become idle, or close when the connection cannot be reused."""
        transport, self._receiver = self._transport, None
        self._stop_timer()
        if (
            self._reusable
            and self._unsent is None
            and transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        ):
            self.resume()  # an idle connection must read, to notice that its peer closes
            self._reused = True
            self._events.idle(self)
        else:
            self.close()

    def _check_size(self, fields: dict[bytes, bytes]) -> None:
        size = sum(len(name) + len(value) + 4 for name, value in fields.items())
        if size > MAX_HEAD_BYTES:
            self._refusal = TOO_LONG
            raise ValueError("head too long")

    def _count_lingering(self, size: int) -> None:
        self._linger_left -= size
        if self._linger_left < 0:
            self.drop()

    def _lasts_until_close(self) -> bool:
        """Return whether only the end of the connection ends the answer (RFC 9112, section 6.3)."""
        coding = self._headers.get("transfer-encoding")
        if coding is not None:
            return not coding.lower().endswith("chunked")
        return "content-length" not in self._headers

    def _lose(self, cause: Exception | None) -> None:
        error = UpstreamDisconnected() if self._begun else UpstreamUnavailable()
        error.__cause__ = cause
        self.fail(error, stale=self._reused and not self._begun)

    def _send_on(self) -> None:
        """Write slices of the body while the socket takes them."""
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
