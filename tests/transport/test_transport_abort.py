"""Abort in every phase of an exchange, again and again, with nothing left behind."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trustme
from support.builders.exchanges import BIG, Collector, outcome, send
from support.fakes.raw_upstream import (
    Peer,
    RawUpstream,
    answer,
    chunked,
    deaf_upstream,
    descriptors,
)
from support.waiting import PATIENCE_S, eventually

from workers.errors import UpstreamDisconnected, UpstreamError
from workers.transport.transport import Stats, Transport, UpstreamExchange

ROUNDS = 100
STREAM = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"

Phase = Callable[[UpstreamExchange], Awaitable[None]]


class Left(Exception):
    """The error of the aborts."""


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    transport = Transport(connect_timeout_s=PATIENCE_S)
    yield transport
    await transport.aclose()
    assert transport.stats == Stats(0, 0, 0)


async def abort_in(transport: Transport, url: str, phase: Phase, body: bytes = b"{}") -> None:
    """Bring an exchange into a phase and abort it, twice, while somebody waits for it."""
    exchange = send(transport, url, body)
    waiting = [asyncio.create_task(wait) for wait in (exchange.head(), exchange.end())]
    await phase(exchange)
    reached = exchange._head is not None
    exchange.abort(Left())
    exchange.abort(UpstreamError("the second is ignored"))
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[1], Left)
    assert reached or isinstance(results[0], Left)
    for late in (exchange.head(), exchange.end(), exchange.read(BIG), exchange.pull()):
        with pytest.raises(Left):
            await late
    exchange.pause()
    exchange.resume()
    exchange.follow(Collector().feed)
    exchange.release()
    exchange.abort(Left())


async def abort_again_and_again(
    transport: Transport, url: str, phase: Phase, body: bytes = b"{}"
) -> None:
    """Abort `ROUNDS` exchanges in a phase, ten at a time, and see that nothing is left."""
    tasks = asyncio.all_tasks()
    await abort_in(transport, url, phase, body)  # the first lets the loop open files of its own
    await eventually(lambda: transport.stats == Stats(0, 0, 0))
    await eventually(lambda: asyncio.all_tasks() <= tasks)
    before = descriptors()
    for _ in range(ROUNDS // 10):
        await asyncio.gather(*[abort_in(transport, url, phase, body) for _ in range(10)])
    await eventually(lambda: transport.stats == Stats(0, 0, 0))
    await eventually(lambda: asyncio.all_tasks() <= tasks)
    await eventually(lambda: descriptors() <= before)


async def at_once(_: UpstreamExchange) -> None:
    """Abort before the loop has had a turn."""


async def hang(peer: Peer) -> None:
    """Take whatever comes, answer nothing."""
    await peer.gone()


async def test_before_connecting_has_begun(transport: Transport) -> None:
    async with RawUpstream(hang) as upstream:
        before = descriptors()
        for _ in range(ROUNDS):
            exchange = send(transport, upstream.url)
            exchange.abort(Left())
            exchange.abort(Left())
            with pytest.raises(Left):
                await exchange.head()
        await eventually(lambda: transport.stats == Stats(0, 0, 0))
        await eventually(lambda: descriptors() <= before)


@pytest.mark.parametrize("turns", range(1, 8))
async def test_some_turns_of_the_loop_into_connecting(transport: Transport, turns: int) -> None:
    async def phase(exchange: UpstreamExchange) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    async with RawUpstream(hang) as upstream:
        await abort_again_and_again(transport, upstream.url, phase)
        await eventually(lambda: upstream.open == 0)


async def test_while_the_name_is_looked_up(transport: Transport) -> None:
    async def phase(exchange: UpstreamExchange) -> None:
        await asyncio.sleep(0)
        assert exchange.connected_at is None

    async with RawUpstream(hang) as upstream:
        url = f"http://localhost:{upstream.port}"
        await abort_again_and_again(transport, url, phase)


async def test_while_connecting(transport: Transport) -> None:
    async def phase(exchange: UpstreamExchange) -> None:
        await asyncio.sleep(0.001)
        assert transport.stats.connecting

    with deaf_upstream() as url:
        await abort_again_and_again(transport, url, phase)


async def test_within_the_tls_handshake(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        greeted.release()
        await peer.gone()

    async def phase(exchange: UpstreamExchange) -> None:
        await greeted.acquire()
        assert exchange.connected_at is None

    greeted = asyncio.Semaphore(0)
    async with RawUpstream(script) as upstream:
        url = upstream.url.replace("http", "https")
        await abort_again_and_again(transport, url, phase)
        await eventually(lambda: upstream.open == 0)


@pytest.mark.parametrize("turns", range(1, 12))
async def test_some_turns_of_the_loop_into_a_working_handshake(turns: int) -> None:
    async def phase(exchange: UpstreamExchange) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    transport = Transport(ssl_context=client)
    async with RawUpstream(hang, tls=server) as upstream:
        await abort_again_and_again(transport, upstream.url, phase)
        await eventually(lambda: upstream.open == 0)
    await transport.aclose()


@pytest.mark.time_limit(240)
async def test_while_the_peer_does_not_read_the_request(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await closing.wait()

    async def phase(exchange: UpstreamExchange) -> None:
        await eventually(lambda: exchange.connected_at is not None)
        assert not exchange.sent

    closing = asyncio.Event()
    async with RawUpstream(script) as upstream:
        exchange = send(transport, upstream.url, bytes(20_000_000))
        await phase(exchange)
        exchange.abort(Left())
        await eventually(lambda: transport.stats == Stats(0, 0, 0))
        body = bytes(20_000_000)
        for _ in range(ROUNDS):
            await abort_in(transport, upstream.url, phase, body)
        await eventually(lambda: transport.stats == Stats(0, 0, 0))
        closing.set()
        await eventually(lambda: upstream.open == 0)


async def test_while_waiting_for_the_head(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        arrived.release()
        await peer.gone()

    async def phase(exchange: UpstreamExchange) -> None:
        await arrived.acquire()

    arrived = asyncio.Semaphore(0)
    async with RawUpstream(script) as upstream:
        await abort_again_and_again(transport, upstream.url, phase)
        await eventually(lambda: upstream.open == 0)


@pytest.mark.parametrize(
    "start", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: "]
)
async def test_within_the_head(transport: Transport, start: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(start)
        await peer.gone()

    async def phase(exchange: UpstreamExchange) -> None:
        await eventually(lambda: exchange._request is None)

    async with RawUpstream(script) as upstream:
        await abort_again_and_again(transport, upstream.url, phase)
        await eventually(lambda: upstream.open == 0)


async def test_within_the_body_held_or_followed(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM, chunked(b"a"))
        await peer.gone()

    async def held(exchange: UpstreamExchange) -> None:
        await exchange.head()
        await eventually(lambda: bool(exchange._held))

    async def followed(exchange: UpstreamExchange) -> None:
        arrived = asyncio.Event()
        exchange.follow(Collector(arrived.set).feed)
        await arrived.wait()

    async with RawUpstream(script) as upstream:
        await abort_again_and_again(transport, upstream.url, held)
        await abort_again_and_again(transport, upstream.url, followed)
        await eventually(lambda: upstream.open == 0)


async def test_while_paused_under_a_flood(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM)
        await peer.flood(chunked(bytes(10_000)))

    async def phase(exchange: UpstreamExchange) -> None:
        def full() -> None:
            exchange.pause()
            arrived.set()

        arrived = asyncio.Event()
        exchange.follow(Collector(full).feed)
        await arrived.wait()

    async with RawUpstream(script) as upstream:
        await abort_again_and_again(transport, upstream.url, phase)
        await eventually(lambda: upstream.open == 0)


async def test_from_within_the_sink(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM, chunked(b"a", b"b"))
        await peer.gone()

    async with RawUpstream(script) as upstream:
        for _ in range(ROUNDS):
            exchange = send(transport, upstream.url)
            sink = Collector(lambda one=exchange: one.abort(Left()))  # type: ignore[misc]
            exchange.follow(sink.feed)
            with pytest.raises(Left):
                await exchange.end()
            assert len(sink.pieces) == 1
        await eventually(lambda: transport.stats == Stats(0, 0, 0) and upstream.open == 0)


async def test_after_the_end_the_connection_stays_and_the_error_is_told(
    transport: Transport,
) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(answer(b"ok"))

    async with RawUpstream(script) as upstream:
        for _ in range(ROUNDS):
            exchange = send(transport, upstream.url)
            assert await exchange.read(BIG) == b"ok"
            exchange.abort(Left())
            exchange.abort(Left())
            with pytest.raises(Left):
                await exchange.end()
            assert transport.stats == Stats(open=1, idle=1, connecting=0)
        assert len(upstream.peers) == 1


async def test_after_a_failure_the_abort_error_replaces_it(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel")

    async with RawUpstream(script) as upstream:
        exchange = send(transport, upstream.url)
        with pytest.raises(UpstreamDisconnected):
            await exchange.read(BIG)
        exchange.abort(Left())
        with pytest.raises(Left):
            await exchange.head()


async def test_after_release(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM, chunked(b"a"))
        await peer.gone()

    async with RawUpstream(script) as upstream:
        before = descriptors()
        for _ in range(20):
            exchange = send(transport, upstream.url)
            await exchange.head()
            exchange.release()
            exchange.abort(Left())
            with pytest.raises(Left):
                await exchange.end()
        await eventually(lambda: transport.stats == Stats(0, 0, 0) and descriptors() <= before)


async def test_while_a_stale_connection_is_replaced(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        if peer.number % 2:
            await peer.request()
            await peer.send(answer(b"ok"))
            await peer.request()  # and closes: stale
        else:
            await peer.gone()

    async with RawUpstream(script) as upstream:
        for round_number in range(1, ROUNDS + 1):
            assert await outcome(send(transport, upstream.url)) == (200, b"ok")
            exchange = send(transport, upstream.url)
            assert exchange.sent
            await eventually(lambda: len(upstream.peers) == 2 * round_number)  # noqa: B023
            exchange.abort(Left())
            with pytest.raises(Left):
                await exchange.head()
            await eventually(lambda: transport.stats == Stats(0, 0, 0))


async def test_cancelling_those_who_wait_does_not_disturb_the_exchange(
    transport: Transport,
) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await going.wait()
            await peer.send(answer(b"ok"))

    going = asyncio.Event()
    async with RawUpstream(script) as upstream:
        exchange = send(transport, upstream.url)
        for wait in (exchange.head(), exchange.end(), exchange.pull()):
            waiting = asyncio.create_task(wait)
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        going.set()
        assert await outcome(exchange) == (200, b"ok")


async def test_an_abort_closes_every_connection_at_the_upstream(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM)
        await peer.gone()

    async with RawUpstream(script) as upstream:
        exchanges = [send(transport, upstream.url) for _ in range(200)]
        for exchange in exchanges:
            await exchange.head()
        assert upstream.open == 200
        for exchange in exchanges:
            exchange.abort(Left())
        await eventually(lambda: upstream.open == 0)
