"""Rules of the demo upstream in trouble: bad requests, commands that fail, clients that leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import openai
import pytest
from support.fakes.demo_client import ask, asking, chunks_of, content_of
from support.front_door import NO_AUTHORITIES, Door, request_body
from support.visitors import guest
from support.waiting import PATIENCE_S, eventually

from server.demo.answer import pieces
from server.demo.script import COMMANDS
from server.demo.upstream import DemoUpstream
from server.demo.upstream_shapes import upstream_shapes


@pytest.fixture
async def demo() -> AsyncIterator[DemoUpstream]:
    async with DemoUpstream(speed=0) as upstream:
        yield upstream


@pytest.fixture
async def client(demo: DemoUpstream) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=demo.base_url, api_key=demo.secret, max_retries=0
    ) as opened:
        yield opened


@pytest.fixture
async def http(demo: DemoUpstream) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {demo.secret}"}
    async with httpx.AsyncClient(
        base_url=demo.base_url, headers=headers, timeout=PATIENCE_S, verify=NO_AUTHORITIES
    ) as opened:
        yield opened


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"model": "m"}',
        b'{"model": "m", "messages": []}',
        b'{"model": "m", "messages": [{"role": "wizard"}]}',
        b'{"model": "m", "messages": [{"role": "user", "content": 1}]}',
        b'{"model": "m", "messages": [{"role": "user"}], "n": 0}',
        b'{"model": "m", "messages": [{"role": "user"}], "max_tokens": 0}',
        b'{"model": "m", "messages": [{"role": "user"}], "stream": "yes"}',
        b'{"model": "m", "messages": [{"role": "user", "content": [{"type": "smell"}]}]}',
        (
            b'{"model": "m", "messages": [{"role": "user", "content": '
            b'[{"type": "image_url", "image_url": {"url": "data:image/png;base64,!"}}]}]}'
        ),
        (
            b'{"model": "m", "messages": [{"role": "user", "content": '
            b'[{"type": "image_url", "image_url": {}}]}]}'
        ),
        (
            b'{"model": "m", "messages": [{"role": "user"}], "tools": '
            b'[{"function": {"name": "a"}}], "tool_choice": {"function": {"name": "b"}}}'
        ),
        (
            b'{"model": "m", "messages": [{"role": "user"}], "response_format": '
            b'{"type": "json_schema"}}'
        ),
    ],
)
async def test_a_malformed_request_is_a_400_in_openais_shape(
    http: httpx.AsyncClient, body: bytes
) -> None:
    answer = await http.post("/chat/completions", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("secret", ["", "Bearer", "Bearer wrong", "wrong"])
async def test_whoever_lacks_the_secret_is_turned_away(demo: DemoUpstream, secret: str) -> None:
    async with httpx.AsyncClient(headers={"authorization": secret}, timeout=PATIENCE_S) as stranger:
        answer = await stranger.post(f"{demo.base_url}/chat/completions", json=asking("Hello"))
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


async def test_each_instance_has_a_secret_of_its_own() -> None:
    assert DemoUpstream().secret != DemoUpstream().secret
    assert len(DemoUpstream().secret) >= 40


async def test_another_path_is_a_404(http: httpx.AsyncClient) -> None:
    assert (await http.get("/none")).status_code == 404
    assert (await http.get("/models")).json() == {"object": "list", "data": []}


@pytest.mark.parametrize("stream", [True, False])
async def test_demo_error_refuses_with_that_status(http: httpx.AsyncClient, stream: bool) -> None:
    answer = await http.post("/chat/completions", json=asking("demo: error 429", stream=stream))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    assert answer.json()["error"]["message"] == "The demo upstream refuses with 429."
    assert (await http.post("/chat/completions", json=asking("demo: error"))).status_code == 400


@pytest.mark.parametrize("stream", [True, False])
async def test_demo_cut_breaks_the_connection_in_the_middle(
    http: httpx.AsyncClient, stream: bool
) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await http.post("/chat/completions", json=asking("demo: cut", stream=stream))


async def test_demo_fail_reports_an_error_inside_the_stream(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "Demo: FAIL please"}], stream=True
    )
    with pytest.raises(openai.APIError, match="fails, as you asked") as caught:
        [chunk async for chunk in stream]
    assert caught.value.code == "demo_failure"


async def test_demo_think_reasons_before_it_answers(http: httpx.AsyncClient) -> None:
    chunks, _ = await chunks_of(http, "demo: think", stream_options={"include_usage": True})
    kinds = [
        next(iter(chunk["choices"][0]["delta"]), "") for chunk in chunks[1:] if chunk["choices"]
    ]
    first_word = kinds.index("content")
    assert set(kinds[:first_word]) == {"reasoning_content"}
    assert "reasoning_content" not in kinds[first_word:]
    reasoning = content_of(chunks, "reasoning_content")
    assert "no model" in reasoning
    details = chunks[-1]["usage"]["completion_tokens_details"]
    assert details["reasoning_tokens"] == len(pieces(reasoning))
    whole = await ask(http, "demo: think")
    assert whole["choices"][0]["message"]["reasoning_content"] == reasoning


@pytest.mark.parametrize("command", ["slow", "long", "help"])
async def test_the_other_commands_answer_to_their_end(
    http: httpx.AsyncClient, command: str
) -> None:
    chunks, done = await chunks_of(http, f"demo: {command}")
    assert done
    assert ("`demo: cut`" in content_of(chunks)) == (command != "long")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_shape_of_the_catalogue_is_played_byte_for_byte(
    http: httpx.AsyncClient, stream: bool
) -> None:
    for shape in upstream_shapes():
        answer = await http.post(
            "/chat/completions", json=asking(f"demo: shape {shape.name}", stream=stream)
        )
        assert answer.headers["content-type"] == shape.type
        assert answer.content == shape.body, shape.name


async def test_an_unknown_shape_is_refused_with_the_names(http: httpx.AsyncClient) -> None:
    for said in ("demo: shape", "demo: shape moon"):
        answer = await http.post("/chat/completions", json=asking(said))
        assert answer.status_code == 400
        assert "reason_of_gemini" in answer.json()["error"]["message"]


def test_every_command_is_listed_for_the_visitor() -> None:
    assert COMMANDS.keys() == {
        "think", "slow", "long", "cut", "fail", "hang", "error 429", "shape NAME", "help",
    }  # fmt: skip


async def test_a_client_that_leaves_stops_the_answer(demo: DemoUpstream) -> None:
    headers = {"authorization": f"Bearer {demo.secret}"}
    body = asking("demo: hang", stream=True)
    async with (
        httpx.AsyncClient(base_url=demo.base_url, headers=headers, timeout=PATIENCE_S) as leaving,
        leaving.stream("POST", "/chat/completions", json=body) as answer,
    ):
        await anext(answer.aiter_bytes())
        assert demo.answering == 1
    async with asyncio.timeout(PATIENCE_S):
        await demo.idle()


async def test_a_client_that_leaves_before_the_first_token_stops_the_answer() -> None:
    async with DemoUpstream(speed=0.001) as demo:
        port = int(demo.base_url.split(":")[2].split("/")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = json.dumps(asking("Hello", stream=True)).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            f"Authorization: Bearer {demo.secret}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await eventually(lambda: demo.answering)
        async with asyncio.timeout(PATIENCE_S):
            writer.close()
            await writer.wait_closed()
            await demo.idle()
        assert await reader.read() == b""


async def test_closing_ends_running_answers() -> None:
    async with DemoUpstream(speed=0) as demo:
        headers = {"authorization": f"Bearer {demo.secret}"}
        client = httpx.AsyncClient(base_url=demo.base_url, headers=headers, timeout=PATIENCE_S)
        request = client.build_request(
            "POST", "/chat/completions", json=asking("demo: hang", stream=True)
        )
        answer = await client.send(request, stream=True)
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await answer.aread()
    await client.aclose()
    assert demo.answering == 0


async def test_one_connection_serves_one_answer_after_the_other(demo: DemoUpstream) -> None:
    headers = {"authorization": f"Bearer {demo.secret}"}
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(
        base_url=demo.base_url, headers=headers, limits=limits, timeout=PATIENCE_S
    ) as client:
        for stream in (True, False, True):
            answer = await client.post("/chat/completions", json=asking("Hi", stream=stream))
            assert answer.status_code == 200
        assert len(demo._connections) == 1


async def test_a_reader_that_does_not_keep_up_pauses_the_answer(demo: DemoUpstream) -> None:
    port = int(demo.base_url.split(":")[2].split("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    body = json.dumps(asking("demo: long", stream=True, n=16)).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        f"Authorization: Bearer {demo.secret}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    async with asyncio.timeout(PATIENCE_S):
        received = b""
        while b"\r\n0\r\n\r\n" not in received[-16:]:
            received += await reader.read(65536)
    writer.close()
    await writer.wait_closed()
    assert received.count(b'finish_reason":"stop"') == 16


async def test_a_refusal_that_one_guest_asks_for_stops_no_other(demo_door: Door) -> None:
    model = "zai/glm-4.5"
    refused = await demo_door.client.post(
        "/api/v1/chat/completions",
        json=request_body("demo: error 429", model=model),
        headers=guest(demo_door),
    )
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "2"
    answer = await demo_door.client.post(
        "/api/v1/chat/completions",
        json=request_body("demo: think", model=model),
        headers=guest(demo_door) | {"X-Roxy-Max-Wait": "0"},
    )
    assert answer.status_code == 200, answer.text
