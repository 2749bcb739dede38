"""One loopback HTTP/1.1 connection to the demo upstream: one request at a time, answered by a task.

A request without the secret is refused before its body is read, because other users of the machine
can reach the port too. A request that begins before the last answer has ended closes the
connection.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable
from typing import cast

import httptools

from server.demo.request import DemoRefusal

HEAD_TIMEOUT_S = 10.0
MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 128 * 1024 * 1024
REASONS = {200: b"OK", 400: b"Bad Request", 401: b"Unauthorized", 404: b"Not Found"}

log = logging.getLogger(__name__)

Handler = Callable[["DemoConnection", str, bytes], Awaitable[None]]
"""Answers a request on its connection: called with a target such as `GET /v1/models` and a body."""


class DemoConnection(asyncio.Protocol):
    """The server side of a connection.

    `tasks` is the set of running answers and `open_` that of open connections, both the server's.
    """

    def __init__(
        self,
        handler: Handler,
        secret: str,
        tasks: set[asyncio.Task[None]],
        open_: set[DemoConnection],
    ) -> None:
        self._handler = handler
        self._expected = f"Bearer {secret}".encode()
        self._tasks = tasks
        self._open = open_
        self._answer: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._streaming = False
        self._begin_request()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a head, at most `HEAD_TIMEOUT_S`."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class is no subclass of it
        self._open.add(self)
        self._parser = httptools.HttpRequestParser(self)
        loop = asyncio.get_running_loop()
        self._head_timer = loop.call_later(HEAD_TIMEOUT_S, self._transport.abort)

    def connection_lost(self, _: Exception | None) -> None:
        """Cancel the answer: the client has left."""
        self._open.discard(self)
        self._head_timer.cancel()
        self._writable.set()  # the transport will not call resume_writing any more
        if self._answer is not None:
            self._answer.cancel()

    def pause_writing(self) -> None:
        """Pause the answer while the client does not keep up."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Continue the answer."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Parse what arrived; close the connection when it is not HTTP or too large."""
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._transport.abort()
        # Only now is it known whether this was still the head: it comes with the start of a body.
        if self._received > (MAX_BODY_BYTES if self._authorised else MAX_HEAD_BYTES):
            self._transport.abort()

    def on_message_begin(self) -> None:
        """Begin a request."""
        if self._answer is not None:  # pipelining, which no client of the demo uses
            self._transport.abort()
        self._begin_request()

    def on_url(self, url: bytes) -> None:
        """Append a piece of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the Authorization header; ignore all others."""
        if name.lower() == b"authorization":
            self._credentials = value

    def on_headers_complete(self) -> None:
        """Refuse a request without the secret before its body."""
        self._head_timer.cancel()
        self._authorised = hmac.compare_digest(self._credentials, self._expected)
        if not self._authorised:
            error = DemoRefusal(401, "Wrong secret.", "invalid_request_error", "invalid_api_key")
            self.whole(error.status, error.body)
            self._transport.close()

    def on_body(self, body: bytes) -> None:
        """Append a piece of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Answer the request in a task."""
        if not self._authorised or self._transport.is_closing():
            return
        method = self._parser.get_method().decode()
        path = self._url.partition(b"?")[0].decode(errors="replace")
        body = b"".join(self._body)
        self._begin_request()
        self._answer = asyncio.get_running_loop().create_task(self._run(f"{method} {path}", body))
        self._tasks.add(self._answer)
        self._answer.add_done_callback(self._tasks.discard)

    def whole(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Send a complete JSON answer."""
        self._write_whole_head(status, len(body), headers or {})
        self._transport.write(body)

    def raw(self, answer: bytes) -> None:
        """Send a complete answer, head and body, as it is."""
        self._transport.write(answer)

    async def send(self, event: bytes) -> None:
        """Send an event of a stream, the first one with the head; wait while the client is slow."""
        if not self._streaming:
            self._streaming = True
            self._transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
            )
        if event:
            self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))
        await self._writable.wait()

    def end(self) -> None:
        """Send the last chunk of the stream."""
        self._transport.write(b"0\r\n\r\n")

    def whole_cut(self, body: bytes) -> None:
        """Send the head and half of a JSON answer, then close."""
        self._write_whole_head(200, len(body), {})
        self._transport.write(body[: len(body) // 2])
        self._transport.close()

    def break_off(self) -> None:
        """Close without the last chunk, once everything was written."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def _write_whole_head(self, status: int, length: int, headers: dict[str, str]) -> None:
        extra = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._transport.write(
            b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n"
            % (status, REASONS.get(status, b"Demo"), length, extra.encode())
        )

    def _begin_request(self) -> None:
        self._url = b""
        self._credentials = b""
        self._authorised = False
        self._body: list[bytes] = []
        self._received = 0

    async def _run(self, target: str, body: bytes) -> None:
        try:
            await self._handler(self, target, body)
        except DemoRefusal as refusal:
            self.whole(refusal.status, refusal.body)
        except Exception:
            log.exception("The demo upstream failed to answer")
            self._transport.abort()
        finally:
            self._streaming = False
            self._answer = None
