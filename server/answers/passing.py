"""Pass a request on to the process that has what it asks for, and its answer back.

The body of the answer passes byte for byte, in the callbacks of the two sockets, and a client that
falls behind pauses the other process. The log of a kept answer stays where the answer is made: a
log in a store that all nodes share would cost every kept answer a write per frame, while few are
read again, and fewer through another process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from tornado.httputil import HTTPServerRequest

from server.answers.passing_marks import MARK_HEADER, PassedOn, PassingMarks
from server.answers.peers import PeerAddress
from server.answers.reply import error_event
from server.http.answer_head import CHUNKED, LAST_CHUNK, chunk
from server.identity.authentication import XSRF_HEADER
from workers.errors import GatewayError, NodeUnavailable, UpstreamError
from workers.transport.transport import (
    Transport,
    UpstreamExchange,
    UpstreamHead,
    single_request_head,
)
from workers.units import MIB

PASSED_HEADERS = (
    "Authorization",
    "X-Api-Key",
    "Cookie",
    "Accept",
    "Origin",
    "Sec-Fetch-Site",
    XSRF_HEADER,
    "X-Roxy-Queue-Updates",
    "User-Agent",
)
"""What the other process needs of a request: it authenticates the same credentials itself."""
RETURNED_HEADERS = ("content-type", "retry-after", "x-should-retry", "x-accel-buffering")
NODE_TIMEOUT_S = 2.0
"""How long another node may take to begin; streams begin at once, so a later one is stopped."""
SIBLING_TIMEOUT_S = 5.0
"""The same for a process of this node: its answers exist nowhere else, and on a busy machine it is
late and not gone. One that hangs is killed by its keeper."""
WHOLE_BYTES = 16 * MIB
"""The largest answer that is not a stream: what runs on a node."""


class RequestOrigin(NamedTuple):
    """A request as other processes need it: credentials, client, host, TLS, and its way so far."""

    headers: Mapping[str, str]
    client: str
    host: str
    secure: bool
    hops: int = 0

    def passed_on(self, hops: int | None = None) -> PassedOn:
        """Return what the mark of the request says when it is passed on."""
        if hops is None:
            hops = self.hops + 1
        return PassedOn(hops, self.client, self.host, self.secure)


class PassingHandler(Protocol):
    """What passing an answer back needs of a handler."""

    request: HTTPServerRequest
    method: str

    def begin_answer(self, status: int, headers: dict[str, str]) -> bytes:
        """Record the status and return the head."""

    def end_passed(self, error: GatewayError | None) -> None:
        """End the answer; `error` was sent in it."""


class PassedAnswer(NamedTuple):
    """A whole answer of another process."""

    status: int
    headers: dict[str, str]
    body: bytes


class Passing:
    """Send requests to peers; `aclose` ends them."""

    def __init__(self, marks: PassingMarks, transport: Transport) -> None:
        self.marks = marks
        self._transport = transport

    def exchange(
        self,
        peer: PeerAddress,
        method: str,
        target: str,
        headers: Mapping[str, str],
        passed: PassedOn,
    ) -> UpstreamExchange:
        """Begin to pass a request on; the caller releases what is returned."""
        sent = {name: headers[name] for name in PASSED_HEADERS if name in headers}
        sent[MARK_HEADER] = self.marks.sign(passed, method, target, sent)
        url = peer.url.rstrip("/") + target
        head = single_request_head(method, url, sent.items())
        return self._transport.exchange(peer.url, head, b"", peer.route)

    async def ask(
        self,
        peer: PeerAddress,
        method: str,
        target: str,
        headers: Mapping[str, str],
        passed: PassedOn,
        within_s: float | None = None,
    ) -> PassedAnswer:
        """Pass a request on and return the whole answer. Raises NodeUnavailable."""
        exchange = self.exchange(peer, method, target, headers, passed)
        try:
            async with asyncio.timeout(timeout_of(peer) if within_s is None else within_s):
                head = await exchange.head()
                return PassedAnswer(head.status, returned(head), await exchange.read(WHOLE_BYTES))
        except (UpstreamError, TimeoutError) as error:
            raise NodeUnavailable from error
        finally:
            exchange.release()

    async def aclose(self) -> None:
        """Close the connections to peers."""
        await self._transport.aclose()


def timeout_of(peer: PeerAddress) -> float:
    """Return how many seconds a process may take to begin its answer."""
    return SIBLING_TIMEOUT_S if peer.sibling else NODE_TIMEOUT_S


def returned(head: UpstreamHead) -> dict[str, str]:
    """Return the headers that pass back to the client."""
    return {name: head.headers[name] for name in RETURNED_HEADERS if name in head.headers}


class PassedStream:
    """Pass a streamed answer back to a client, until it ends or the client leaves."""

    def __init__(
        self, exchange: UpstreamExchange, handler: PassingHandler, timeout_s: float
    ) -> None:
        connection = handler.request.connection
        assert connection is not None
        self._exchange = exchange
        self._handler = handler
        self._connection = connection
        self._chunked = handler.request.version == "HTTP/1.1"
        self._timeout_s = timeout_s

    async def carry(self) -> None:
        """Write the answer. Raises NodeUnavailable before the head; a later error is an event."""
        exchange, handler = self._exchange, self._handler
        try:
            try:
                async with asyncio.timeout(self._timeout_s):
                    head = await exchange.head()
            except (UpstreamError, TimeoutError) as error:
                raise NodeUnavailable from error
            framing = CHUNKED if self._chunked else b""
            begun = handler.begin_answer(head.status, returned(head)) + framing + b"\r\n"
            self._connection.write(begun)
            if handler.method == "HEAD":
                handler.end_passed(None)
                return
            exchange.follow(self._take)
            try:
                await exchange.end()
            except UpstreamError:
                self._end(NodeUnavailable())
            else:
                self._end(None)
        finally:
            exchange.release()

    def stop(self) -> None:
        """Stop: the client has left."""
        self._exchange.abort(ClientLeft())

    def _take(self, data: bytes) -> None:
        written = self._connection.write(chunk(data) if self._chunked else data)
        if not written.done():
            self._exchange.pause()
            written.add_done_callback(self._resume)

    def _resume(self, written: asyncio.Future[None]) -> None:
        if not written.cancelled() and written.exception() is None:
            self._exchange.resume()

    def _end(self, error: GatewayError | None) -> None:
        last = error_event(error) if error is not None else b""
        if self._chunked:
            last = (chunk(last) if last else b"") + LAST_CHUNK
        if last:
            self._connection.write(last)
        self._handler.end_passed(error)


class ClientLeft(Exception):
    """The reason for ending a request that was passed on: its client has left."""
