"""A scripted upstream on a real socket: every byte, pause, cut and reset is the test's choice.

    async with FakeUpstream() as upstream:
        upstream.plan(refusal(429), stream_of(["Hel", "lo"], usage=USAGE))
        ... point a deployment at upstream.base_url ...
        request = await upstream.request(1)
        assert request.json["model"] == "upstream-model"
        await request.left.wait()

Answers are used up in order, one per request; the last one repeats. In place of an answer, a
function of the request may stand. Without a plan it completes whatever is asked, streamed or whole.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self, cast

from support.fakes.answers import (
    USAGE,
    Answer,
    Pause,
    chunk,
    completion,
    document,
    event,
    events_of,
    refusal,
    silence,
    stream_of,
    streaming,
)
from support.waiting import PATIENCE_S

__all__ = [
    "USAGE",
    "Answer",
    "FakeUpstream",
    "Pause",
    "Request",
    "chunk",
    "completion",
    "document",
    "event",
    "events_of",
    "refusal",
    "refusing_url",
    "silence",
    "stream_of",
    "streaming",
]

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, zero seconds: closing sends RST in place of FIN."""


@dataclass(eq=False)
class Request:
    """One request as it came in. `connection` counts from 0 in the order of acceptance."""

    method: str
    path: str
    headers: dict[str, str]
    head: bytes
    body: bytes
    connection: int
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set as soon as the client has closed its side or reset the connection."""
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the whole answer was handed to the kernel."""
    at: float = field(default_factory=time.monotonic)
    """When all of it was here, by the machine's monotonic clock."""
    sent_bytes: int = 0
    """How much of the body the client's socket has taken so far."""

    @property
    def json(self) -> Any:
        """Decode the body."""
        return json.loads(self.body)


Plan = Answer | Callable[[Request], Answer]


def answer_as_asked(request: Request) -> Answer:
    """Complete what is asked, in the way it is asked for."""
    if request.json.get("stream"):
        return stream_of(["Hel", "lo"], usage=USAGE)
    return completion()


class FakeUpstream:
    """Serve scripted answers on a free port of `host` while the `async with` block lasts."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.open_connections: set[Connection] = set()
        self._tls = tls
        self._host = host
        self._plan: list[Plan] = [answer_as_asked]
        self._arrived = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self), self._host, 0, ssl=self._tls
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Stop listening, drop every connection and wait until all is gone."""
        assert self._server is not None
        self._server.close()
        for connection in list(self.open_connections):
            connection.transport.abort()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()
        for connection in list(self.open_connections):
            await connection.closed.wait()

    @property
    def port(self) -> int:
        """Return the port it listens on."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def base_url(self) -> str:
        """Return the base URL of a deployment that is to end here."""
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}/v1"

    def plan(self, *answers: Plan) -> None:
        """Set the answers to the next requests; the last one repeats."""
        self._plan = list(answers)

    async def request(self, n: int = 0, *, timeout_s: float = PATIENCE_S) -> Request:
        """Wait for the request with the number `n`, counted from 0."""
        async with asyncio.timeout(timeout_s), self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) > n)
        return self.requests[n]

    def start(self, request: Request, connection: Connection) -> asyncio.Task[None]:
        """Record the request and begin to answer it as planned; the task is held here."""
        self.requests.append(request)
        task = asyncio.get_running_loop().create_task(self._carry(request, connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _carry(self, request: Request, connection: Connection) -> None:
        async with self._arrived:
            self._arrived.notify_all()
        answer = self._plan.pop(0) if len(self._plan) > 1 else self._plan[0]
        try:
            if not isinstance(answer, Answer):
                answer = answer(request)
            await connection.answer(request, answer)
        except Exception:
            connection.transport.abort()  # the loop reports the mistake in the test's script
            raise


class Connection(asyncio.Protocol):
    """One connection: reads whole requests, answers one at a time, notes when the client leaves."""

    transport: asyncio.Transport

    def __init__(self, upstream: FakeUpstream) -> None:
        self._upstream = upstream
        self._received = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._request: Request | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: whatever the kernel does not take at once counts as not written."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        if transport.get_extra_info("ssl_object") is None:
            # uvloop's TLS would never resume at this limit.
            self.transport.set_write_buffer_limits(high=0)
        self.number = self._upstream.connections
        self._upstream.connections += 1
        self._upstream.open_connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Collect requests."""
        self._received += data
        self._next()

    def eof_received(self) -> None:
        """Note that the client is leaving; the transport closes itself."""
        self._left()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the client has left, and stop talking."""
        self._upstream.open_connections.discard(self)
        self.closed.set()
        self._left()

    def pause_writing(self) -> None:
        """Wait: the client's socket is full."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Go on: the client's socket has taken everything."""
        self._writable.set()

    def _left(self) -> None:
        if self._request is not None:
            self._request.left.set()
        if self._task is not None:
            self._task.cancel()

    def _next(self) -> None:
        """Start on the next request if it is here and the last one is answered."""
        if self._task is not None or self.transport.is_closing():
            return
        request = read_request(self._received, self.number)
        if request is None:
            return
        self._request = request
        self._task = self._upstream.start(request, self)

    async def answer(self, request: Request, answer: Answer) -> None:
        """Write one answer to its scripted end."""
        if not answer.raw:
            await self._write(answer.head())
        await self._write_pieces(request, answer)
        if answer.end == "hang":
            await asyncio.get_running_loop().create_future()
        elif answer.end == "reset":
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.transport.abort()
        elif answer.end == "cut":
            self.transport.close()
        else:
            await self._end(request, answer)

    async def _write_pieces(self, request: Request, answer: Answer) -> None:
        chunked = answer.framing == "chunked" and not answer.raw
        for number, piece in enumerate(answer.pieces):
            if number and answer.gap_s:
                await asyncio.sleep(answer.gap_s)
            if isinstance(piece, Pause):
                await piece.event.wait()
                continue
            await self._write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            request.sent_bytes += len(piece)

    async def _end(self, request: Request, answer: Answer) -> None:
        if answer.framing == "chunked" and not answer.raw:
            await self._write(b"0\r\n\r\n")
        self._task = None
        request.answered.set()
        if answer.framing == "close" or not answer.keep_alive:
            self.transport.close()
        else:
            self._next()

    async def _write(self, data: bytes) -> None:
        """Write, and wait until the kernel has it all."""
        self.transport.write(data)
        await self._writable.wait()


@contextmanager
def refusing_url() -> Iterator[str]:
    """Return the base URL of a port without a listener, and keep the port reserved."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/v1"


def read_request(received: bytearray, connection: int) -> Request | None:
    """Take the first whole request off `received`, if there is one."""
    head, blank, rest = received.partition(b"\r\n\r\n")
    if not blank:
        return None
    request_line, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = request_line.split(" ")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    # The gateway knows the size of what it sends upstream, so it has no cause to send chunks.
    assert "transfer-encoding" not in headers, "requests upstream carry a Content-Length"
    size = int(headers.get("content-length", "0"))
    if len(rest) < size:
        return None
    received[:] = rest[size:]
    return Request(method, path, headers, bytes(head), bytes(rest[:size]), connection)
