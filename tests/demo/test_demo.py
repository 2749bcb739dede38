"""Rules of the demo upstream: real clients over a real socket see OpenAI's wire format."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jsonschema
import openai
import pytest
from support.builders.catalogs import load_catalog
from support.fakes.demo_client import ask, chunks_of, content_of
from support.front_door import NO_AUTHORITIES
from support.schemas import validate_chunk, validate_completion
from support.waiting import PATIENCE_S

from server.demo.answer import pieces
from server.demo.upstream import DemoUpstream
from workers.catalog.catalog import Prices

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"enum": ["celsius", "fahrenheit"]},
                "days": {"type": "integer", "minimum": 2, "maximum": 7},
            },
            "required": ["city"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}


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


async def test_the_official_client_streams_a_markdown_answer(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="zai/glm-4.5",
        messages=[{"role": "user", "content": "Why is the sky blue?"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    for mark in ("## ", "\n1. ", "```bash\n", "| --- | --- |", "> You asked: Why is the sky blue?"):
        assert mark in text
    assert "not a model" in text
    assert "`zai/glm-4.5`" in text
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == len(pieces(text))
    assert len({(c.id, c.created, c.model) for c in chunks}) == 1


async def test_a_whole_answer_says_the_same_as_a_streamed_one(http: httpx.AsyncClient) -> None:
    whole = await ask(http, "Hello")
    chunks, done = await chunks_of(http, "Hello", stream_options={"include_usage": True})
    assert done
    assert content_of(chunks) == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["usage"] == whole["usage"]
    usage = whole["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


@pytest.mark.parametrize("fields", [{}, {"tools": [WEATHER, CLOCK]}, {"n": 2}])
@pytest.mark.parametrize("text", ["Hello", "demo: think"])
async def test_answers_fit_the_published_schemas(
    http: httpx.AsyncClient, text: str, fields: dict[str, Any]
) -> None:
    validate_completion(await ask(http, text, **fields))
    chunks, _ = await chunks_of(http, text, stream_options={"include_usage": True}, **fields)
    for chunk in chunks:
        validate_chunk(chunk)


async def test_usage_comes_only_when_asked_for(http: httpx.AsyncClient) -> None:
    chunks, _ = await chunks_of(http, "Hello")
    assert all("usage" not in chunk and chunk["choices"] for chunk in chunks)
    chunks, _ = await chunks_of(http, "Hello", stream_options={"include_usage": True})
    assert [chunk["usage"] is None for chunk in chunks] == [True] * (len(chunks) - 1) + [False]


async def test_later_turns_are_answered_as_such(http: httpx.AsyncClient) -> None:
    messages = [
        {"role": "system", "content": "Be brief and kind."},
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": [{"type": "text", "text": "Two now"}]},
    ]
    answer = await http.post("/chat/completions", json={"model": "m", "messages": messages})
    text = answer.json()["choices"][0]["message"]["content"]
    assert "Turn 2" in text
    assert "> You said: Two now" in text
    assert "| Messages so far | 4 |" in text
    assert "system prompt has 4 words" in text


async def test_max_tokens_ends_the_answer_with_length(http: httpx.AsyncClient) -> None:
    for limit in ({"max_tokens": 5}, {"max_completion_tokens": 5}):
        whole = await ask(http, "Hello", **limit)
        assert whole["choices"][0]["finish_reason"] == "length"
        assert whole["usage"]["completion_tokens"] == 5
        chunks, _ = await chunks_of(http, "Hello", **limit)
        assert chunks[-1]["choices"][0]["finish_reason"] == "length"
        assert len(pieces(content_of(chunks))) == 5


async def test_a_stop_sequence_ends_the_answer_before_it(http: httpx.AsyncClient) -> None:
    for stop in ("demo", ["never", "demo"]):
        choice = (await ask(http, "Hello", stop=stop))["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == (
            "## Hello from the ",
            "stop",
        )


async def test_several_choices_are_interleaved_and_all_counted(http: httpx.AsyncClient) -> None:
    one = await ask(http, "Hello", max_tokens=20)
    three = await ask(http, "Hello", n=3, max_tokens=20)
    assert [choice["index"] for choice in three["choices"]] == [0, 1, 2]
    assert three["usage"]["completion_tokens"] == 3 * one["usage"]["completion_tokens"]
    chunks, _ = await chunks_of(http, "Hello", n=3)
    assert [chunk["choices"][0]["index"] for chunk in chunks[:3]] == [0, 1, 2]
    finished = [c["choices"][0]["index"] for c in chunks if c["choices"][0]["finish_reason"]]
    assert sorted(finished) == [0, 1, 2]
    assert "Choice 3 of 3" in content_of(chunks, index=2)


async def test_a_tool_is_called_with_arguments_that_fit_and_its_result_is_quoted(
    client: openai.AsyncOpenAI,
) -> None:
    asked: Any = [{"role": "user", "content": "Weather in Paris?"}]
    tools: Any = [WEATHER, CLOCK]
    first = await client.chat.completions.create(model="m", messages=asked, tools=tools)
    choice = first.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert call.function.name == "weather"
    jsonschema.validate(json.loads(call.function.arguments), WEATHER["function"]["parameters"])
    asked += [
        choice.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "21 degrees and sunny"},
    ]
    second = await client.chat.completions.create(model="m", messages=asked, tools=tools)
    assert "> 21 degrees and sunny" in (second.choices[0].message.content or "")
    assert second.choices[0].finish_reason == "stop"


async def test_a_streamed_tool_call_names_itself_once_and_appends_its_arguments(
    http: httpx.AsyncClient,
) -> None:
    chunks, done = await chunks_of(http, "Weather?", tools=[WEATHER])
    deltas = [call for c in chunks for call in c["choices"][0]["delta"].get("tool_calls", ())]
    assert done
    assert deltas[0]["type"] == "function"
    assert deltas[0]["function"] == {"name": "weather", "arguments": ""}
    assert all(delta.keys() == {"index", "function"} for delta in deltas[1:])
    assert json.loads("".join(delta["function"]["arguments"] for delta in deltas))["days"] == 2
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("text", "fields", "called"),
    [
        ("Weather?", {}, ["weather"]),
        ("Both in parallel, please", {}, ["weather", "clock"]),
        ("Weather?", {"parallel_tool_calls": True}, ["weather", "clock"]),
        ("Both in parallel, please", {"parallel_tool_calls": False}, ["weather"]),
        ("Weather?", {"tool_choice": "none"}, []),
        ("Weather?", {"tool_choice": "required"}, ["weather"]),
        (
            "Weather?",
            {"tool_choice": {"type": "function", "function": {"name": "clock"}}},
            ["clock"],
        ),
    ],
)
async def test_which_tools_are_called(
    http: httpx.AsyncClient, text: str, fields: dict[str, Any], called: list[str]
) -> None:
    message = (await ask(http, text, tools=[WEATHER, CLOCK], **fields))["choices"][0]["message"]
    assert [call["function"]["name"] for call in message.get("tool_calls", ())] == called


async def test_tool_arguments_are_cut_by_max_tokens_too(http: httpx.AsyncClient) -> None:
    choice = (await ask(http, "Weather?", tools=[WEATHER], max_tokens=3))["choices"][0]
    assert choice["finish_reason"] == "length"


def test_the_demo_serves_only_models_without_an_upstream_and_for_nothing() -> None:
    catalog = load_catalog([], {"ZAI_API_KEY": "real"})
    listed = Prices(prompt=600_000, completion=2_200_000)
    priced = catalog.priced(dict.fromkeys(catalog.models, listed))
    demo = priced.with_demo("http://127.0.0.1:1/v1", "hunter2")
    assert list(demo.models) == list(catalog.models)
    glm, gemini = demo.find("zai/glm-4.5"), demo.find("google/gemini-2.5-pro")
    assert [each.demo for each in glm.live_deployments()] == [False]
    assert glm.prices == listed
    assert [each.demo for each in gemini.live_deployments()] == [True]
    assert gemini.served_by_demo
    assert gemini.prices == Prices(prompt=0, completion=0)
    assert "hunter2" not in repr(gemini)


@pytest.mark.parametrize("size", [60_000, 64 * 1024, 65_537, 1_000_000, 5_000_000])
async def test_a_head_that_comes_with_a_large_body_is_answered(
    demo: DemoUpstream, size: int
) -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "a" * size}]})
    port = httpx.URL(demo.base_url).port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: demo\r\ncontent-length: {len(body)}\r\n"
        f"authorization: Bearer {demo.secret}\r\n\r\n{body}".encode()
    )
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    writer.close()
