"""Connecting, the pool of kept connections, letting go of them, and closing the transport."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from support.builders.exchanges import Collector, fetch, outcome, send
from support.fakes.raw_upstream import (
    Peer,
    RawUpstream,
    always,
    answer,
    chunked,
    deaf_upstream,
    descriptors,
    once,
)
from support.network.ports import free_port
from support.waiting import PATIENCE_S, eventually, in_idle_time

from workers.errors import (
    UpstreamDisconnected,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from workers.transport.origin import Origin
from workers.transport.resolver import in_turn
from workers.transport.transport import DIRECT, Stats, Transport, UpstreamExchange
from workers.transport.upstream_connection import UpstreamConnection
from workers.transport.upstream_exchange import STALE_S


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    transport = Transport(connect_timeout_s=PATIENCE_S)
    yield transport
    await transport.aclose()
    assert transport.stats == Stats(0, 0, 0)


# Connecting


async def test_a_refused_connection_is_unavailable(transport: Transport) -> None:
    exchange = send(transport, f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UpstreamUnavailable) as refusal:
        await exchange.head()
    assert "127.0.0.1" not in refusal.value.message
    assert isinstance(refusal.value.__cause__, ConnectionRefusedError)
    assert not exchange.sent


async def test_an_upstream_that_accepts_and_cuts_is_unavailable(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        peer.cut()

    async with RawUpstream(script) as upstream:
        for size in (10, 1_000_000):
            for _ in range(50):
                with pytest.raises(UpstreamUnavailable):
                    await send(transport, upstream.url, bytes(size)).head()
        assert transport.stats == Stats(0, 0, 0)


async def test_an_unknown_host_is_unavailable_without_its_name(transport: Transport) -> None:
    for host in ("no-such-host.invalid", "a" * 70 + ".invalid"):
        with pytest.raises(UpstreamUnavailable) as refusal:
            await send(transport, f"http://{host}").head()
        assert "invalid" not in refusal.value.message


async def test_a_host_is_reached_through_the_address_that_listens(transport: Transport) -> None:
    async with RawUpstream(always(answer(b"ok"))) as upstream:
        url = f"http://localhost:{upstream.port}"  # the fake listens on 127.0.0.1 only
        assert (await fetch(transport, url))[1] == b"ok"


def test_addresses_are_tried_in_turn_by_family() -> None:
    found = [(6, "a::"), (6, "a::"), (6, "b::"), (6, "c::"), (4, "1.1.1.1"), (4, "2.2.2.2")]
    assert in_turn(found) == ["a::", "1.1.1.1", "b::", "2.2.2.2", "c::"]
    assert in_turn([]) == []


async def test_connecting_has_its_own_time_limit() -> None:
    transport = Transport(connect_timeout_s=0.05)
    with deaf_upstream() as url:
        exchange = send(transport, url)
        assert transport.stats.connecting == 1
        with pytest.raises(UpstreamTimeout) as refusal:
            await exchange.head()
        assert refusal.value.clock == "connect"
        assert exchange.connected_at is None
    await transport.aclose()
    assert transport.stats == Stats(0, 0, 0)


async def test_nagle_is_off_on_every_connection(transport: Transport) -> None:
    async with RawUpstream(always(answer(b"ok"))) as upstream:
        await fetch(transport, upstream.url)
        connection = next(iter(transport._origins[next(iter(transport._origins))].open))
        assert connection._transport is not None
        sock = connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


# The pool


async def test_the_connection_that_became_idle_last_is_used_first(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(answer(b"%d" % peer.number))

    async with RawUpstream(script) as upstream:
        await asyncio.gather(*[fetch(transport, upstream.url) for _ in range(3)])
        assert transport.stats == Stats(open=3, idle=3, connecting=0)
        used = [(await fetch(transport, upstream.url))[1] for _ in range(4)]
        assert len(set(used)) == 1
        assert len(upstream.peers) == 3


async def test_origins_do_not_share_connections(transport: Transport) -> None:
    async with (
        RawUpstream(always(answer(b"one"))) as one,
        RawUpstream(always(answer(b"two"))) as two,
    ):
        for _ in range(2):
            assert (await fetch(transport, one.url))[1] == b"one"
            assert (await fetch(transport, two.url))[1] == b"two"
            assert (await fetch(transport, one.url + "/other/prefix"))[1] == b"one"
        assert (len(one.peers), len(two.peers)) == (1, 1)


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
async def test_a_connection_is_kept_only_if_the_answer_allows_it(
    transport: Transport, version: bytes
) -> None:
    lines = b"content-length: 2" + (b"\r\nconnection: close" if version.endswith(b"1") else b"")
    async with RawUpstream(once(version + b" 200 OK\r\n" + lines + b"\r\n\r\nok")) as upstream:
        for _ in range(2):
            assert (await fetch(transport, upstream.url))[1] == b"ok"
        assert len(upstream.peers) == 2
        assert transport.stats.idle == 0


async def test_idle_connections_are_closed_after_a_while() -> None:
    transport = Transport(idle_s=0.1)
    async with RawUpstream(always(answer(b"ok"))) as upstream:
        await asyncio.gather(*[fetch(transport, upstream.url) for _ in range(3)])
        assert len(upstream.peers) == 3
        await eventually(lambda: transport.stats == Stats(0, 0, 0))
        await eventually(lambda: upstream.open == 0)
        assert (await fetch(transport, upstream.url))[1] == b"ok"
    await transport.aclose()


def park(origin: Origin) -> UpstreamConnection:
    """Make a connection without a socket, which has just become idle."""
    connection = UpstreamConnection(origin._events)
    origin._events.opened(connection)
    origin._events.idle(connection)
    return connection


@in_idle_time
async def test_each_idle_connection_has_its_own_time() -> None:
    origin = Transport(idle_s=60.0)._find_origin("http://127.0.0.1", DIRECT)
    first = park(origin)
    await asyncio.sleep(30)
    second = park(origin)
    for wait_s, kept in ((29, [first, second]), (2, [second]), (28, [second]), (2, [])):
        await asyncio.sleep(wait_s)
        assert list(origin.idle) == kept
    third = park(origin)
    await asyncio.sleep(59)
    assert list(origin.idle) == [third]
    await asyncio.sleep(2)
    assert not origin.idle


async def test_an_idle_connection_closed_by_the_upstream_is_forgotten(transport: Transport) -> None:
    async with RawUpstream(once(answer(b"ok"))) as upstream:
        for number in range(1, 4):
            await fetch(transport, upstream.url)
            await eventually(lambda: transport.stats == Stats(0, 0, 0))
            assert len(upstream.peers) == number


@pytest.mark.parametrize("how", ["close", "cut"])
async def test_a_kept_connection_found_closed_is_replaced_by_a_fresh_one_once(
    transport: Transport, how: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(b"%d" % peer.number))
        await peer.request()  # takes the next one, and closes without a byte
        if how == "cut":
            peer.cut()

    async with RawUpstream(script) as upstream:
        assert (await fetch(transport, upstream.url, b"one"))[1] == b"1"
        body = bytes(300_000) if how == "close" else b"two"
        exchange = send(transport, upstream.url, body)
        assert await outcome(exchange) == (200, b"2")
        assert exchange.sent
        assert upstream.peers[1].requests[0].endswith(b"\r\n\r\n" + body)
        assert len(upstream.peers) == 2


async def test_the_retry_is_not_retried(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        if peer.number == 1:
            await peer.request()
            await peer.send(answer(b"ok"))
        await peer.request()

    async with RawUpstream(script) as upstream:
        await fetch(transport, upstream.url)
        with pytest.raises(UpstreamUnavailable):
            await send(transport, upstream.url).head()
        assert len(upstream.peers) == 2


@pytest.mark.parametrize("byte", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_nothing_is_retried_after_the_first_byte_of_an_answer(
    transport: Transport, byte: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(b"ok"))
        await peer.request()
        await peer.send(byte)

    async with RawUpstream(script) as upstream:
        await fetch(transport, upstream.url)
        with pytest.raises(UpstreamDisconnected):
            await send(transport, upstream.url).head()
        assert len(upstream.peers) == 1


@pytest.mark.parametrize("how", ["close", "cut"])
async def test_a_request_on_a_fresh_connection_is_never_sent_twice(
    transport: Transport, how: str
) -> None:
    """The upstream has read it, so it may have begun to answer, and to count."""

    async def script(peer: Peer) -> None:
        await peer.request()
        if how == "cut":
            peer.cut()

    async with RawUpstream(script) as upstream:
        for number in range(1, 4):
            assert await outcome(send(transport, upstream.url)) is UpstreamUnavailable
            assert len(upstream.requests) == number


@pytest.mark.parametrize(("waited_s", "sent"), [(STALE_S - 1, 3), (STALE_S + 1, 2)])
async def test_a_request_is_not_sent_again_when_the_close_comes_late(
    transport: Transport, waited_s: float, sent: int
) -> None:
    """A close after some seconds may be the upstream's reaction to the request."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(b"ok"))
        await peer.request()
        await late.wait()
        peer.cut()

    late = asyncio.Event()
    async with RawUpstream(script) as upstream:
        await fetch(transport, upstream.url)
        exchange = send(transport, upstream.url)
        await eventually(lambda: len(upstream.requests) == 2)
        assert exchange.connected_at is not None
        exchange.connected_at -= waited_s
        late.set()
        result = await outcome(exchange)
        assert result == ((200, b"ok") if sent == 3 else UpstreamUnavailable)
        assert len(upstream.requests) == sent


@pytest.mark.parametrize("stray", [b"", b"x", answer(b"evil")])
async def test_a_connection_closed_or_soiled_while_the_loop_was_busy_is_not_used(
    transport: Transport, stray: bytes
) -> None:
    loop = asyncio.get_running_loop()

    async def serve() -> socket.socket:
        peer, _ = await loop.sock_accept(listener)
        assert await loop.sock_recv(peer, 4096)
        await loop.sock_sendall(peer, answer(b"ok"))
        return peer

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        (_, body), first = await asyncio.gather(fetch(transport, url), serve())
        assert body == b"ok"
        assert transport.stats.idle == 1
        if stray:
            first.send(stray)
        else:
            first.close()
        exchange = send(transport, url)  # the loop has had no turn in between
        assert exchange.connected_at is None
        result, second = await asyncio.gather(outcome(exchange), serve())
        assert result == (200, b"ok")
        first.close()
        second.close()


@pytest.mark.parametrize("extra", [b"x", answer(b"evil"), b"HTTP/1.1 408 Timeout\r\n\r\n"])
async def test_an_answer_nobody_asked_for_costs_the_connection(
    transport: Transport, extra: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(b"ok"))
        if peer.number == 1:
            await idle.wait()
            await peer.send(extra)
        await peer.gone()

    idle = asyncio.Event()
    async with RawUpstream(script) as upstream:
        assert (await fetch(transport, upstream.url))[1] == b"ok"
        idle.set()
        await eventually(lambda: transport.stats == Stats(0, 0, 0))
        assert (await fetch(transport, upstream.url))[1] == b"ok"
        assert len(upstream.peers) == 2


@pytest.mark.parametrize("extra", [b"x", answer(b"evil"), b"\0"])
async def test_bytes_behind_an_answer_cost_the_connection_not_the_answer(
    transport: Transport, extra: bytes
) -> None:
    async with RawUpstream(always(answer(b"ok") + extra)) as upstream:
        for number in range(1, 4):
            assert (await fetch(transport, upstream.url))[1] == b"ok"
            assert len(upstream.peers) == number
            assert transport.stats.idle == 0


# Release


async def test_a_released_answer_may_end_and_keeps_its_connection(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", chunked(b"[DONE]")
            )
            await released.wait()
            await peer.send(b"0\r\n\r\n")

    released = asyncio.Event()
    async with RawUpstream(script) as upstream:
        exchange = send(transport, upstream.url)
        sink = Collector(exchange.release)
        exchange.follow(sink.feed)
        await exchange.end()
        exchange.release()
        assert transport.stats == Stats(open=1, idle=0, connecting=0)
        released.set()
        await eventually(lambda: transport.stats.idle == 1)
        assert (await fetch(transport, upstream.url))[1] == b"[DONE]"
        assert len(upstream.peers) == 1


async def test_releasing_from_within_the_last_bytes_keeps_the_connection(
    transport: Transport,
) -> None:
    whole = (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunked(b"[DONE]") + b"0\r\n\r\n"
    )
    async with RawUpstream(always(whole)) as upstream:
        for _ in range(3):
            exchange = send(transport, upstream.url)
            exchange.follow(Collector(exchange.release).feed)
            await exchange.end()
            assert transport.stats == Stats(open=1, idle=1, connecting=0)
        assert len(upstream.peers) == 1


async def test_an_exchange_begun_from_within_the_last_bytes_of_another_is_its_own(
    transport: Transport,
) -> None:
    async with RawUpstream(always(answer(b"ok"))) as upstream:
        begun: list[UpstreamExchange] = []
        exchange = send(transport, upstream.url)
        exchange.follow(Collector(lambda: begun.append(send(transport, upstream.url))).feed)
        await exchange.end()
        exchange.abort(UpstreamError("too late"))
        exchange.pause()
        assert await outcome(begun[0]) == (200, b"ok")
        assert len(upstream.peers) == 1


async def test_a_released_answer_that_does_not_end_is_closed_after_a_second(
    transport: Transport,
) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc"
    async with RawUpstream(once(head, then="hang")) as upstream:
        exchange = send(transport, upstream.url)
        await exchange.head()
        exchange.release()
        await exchange.end()
        await eventually(lambda: transport.stats.open == 0 and upstream.open == 0)


async def test_a_released_answer_that_goes_on_and_on_is_closed(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        await peer.flood(chunked(bytes(1000)))

    async with RawUpstream(script) as upstream:
        exchange = send(transport, upstream.url)
        await exchange.head()
        exchange.pause()
        exchange.release()
        await eventually(lambda: transport.stats.open == 0)
        assert upstream.peers[0].sent_bytes < 16_000_000  # far less than a second of it


async def test_releasing_while_the_request_is_still_being_sent_closes(
    transport: Transport,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
        await closing.wait()

    closing = asyncio.Event()
    async with RawUpstream(script) as upstream:
        exchange = send(transport, upstream.url, bytes(30_000_000))
        await exchange.head()
        exchange.release()
        await eventually(lambda: transport.stats == Stats(0, 0, 0))
        assert not exchange.sent
        closing.set()


async def test_releasing_before_the_head_stops_the_upstream(transport: Transport) -> None:
    async with RawUpstream(once(then="hang")) as upstream:
        exchange = send(transport, upstream.url)
        await eventually(lambda: exchange.sent)
        exchange.release()
        exchange.release()
        with pytest.raises(UpstreamDisconnected):
            await exchange.head()
        await eventually(lambda: transport.stats.open == 0 and upstream.open == 0)


# Closing


async def test_closing_the_transport_fails_what_is_in_flight_and_leaves_nothing() -> None:
    async def script(peer: Peer) -> None:
        request = await peer.request()
        if b"hang" in request:
            await peer.gone()
        await peer.send(answer(b"ok"))
        await peer.gone()

    transport = Transport()
    async with RawUpstream(script) as upstream:
        with deaf_upstream() as deaf:
            before = descriptors()
            await asyncio.gather(*[fetch(transport, upstream.url) for _ in range(3)])
            hanging = [send(transport, upstream.url, b"hang") for _ in range(5)]
            await eventually(lambda: all(one.sent for one in hanging))
            connecting = [send(transport, deaf) for _ in range(5)]
            await asyncio.sleep(0)
            assert transport.stats == Stats(open=5, idle=0, connecting=5)
            await transport.aclose()
            assert transport.stats == Stats(0, 0, 0)
            await transport.aclose()
            late = [send(transport, upstream.url), send(transport, "http://127.0.0.2")]
            assert transport.stats == Stats(0, 0, 0)
            for exchange in (*hanging, *connecting, *late):
                with pytest.raises(UpstreamUnavailable):
                    await exchange.head()
            await eventually(lambda: upstream.open == 0 and descriptors() <= before)
