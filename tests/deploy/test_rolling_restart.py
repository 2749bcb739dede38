"""Two gateways behind a proxy restart one after the other, and no request is lost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

import pytest
from support.fakes.upstream import FakeUpstream
from support.network.ports import free_ports
from support.processes import Roxy, serving
from support.servers.proxies import CADDY, NGINX, Site, running_proxy
from support.servers.steady_load import SteadyLoad, steady_answer

SETTINGS = '[server]\ntrusted_proxies = ["127.0.0.1"]\nstop_delay_s = 1.0\n'


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


@pytest.mark.parametrize("site", [NGINX, CADDY], ids=lambda site: site.name)
async def test_no_request_is_lost(site: Site, tmp_path: Path) -> None:
    async with FakeUpstream() as upstream, contextlib.AsyncExitStack() as stack:
        upstream.plan(steady_answer)
        ports = free_ports(2)
        nodes = [Node(tmp_path / f"node-{port}", port, upstream) for port in ports]
        for node in nodes:
            stack.push_async_callback(node.aclose)
        await asyncio.gather(*(node.start() for node in nodes))
        proxy = await stack.enter_async_context(running_proxy(site, tmp_path / "proxy", *ports))
        load = SteadyLoad(proxy.client)
        for node in nodes:
            await load.more()
            await node.restart()
        await load.more()
        await load.end()
        assert not load.failures
        assert load.answered == len(upstream.requests)
