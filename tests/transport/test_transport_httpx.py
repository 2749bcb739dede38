"""The second door: `httpx.AsyncClient` on the same transport."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import httpx
import pytest
from support.fakes.raw_upstream import (
    Peer,
    RawUpstream,
    answer,
    chunked,
    deaf_upstream,
)
from support.network.ports import free_port
from support.waiting import eventually

from workers.transport.transport import Stats, Transport

STREAM = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = Transport()
    async with httpx.AsyncClient(transport=transport) as client:
        yield client
    assert transport.stats == Stats(0, 0, 0)


def stats(client: httpx.AsyncClient) -> Stats:
    """Count the client's connections."""
    transport = client._transport
    assert isinstance(transport, Transport)
    return transport.stats


async def echo(peer: Peer) -> None:
    """Answer every request with its own body."""
    while True:
        await peer.send(answer((await peer.request()).partition(b"\r\n\r\n")[2]))


async def test_get_post_and_head_share_one_connection(client: httpx.AsyncClient) -> None:
    async with RawUpstream(echo) as upstream:
        assert (await client.get(upstream.url + "/a?b=c")).content == b""
        assert (await client.post(upstream.url, json={"a": 1})).json() == {"a": 1}
        assert (await client.put(upstream.url, content=b"x" * 200_000)).content == b"x" * 200_000
        assert (await client.delete(upstream.url)).status_code == 200
        assert (await client.head(upstream.url)).status_code == 200
        assert len(upstream.peers) == 1
        get, post = upstream.requests[:2]
        assert get.startswith(b"GET /a?b=c HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n" % upstream.port)
        assert b"content-length" not in get.lower()
        assert get.lower().count(b"accept-encoding") == 1
        assert b"accept-encoding: identity\r\n" in get
        assert post.lower().count(b"content-length") == 1
        assert get.lower().count(b"user-agent") == 1


async def test_a_streamed_upload_is_sent_with_its_length(client: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    async with RawUpstream(echo) as upstream:
        assert (await client.post(upstream.url, content=pieces())).content == b"onetwo"
        assert b"content-length: 6\r\n" in upstream.requests[0]
        assert b"chunked" not in upstream.requests[0].lower()


async def test_an_answer_is_streamed_as_it_comes(client: httpx.AsyncClient) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM)
        for number in range(5):
            await going.acquire()
            await peer.send(chunked(b"%d" % number))
        await peer.send(b"0\r\n\r\n")
        await peer.gone()

    going = asyncio.Semaphore(1)
    async with RawUpstream(script) as upstream, client.stream("GET", upstream.url) as response:
        seen = []
        async for data in response.aiter_raw():
            seen.append(data)
            going.release()
        assert seen == [b"0", b"1", b"2", b"3", b"4"]
        assert stats(client).idle == 1


async def test_leaving_a_stream_stops_the_upstream(client: httpx.AsyncClient) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM)
        await peer.flood(chunked(bytes(10_000)))

    async with RawUpstream(script) as upstream:
        for _ in range(20):
            async with client.stream("GET", upstream.url) as response:
                async for _ in response.aiter_raw():
                    break
        await eventually(lambda: upstream.open == 0 and stats(client) == Stats(0, 0, 0))


async def test_cancelling_a_request_in_any_phase_leaves_nothing(client: httpx.AsyncClient) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(STREAM)
        await peer.gone()

    async with RawUpstream(script) as upstream:
        with deaf_upstream() as deaf:
            for url in (upstream.url, deaf):
                for turns in range(40):
                    request = asyncio.create_task(client.get(url))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    request.cancel()
                    request.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await request
        await eventually(lambda: upstream.open == 0 and stats(client) == Stats(0, 0, 0))


async def test_redirects_are_not_followed(client: httpx.AsyncClient) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(b"", b"location: http://127.0.0.1:1/", status=b"302 Found"))

    async with RawUpstream(script) as upstream:
        assert (await client.get(upstream.url)).status_code == 302


async def test_what_was_compressed_unasked_is_decoded_by_httpx(client: httpx.AsyncClient) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(gzip.compress(b"hello"), b"content-encoding: gzip"))

    async with RawUpstream(script) as upstream:
        assert (await client.get(upstream.url)).text == "hello"


async def test_an_upstream_out_of_reach_is_an_httpx_error(client: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.ConnectError):
        await client.get(f"http://127.0.0.1:{free_port()}")
    hasty = Transport(connect_timeout_s=0.05)
    async with httpx.AsyncClient(transport=hasty, timeout=None) as other:
        with deaf_upstream() as url, pytest.raises(httpx.ConnectTimeout):
            await other.get(url)


async def test_a_broken_answer_is_an_httpx_error(client: httpx.AsyncClient) -> None:
    async def script(peer: Peer) -> None:
        request = await peer.request()
        if b"garbage" in request:
            await peer.send(b"garbage\r\n\r\n")
        elif b"short" in request:
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel")
        elif b"silent" in request:
            await peer.gone()

    async with RawUpstream(script) as upstream:
        for path in ("garbage", "short", "closed"):
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get(f"{upstream.url}/{path}")
        with pytest.raises(httpx.ReadTimeout) as timeout:
            await client.get(f"{upstream.url}/silent", timeout=0.02)
        assert timeout.value.request.url.path == "/silent"
        with pytest.raises(httpx.LocalProtocolError):
            await client.get(upstream.url, headers={"x": "a\r\nb: c"})
        await eventually(lambda: upstream.open == 0 and stats(client) == Stats(0, 0, 0))


async def test_no_timeout_means_none(client: httpx.AsyncClient) -> None:
    async with RawUpstream(echo) as upstream:
        response = await client.post(upstream.url, content=b"a", timeout=None)
        assert response.content == b"a"
