"""One request and its answer on a connection, as Tornado's handlers see it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from tornado import gen
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    RequestStartLine,
    ResponseStartLine,
)


class Peer(NamedTuple):
    """Who is at the other end; Tornado's requests read both."""

    remote_ip: str
    protocol: str


class Carrier(Protocol):
    """The connection below."""

    def send(self, data: bytes) -> asyncio.Future[None]:
        """Write; the future is done once the socket has taken it all."""

    def ready(self, exchange: Exchange) -> None:
        """Learn that the handler takes the body now."""

    def answered(self, exchange: Exchange) -> None:
        """Learn that the whole answer has been written."""


class Exchange(HTTPConnection):
    """What a handler writes its answer to; after `finish` or the client's leaving, to nowhere."""

    def __init__(self, carrier: Carrier, peer: Peer) -> None:
        self.context = peer
        self.begun = False
        self._carrier: Carrier | None = carrier
        self._delegate: HTTPMessageDelegate | None = None
        self._prepared: asyncio.Future[None] | None = None
        self._close_callback: Callable[[], object] | None = None
        self._body_read = False

    # What the connection below calls

    def begin(
        self,
        delegate: HTTPMessageDelegate,
        start_line: RequestStartLine,
        headers: HTTPHeaders,
        *,
        bodiless: bool,
    ) -> None:
        """Start the handler; it may refuse the body before it is read. Raises HTTPInputError."""
        self._delegate = delegate
        prepared = _future(delegate.headers_received(start_line, headers))
        if bodiless:
            self._prepared = prepared
            self.complete()
        elif prepared is None:
            self._on_prepared(None)
        else:
            self._prepared = prepared
            prepared.add_done_callback(self._on_prepared)

    def feed(self, piece: bytes) -> asyncio.Future[None] | None:
        """Pass on a piece of the body; no more may follow before the future is done."""
        assert self._delegate is not None
        return _future(self._delegate.data_received(piece))

    def complete(self) -> None:
        """Tell the handler that the body is complete."""
        assert self._delegate is not None
        self._body_read = True
        self._delegate.finish()

    def leave(self) -> None:
        """Tell the handler, once it can understand, that its client has left."""
        if self._carrier is None:
            return
        self._carrier = None
        if self._prepared is not None and not self._prepared.done():
            self._prepared.add_done_callback(self._tell)
        else:
            self._tell(None)

    # What the handler calls

    @property
    def over(self) -> bool:
        """Say whether nothing more can be written."""
        return self._carrier is None

    def set_close_callback(self, callback: Callable[[], object] | None) -> None:
        """Have `callback` called when the client leaves before the answer is finished."""
        self._close_callback = callback

    def write(self, chunk: bytes) -> asyncio.Future[None]:
        """Write a part of the answer as it is, head and framing included."""
        if self._carrier is None:
            return _nothing()
        self.begun = True
        return self._carrier.send(chunk)

    def write_headers(
        self,
        start_line: RequestStartLine | ResponseStartLine,
        headers: HTTPHeaders,
        chunk: bytes | None = None,
    ) -> asyncio.Future[None]:
        """Write a head and the first part of a body, whose framing the headers must give."""
        assert isinstance(start_line, ResponseStartLine)
        lines = [f"HTTP/1.1 {start_line.code} {start_line.reason}"]
        lines += [f"{name}: {value}" for name, value in headers.get_all()]
        if any("\n" in line or "\r" in line for line in lines):
            raise ValueError("a header contains a line break")
        return self.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (chunk or b""))

    def finish(self) -> None:
        """End the answer; the rest of a body that is still coming is nobody's."""
        carrier, self._carrier = self._carrier, None
        delegate, self._delegate = self._delegate, None
        self._close_callback = None
        if delegate is not None and not self._body_read:
            asyncio.get_running_loop().call_soon(delegate.on_connection_close)
        if carrier is not None:
            carrier.answered(self)

    def _on_prepared(self, _future: object) -> None:
        if self._carrier is not None:
            self._carrier.ready(self)

    def _tell(self, _future: object) -> None:
        delegate, callback = self._delegate, self._close_callback
        self._delegate = self._close_callback = None
        if not self._body_read and delegate is not None:
            delegate.on_connection_close()
        elif callback is not None:
            callback()


def _future(result: Awaitable[None] | None) -> asyncio.Future[None] | None:
    """Give what is still to be waited for."""
    if result is None:
        return None
    future = result if isinstance(result, asyncio.Future) else gen.convert_yielded(result)
    return None if future.done() else future


def _nothing() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future
