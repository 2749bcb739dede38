"""One request to an upstream and its answer, as its owner sees it.

An exchange is made in one plain call and connects in the background; body bytes are pushed into a
`Sink` from the socket's own callback. Nothing here is stopped by cancelling a task: `abort` is a
plain call that works in every phase, any number of times.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from workers.errors import UpstreamDisconnected, UpstreamError
from workers.transport.upstream_connection import Connection, Head
from workers.units import KIB

HELD_BYTES = 64 * KIB
"""Body bytes that may wait for `follow` or `pull` before the socket is paused."""
STALE_S = 5.0
"""A kept connection that closes later than this after a request was not idle: it is not retried."""


class Sink(Protocol):
    """Where body bytes go."""

    def feed(self, data: bytes) -> None:
        """Take what one read brought; whatever it raises aborts the exchange and ends it."""


class Opener(Protocol):
    """What opens connections for exchanges."""

    def connect(self, exchange: Exchange) -> asyncio.Task[None]:
        """Open a fresh connection and `attach` it, or `fail` the exchange; may be cancelled."""


class Exchange:
    """One request and its answer. The owner calls `release` when finished, however it went.

    `connected_at` is the loop time at which a connection took the request (None: not yet), `sent`
    whether all of the request has been given to the socket.
    """

    __slots__ = (
        "_aborted",
        "_connecting",
        "_connection",
        "_ended",
        "_error",
        "_full",
        "_head",
        "_held",
        "_held_bytes",
        "_opener",
        "_paused",
        "_request",
        "_sink",
        "_waiters",
        "connected_at",
        "sent",
    )

    def __init__(self, opener: Opener, head: bytes, body: bytes) -> None:
        self.connected_at: float | None = None
        self.sent = False
        self._opener = opener
        self._request: tuple[bytes, bytes] | None = (head, body)
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._head: Head | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._sink: Sink | None = None
        self._paused = self._full = False
        self._ended = self._aborted = False
        self._error: Exception | None = None
        self._waiters: list[asyncio.Future[None]] = []

    # What the owner calls

    async def head(self) -> Head:
        """Wait for the head of the answer.

        Raises UpstreamUnavailable, UpstreamTimeout("connect"), UpstreamDisconnected, UpstreamError
        (what came is no HTTP), or the error of `abort`.
        """
        while self._head is None and self._error is None:
            await self._change()
        if self._head is None or self._aborted:
            assert self._error is not None
            raise self._error
        return self._head

    def follow(self, sink: Sink) -> None:
        """Push body bytes to `sink`, first what has arrived by now."""
        if self._aborted:
            return
        self._sink = sink
        if self._held:
            self._feed(sink, self._take())
        self._throttle()

    async def end(self) -> None:
        """Wait until the body is complete, or released.

        Raises UpstreamDisconnected when it was cut, UpstreamError when it is no HTTP, the error of
        `abort`, or what the sink raised.
        """
        while not self._ended and self._error is None:
            await self._change()
        if self._error is not None:
            raise self._error

    async def pull(self) -> bytes:
        """Wait for body bytes and take them; b"" at the end. Not together with `follow`.

        Raises what `end` raises, after the bytes that came before.
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
        """Wait for the whole body. Raises what `end` raises, UpstreamError over `max_bytes`."""
        pieces: list[bytes] = []
        room = max_bytes
        while data := await self.pull():
            room -= len(data)
            if room < 0:
                self.abort(UpstreamError("The upstream's answer is too large."))
            pieces.append(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def pause(self) -> None:
        """Stop reading from the upstream's socket; idempotent."""
        self._paused = True
        self._throttle()

    def resume(self) -> None:
        """Read on; idempotent."""
        self._paused = False
        self._throttle()

    def abort(self, error: Exception) -> None:
        """Stop at once, in whatever phase; the first call counts.

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
        """Be finished with the exchange; idempotent.

        A complete answer has given its connection back by now. The rest of an incomplete one is
        read and dropped for a moment, so that the connection can be kept.
        """
        if self._ended or self._error is not None:
            return
        if self._head is None:
            self.abort(UpstreamDisconnected("The answer was not waited for."))
            return
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.linger()
        self._held.clear()
        self._settle(None)

    # What the origin calls

    def open(self, connection: Connection | None) -> None:
        """Begin, on a kept connection or on a fresh one that is yet to come."""
        if connection is not None:
            self.attach(connection)
        else:
            self._connecting = self._opener.connect(self)

    def attach(self, connection: Connection) -> None:
        """Send the request on `connection`."""
        self._connecting = None
        if self._request is None:  # aborted in the meantime
            connection.close()
            return
        self._connection = connection
        self.connected_at = asyncio.get_running_loop().time()
        head, body = self._request
        connection.start(self, head, body)
        if self._paused:
            self._throttle()

    def fail(self, error: Exception) -> None:
        """End without an answer: no connection could be opened."""
        self._connecting = None
        self._settle(error)

    # What the connection calls

    def on_sent(self) -> None:
        """Note that the request is out, and forget it where it can never be sent again."""
        self.sent = True
        if self._connection is not None and not self._connection.reused:
            self._request = None

    def on_begun(self) -> None:
        """Forget the request: from the first byte of an answer on it is never sent again."""
        self._request = None

    def on_head(self, head: Head) -> None:
        """Take the head."""
        self._head = head
        self._wake()

    def on_data(self, data: bytes) -> None:
        """Push body bytes on, or hold them until somebody asks."""
        if self._sink is not None:
            self._feed(self._sink, data)
        elif not self._aborted and not self._ended:
            self._held.append(data)
            self._held_bytes += len(data)
            if self._held_bytes > HELD_BYTES:
                self._full = True
                self._throttle()
            self._wake()

    def on_complete(self) -> None:
        """Let go of the connection, which another exchange may take from now on."""
        self._connection = None

    def on_end(self) -> None:
        """Note that the body is complete."""
        self._settle(None)

    def on_lost(self, error: UpstreamError, *, stale: bool) -> None:
        """Try once more on a fresh connection if a kept one turned out to be closed, or fail."""
        self._connection = None
        if stale and self._request is not None and self._waited_s() < STALE_S:
            self.sent = False
            self._connecting = self._opener.connect(self)
        else:
            self._settle(error)

    # Inside

    def _feed(self, sink: Sink, data: bytes) -> None:
        try:
            sink.feed(data)
        except Exception as error:  # noqa: BLE001 - the owner gets it from end()
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
        """End, once: an abort may still replace what was, for those who ask later."""
        if error is None:
            self._ended = self._error is None
        elif self._error is None or self._aborted:
            self._error = error
        self._request = self._sink = None
        self._wake()

    def _change(self) -> asyncio.Future[None]:
        """Give a future that is done when something has changed."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        return waiter

    def _wake(self) -> None:
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
