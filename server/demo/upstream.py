"""A scripted upstream on a loopback socket: everything can be tried without an account.

It serves OpenAI's wire format at `POST {base_url}/chat/completions`, streamed or whole, with tools,
images, JSON answers, stop sequences and token limits, and states plainly that it is no model.
Prompts that begin with `demo:` make it fail: see `server.demo.script.COMMANDS`.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from typing import Self

from server.demo.answer import compose
from server.demo.loopback_http import DemoConnection
from server.demo.request import DemoRefusal, DemoRequest, invalid, read_request
from server.demo.upstream_shapes import find_shape, upstream_shapes
from server.demo.writer import Writer, error_event

TOKENS_PER_S = 50.0
THINKING_TOKENS = 20
"""The pause before the first token, in tokens."""
SLOW_THINKING_TOKENS = 600
"""The same for `demo: slow`: 12 s, longer than the time between heartbeats."""
SLOWNESS = 8
"""How many times longer `demo: slow` takes for each token."""
TROUBLE_AFTER = 12
"""Events before a failure in the middle of the answer."""
RETRY_AFTER_S = {429: "2", 503: "2"}


class DemoUpstream:
    """The upstream as an async context manager, which listens while it is entered.

    `speed` is in tokens per second, 0: without delay. Each instance has its own `secret`, because
    other users of the machine can reach the port.
    """

    def __init__(self, *, speed: float = TOKENS_PER_S) -> None:
        self.secret = secrets.token_urlsafe(32)
        self._token_s = 1 / speed if speed else 0.0
        self._answers: set[asyncio.Task[None]] = set()
        self._connections: set[DemoConnection] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen on a free loopback port."""
        self._server = await asyncio.get_running_loop().create_server(self._connect, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close everything at once and wait for it."""
        assert self._server is not None
        self._server.close()
        for connection in tuple(self._connections):
            connection.abort()
        await self.idle()
        await self._server.wait_closed()

    @property
    def base_url(self) -> str:
        """The base URL for deployments."""
        assert self._server is not None, "the demo upstream is not running"
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    @property
    def answering(self) -> int:
        """The number of answers under way."""
        return len(self._answers)

    async def idle(self) -> None:
        """Wait until no answer is under way."""
        while self._answers:
            await asyncio.wait(self._answers)

    def _connect(self) -> DemoConnection:
        return DemoConnection(self._handle, self.secret, self._answers, self._connections)

    async def _handle(self, connection: DemoConnection, target: str, body: bytes) -> None:
        if target == "GET /v1/models":
            connection.whole(200, b'{"object":"list","data":[]}')
            return
        if target != "POST /v1/chat/completions":
            raise DemoRefusal(
                404, "There is nothing at this path.", "invalid_request_error", "not_found"
            )
        request = read_request(body)
        if request.command.name == "error":
            _refuse(connection, request.command.status)
            return
        if request.command.name == "shape":
            _play(connection, request.command.word)
            return
        writer = Writer(request, compose(request))
        await self._pause(SLOW_THINKING_TOKENS if _slow(request) else THINKING_TOKENS)
        await (self._stream if request.stream else self._whole)(connection, request, writer)

    async def _whole(
        self, connection: DemoConnection, request: DemoRequest, writer: Writer
    ) -> None:
        body = writer.whole()
        match request.command.name:
            case "cut":
                connection.whole_cut(body)
            case "fail":
                _refuse(connection, 500)
            case "hang":
                await asyncio.Event().wait()
            case _:
                connection.whole(200, body)

    async def _stream(
        self, connection: DemoConnection, request: DemoRequest, writer: Writer
    ) -> None:
        tokens = SLOWNESS if _slow(request) else 1
        trouble = request.command.name in ("cut", "fail", "hang")
        for number, event in enumerate(writer.events()):
            if trouble and number == TROUBLE_AFTER:
                await _fail(connection, request.command.name)
                return
            await connection.send(event)
            await self._pause(tokens)
        await connection.send(writer.end())
        connection.end()

    async def _pause(self, tokens: int) -> None:
        """Wait for the time of some tokens, unevenly as with models."""
        if self._token_s:
            await asyncio.sleep(tokens * self._token_s * random.uniform(0.7, 1.3))


async def _fail(connection: DemoConnection, how: str) -> None:
    """Break a stream in the way of the command."""
    if how == "cut":
        connection.break_off()
    elif how == "fail":
        await connection.send(error_event("The demo upstream fails, as you asked."))
        connection.end()
    else:
        await asyncio.Event().wait()  # until the client leaves


def _slow(request: DemoRequest) -> bool:
    return request.command.name == "slow"


def _play(connection: DemoConnection, name: str) -> None:
    """Answer with the bytes of a shape, whether a stream was requested or not."""
    shape = find_shape(name)
    if shape is None:
        names = ", ".join(each.name for each in upstream_shapes())
        raise invalid(f"Name a shape, as in `demo: shape cut`: {names}.")
    connection.raw(shape.head + shape.body)


def _refuse(connection: DemoConnection, status: int) -> None:
    """Answer with the status of the command."""
    if not 400 <= status <= 599:
        raise invalid("Name a status from 400 to 599, as in `demo: error 429`.")
    refusal = DemoRefusal(status, f"The demo upstream refuses with {status}.", "demo_error")
    wait = RETRY_AFTER_S.get(status)
    connection.whole(status, refusal.body, {"retry-after": wait} if wait else None)
