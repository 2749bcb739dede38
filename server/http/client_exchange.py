"""One request and its answer on a client's connection, as Tornado's handlers see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    RequestStartLine,
)


class Peer(NamedTuple):
    """The other end of a connection; Tornado's requests read both fields."""

    remote_ip: str
    protocol: str


class Departure:
    """Whether a server leaves its clients to another: their connections end with the next answer.

    An answer whose head is written before that does not say so, and its connection stays open: the
    client may already send its next request there.
    """

    begun = False


class ClientExchange(HTTPConnection):
    """What a handler writes its answer to; after `finish` or the client's leaving, to nowhere.

    `send` writes to the connection; `on_finish` is called once, when the whole answer is written.
    While the exchange is `held`, the connection passes on nothing of the body; `on_release` is
    called when it may.
    """

    def __init__(
        self,
        peer: Peer,
        send: Callable[[bytes], asyncio.Future[None]],
        on_finish: Callable[[ClientExchange], None],
        on_release: Callable[[ClientExchange], None],
        departure: Departure,
    ) -> None:
        self.context = peer
        self.begun = False
        self.over = False
        """True if nothing more can be written."""
        self._send = send
        self._on_finish = on_finish
        self._on_release = on_release
        self._departure = departure
        self.closes = False
        """True if the answer says that the connection ends with it."""
        self.held = False
        self._is_complete = False
        self._delegate: HTTPMessageDelegate | None = None

    # Calls of the connection

    def begin(
        self,
        delegate: HTTPMessageDelegate,
        start_line: RequestStartLine,
        headers: HTTPHeaders,
    ) -> None:
        """Start the delegate; it may answer before the body is read."""
        self._delegate = delegate
        delegate.headers_received(start_line, headers)

    def feed(self, piece: bytes) -> None:
        """Pass on a piece of the body."""
        if self._delegate is not None:
            self._delegate.data_received(piece)

    def complete(self) -> None:
        """Report that the body is complete."""
        self._is_complete = True
        if self._delegate is not None and not self.held:
            self._delegate.finish()

    def leave(self) -> None:
        """Report that the client has left."""
        delegate, self._delegate = self._delegate, None
        if not self.over:
            self.over = True
            if delegate is not None:
                delegate.on_connection_close()

    # Calls of the handler

    def ends_connection(self) -> bool:
        """Return whether the answer must say that its connection ends; it does then."""
        self.closes = self._departure.begun
        return self.closes

    def set_close_callback(self, callback: Callable[[], object] | None) -> None:
        """Ignore the callback that RequestHandler (Tornado 6.6) sets on each connection.

        The delegate learns that the client has left, in every state.
        """

    def hold(self) -> None:
        """Wait with the body: the head is still being checked."""
        self.held = True

    def release(self) -> None:
        """Pass on the body, or the end of a request without one."""
        self.held = False
        if self._is_complete:
            self.complete()
        else:
            self._on_release(self)

    def write(self, chunk: bytes) -> asyncio.Future[None]:
        """Write a part of the answer as it is, head and framing included."""
        if self.over:
            return _done()
        self.begun = True
        return self._send(chunk)

    def finish(self) -> None:
        """End the answer; what still arrives of the body is not passed on."""
        self._delegate = None
        if not self.over:
            self.over = True
            self._on_finish(self)


def _done() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future
