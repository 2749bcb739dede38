"""While a process leaves its clients to another, no request meets the end of its connection."""

from __future__ import annotations

import asyncio

import pytest
from support.fakes.upstream import FakeUpstream, Pause, chunk, event, streaming
from support.front_door import Door, parse_events, text_of
from support.plain_http import connect, request
from support.waiting import PATIENCE_S, soon

pytestmark = pytest.mark.gateway(settings=f"[server]\ndrain_timeout_s = {PATIENCE_S * 2}\n")

READY = request("GET", "/readyz")


async def test_each_connection_ends_with_its_next_answer_which_says_so(door: Door) -> None:
    async with connect(door.port) as wire:
        await wire.send(READY)
        assert "connection" not in (await wire.answer()).headers
        retiring = asyncio.create_task(door.gateway.retire())
        await asyncio.sleep(0)
        assert not retiring.done()
        await wire.send(READY)
        answer = await wire.answer()
        # This process serves no new clients, but the gateway does.
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await wire.rest() == b""
    await soon(retiring)


async def test_an_answer_that_began_before_keeps_its_connection_for_one_more(
    upstream: FakeUpstream, door: Door
) -> None:
    hold = asyncio.Event()
    first, last = event(chunk({"content": "first "})), event(chunk({"content": "last"}))
    end = [event(chunk(finish="stop")), event("[DONE]")]
    upstream.plan(streaming([first, Pause(hold), last, *end]))
    async with door.stream() as response:
        begun = response.aiter_text()
        text = await anext(begun)
        retiring = asyncio.create_task(door.gateway.retire())
        await asyncio.sleep(0)
        hold.set()
        async for piece in begun:
            text += piece
        assert text_of(parse_events(text)) == "first last"
        assert "connection" not in response.headers
    # The client's pool sends its next request over the same connection.
    again = await door.client.get("/readyz")
    assert (again.status_code, again.headers["connection"]) == (200, "close")
    await soon(retiring)


@pytest.mark.gateway(settings="[server]\ndrain_timeout_s = 0.05\n")
async def test_idle_connections_do_not_hold_a_process_for_ever(door: Door) -> None:
    async with connect(door.port) as wire:
        await wire.send(READY)
        await wire.answer()
        await soon(door.gateway.retire())
