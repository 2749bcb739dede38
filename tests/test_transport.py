"""Exchanges with upstreams that behave, the pool they share, and upstreams that close on them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from exchanges import BIG, Collector, fetch, outcome, send
from fakes.raw_upstream import (
    Peer,
    RawUpstream,
    Script,
    answer,
    chunked,
    deaf_upstream,
    descriptors,
    eventually,
    unused_port,
)

from workers.errors import (
    UpstreamDisconnected,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from workers.origin import in_turn
from workers.transport import Exchange, Stats, Transport, request_head


def always(*pieces: bytes) -> Script:
    """Give a script that answers every request with these pieces."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(*pieces)

    return script


def once(*pieces: bytes, then: str = "close") -> Script:
    """Give a script that answers one request with these pieces and then closes, cuts or hangs."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*pieces)
        if then == "cut":
            peer.cut()
        elif then == "hang":
            await peer.gone()

    return script


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    transport = Transport(connect_timeout_s=5)
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
        exchange.follow(sink)
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
        exchange.follow(Collector(refuse))
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
        exchange.follow(sink)
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


# Connecting


async def test_a_refused_connection_is_unavailable(transport: Transport) -> None:
    exchange = send(transport, f"http://127.0.0.1:{unused_port()}")
    with pytest.raises(UpstreamUnavailable) as refusal:
        await exchange.head()
    assert "127.0.0.1" not in refusal.value.message
    assert isinstance(refusal.value.__cause__, ConnectionRefusedError)
    assert not exchange.sent


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
    transport = Transport(idle_s=0.05)
    async with RawUpstream(always(answer(b"ok"))) as upstream:
        await asyncio.gather(*[fetch(transport, upstream.url) for _ in range(3)])
        assert transport.stats.idle == 3
        await eventually(lambda: transport.stats == Stats(0, 0, 0))
        await eventually(lambda: upstream.open == 0)
        assert (await fetch(transport, upstream.url))[1] == b"ok"
    await transport.aclose()


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
        exchange.follow(sink)
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
            exchange.follow(Collector(exchange.release))
            await exchange.end()
            assert transport.stats == Stats(open=1, idle=1, connecting=0)
        assert len(upstream.peers) == 1


async def test_an_exchange_begun_from_within_the_last_bytes_of_another_is_its_own(
    transport: Transport,
) -> None:
    async with RawUpstream(always(answer(b"ok"))) as upstream:
        begun: list[Exchange] = []
        exchange = send(transport, upstream.url)
        exchange.follow(Collector(lambda: begun.append(send(transport, upstream.url))))
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
