"""The room for bodies belongs to the body: it is taken as long as the body is held, no longer."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from support.fakes.answers import completion, silence, streaming
from support.fakes.upstream import FakeUpstream, Pause, answer_as_asked, chunk, event
from support.front_door import Door, bearer, request_body
from support.plain_http import CHAT, ask, connect, head, request
from support.waiting import eventually

from workers.units import MIB

ROOM = f"[server]\nmax_body_bytes = {MIB}\nmax_bodies_bytes = {2 * MIB}"
TEXT = "x" * 700_000
WHOLE = json.dumps(request_body(TEXT)).encode()
STREAMED = json.dumps(request_body(TEXT, stream=True)).encode()
SECOND = b"{" + b" " * 400_000
"""A body that fits beside those above in the half of the room that is one key's, only without."""

pytestmark = pytest.mark.gateway(settings=ROOM)


async def fits(door: Door, key: str, size: int = len(SECOND)) -> bool:
    """Return whether a body of a key is read, which is then refused for what it says."""
    answer = await ask(door.port, request(body=SECOND[:1] + b" " * (size - 1), key=key))
    assert answer.status in (400, 503)
    return answer.status == 400


async def test_the_body_of_a_kept_answer_counts_when_its_client_has_left(
    door: Door, upstream: FakeUpstream
) -> None:
    upstream.plan(silence())
    key = await door.mint()
    async with connect(door.port) as wire:
        asked = (
            f"Content-Length: {len(STREAMED)}",
            "X-Roxy-Keep: true",
            "X-Request-Id: kept-answer",
        )
        await wire.send(head("POST", CHAT, *asked, key=key) + STREAMED)
        await upstream.request()
    kept = door.gateway.services.answers.find("kept-answer")
    assert kept is not None
    await eventually(lambda: not kept.log.attached)
    assert "kept-answer" in door.gateway.services.engine.jobs
    assert not await fits(door, key)
    stopped = await door.client.delete("/api/v1/jobs/kept-answer", headers=bearer(key))
    assert stopped.is_success
    assert await fits(door, key)


async def test_the_body_of_a_waiting_job_counts_until_its_client_leaves(
    door: Door, upstream: FakeUpstream
) -> None:
    upstream.plan(silence())
    key = await door.mint()
    async with connect(door.port) as wire:
        await wire.send(request(body=STREAMED, key=key))
        await upstream.request()
        assert not await fits(door, key)
    await eventually(lambda: not door.gateway.services.engine.jobs)
    assert await fits(door, key)


async def test_the_room_of_a_stream_is_free_after_its_first_content(
    door: Door, upstream: FakeUpstream
) -> None:
    begun, on = asyncio.Event(), asyncio.Event()
    first, more = event(chunk("a")), event(chunk("b"))
    upstream.plan(streaming([Pause(begun), first, Pause(on), more]), answer_as_asked)
    key = await door.mint()
    async with connect(door.port) as wire:
        await wire.send(request(body=STREAMED, key=key))
        await upstream.request()
        assert not await fits(door, key)
        begun.set()
        jobs = door.gateway.services.engine.jobs
        await eventually(lambda: any(job.committed for job in jobs.values()))
        assert await fits(door, key)
        on.set()


async def test_the_room_of_a_whole_answer_is_free_while_its_client_reads(
    door: Door, upstream: FakeUpstream
) -> None:
    upstream.plan(completion("y" * 20 * MIB))
    key = await door.mint()
    async with connect(door.port) as wire:
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await wire.send(request(body=WHOLE, key=key))
        await eventually(lambda: any(one.writing() for one in door.gateway.server.connections))
        assert await fits(door, key)
        assert any(one.writing() for one in door.gateway.server.connections)


async def test_the_last_quarter_of_the_room_is_the_owners(door: Door) -> None:
    keys = [await door.mint(f"key {number}") for number in range(3)]
    async with contextlib.AsyncExitStack() as stack:
        for key, size in ((keys[0], MIB - 1), (keys[1], MIB // 2 - 10)):
            wire = await stack.enter_async_context(connect(door.port))
            await wire.send(head("POST", CHAT, f"Content-Length: {MIB}", key=key) + b" " * size)
        bodies = door.gateway.services.bodies
        await eventually(lambda: bodies._free == MIB // 2 + 11)
        assert not await fits(door, keys[2], 12)
        assert await fits(door, keys[2], 11)
        owners = await ask(door.port, request(body=b" " * (MIB // 2)))
        assert owners.status == 400
