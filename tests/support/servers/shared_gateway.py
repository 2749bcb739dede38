"""One gateway for a module of tests: what starts lazily is started before the first of them.

Workers stay once they have started: they would be stray tasks of the test that first needs them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from support.fakes.upstream import FakeUpstream, Pause, events_of, streaming
from support.front_door import Door, front_door, request_body
from support.plain_http import connect, request


@contextlib.asynccontextmanager
async def shared_gateway(
    path: Path, *, settings: str = "", workers: int = 4, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Door, FakeUpstream]]:
    """Run a gateway and its upstream; tests reach it by connections of their own."""
    async with FakeUpstream() as upstream, front_door(path, upstream, settings=settings) as door:
        await _start_workers(door, upstream, workers, tls)
        yield door, upstream


async def _start_workers(
    door: Door, upstream: FakeUpstream, count: int, tls: ssl.SSLContext | None
) -> None:
    hold = asyncio.Event()
    upstream.plan(streaming([Pause(hold), *events_of(["x"])]))
    body = json.dumps(request_body("Hi", stream=True)).encode()
    async with contextlib.AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(connect(door.port, tls)) for _ in range(count)]
        for number, wire in enumerate(wires):
            await wire.send(request(body=body))
            await upstream.request(number)
        hold.set()
        assert [(await wire.answer()).status for wire in wires] == [200] * count
