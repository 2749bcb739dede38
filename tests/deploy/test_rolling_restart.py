"""Two gateways behind a proxy restart one after the other, and no request is lost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

import pytest
from support.fakes.upstream import (
    Answer,
    FakeUpstream,
    Request,
    chunk,
    completion,
    event,
    streaming,
)
from support.front_door import OWNER, bearer, parse_events, request_body, text_of
from support.processes import Roxy, serving
from support.servers.proxies import CADDY, NGINX, Proxy, Site, free_ports, running_proxy
from support.waiting import eventually

CHAT = "/api/v1/chat/completions"
SETTINGS = '[server]\ntrusted_proxies = ["127.0.0.1"]\nstop_delay_s = 1.0\n'
CLIENTS = 6
WORDS = ["one ", "two ", "three"]


class Load:
    """Clients that ask again and again, streamed and whole, and count what went wrong."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self.answered = 0
        self.failures: list[str] = []
        self._tasks = [asyncio.create_task(self._ask(bool(n % 2))) for n in range(CLIENTS)]
        self._ends = False

    async def more(self, count: int = 3 * CLIENTS) -> None:
        """Wait for this many more answers."""
        wanted = self.answered + len(self.failures) + count
        await eventually(lambda: self.answered + len(self.failures) >= wanted)

    async def end(self) -> None:
        """Wait until every client has finished its request, and end."""
        self._ends = True
        await asyncio.gather(*self._tasks)

    async def _ask(self, stream: bool) -> None:
        while not self._ends:
            answer = await self._proxy.client.post(
                CHAT, json=request_body(stream=stream), headers=bearer(OWNER)
            )
            if answer.status_code != 200:
                self.failures.append(f"{answer.status_code} {answer.text}")
            elif stream and text_of(parse_events(answer.text)) != "".join(WORDS):
                self.failures.append(answer.text)
            else:
                self.answered += 1


class Node:
    """A gateway process with a port of its own, which can be started again."""

    def __init__(self, path: Path, port: int, upstream: FakeUpstream) -> None:
        self.port = port
        self._path = path
        self._upstream = upstream
        self._stack = contextlib.AsyncExitStack()
        self._roxy: Roxy | None = None
        path.mkdir()

    async def start(self) -> None:
        """Start the gateway and wait until it is ready."""
        options = ("--port", str(self.port))
        running = serving(self._path, self._upstream, settings=SETTINGS, options=options)
        self._roxy = await self._stack.enter_async_context(running)

    async def restart(self) -> None:
        """Stop the gateway with SIGTERM, wait until it has ended, and start it again."""
        assert self._roxy is not None
        self._roxy.signal(signal.SIGTERM)
        assert await self._roxy.ended() == 0
        await self.aclose()
        await self.start()

    async def aclose(self) -> None:
        """End the gateway."""
        await self._stack.aclose()


def answer(request: Request) -> Answer:
    """Answer within the time of a few requests."""
    if not request.json.get("stream"):
        return completion()
    words = [event(chunk({"content": word})) for word in WORDS]
    return streaming([*words, event(chunk(finish="stop")), event("[DONE]")], gap_s=0.02)


@pytest.mark.parametrize("site", [NGINX, CADDY], ids=lambda site: site.name)
async def test_no_request_is_lost(site: Site, tmp_path: Path) -> None:
    async with FakeUpstream() as upstream, contextlib.AsyncExitStack() as stack:
        upstream.plan(answer)
        ports = free_ports(2)
        nodes = [Node(tmp_path / f"node-{port}", port, upstream) for port in ports]
        for node in nodes:
            stack.push_async_callback(node.aclose)
        await asyncio.gather(*(node.start() for node in nodes))
        proxy = await stack.enter_async_context(running_proxy(site, tmp_path / "proxy", *ports))
        load = Load(proxy)
        for node in nodes:
            await load.more()
            await node.restart()
        await load.more()
        await load.end()
        assert not load.failures
        assert load.answered == len(upstream.requests)
