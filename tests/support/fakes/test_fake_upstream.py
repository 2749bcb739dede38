"""The scripted upstream does what its script says: everything else here leans on that."""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
from collections.abc import AsyncIterator

import httpx
import pytest
import trustme
from support.fakes.upstream import (
    USAGE,
    Answer,
    FakeUpstream,
    Pause,
    completion,
    refusal,
    refusing_url,
    silence,
    stream_of,
    streaming,
)
from support.schemas import validate_chunk, validate_completion, validate_error
from support.waiting import PATIENCE_S, soon

ASK = {"model": "upstream-model", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture
async def client(upstream: FakeUpstream) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=upstream.base_url, trust_env=False, timeout=PATIENCE_S
    ) as client:
        yield client


async def talk(upstream: FakeUpstream) -> bytes:
    """Send one request by hand and read until the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
    try:
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_it_completes_what_is_asked_and_records_it(
    upstream: FakeUpstream, client: httpx.AsyncClient
) -> None:
    answer = await client.post("/chat/completions", json=ASK, headers={"Authorization": "Bearer x"})
    validate_completion(answer.json())
    request = await upstream.request()
    assert (request.method, request.path, request.json) == ("POST", "/v1/chat/completions", ASK)
    assert request.headers["authorization"] == "Bearer x"


async def test_it_streams_valid_chunks(upstream: FakeUpstream, client: httpx.AsyncClient) -> None:
    upstream.plan(stream_of(["Hel", "lo"], usage=USAGE))
    answer = await client.post("/chat/completions", json=ASK | {"stream": True})
    *events, done = answer.text.removesuffix("\n\n").split("\n\n")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    for chunk in chunks:
        validate_chunk(chunk)
    assert done == "data: [DONE]"
    assert chunks[-1]["usage"] == USAGE
    said = [choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]]
    assert "".join(said) == "Hello"


async def test_answers_are_used_in_order_and_the_last_repeats_on_one_connection(
    upstream: FakeUpstream, client: httpx.AsyncClient
) -> None:
    upstream.plan(
        refusal(429, headers={"retry-after": "2"}), lambda request: completion(request.path)
    )
    answers = [await client.post("/chat/completions", json=ASK) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 200, 200]
    assert answers[0].headers["retry-after"] == "2"
    validate_error(answers[0].json())
    assert [request.connection for request in upstream.requests] == [0, 0, 0]


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize("end", ["cut", "reset"])
async def test_an_answer_can_be_cut(
    upstream: FakeUpstream, client: httpx.AsyncClient, framing: str, end: str
) -> None:
    upstream.plan(stream_of(["Hel"], finish=None, done=False, framing=framing, end=end))
    if (framing, end) == ("close", "cut"):  # to HTTP this is a whole answer
        assert "Hel" in (await client.post("/chat/completions", json=ASK)).text
        return
    with pytest.raises(httpx.RemoteProtocolError if end == "cut" else httpx.ReadError):
        await client.post("/chat/completions", json=ASK)


async def test_it_says_nothing_and_sees_the_client_leave(upstream: FakeUpstream) -> None:
    upstream.plan(silence())
    async with asyncio.TaskGroup() as group:
        talking = group.create_task(talk(upstream))
        request = await upstream.request()
        assert not request.left.is_set()
        talking.cancel()
    await soon(request.left.wait())


async def test_a_pause_lasts_until_the_test_ends_it(
    upstream: FakeUpstream, client: httpx.AsyncClient
) -> None:
    go = asyncio.Event()
    upstream.plan(streaming([b"data: one\n\n", Pause(go), b"data: two\n\n"]))
    async with client.stream("POST", "/chat/completions", json=ASK) as answer:
        pieces = answer.aiter_raw()
        assert await anext(pieces) == b"data: one\n\n"
        go.set()
        assert await anext(pieces) == b"data: two\n\n"


async def test_an_endless_answer_waits_for_a_client_that_does_not_read(
    upstream: FakeUpstream, client: httpx.AsyncClient
) -> None:
    upstream.plan(streaming(itertools.repeat(b"x" * 65536)))
    async with client.stream("POST", "/chat/completions", json=ASK):
        request = await upstream.request()
        before = -1
        while before < request.sent_bytes:
            before = request.sent_bytes
            await asyncio.sleep(0.1)
    assert request.sent_bytes < 64 * 2**20
    await soon(request.left.wait())


async def test_raw_bytes_go_out_as_they_are(upstream: FakeUpstream) -> None:
    upstream.plan(Answer(raw=True, pieces=[b"HTTP/1.1 2", b"00 OK\r\n\r\ngarbage"], end="cut"))
    assert await talk(upstream) == b"HTTP/1.1 200 OK\r\n\r\ngarbage"


async def test_it_speaks_tls() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    async with (
        FakeUpstream(tls=context) as upstream,
        httpx.AsyncClient(
            base_url=upstream.base_url, verify=trust, trust_env=False, timeout=PATIENCE_S
        ) as client,
    ):
        assert (await client.post("/chat/completions", json=ASK)).status_code == 200


async def test_a_refusing_url_refuses() -> None:
    with refusing_url() as url:
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as client:
            with pytest.raises(httpx.ConnectError):
                await client.post(url, json=ASK)
