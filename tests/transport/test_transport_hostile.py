"""Upstreams that attack: what is no HTTP, bombs, answers too early, and answers without end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from support.builders.exchanges import BIG, Collector, fetch, send
from support.fakes.raw_upstream import Peer, RawUpstream, answer, chunked
from support.waiting import eventually

from workers.errors import UpstreamDisconnected, UpstreamError
from workers.transport.transport import Stats, Transport

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    transport = Transport()
    yield transport
    await transport.aclose()
    assert transport.stats == Stats(0, 0, 0)


async def broken_answer(transport: Transport, *pieces: bytes) -> tuple[type[Exception], bytes]:
    """Return how an answer ends that is no HTTP, and which body bytes came before."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*pieces)
        await peer.gone()

    async with RawUpstream(script) as upstream:
        sink = Collector()
        exchange = send(transport, upstream.url)
        exchange.follow(sink.feed)
        with pytest.raises(UpstreamError) as failure:
            await exchange.end()
        exchange.release()
        await eventually(lambda: transport.stats == Stats(0, 0, 0))
        await eventually(lambda: upstream.open == 0)
        assert "127.0.0.1" not in failure.value.message
        return type(failure.value), sink.body


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0\1\2\3",
        b"SSH-2.0-OpenSSH_9.7\r\n",
        b"<html><body>hello</body></html>\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x0a",
        b"220 smtp.example ESMTP\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"HTTP/3.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 abc OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 20\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 000 Nothing\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 199 Nothing\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nraw",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\nraw",
        b"http/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1  200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\ncontent-length: 0\n\n",
        OK + b"no colon\r\n\r\n",
        OK + b"na me: x\r\ncontent-length: 0\r\n\r\n",
        OK + b": x\r\ncontent-length: 0\r\n\r\n",
        OK + b"x: a\0b\r\ncontent-length: 0\r\n\r\n",
        OK + b"x: a\rb\r\ncontent-length: 0\r\n\r\n",
        OK + b"content-length : 0\r\n\r\n",
        OK + b"content-length: abc\r\n\r\n",
        OK + b"content-length: -1\r\n\r\n",
        OK + b"content-length: +1\r\n\r\na",
        OK + b"content-length: 1,1\r\n\r\na",
        OK + b"content-length: 1 1\r\n\r\na",
        OK + b"content-length: 0x1\r\n\r\na",
        OK + b"content-length: 99999999999999999999999\r\n\r\na",
        OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\na",
        OK + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n0\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_an_error_and_costs_the_connection(
    transport: Transport, garbage: bytes
) -> None:
    kind, body = await broken_answer(transport, garbage)
    assert (kind, body) == (UpstreamError, b"")


@pytest.mark.parametrize(
    "framing",
    [
        b"zz\r\n",
        b"-1\r\n",
        b"\r\n",
        b"5\nworld\n",
        b"fffffffffffffffff\r\n",
        b"1 0\r\n",
        b"1_0\r\n",
        b"0x5\r\nworld\r\n",
        b"5\r\nworldXX",
        b"5\r\nworld\n5\r\n",
    ],
)
async def test_a_bad_chunk_is_an_error_after_the_good_ones(
    transport: Transport, framing: bytes
) -> None:
    kind, body = await broken_answer(transport, CHUNKED + chunked(b"hello") + framing)
    assert kind is UpstreamError
    assert body in (b"hello", b"helloworld")


async def test_every_split_of_a_broken_answer_gives_the_same_result(transport: Transport) -> None:
    whole = CHUNKED + chunked(b"a", b"bc") + b"x\r\n"
    results = {await broken_answer(transport, whole)}
    for cut in range(1, len(whole)):
        results.add(await broken_answer(transport, whole[:cut], whole[cut:]))
    assert results == {(UpstreamError, b"abc")}


@pytest.mark.parametrize(
    "bomb",
    [
        OK + b"x: " + bytes(70_000).replace(b"\0", b"a"),
        OK + b"x: " + bytes(70_000).replace(b"\0", b"a") + b"\r\n\r\n",
        OK + b"".join(b"x-%d: y\r\n" % i for i in range(10_000)) + b"\r\n",
        OK + bytes(70_000).replace(b"\0", b"a") + b": x\r\n\r\n",
        b"HTTP/1.1 200 " + bytes(300_000).replace(b"\0", b"a"),
    ],
    ids=["unended value", "value", "headers", "name", "reason"],
)
async def test_a_head_over_the_cap_is_refused(transport: Transport, bomb: bytes) -> None:
    kind, _ = await broken_answer(transport, bomb)
    assert kind is UpstreamError


async def test_a_head_under_the_cap_is_taken(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(answer(b"ok", b"x: " + b"a" * 60_000))

    async with RawUpstream(script) as upstream:
        for _ in range(3):
            head, body = await fetch(transport, upstream.url)
            assert (len(head.headers["x"]), body) == (60_000, b"ok")
        assert len(upstream.peers) == 1


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        pytest.param(OK, b"x: y\r\n", id="headers"),
        pytest.param(OK + b"x: ", b"aaaaaaaa", id="value"),
        pytest.param(OK, b"aaaaaaaa", id="name"),
        pytest.param(b"HTTP/1.1 200 ", b"aaaaaaaa", id="reason"),
        pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n", id="informational"),
        pytest.param(b"", b"\r\n", id="blank lines"),
        pytest.param(CHUNKED + b"0\r\n", b"x: y\r\n", id="trailers"),
        pytest.param(CHUNKED + b"0\r\nx: ", b"aaaaaaaa", id="trailer"),
        pytest.param(CHUNKED + b"5;x=", b"aaaaaaaa", id="extension"),
        pytest.param(CHUNKED, b"0000000000", id="zeros"),
    ],
)
async def test_what_never_ends_and_brings_nothing_is_cut(
    transport: Transport, start: bytes, piece: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(start)
        await peer.flood(piece * 100)

    async with RawUpstream(script) as upstream:
        exchange = send(transport, upstream.url)
        with pytest.raises(UpstreamError):
            await exchange.read(BIG)
        await eventually(lambda: upstream.open == 0 and transport.stats == Stats(0, 0, 0))
        assert upstream.peers[0].sent_bytes < 16_000_000


async def test_an_early_refusal_is_heard_while_the_request_is_still_being_sent(
    transport: Transport,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer(b"too large", status=b"413 Content Too Large"))
        await peer.gone()

    async with RawUpstream(script) as upstream:
        for number in range(1, 4):
            head, body = await fetch(transport, upstream.url, bytes(30_000_000))
            assert (head.status, body) == (413, b"too large")
            assert transport.stats.idle == 0  # the rest of the body is owed: not to be reused
            assert len(upstream.peers) == number


async def test_an_early_refusal_is_heard_although_the_upstream_closes_on_the_request(
    transport: Transport,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer(b"no", b"connection: close", status=b"401 Unauthorized"))

    async with RawUpstream(script) as upstream:
        for _ in range(20):
            head, body = await fetch(transport, upstream.url, bytes(3_000_000))
            assert (head.status, body) == (401, b"no")


async def test_an_answer_to_the_next_request_sent_too_early_is_not_believed(
    transport: Transport,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(b"mine") + answer(b"poison"))
        await peer.gone()

    async with RawUpstream(script) as upstream:
        for _ in range(10):
            assert (await fetch(transport, upstream.url))[1] == b"mine"
        assert len(upstream.peers) == 10


async def test_many_tiny_chunks_in_one_read_are_one_call(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + chunked(*[b"x"] * 5000) + b"0\r\n\r\n")

    async with RawUpstream(script) as upstream:
        sink = Collector()
        exchange = send(transport, upstream.url)
        exchange.follow(sink.feed)
        await exchange.end()
        assert sink.body == b"x" * 5000
        assert len(sink.pieces) < 20


async def test_a_silent_upstream_is_the_callers_to_stop(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    async with RawUpstream(script) as upstream:
        exchange = send(transport, upstream.url)
        head = asyncio.create_task(exchange.head())
        _, waiting = await asyncio.wait([head], timeout=0.05)
        assert waiting
        exchange.abort(UpstreamDisconnected())
        with pytest.raises(UpstreamDisconnected):
            await head
        await eventually(lambda: upstream.open == 0)
