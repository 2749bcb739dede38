"""After thousands of streams, half of them abandoned, nothing is left behind.

No memory, no descriptor, no task, no job, no connection, no slot.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import random
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from support.fakes.upstream import (
    Answer,
    FakeUpstream,
    Request,
    chunk,
    completion,
    event,
    events_of,
    refusal,
    silence,
    streaming,
)
from support.front_door import OWNER, Door, front_door, request_body
from support.waiting import PATIENCE_S, eventually, soon

from workers.run.channel import Channel

WORKERS = 24
CLIENTS = 48
STREAMS_A_ROUND = 500
ROUNDS = 5
STORM = 400
MIB = 1024 * 1024
ROOM_BYTES = 24 * MIB
"""What the allocator may keep of a peak."""
LEAK_BYTES = STREAMS_A_ROUND * 1024
"""What a round must not add each time: a leak shows in every round, a peak in one."""
PIECES = [event(chunk({"content": f"{number} " + "x" * 200})) for number in range(12)]
QUIET = "[log]\naccess = false\n"
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Left(NamedTuple):
    """What is there at a quiet moment."""

    memory_bytes: int
    descriptors: int
    tasks: int

    def beyond(self, before: Left) -> bool:
        """Return whether there is more than before."""
        return self.descriptors > before.descriptors or self.tasks > before.tasks


def memory_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def other_tasks(name: str) -> int:
    return sum(task.get_name().startswith(name) for task in asyncio.all_tasks())


def ask(door: Door, key: str, *, stream: bool = True) -> bytes:
    payload = json.dumps(request_body("Hi " * 300, stream=stream)).encode()
    head = (
        f"POST /api/v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{door.port}\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload


def mixed(request: Request) -> Answer:
    """Answer in the ways upstreams do: whole, at a pace, cut, refusing, silent."""
    if not request.json.get("stream"):
        return completion("x" * 2000)
    kind = random.random()
    if kind < 0.05:
        return silence()
    if kind < 0.10:
        return streaming(PIECES, end="reset")
    return streaming([*PIECES, *events_of(["end"])], gap_s=random.choice((0.0, 0.0, 0.002)))


async def one_client(door: Door, key: str) -> None:
    """Ask once; half the time, leave somewhere on the way, politely or not."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    try:
        leaves = random.random() < 0.5
        writer.write(ask(door, key, stream=random.random() < 0.8))
        if leaves:
            await asyncio.wait_for(reader.readexactly(random.randrange(1, 4000)), 0.5)
        else:
            await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 1.0)
    except (TimeoutError, asyncio.IncompleteReadError):
        pass  # the upstream was silent, or the answer was not a stream
    finally:
        if random.random() < 0.5:
            writer.transport.abort()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def one_round(door: Door, keys: list[str], streams: int) -> None:
    """Send requests from many clients, a number of them at the same time."""
    left = iter(range(streams))

    async def client() -> None:
        for number in left:
            await one_client(door, keys[number % len(keys)])

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


async def settled(door: Door, upstream: FakeUpstream, before: Left | None = None) -> Left:
    """Wait until everything has ended and give what is there; the rest must be zero.

    What the gateway does now and then, such as to save usage, may be under way: it is waited for
    until there is no more than `before`.
    """
    services = door.gateway.services
    server = door.gateway.server
    transport = services.engine._transport
    async with asyncio.timeout(PATIENCE_S):
        while (
            services.engine.jobs
            or other_tasks("ledger")
            or server.open_connections
            or transport.stats.connecting
            or transport.stats.open != transport.stats.idle
            or len(upstream.open_connections) != transport.stats.open
        ):
            await asyncio.sleep(0.02)
    (pool,) = services.engine
    (report,) = await services.engine.scheduler.report([pool.model])
    assert (report.waiting, [one.busy for one in report.deployments]) == (0, [0])
    assert services.bodies._free == services.config.server.max_bodies_bytes
    upstream.requests.clear()  # the fake's own notes

    def look() -> Left:
        # Both ends of an idle connection are ours, and idle workers stay.
        tasks = len(asyncio.all_tasks()) - other_tasks("worker ")
        return Left(memory_bytes(), descriptors() - 2 * transport.stats.idle, tasks)

    left, looks = look(), 1
    while before and left.beyond(before) and looks < 10 * PATIENCE_S:
        await asyncio.sleep(0.1)
        left, looks = look(), looks + 1
    return left


@contextlib.asynccontextmanager
async def gateway(path: Path, settings: str = "") -> AsyncIterator[tuple[Door, FakeUpstream]]:
    async with (
        FakeUpstream() as upstream,
        front_door(path, upstream, settings=QUIET + settings, max_concurrency=WORKERS) as door,
    ):
        yield door, upstream


async def close_own_connections(door: Door) -> None:
    """Drop the kept-alive connections of the test's own client."""
    await door.client.aclose()


@pytest.mark.time_limit(240)
async def test_thousands_of_streams_half_of_them_abandoned_leave_nothing_behind(
    tmp_path: Path,
) -> None:
    async with gateway(tmp_path) as (door, upstream):
        limits = {"requests_per_minute": None, "concurrent_requests": CLIENTS}
        made = [await door.mint_key(f"{number}", limits=limits) for number in range(3)]
        keys = [OWNER, *(str(key["key"]) for key in made)]
        await close_own_connections(door)
        upstream.plan(mixed)
        await one_round(door, keys, STREAMS_A_ROUND)
        await settled(door, upstream)
        lefts: list[Left] = []
        for _ in range(ROUNDS - 1):
            await one_round(door, keys, STREAMS_A_ROUND)
            lefts.append(await settled(door, upstream, *lefts[:1]))
        assert not any(left.beyond(lefts[0]) for left in lefts), lefts
        memory = [left.memory_bytes for left in lefts]
        assert memory[-1] - memory[0] < ROOM_BYTES, memory
        assert min(later - before for before, later in pairwise(memory)) < LEAK_BYTES, memory
        services = door.gateway.services
        for key in await services.keys.list():
            assert (await services.counters.standing(key.id, key.limits)).running == 0


@pytest.mark.time_limit(240)
async def test_a_storm_on_a_full_queue_is_refused_and_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    async with gateway(tmp_path, "[queue]\nmax_waiting = 50\n") as (door, upstream):
        limits = {"requests_per_minute": None}
        keys = [await door.mint(f"{number}", limits=limits) for number in range(4)]
        await close_own_connections(door)
        upstream.plan(silence())
        engine = door.gateway.services.engine
        refused = 0

        async def client(key: str) -> None:
            nonlocal refused
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            writer.write(ask(door, key))
            writers.append(writer)
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: " in head
                refused += 1

        lefts: list[Left] = []
        for _ in range(3):
            refused = 0
            writers: list[asyncio.StreamWriter] = []
            tasks = [asyncio.create_task(client(keys[n % len(keys)])) for n in range(STORM)]
            async with asyncio.timeout(PATIENCE_S):
                while refused < STORM - WORKERS - 50:
                    await asyncio.sleep(0.02)
            assert len(engine.jobs) == WORKERS + 50
            (pool,) = engine
            (report,) = await engine.scheduler.report([pool.model])
            assert report.waiting == 50
            for writer in writers:
                writer.transport.abort()
            await asyncio.gather(*tasks)
            lefts.append(await settled(door, upstream, *lefts[:1]))
        assert not any(left.beyond(lefts[0]) for left in lefts), lefts
        assert lefts[2].memory_bytes - lefts[0].memory_bytes < ROOM_BYTES


def endless() -> Iterator[bytes]:
    piece = event(chunk({"content": "x" * 16_000}))
    while True:
        yield piece


@pytest.mark.time_limit(240)
async def test_four_readers_that_stall_cost_little_and_are_dropped(tmp_path: Path) -> None:
    async with gateway(tmp_path, "[stream]\nwrite_timeout_s = 2.0\n") as (door, upstream):
        await close_own_connections(door)
        upstream.plan(lambda _request: streaming(endless()))
        before = memory_bytes()
        clients = []
        for _ in range(4):
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port, limit=1024)
            writer.write(ask(door, OWNER))
            clients.append((reader, writer))
        seen = [await upstream.request(number) for number in range(4)]
        await eventually(lambda: all(channel.held_back for channel in channels(door)))
        assert memory_bytes() - before < 16 * MIB
        for request in seen:
            await soon(request.left.wait())
            assert request.sent_bytes < 32 * MIB
        for _, writer in clients:
            writer.transport.abort()
        await settled(door, upstream)
        rows = await door.usage_rows(4)
        assert {row.status for row in rows} == {"cancelled"}


def channels(door: Door) -> list[Channel]:
    return [job.channel for job in door.gateway.services.engine.jobs.values()]


def finished() -> Answer:
    return streaming([*PIECES, *events_of(["end"])])


@pytest.mark.parametrize(
    ("plan", "leaves_after"),
    [
        (finished(), None),
        (completion(), None),
        (streaming(PIECES, end="cut"), None),
        (refusal(400), None),
        (refusal(400, framing="chunked"), None),
        (silence(), 0),
        (streaming(PIECES, end="hang"), 1000),
    ],
    ids=[
        "finished",
        "whole",
        "cut",
        "refused",
        "refused stream",
        "left early",
        "left in the middle",
    ],
)
async def test_no_part_of_an_ended_request_waits_for_the_garbage_collector(
    tmp_path: Path, plan: Answer, leaves_after: int | None
) -> None:
    """What only the collector can free piles up between its rare full collections."""
    async with gateway(tmp_path) as (door, upstream):
        await close_own_connections(door)
        # Two answers after each cut, so that the deployment is not left alone as failing.
        upstream.plan(*([plan, finished(), finished()] * 5 if plan.end == "cut" else [plan]))

        async def once(number: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            writer.write(ask(door, OWNER, stream=plan.framing == "chunked"))
            await upstream.request(number)
            if leaves_after is None:
                await reader.read(1)
            else:
                await reader.readexactly(leaves_after)
            writer.transport.abort()
            await settled_jobs(door)

        for number in range(4):
            await once(number)
        gc.collect()
        gc.disable()
        try:
            for number in range(4, 14):
                await once(number)
            found = uncollected()
        finally:
            gc.enable()
        assert found == []


async def settled_jobs(door: Door) -> None:
    server = door.gateway.server
    engine = door.gateway.services.engine
    await eventually(lambda: not (engine.jobs or server.open_connections or other_tasks("ledger")))


def uncollected() -> list[str]:
    """Return the types of the objects that only the garbage collector finds."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        names = {f"{type(one).__module__}.{type(one).__name__}" for one in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    return sorted(name for name in names if name.startswith(("workers.", "server.")))
