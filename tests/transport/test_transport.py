"""What leaves as a request, what is read as an answer, and what is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from support.builders.exchanges import BIG, Collector, fetch, outcome, send
from support.fakes.raw_upstream import (
    Peer,
    RawUpstream,
    always,
    answer,
    chunked,
    once,
)
from support.waiting import PATIENCE_S, eventually

from workers.errors import (
    UpstreamDisconnected,
    UpstreamError,
    UpstreamUnavailable,
)
from workers.transport.transport import Stats, Transport, request_head


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    transport = Transport(connect_timeout_s=PATIENCE_S)
    yield transport
    await transport.aclose()
    assert transport.stats == Stats(0, 0, 0)


# The request


async def test_the_request_leaves_as_built_with_its_content_length(transport: Transport) -> None:
    async with RawUpstream(always(answer(b"ok"))) as upstream:
        url = upstream.url + "/v1/chat?a=b"
        head = transport.request_head("POST", url, (("Authorization", "Bearer s"), ("X", "é")))
        exchange = transport.exchange(upstream.url, head, b"body")
        assert await outcome(exchange) == (200, b"ok")
        assert upstream.requests == [
            b"POST /v1/chat?a=b HTTP/1.1\r\nhost: 127.0.0.1:%d\r\naccept-encoding: identity\r\n"
            b"Authorization: Bearer s\r\nX: \xe9\r\nuser-agent: roxy-ai\r\n"
            b"content-length: 4\r\n\r\nbody" % upstream.port
        ]


def test_headers_of_the_framing_are_left_out() -> None:
    ours = (
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Accept-Encoding",
        "Upgrade",
    )
    head = request_head("GET", "http://a.example:81/", tuple((name, "x") for name in ours))
    assert head == (
        b"GET / HTTP/1.1\r\nhost: a.example:81\r\naccept-encoding: identity\r\n"
        b"user-agent: roxy-ai\r\n"
    )


@pytest.mark.parametrize(
    ("method", "url", "header"),
    [
        ("GET", "http://a/", ("x", "a\r\nb: c")),
        ("GET", "http://a/", ("x", "secret\n")),
        ("GET", "http://a/", ("x", "a\0")),
        ("GET", "http://a/", ("x y", "a")),
        ("GET", "http://a/", ("x:", "a")),
        ("GET", "http://a/", ("", "a")),
        ("GET", "http://a/", ("x", "\u20ac")),
        ("GET /", "http://a/", ("x", "a")),
        ("GET\r\n", "http://a/", ("x", "a")),
        ("GET", "ftp://a/", ("x", "a")),
        ("GET", "http:///x", ("x", "a")),
        ("GET", "http://a:99999/", ("x", "a")),
        ("GET", "nonsense", ("x", "a")),
        ("GET", "http://a/\r\nx", ("x", "a")),
    ],
)
def test_what_cannot_be_sent_is_refused_without_showing_a_value(
    method: str, url: str, header: tuple[str, str]
) -> None:
    with pytest.raises(ValueError, match=r".+") as refusal:
        request_head(method, url, (header,))
    assert "secret" not in str(refusal.value)


async def test_an_exchange_with_no_url_is_refused(transport: Transport) -> None:
    with pytest.raises(ValueError, match="not an http or https URL"):
        transport.exchange("file:///etc/passwd", b"", b"")


async def test_a_body_of_any_size_arrives_whole(transport: Transport) -> None:
    async with RawUpstream(always(answer(b"ok"))) as upstream:
        for size in (0, 1, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 256 * 1024 * 3, 1_000_001):
            body = bytes(i % 251 for i in range(size))
            assert (await fetch(transport, upstream.url, body))[1] == b"ok"
            assert upstream.peers[0].requests.pop().partition(b"\r\n\r\n")[2] == body
        assert len(upstream.peers) == 1


async def test_sent_and_connected_at_tell_how_far_a_request_came(transport: Transport) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await released.wait()
        await peer.gone()

    released = asyncio.Event()
    async with RawUpstream(script) as upstream:
        exchange = send(transport, upstream.url, bytes(20_000_000))
        assert (exchange.connected_at, exchange.sent) == (None, False)
        await eventually(lambda: exchange.connected_at is not None)
        assert not exchange.sent
        released.set()
        await eventually(lambda: exchange.sent)
        exchange.abort(UpstreamUnavailable())


# The answer


@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"], b"hello"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"], b""),
        ([b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok"], b"ok"),
        ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"0\r\n\r\n"], b""),
        (
            [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n"],
            b"hello",
        ),
        (
            [
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                b"2;x=y\r\nhe\r\n",
                b"3\r\nllo\r\n",
                b"0\r\ntrailer: x\r\nother: y\r\n\r\n",
            ],
            b"hello",
        ),
        (
            [
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n",
                b"HTTP/1.1 102 Processing\r\n\r\n",
                answer(b"hello"),
            ],
            b"hello",
        ),
    ],
)
async def test_an_answer_is_read_as_framed_and_its_connection_kept(
    transport: Transport, pieces: list[bytes], body: bytes
) -> None:
    async with RawUpstream(always(*pieces)) as upstream:
        for _ in range(3):
            head, read = await fetch(transport, upstream.url)
            assert (head.status, read) == (200, body)
            assert "link" not in head.headers
        assert len(upstream.peers) == 1
        assert transport.stats == Stats(open=1, idle=1, connecting=0)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_an_answer_without_body_ends_with_its_head(
    transport: Transport, status: bytes
) -> None:
    async with RawUpstream(always(b"HTTP/1.1 %b\r\netag: x\r\n\r\n" % status)) as upstream:
        for _ in range(2):
            head, body = await fetch(transport, upstream.url)
            assert (head.status, body) == (int(status[:3]), b"")
        assert len(upstream.peers) == 1


async def test_an_answer_to_head_has_no_body_whatever_it_says(transport: Transport) -> None:
    async with RawUpstream(always(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n")) as upstream:
        for _ in range(2):
            head, body = await fetch(transport, upstream.url, b"", "HEAD")
            assert (head.headers["content-length"], body) == ("500", b"")


async def test_header_names_are_lower_case_the_last_value_wins_and_cookies_are_ignored(
    transport: Transport,
) -> None:
    lines = (b"X-A: 1", b"X-A: 2  ", b"CONTENT-TYPE: text/plain", b"Set-Cookie: a=b", b"Empty:")
    async with RawUpstream(always(answer(b"", *lines))) as upstream:
        head, _ = await fetch(transport, upstream.url)
        assert head.headers == {
            "content-length": "0",
            "x-a": "2",
            "content-type": "text/plain",
            "empty": "",
        }


async def test_a_body_that_lasts_until_the_connection_closes_is_complete(
    transport: Transport,
) -> None:
    for head in (b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 200 OK\r\nconnection: close"):
        async with RawUpstream(once(head + b"\r\n\r\nhel", b"lo")) as upstream:
            assert (await fetch(transport, upstream.url))[1] == b"hello"
            assert transport.stats.open == 0 or transport.stats.idle == 0


async def test_every_split_of_an_answer_gives_the_same_result(transport: Transport) -> None:
    whole = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Type: text/event-stream\r\n\r\n" + chunked(b"data: a\n\n", b"data: b\n\n")
    ) + b"0\r\nx-t: y\r\n\r\n"

    async def script(peer: Peer) -> None:
        for cut in range(len(whole) + 1):
            await peer.request()
            await peer.send(whole[:cut])
            await asyncio.sleep(0.001)  # so that the pieces are two reads
            await peer.send(whole[cut:])
        await peer.request()
        for byte in whole:
            await peer.send(bytes((byte,)))
            await asyncio.sleep(0)

    expected = {"transfer-encoding": "chunked", "content-type": "text/event-stream"}
    async with RawUpstream(script) as upstream:
        for _ in range(len(whole) + 2):
            head, body = await fetch(transport, upstream.url)
            assert (head.status, head.headers, body) == (200, expected, b"data: a\n\ndata: b\n\n")
        assert len(upstream.peers) == 1


async def test_body_bytes_are_pushed_as_they_come_what_came_before_follow_first(
    transport: Transport,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", chunked(b"a", b"b")
        )
        await going.wait()
        await peer.send(chunked(b"c", b"d") + b"0\r\n\r\n")

    going = asyncio.Event()
    async with RawUpstream(script) as upstream:
        exchange = send(transport, upstream.url)
        await exchange.head()
        early = await exchange.pull()
        sink = Collector()
        exchange.follow(sink.feed)
        going.set()
        await exchange.end()
        assert early + sink.body == b"abcd"
        assert sink.pieces[-1].endswith(b"cd")  # one read is one call, whatever the framing
        exchange.release()


async def test_what_a_sink_raises_ends_the_exchange(transport: Transport) -> None:
    def refuse() -> None:
        raise UpstreamError("enough")

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n", b"abc")
        await peer.gone()

    async with RawUpstream(script) as upstream:
        exchange = send(transport, upstream.url)
        exchange.follow(Collector(refuse).feed)
        with pytest.raises(UpstreamError, match="enough"):
            await exchange.end()
        await eventually(lambda: upstream.open == 0 and transport.stats.open == 0)


async def test_a_body_over_the_cap_is_refused(transport: Transport) -> None:
    async with RawUpstream(always(answer(bytes(1000)))) as upstream:
        exchange = send(transport, upstream.url)
        assert len(await exchange.read(1000)) == 1000
        exchange = send(transport, upstream.url)
        with pytest.raises(UpstreamError, match="too large"):
            await exchange.read(999)


async def test_a_content_encoding_is_handed_to_the_caller(transport: Transport) -> None:
    async with RawUpstream(always(answer(b"\x1f\x8b", b"content-encoding: gzip"))) as upstream:
        head, body = await fetch(transport, upstream.url)
        assert (head.headers["content-encoding"], body) == ("gzip", b"\x1f\x8b")


# Cut answers


@pytest.mark.parametrize("then", ["close", "cut"])
@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell"],
        [b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"],
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"],
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel"],
    ],
)
async def test_a_cut_answer_is_never_complete(
    transport: Transport, pieces: list[bytes], then: str
) -> None:
    async with RawUpstream(once(*pieces, then=then)) as upstream:
        exchange = send(transport, upstream.url)
        with pytest.raises(UpstreamDisconnected):
            await exchange.read(BIG)
        with pytest.raises(UpstreamDisconnected):
            await exchange.end()
        assert transport.stats.idle == 0


async def test_a_reset_cuts_a_body_that_lasts_until_the_connection_closes(
    transport: Transport,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhel")
        await read.wait()
        peer.cut()

    read = asyncio.Event()
    async with RawUpstream(script) as upstream:
        exchange = send(transport, upstream.url)
        assert await exchange.pull() == b"hel"
        read.set()
        with pytest.raises(UpstreamDisconnected):
            await exchange.end()


async def test_bytes_before_a_cut_are_delivered_before_the_error(transport: Transport) -> None:
    async with RawUpstream(once(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello")) as upstream:
        exchange = send(transport, upstream.url)
        await exchange.head()
        await eventually(lambda: transport.stats.open == 0)
        sink = Collector()
        exchange.follow(sink.feed)
        assert sink.body == b"hello"
        assert (await exchange.head()).status == 200
        with pytest.raises(UpstreamDisconnected):
            await exchange.end()


@pytest.mark.parametrize("then", ["close", "cut"])
async def test_a_fresh_connection_closed_without_an_answer_is_unavailable_and_not_retried(
    transport: Transport, then: str
) -> None:
    async with RawUpstream(once(then=then)) as upstream:
        exchange = send(transport, upstream.url)
        with pytest.raises(UpstreamUnavailable):
            await exchange.head()
        assert exchange.sent
        assert len(upstream.peers) == 1


async def test_a_connection_closed_within_the_head_is_cut(transport: Transport) -> None:
    async with RawUpstream(once(b"HTTP/1.1 200 OK\r\ncontent-le")) as upstream:
        with pytest.raises(UpstreamDisconnected):
            await send(transport, upstream.url).head()
