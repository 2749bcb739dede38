"""Large bodies both ways, readers that do not keep up, and what that costs in memory."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import AsyncIterator

import pytest
from support.builders.exchanges import Collector, fetch, send
from support.fakes.raw_upstream import Peer, RawUpstream, answer, chunked
from support.waiting import eventually

from workers.errors import UpstreamUnavailable
from workers.transport.transport import Stats, Transport, UpstreamExchange

MB = 1_000_000
STREAM = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
IN_FLIGHT = 12 * MB
"""What the kernel's buffers on both sides of a loopback connection may hold."""


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    transport = Transport()
    yield transport
    await transport.aclose()
    assert transport.stats == Stats(0, 0, 0)


async def flood(peer: Peer) -> None:
    """Answer without end."""
    await peer.request()
    await peer.send(STREAM)
    await peer.flood(chunked(bytes(50_000)))


async def still(peer: Peer) -> None:
    """Wait until a flood has come to a stand: nothing moves in many turns and pauses."""
    seen, turns = -1, 0

    def standing() -> bool:
        nonlocal seen, turns
        turns = turns + 1 if peer.sent_bytes == seen else 0
        seen = peer.sent_bytes
        return turns > 9

    await eventually(standing)


async def test_ten_megabytes_go_up_and_come_back(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        while True:
            body = (await peer.request()).partition(b"\r\n\r\n")[2]
            peer.requests.clear()
            await peer.send(answer(body))

    body = bytes(range(256)) * (10 * MB // 256)
    async with RawUpstream(script) as upstream:
        for _ in range(3):
            _, read = await fetch(transport, upstream.url, body)
            assert hashlib.sha256(read).digest() == hashlib.sha256(body).digest()
        assert len(upstream.peers) == 1


async def test_a_chunked_body_of_ten_megabytes_arrives_whole(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM, *[chunked(bytes(997))] * 10_000, b"0\r\n\r\n")

    async with RawUpstream(script) as upstream:
        _, body = await fetch(transport, upstream.url)
        assert len(body) == 9_970_000


async def test_an_answer_nobody_reads_stops_the_upstream(transport: Transport) -> None:
    async with RawUpstream(flood) as upstream:
        exchange = send(transport, upstream.url)
        await exchange.head()
        await still(upstream.peers[0])
        assert upstream.peers[0].sent_bytes < IN_FLIGHT
        assert exchange._held_bytes < 2 * MB
        exchange.abort(UpstreamUnavailable())


async def test_a_paused_exchange_stops_the_upstream_until_it_is_resumed(
    transport: Transport,
) -> None:
    async with RawUpstream(flood) as upstream:
        exchange = send(transport, upstream.url)
        sink = Collector(exchange.pause)
        exchange.follow(sink.feed)
        await eventually(lambda: sink.size > 0)
        peer = upstream.peers[0]
        for _ in range(3):
            await still(peer)
            seen = sink.size
            exchange.pause()
            await still(peer)
            assert sink.size == seen
            assert peer.sent_bytes < seen + IN_FLIGHT  # the kernel may take more for a while
            exchange.resume()
            exchange.resume()
            await eventually(lambda: sink.size > seen)  # noqa: B023
        exchange.abort(UpstreamUnavailable())


async def test_an_exchange_paused_from_the_start_reads_nothing_until_resumed(
    transport: Transport,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(b"ok"))
        await peer.gone()

    async with RawUpstream(script) as upstream:
        exchange = send(transport, upstream.url)
        exchange.pause()
        await eventually(lambda: bool(upstream.peers) and upstream.peers[0].sent_bytes > 0)
        assert exchange._head is None
        exchange.resume()
        assert await exchange.read(10) == b"ok"
        assert transport.stats.idle == 1


async def test_a_connection_returned_while_paused_notices_its_end(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(b"ok"))

    async with RawUpstream(script) as upstream:
        exchange = send(transport, upstream.url)
        exchange.follow(Collector(exchange.pause).feed)
        await exchange.end()
        await eventually(lambda: transport.stats == Stats(0, 0, 0))


async def carry_through_a_slow_sink(transport: Transport, url: str, size: int) -> int:
    """Read `size` bytes in small doses; give the peak of Python's memory in between."""
    exchange: UpstreamExchange = send(transport, url)
    sink = Collector(exchange.pause)
    tracemalloc.start()
    try:
        exchange.follow(sink.feed)
        while sink.size < size:
            await eventually(lambda: bool(sink.pieces))
            sink.pieces.clear()
            exchange.resume()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        exchange.abort(UpstreamUnavailable())


async def test_memory_stays_bounded_however_large_the_answer(transport: Transport) -> None:
    async with RawUpstream(flood) as upstream:
        assert await carry_through_a_slow_sink(transport, upstream.url, 60 * MB) < 4 * MB


async def test_gathering_a_body_is_not_quadratic(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (30 * MB))
        await peer.send(*[bytes(10_000)] * 3000)

    async with RawUpstream(script) as upstream:
        tracemalloc.start()
        try:
            _, body = await fetch(transport, upstream.url)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert len(body) == 30 * MB
        assert peak < 3 * 30 * MB


async def test_the_body_of_a_request_is_let_go_as_soon_as_it_cannot_be_sent_again(
    transport: Transport,
) -> None:
    async def script(peer: Peer) -> None:
        for _ in range(2):
            await peer.request()
            peer.requests.clear()
            await peer.send(STREAM, chunked(b"x"), b"0\r\n\r\n")

    async with RawUpstream(script) as upstream:
        for _ in range(2):
            exchange = send(transport, upstream.url, bytes(MB))
            await exchange.head()
            assert exchange._request is None
            await exchange.read(10)
