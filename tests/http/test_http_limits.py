"""What a client may hold: time, connections, memory; whatever it does, it is given back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from support.fakes.answers import Answer as FakeAnswer
from support.fakes.raw_upstream import descriptors
from support.fakes.upstream import (
    FakeUpstream,
    Pause,
    answer_as_asked,
    chunk,
    completion,
    event,
    events_of,
    refusal,
    silence,
    streaming,
)
from support.front_door import Door, front_door, parse_events, request_body, text_of
from support.plain_http import CHAT, Answer, Wire, ask, chunked, connect, head, request
from support.servers.shared_gateway import shared_gateway
from support.waiting import eventually

from server.http.client_connection import BODY_GRACE_S, ConnectionState

MB = 1024 * 1024
VALID = json.dumps(request_body("Hi")).encode()
STREAMED = json.dumps(request_body("Hi", stream=True)).encode()
HEALTH = request("GET", "/healthz", key=None)
CRAMPED = f"""
[server]
max_body_bytes = {MB}
max_bodies_bytes = {2 * MB}
drain_timeout_s = 0
"""
LONG = "Content-Length: 1000000"
CHUNKED = "Transfer-Encoding: chunked"
LONG_S = 100.0
"""Longer than every limit, in seconds."""
PassTime = Callable[[float], None]


@pytest.fixture(scope="module")
async def running(
    anyio_backend: object, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Door]:
    """Return a gateway for tests of its time limits."""
    async with shared_gateway(tmp_path_factory.mktemp("timed")) as (door, _):
        yield door


@pytest.fixture
def timed(running: Door) -> tuple[Door, PassTime]:
    """Return it, and what lets time pass there."""
    return running, running.hold_time_for_clients()


@pytest.fixture(scope="module")
async def small(
    anyio_backend: object, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Door, FakeUpstream]]:
    """Return a gateway with little room, and its upstream."""
    async with shared_gateway(tmp_path_factory.mktemp("small"), settings=CRAMPED) as both:
        yield both


@pytest.fixture
def cramped(small: tuple[Door, FakeUpstream], roomy: FakeUpstream) -> Door:
    """Return the gateway with little room; its time limits pass by hand."""
    small[0].hold_time_for_clients()
    return small[0]


@pytest.fixture
def roomy(small: tuple[Door, FakeUpstream]) -> FakeUpstream:
    """Return its upstream, which completes whatever is asked."""
    small[1].plan(answer_as_asked)
    small[1].requests.clear()
    return small[1]


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """Return an upstream that completes whatever is asked."""
    async with FakeUpstream() as fake:
        yield fake


async def drip(wire: Wire, data: bytes) -> None:
    """Send a byte now and then until the connection ends."""
    with contextlib.suppress(ConnectionError):
        for number in range(len(data)):
            await wire.send(data[number : number + 1])
            await asyncio.sleep(0.005)


async def in_state(door: Door, state: ConnectionState, count: int) -> None:
    """Wait until the gateway has so many connections, all in one state."""
    connections = door.gateway.server.connections
    await eventually(lambda: [one.state for one in connections] == [state] * count)


async def received_more(door: Door, count: int) -> None:
    """Wait until connections have received so many more bytes of a head or a body."""
    connections = door.gateway.server.connections
    before = sum(one._received for one in connections)
    await eventually(lambda: sum(one._received for one in connections) >= before + count)


@contextlib.asynccontextmanager
async def dripping(wire: Wire, data: bytes) -> AsyncIterator[None]:
    """Send bytes now and then beside a block."""
    sending = asyncio.create_task(drip(wire, data))
    yield
    sending.cancel()
    await asyncio.wait([sending])


async def are_given_up(
    timed: tuple[Door, PassTime], state: ConnectionState, begun: list[tuple[bytes, bytes]]
) -> None:
    """Require a 408 for each request, sent so far and then byte by byte, once its time is up."""
    door, pass_s = timed
    async with contextlib.AsyncExitStack() as stack:
        wires = []
        for data, slowly in begun:
            wires.append(wire := await stack.enter_async_context(connect(door.port)))
            await wire.send(data)
            if slowly:
                await stack.enter_async_context(dripping(wire, slowly))
        await in_state(door, state, len(wires))
        pass_s(0.9 * BODY_GRACE_S)
        await received_more(door, 5)  # which starts no clock again
        pass_s(0.2 * BODY_GRACE_S)
        for wire in wires:
            is_408(await wire.answer())
            assert await wire.rest() == b""


def is_408(answer: Answer) -> None:
    """Require the answer that says: too slow."""
    assert answer.status == 408 and answer.error["code"] == "request_timeout"
    assert answer.headers["connection"] == "close"


SLOW_HEADS = (b"G", b"GET /healthz HTTP/1.1\r\n", HEALTH[:-2], b"\r\n", b"POST " + CHAT.encode())
DRIPPED_HEAD = (HEALTH[:-2], b"X-Slow: " + b"x" * 15_000)
SLOW_BODIES = (
    (LONG, b"", b""),
    (LONG, VALID, b""),
    (LONG, b"", b"x" * 15_000),
    (CHUNKED, b"", b""),
    (CHUNKED, b"5\r\nhel", b""),
    (CHUNKED, chunked(b"hello").removesuffix(b"\r\n"), b""),
    (CHUNKED, b"", b"1\r\nx\r\n" * 2500),
    (LONG + "\r\nExpect: wait", b"x", b""),
)


async def test_a_slow_head_is_a_408_and_the_end(timed: tuple[Door, PassTime]) -> None:
    begun = [*((data, b"") for data in SLOW_HEADS), DRIPPED_HEAD]
    await are_given_up(timed, ConnectionState.HEAD, begun)


async def test_a_slow_body_is_a_408_and_the_end(timed: tuple[Door, PassTime]) -> None:
    begun = [(head("POST", CHAT, line) + data, slowly) for line, data, slowly in SLOW_BODIES]
    await are_given_up(timed, ConnectionState.BODY, begun)
    assert timed[0].gateway.services.engine.jobs == {}


async def test_a_request_that_is_slow_within_its_time_is_served(
    timed: tuple[Door, PassTime],
) -> None:
    door, pass_s = timed
    for begun, state in (
        (HEALTH[:-2], ConnectionState.HEAD),
        (head("POST", CHAT, f"Content-Length: {len(VALID)}"), ConnectionState.BODY),
    ):
        async with connect(door.port) as wire:
            await wire.send(begun)
            await in_state(door, state, 1)
            pass_s(0.9 * BODY_GRACE_S)
            await wire.send(b"\r\n" if state is ConnectionState.HEAD else VALID)
            assert (await wire.answer()).status == 200


async def test_a_body_that_never_follows_its_refusal_ends_the_connection(
    timed: tuple[Door, PassTime],
) -> None:
    door, pass_s = timed
    async with connect(door.port) as wire:
        await wire.send(head("POST", CHAT, LONG, key="wrong"))
        assert (await wire.answer()).status == 401
        pass_s(LONG_S)
        assert await wire.rest() == b""


async def test_an_idle_connection_is_closed_without_a_word(timed: tuple[Door, PassTime]) -> None:
    door, pass_s = timed
    begun = (b"", HEALTH, request("GET", "/api/v1/models"))
    async with contextlib.AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(connect(door.port)) for _ in begun]
        for wire, data in zip(wires, begun, strict=True):
            if data:
                await wire.send(data)
                assert (await wire.answer()).status == 200
        await in_state(door, ConnectionState.IDLE, len(wires))
        pass_s(LONG_S)
        for wire in wires:
            assert await wire.rest() == b""


async def test_a_slow_answer_is_nobodys_timeout(door: Door, upstream: FakeUpstream) -> None:
    hold = asyncio.Event()
    upstream.plan(streaming([Pause(hold), *events_of(["Hel", "lo"])]))
    pass_s = door.hold_time_for_clients()
    async with connect(door.port) as wire, connect(door.port) as idle:
        await wire.send(request(body=STREAMED))
        await upstream.request()
        await eventually(lambda: door.gateway.server.open_connections == 2)
        pass_s(LONG_S)
        assert await idle.rest() == b""  # the clock has struck
        hold.set()
        assert text_of(parse_events((await wire.answer()).body.decode())) == "Hello"


async def test_many_slow_clients_keep_nobody_from_being_served(door: Door) -> None:
    door.hold_time_for_clients()
    async with contextlib.AsyncExitStack() as stack:
        begun = (
            b"",
            HEALTH[:-2],
            head("POST", CHAT, LONG),
            head("POST", CHAT, CHUNKED) + b"5\r\nhe",
        )
        for number in range(400):
            wire = await stack.enter_async_context(connect(door.port))
            await wire.send(begun[number % 4])
        answers = [await door.chat() for _ in range(50)]
        assert [answer.status_code for answer in answers] == [200] * 50
        together = await asyncio.gather(*(door.chat() for _ in range(50)))
        assert [answer.status_code for answer in together] == [200] * 50
        assert door.gateway.server.open_connections >= 400


async def is_served(wires: list[Wire]) -> None:
    """Require an answer on every connection."""
    for wire in wires:
        await wire.send(HEALTH)
        assert (await wire.answer()).status == 200


async def test_connections_beyond_the_cap_are_closed_and_room_comes_back(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    async with front_door(tmp_path, upstream, settings="[server]\nmax_connections = 5\n") as door:
        server = door.gateway.server
        async with contextlib.AsyncExitStack() as stack:
            five = [await stack.enter_async_context(connect(door.port)) for _ in range(5)]
            await is_served(five)
            async with connect(door.port) as sixth:
                assert await sixth.rest() == b""
            await is_served(five)
        await eventually(lambda: server.open_connections == 0)
        assert (await ask(door.port, HEALTH)).status == 200


async def test_bodies_in_memory_are_capped_together(cramped: Door, roomy: FakeUpstream) -> None:
    room = Room(cramped)
    async with connect(cramped.port) as one, connect(cramped.port) as two:
        for wire in (one, two):
            await wire.send(head("POST", CHAT, LONG) + b"x" * 999_999)
        await eventually(lambda: room.taken == 1_999_998)
        for data in (
            request(body=b"x" * 200_000),
            head("POST", CHAT, CHUNKED) + chunked(b"x" * 60_000, b"y" * 60_000),
        ):
            answer = await ask(cramped.port, data)
            assert answer.status == 503 and answer.error["code"] == "server_is_overloaded"
            assert int(answer.headers["retry-after"]) >= 1
        assert (await ask(cramped.port, request(body=VALID))).status == 200
    await eventually(lambda: room.taken == 0)
    assert (await ask(cramped.port, request(body=b"x" * 200_000))).status == 400


async def test_a_body_that_is_announced_and_does_not_come_takes_no_room(
    cramped: Door, roomy: FakeUpstream
) -> None:
    room = Room(cramped)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(20):
            wire = await stack.enter_async_context(connect(cramped.port))
            await wire.send(head("POST", CHAT, LONG) + b"x")
        await eventually(lambda: room.taken == 20)
        assert (await ask(cramped.port, request(body=b"x" * 200_000))).status == 400
    await eventually(lambda: room.taken == 0)


async def mint(door: Door) -> str:
    """Create a key on a connection that is closed again."""
    answer = await ask(door.port, request("POST", "/api/v1/keys", b'{"name":"test"}'))
    return str(answer.json["key"])


async def test_the_bodies_of_one_key_leave_room_for_others(
    cramped: Door, roomy: FakeUpstream
) -> None:
    room, body = Room(cramped), b"x" * 200_000
    greedy, other = [await mint(cramped) for _ in range(2)]
    async with connect(cramped.port) as wire:
        await wire.send(head("POST", CHAT, LONG, key=greedy) + b"x" * 999_999)
        await eventually(lambda: room.taken == 999_999)
        assert (await ask(cramped.port, request(body=body, key=greedy))).status == 503
        assert (await ask(cramped.port, request(body=body, key=other))).status == 400
        assert (await ask(cramped.port, request(body=b"x" * MB))).status == 400
    await eventually(lambda: room.taken == 0)


async def test_the_bodies_of_strangers_leave_room_for_keys(
    cramped: Door, roomy: FakeUpstream
) -> None:
    room, length = Room(cramped), "Content-Length: 200001"
    key = await mint(cramped)
    stranger = head("GET", "/healthz", length, key=None) + b"x" * 200_000
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(5):
            wire = await stack.enter_async_context(connect(cramped.port))
            await wire.send(stranger)
        await eventually(lambda: room.taken == 1_000_000)
        assert (await ask(cramped.port, stranger + b"x")).status == 503
        assert (await ask(cramped.port, request(body=b"x" * 200_000, key=key))).status == 400
        assert (await ask(cramped.port, request(body=b"x" * MB))).status == 400
    await eventually(lambda: room.taken == 0)


def endless() -> FakeAnswer:
    """Plan a stream that begins and does not end."""
    return streaming([event(chunk("x")), Pause(asyncio.Event())])


class Room:
    """Watch how much room for bodies is taken."""

    def __init__(self, door: Door) -> None:
        self._bodies = door.gateway.services.bodies
        self._all = self._bodies._free

    @property
    def taken(self) -> int:
        """Return it in bytes."""
        return self._all - self._bodies._free


Plan = Callable[[FakeUpstream], object]
HUGE = completion("x" * 20 * MB)
PADDED = VALID[:-1] + b"," + b" " * 100_000 + b'"pad":1}'
PADDED_STREAM = STREAMED[:-1] + b"," + b" " * 100_000 + b'"pad":1}'
# What is sent, what the upstream does, and whether the client waits for an answer or leaves.
PATHS: dict[str, tuple[bytes, Plan | None, str]] = {
    "answered": (request(body=PADDED), None, "waits"),
    "answered, in chunks": (head("POST", CHAT, CHUNKED) + chunked(PADDED), None, "waits"),
    "streamed": (request(body=PADDED_STREAM), None, "waits"),
    "bad JSON": (request(body=b"x" * 100_000), None, "waits"),
    "unknown model": (request(body=PADDED.replace(b"test/one", b"test/two")), None, "waits"),
    "refused upstream": (request(body=PADDED), lambda up: up.plan(refusal(400)), "waits"),
    "failed upstream": (request(body=PADDED), lambda up: up.plan(refusal(500)), "waits"),
    "wrong key": (request("POST", CHAT, PADDED, key="wrong"), None, "waits"),
    "no such path": (request("POST", "/api/v1/x", PADDED), None, "waits"),
    "too large": (request(body=b"x" * 2 * MB), None, "waits"),
    "too large, in chunks": (
        head("POST", CHAT, CHUNKED) + chunked(*[b"x" * 65_536] * 20),
        None,
        "waits",
    ),
    "bad chunk": (
        head("POST", CHAT, CHUNKED) + b"ffff\r\n" + b"x" * 65_535 + b"bad",
        None,
        "waits",
    ),
    "too slow": (head("POST", CHAT, LONG) + b"x" * 1000, None, "is slow"),
    "left in the body": (head("POST", CHAT, LONG) + b"x" * 1000, None, "leaves"),
    "left in a chunk": (head("POST", CHAT, CHUNKED) + b"ffff\r\nx", None, "leaves"),
    "left while waiting": (request(body=PADDED), lambda up: up.plan(silence()), "leaves"),
    "left in the stream": (request(body=PADDED_STREAM), lambda up: up.plan(endless()), "leaves"),
    "never reads": (request(body=PADDED), lambda up: up.plan(HUGE), "stalls"),
}


async def test_room_for_a_body_comes_back_whatever_happens(
    cramped: Door, roomy: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    room, pass_s = Room(cramped), cramped.hold_time_for_clients()
    for name, (data, plan, behaviour) in PATHS.items():
        roomy.plan(answer_as_asked)
        roomy.requests.clear()
        if plan is not None:
            plan(roomy)
        async with connect(cramped.port) as wire:
            if behaviour == "stalls":
                wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await wire.send(data)
            if behaviour != "waits":
                await eventually(lambda: room.taken > 0 or roomy.requests)
            if behaviour == "is slow":
                pass_s(LONG_S)
            if behaviour in ("waits", "is slow"):
                await wire.answer()
            if plan is not None:
                await roomy.request()
            if behaviour == "stalls":
                await eventually(lambda: room.taken == 0)
        await eventually(lambda: room.taken == 0 and not cramped.gateway.services.engine.jobs)
        assert [r for r in caplog.records if r.levelno >= logging.ERROR] == [], name


async def test_a_refused_body_takes_no_room_while_its_rest_is_still_coming(
    cramped: Door, roomy: FakeUpstream
) -> None:
    room = Room(cramped)
    async with connect(cramped.port) as wire:
        await wire.send(head("POST", CHAT, CHUNKED))
        await wire.send(chunked(*[b"x" * 65_536] * 17).removesuffix(b"0\r\n\r\n"))
        assert (await wire.answer()).status == 413
        assert room.taken == 0


async def test_a_reader_of_json_that_stalls_is_dropped_and_a_slow_one_served(
    cramped: Door, roomy: FakeUpstream
) -> None:
    roomy.plan(HUGE)
    server = cramped.gateway.server
    pass_s = cramped.hold_time_for_clients()

    def gives_up() -> bool:
        pass_s(LONG_S)  # more than once: what the kernel takes at first counts as read
        return server.open_connections == 0

    async with connect(cramped.port) as wire:
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await wire.send(request(body=VALID))
        await eventually(lambda: any(stream.writing() for stream in server.connections))
        await eventually(gives_up)
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await wire.rest()) < 20 * MB
    answer = await ask(cramped.port, request(body=VALID))
    assert len(answer.json["choices"][0]["message"]["content"]) == 20 * MB


async def test_closing_leaves_no_descriptor_whatever_is_open(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    upstream.plan(endless())
    async with contextlib.AsyncExitStack() as clients:
        wires = []
        before = descriptors()
        async with front_door(tmp_path, upstream, settings=CRAMPED) as door:
            door.hold_time_for_clients()
            for data in (
                b"",
                HEALTH,
                HEALTH[:-2],
                head("POST", CHAT, LONG) + b"x",
                head("POST", CHAT, CHUNKED, key="wrong"),
                request(body=STREAMED),
                request(body=STREAMED) + b"G",
                head("GET", "/" + "x" * 40_000) + b"y" * 40_000,
            ):
                wire = await clients.enter_async_context(connect(door.port))
                await wire.send(data)
                wires.append(wire)
            await upstream.request(1)
            await eventually(lambda: door.gateway.server.open_connections == len(wires))
        for wire in wires:
            await wire.rest()
            wire.writer.close()
            with contextlib.suppress(OSError):
                await wire.writer.wait_closed()
        await eventually(lambda: descriptors() <= before)
