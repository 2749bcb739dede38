"""One request to an upstream and its answer, as the caller uses it.

An exchange is made by an ordinary call and connects in the background. Body bytes are pushed to a
`Sink` in the callback of the socket. No task has to be cancelled to stop it: `abort` is an ordinary
call that works in every phase, any number of times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from workers.errors import UpstreamDisconnected, UpstreamError, UpstreamUnavailable
from workers.transport.upstream_connection import AnswerReceiver, UpstreamConnection, UpstreamHead
from workers.units import KIB

HELD_BYTES = 64 * KIB
"""Body bytes that may wait for `follow` or `pull`; with more the socket is paused."""

STALE_S = 5.0
"""Until when a close of a kept connection without an answer is retried on a fresh one.

The upstream closed it for being idle, at the same moment as the request was written. A later close
may be its reaction to the request, which must not be sent twice (RFC 9110, section 9.2.2).
"""


PROXY_REFUSED = 407
"""Proxy Authentication Required, which only proxies send (RFC 9110, section 15.5.8)."""

Sink: TypeAlias = Callable[[bytes], None]
"""Takes the body bytes of one read. An exception from it aborts the exchange."""


class UpstreamExchange(AnswerReceiver):
    """One request and its answer. The caller must call `release` at the end, or `abort`.

    `connect` opens a fresh connection in a task, which calls `attach` or `fail` and may be
    cancelled. `connected_at` is the loop time at which the request was given to a connection (None:
    not yet), `sent` whether all of it has been given to the socket.
    """

    __slots__ = (
        "_aborted",
        "_connect",
        "_connecting",
        "_connection",
        "_ended",
        "_error",
        "_full",
        "_head",
        "_held",
        "_held_bytes",
        "_paused",
        "_request",
        "_sink",
        "_waiters",
        "connected_at",
        "sent",
    )

    def __init__(
        self,
        connect: Callable[[UpstreamExchange], asyncio.Task[None]],
        head: bytes,
        body: bytes,
    ) -> None:
        self.connected_at: float | None = None
        self.sent = False
        self._connect = connect
        self._request: tuple[bytes, bytes] | None = (head, body)
        self._connection: UpstreamConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._head: UpstreamHead | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._sink: Sink | None = None
        self._paused = self._full = False
        self._ended = self._aborted = False
        self._error: Exception | None = None
        self._waiters: list[asyncio.Future[None]] = []

    # Called by the worker or the client

    async def head(self) -> UpstreamHead:
        """Wait for the head of the answer.

        Raises UpstreamUnavailable, UpstreamTimeout("connect"), UpstreamDisconnected, UpstreamError
        (the answer is not HTTP), or the error of `abort`.
        """
        while self._head is None and self._error is None:
            await self._change()
        if self._head is None or self._aborted:  # an abort counts even when the head had come
            assert self._error is not None
            raise self._error
        return self._head

    def follow(self, sink: Sink) -> None:
        """Push body bytes to `sink`, beginning with those that have arrived."""
        if self._aborted:
            return
        self._sink = sink
        if self._held:
            self._feed(sink, self._take())
        self._throttle()

    async def end(self) -> None:
        """Wait until the body is complete, or released.

        Raises UpstreamDisconnected when it was cut, UpstreamError when it is not HTTP, the error of
        `abort`, or what the sink raised.
        """
        while not self._ended and self._error is None:
            await self._change()
        if self._error is not None:
            raise self._error

    async def pull(self) -> bytes:
        """Wait for body bytes and return them; b"" at the end. Not together with `follow`.

        Raises what `end` raises, once the bytes that came before were returned.
        """
        while not self._held and not self._ended and self._error is None:
            await self._change()
        if self._held and not self._aborted:
            data = self._take()
            self._throttle()
            return data
        if self._error is not None:
            raise self._error
        return b""

    async def read(self, max_bytes: int) -> bytes:
        """Wait for the whole body. Raises what `end` raises, UpstreamError above `max_bytes`."""
        pieces: list[bytes] = []
        room = max_bytes
        while data := await self.pull():
            room -= len(data)
            if room < 0:
                self.abort(UpstreamError("The upstream's answer is too large."))
            pieces.append(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def read_beginning(self, max_bytes: int) -> bytes:
        """Wait for the body and return its first `max_bytes`; the rest is left unread.

        A body that ends early, by a cut or a timeout, is returned as far as it came. Raises only
        errors that are not the upstream's: the caller has stopped the exchange.
        """
        pieces: list[bytes] = []
        size = 0
        try:
            while size < max_bytes and (data := await self.pull()):
                pieces.append(data)
                size += len(data)
        except UpstreamError:
            pass  # the status has come, and says more than the end of its page
        return b"".join(pieces)[:max_bytes]

    def pause(self) -> None:
        """Stop reading from the upstream's socket; idempotent."""
        self._paused = True
        self._throttle()

    def resume(self) -> None:
        """Read from the upstream's socket again; idempotent."""
        self._paused = False
        self._throttle()

    def abort(self, error: Exception) -> None:
        """Stop at once, in any phase; later calls do nothing.

        The connection is closed unless the answer was complete. Pending and later `head`, `end`,
        `pull` and `read` raise `error`.
        """
        if self._aborted:
            return
        self._aborted = True
        self._held.clear()
        self._disconnect()
        self._settle(error)

    def release(self) -> None:
        """Finish using the exchange; idempotent.

        A complete answer has returned its connection already. The rest of an incomplete one is
        read and ignored for a moment, so that the connection can be kept.
        """
        if self._ended or self._error is not None:
            return
        if self._head is None:
            self.abort(UpstreamDisconnected("The exchange was released before its answer came."))
            return
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.linger()
        self._held.clear()
        self._settle(None)

    # Called by the origin

    def open(self, connection: UpstreamConnection | None) -> None:
        """Send the request on a kept connection, or open a fresh one (None)."""
        if connection is not None:
            self.attach(connection)
        else:
            self._connecting = self._connect(self)

    def attach(self, connection: UpstreamConnection) -> None:
        """Send the request on `connection`."""
        self._connecting = None
        if self._request is None:  # aborted while the connection was opened
            connection.close()
            return
        self._connection = connection
        self.connected_at = asyncio.get_running_loop().time()
        head, body = self._request
        connection.start(self, head, body)
        if self._paused:
            self._throttle()

    def fail(self, error: Exception) -> None:
        """End with `error`, because no connection could be opened."""
        self._connecting = None
        self._settle(error)

    # Called by the connection

    def on_sent(self) -> None:
        """Note that the request was sent; drop it unless it may have to be sent again."""
        self.sent = True
        if self._connection is not None and not self._connection.reused:
            self._request = None

    def on_begun(self) -> None:
        """Drop the request: after the first byte of an answer it is never sent again."""
        self._request = None

    def on_head(self, head: UpstreamHead) -> None:
        """Keep the head for `head`. A 407 is not the upstream's: its proxy refuses the gateway."""
        if head.status == PROXY_REFUSED:
            error = UpstreamUnavailable()
            error.__cause__ = OSError("the proxy answered 407")
            self.abort(error)
            return
        self._head = head
        self._wake()

    def on_data(self, data: bytes) -> None:
        """Push body bytes to the sink, or hold them for `follow` or `pull`."""
        if self._sink is not None:
            self._feed(self._sink, data)
        elif not self._aborted and not self._ended:
            self._held.append(data)
            self._held_bytes += len(data)
            if self._held_bytes > HELD_BYTES:
                self._full = True  # apart from _paused, which is the caller's own wish
                self._throttle()
            self._wake()

    def on_complete(self) -> None:
        """Release the connection, which another exchange may use from now on."""
        self._connection = None

    def on_end(self) -> None:
        """Note that the body is complete."""
        self._settle(None)

    def on_lost(self, error: UpstreamError, *, stale: bool) -> None:
        """Send the request again if a kept connection turned out to be closed, else fail."""
        self._connection = None
        # The request is kept only while no byte of an answer has come on a kept connection.
        if stale and self._request is not None and self._waited_s() < STALE_S:
            self.sent = False
            self._connecting = self._connect(self)
        else:
            self._settle(error)

    # Inside

    def _feed(self, sink: Sink, data: bytes) -> None:
        try:
            sink(data)
        except Exception as error:  # noqa: BLE001 - `end` raises it in the caller
            self.abort(error)

    def _take(self) -> bytes:
        held = self._held
        data = held[0] if len(held) == 1 else b"".join(held)
        held.clear()
        self._held_bytes = 0
        self._full = False
        return data

    def _throttle(self) -> None:
        connection = self._connection
        if connection is not None:
            if self._paused or self._full:
                connection.pause()
            else:
                connection.resume()

    def _waited_s(self) -> float:
        assert self.connected_at is not None
        return asyncio.get_running_loop().time() - self.connected_at

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        connecting, self._connecting = self._connecting, None
        if connection is not None:
            connection.drop()
        if connecting is not None:
            connecting.cancel()

    def _settle(self, error: Exception | None) -> None:
        """End, once. An abort still replaces an earlier end or error for later calls."""
        if error is None:
            self._ended = self._error is None
        elif self._error is None or self._aborted:
            self._error = error
        self._request = self._sink = None
        self._wake()

    def _change(self) -> asyncio.Future[None]:
        """Return a future that is done at the next change."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        return waiter

    def _wake(self) -> None:
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
