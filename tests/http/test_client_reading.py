"""Readers: a steady one is served however slow it is, one that barely reads is not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from support.fakes.answers import completion, streaming
from support.fakes.clocks import Clocks
from support.fakes.upstream import FakeUpstream, Pause, answer_as_asked, chunk, event
from support.front_door import OWNER, Door, bearer
from support.plain_http import CHAT, head, request
from support.waiting import PATIENCE_S, eventually, soon
from tornado.httputil import HTTPMessageDelegate

from server.http.client_connection import ClientConnection, ClientConnections, HttpLimits
from server.http.client_reading import UNSENT_BYTES, Pace, ReadingClient

STREAM = b'{"model":"test/one","stream":true,"messages":[{"role":"user","content":"Hi"}]}'
WHOLE = b'{"model":"test/one","messages":[{"role":"user","content":"Hi"}]}'
SMALL_BUFFER = 4096


def endless() -> Iterator[bytes]:
    piece = event(chunk({"content": "x" * 16_000}))
    while True:
        yield piece


class Reader:
    """A client that reads as little as a test wants; its own buffer is small."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.size = 0
        self.over = False

    async def send(self, data: bytes) -> None:
        """Send a request."""
        await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def read(self, most: int) -> bytes:
        """Read once."""
        try:
            data = await soon(asyncio.get_running_loop().sock_recv(self._sock, most))
        except ConnectionError:
            data = b""
        self.over = not data
        self.size += len(data)
        return data

    async def read_slowly(self, door: Door, until: Callable[[], object]) -> None:
        """Read 20 KB a second, each second made to pass by hand, until something has happened."""
        pass_s = door.hold_time_for_clients()
        async with asyncio.timeout(PATIENCE_S):
            while not until() and not self.over:
                for _ in range(10):
                    await self.read(2000)
                pass_s(1.0)

    async def read_past(self, mark: bytes) -> bytes:
        """Read until some bytes have come; return everything before them."""
        seen = b""
        while mark not in seen:
            data = await self.read(1 << 16)
            assert data, "the connection has ended"
            seen += data
        return seen.partition(mark)[0]


@contextlib.asynccontextmanager
async def reader(door: Door) -> AsyncIterator[Reader]:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        sock.settimeout(0)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", door.port))
        yield Reader(sock)


async def test_a_steady_reader_is_served_however_slowly_it_reads(
    door: Door, upstream: FakeUpstream
) -> None:
    upstream.plan(streaming(endless()))
    async with reader(door) as slow:
        await slow.send(request(body=STREAM))
        longest_s = door.gateway.services.config.stream.write_timeout_s
        much = 3 * longest_s * 20_000
        await slow.read_slowly(door, lambda: slow.size > much)
        (job,) = door.gateway.services.engine.jobs.values()
        assert job.channel.held_back


@pytest.mark.gateway(settings="[stream]\nmin_read_bytes_per_s = 1_000_000\n")
async def test_a_reader_below_the_minimum_rate_frees_its_worker(
    door: Door, upstream: FakeUpstream
) -> None:
    upstream.plan(streaming(endless()))
    async with reader(door) as slow:
        await slow.send(request(body=STREAM))
        seen = await upstream.request()
        await slow.read_slowly(door, seen.left.is_set)
        await soon(seen.left.wait())
        await eventually(lambda: not door.gateway.services.engine.jobs)


@pytest.mark.gateway(
    settings="[stream]\nmin_read_bytes_per_s = 1_000_000\n"
    "[answers]\nmax_answer_bytes = 33_554_432\n"
)
async def test_a_kept_answer_outlives_a_reader_that_is_too_slow(
    door: Door, upstream: FakeUpstream
) -> None:
    last = asyncio.Event()
    pieces = [event(chunk({"content": f"{number:06d}" + "x" * 8000})) for number in range(600)]
    upstream.plan(streaming([*pieces, Pause(last), event(chunk(finish="stop")), event("[DONE]")]))
    async with reader(door) as slow:
        named = ("X-Roxy-Keep: true", "X-Request-Id: kept-answer", f"Content-Length: {len(STREAM)}")
        await slow.send(head("POST", CHAT, *named) + STREAM)
        await upstream.request()
        server = door.gateway.server
        await slow.read_slowly(door, lambda: server.open_connections == 0)
        assert server.open_connections == 0
    assert "kept-answer" in door.gateway.services.engine.jobs
    last.set()
    events = await door.client.get("/api/v1/jobs/kept-answer/stream", headers=bearer(OWNER))
    numbers = [int(part[:6]) for part in events.text.split('"content":"')[1:]]
    assert numbers == list(range(600))
    assert events.text.endswith("data: [DONE]\n\n")


async def test_little_waits_in_the_kernel_for_a_client_that_does_not_keep_up(door: Door) -> None:
    async with reader(door):
        await eventually(lambda: len(door.gateway.server.connections) > 0)
        (connection,) = door.gateway.server.connections
        level = connection.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
        assert level == UNSENT_BYTES


async def test_a_request_after_an_answer_that_filled_the_socket_is_answered(
    door: Door, upstream: FakeUpstream
) -> None:
    """The answer is complete while most of it waits; the next request comes before and after."""
    upstream.plan(completion("y" * 1_000_000), answer_as_asked)
    async with reader(door) as slow:
        await slow.send(request(body=WHOLE))
        server = door.gateway.server
        await eventually(lambda: any(one.writing() for one in server.connections))
        await slow.send(request("GET", "/healthz", key=None))
        await slow.read_past(b'{"status":"ok"}')
        await slow.send(request(body=WHOLE))
        await slow.read_past(b"chat.completion")
    upstream.plan(completion("z" * 1_000_000), answer_as_asked)
    async with reader(door) as slow:
        await slow.send(request(body=WHOLE))
        await eventually(lambda: any(one.writing() for one in server.connections))
        await slow.read_past(b'"prompt_tokens"')
        await eventually(lambda: not any(one.writing() for one in server.connections))
        await slow.send(request("GET", "/healthz", key=None))
        await slow.read_past(b'{"status":"ok"}')


async def test_who_pipelines_and_does_not_read_holds_the_memory_of_one_answer(
    door: Door, upstream: FakeUpstream
) -> None:
    upstream.plan(*[completion(f"{number} " + "y" * 1_000_000) for number in range(4)])
    async with reader(door) as slow:
        await slow.send(request(body=WHOLE) * 3)
        await eventually(lambda: any(one.writing() for one in door.gateway.server.connections))
        for _ in range(3):
            assert (await door.client.get("/api/v1/models", headers=bearer(OWNER))).is_success
        other = await door.chat()
        assert other.json()["choices"][0]["message"]["content"].startswith("1 ")
        for number in (0, 2, 3):
            await slow.read_past(f'"content": "{number} '.encode())
    assert len(upstream.requests) == 4


@pytest.mark.gateway(settings="[stream]\nheartbeat_s = 0.2\n")
async def test_heartbeats_go_on_after_a_slow_moment(door: Door, upstream: FakeUpstream) -> None:
    hold = asyncio.Event()
    pieces = [event(chunk({"content": "x" * 16_000})) for _ in range(80)]
    upstream.plan(streaming([*pieces, event(chunk({"content": "the end"})), Pause(hold)]))
    async with reader(door) as slow:
        await slow.send(request(body=STREAM))
        await eventually(lambda: any(one.writing() for one in door.gateway.server.connections))
        await asyncio.sleep(0.5)  # more than one heartbeat falls into the time without reading
        await slow.read_past(b"the end")
        for _ in range(3):
            await slow.read_past(b": hb\n\n")
        hold.set()


class StalledTransport(asyncio.Transport):
    """A client's transport whose buffer does not drain."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__({"peername": "client", "socket": sock})
        self.aborted = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing."""

    def get_write_buffer_size(self) -> int:
        """Return what still waits."""
        return 1000

    def abort(self) -> None:
        """Note it."""
        self.aborted = True


async def test_short_waits_add_up_even_if_no_check_falls_into_them() -> None:
    limits = HttpLimits(60.0, 60.0, 60.0, 0.2, 4096, 10, 1_000_000)
    connections = ClientConnections(limits, lambda *_: HTTPMessageDelegate(), counts_here=True)
    clock = Clocks()
    connections.clock = clock.now
    near, far = socket.socketpair()
    with near, far:
        transport = StalledTransport(near)
        connection = ClientConnection(connections, "http")
        connection.connection_made(transport)
        for number in range(4):
            connection.pause_writing()
            clock.pass_s(0.06)
            connection.resume_writing()
            clock.pass_s(10.0)  # in which nothing waits
            connection.pause_writing()
            connection.check(clock.now())
            assert transport.aborted is (number == 3)
            connection.resume_writing()


# The patience with a reader, by numbers


def served(pace: Pace, *taken: tuple[float, int]) -> list[bool]:
    """Return what is decided at each time; the bytes that a client has taken until then."""
    client = ReadingClient(pace)
    client.begin(pace, 0, 0.0)
    return [client.waits(pace, size, at) for at, size in taken]


def test_a_client_that_takes_nothing_is_cut_after_the_longest_wait() -> None:
    assert served(Pace(60, 256), (30, 0), (59, 0), (60, 0), (61, 0)) == [True, True, True, False]


@pytest.mark.parametrize("rate", [1, 256, 5000])
def test_a_client_at_the_lowest_rate_is_served_for_ever(rate: int) -> None:
    hours = [(at, at * rate) for at in range(1, 20_000)]
    assert all(served(Pace(60, rate), *hours))
    steps = [(at, at // 40 * 40 * rate) for at in range(1, 20_000)]
    assert all(served(Pace(60, rate), *steps)), "the kernel reports in steps"


def test_a_client_that_takes_a_few_bytes_a_minute_is_cut() -> None:
    dripping = [(at, at // 10) for at in range(1, 200)]
    assert served(Pace(60, 256), *dripping).index(False) < 70


def test_without_a_lowest_rate_any_progress_counts() -> None:
    dripping = [(at, at // 50) for at in range(1, 5000)]
    assert all(served(Pace(60, 0), *dripping))
    assert not all(served(Pace(60, 0), *dripping, (5070, 99)))


def test_reading_ahead_earns_no_more_than_the_longest_wait() -> None:
    pace = Pace(60, 256)
    assert served(pace, (1, 10_000_000), (60, 10_000_000), (62, 10_000_000)) == [True, True, False]


def test_a_buffer_that_runs_empty_in_between_does_not_start_the_wait_again() -> None:
    pace = Pace(60, 256)
    client = ReadingClient(pace)
    for round_number in range(4):
        client.begin(pace, round_number * 100, round_number * 1000.0)
        waits = client.waits(pace, round_number * 100 + 50, round_number * 1000.0 + 20)
        assert waits is (round_number < 3)


def test_what_was_taken_while_nothing_waited_counts_too() -> None:
    pace = Pace(60, 256)
    client = ReadingClient(pace)
    client.begin(pace, 0, 0.0)
    assert client.waits(pace, 0, 59.0)
    client.begin(pace, 1_000_000, 500.0)
    assert client.waits(pace, 1_000_000, 559.0)
