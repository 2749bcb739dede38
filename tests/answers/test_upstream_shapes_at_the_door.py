"""Clients get what the catalogue promises of every shape, through a real gateway and raw sockets.

The upstream writes the bytes of the catalogue. Every shape answers streams and whole requests; the
usage row says what was reported, and marks what was estimated. The official client reads them all.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from support.answers_read import promised, read_chunks, read_whole
from support.fakes.upstream import Answer, FakeUpstream, Pause
from support.front_door import MODEL, OWNER, Door, parse_events

from server.demo.upstream_shapes import UpstreamShape, upstream_shapes

GOOD = [each for each in upstream_shapes() if each.error is None]
BAD = [each for each in upstream_shapes() if each.error is not None]
GROUPS = sorted({each.about for each in GOOD})
ASKED = {"stream_options": {"include_usage": True}}


def playing(shape: UpstreamShape) -> Answer:
    """Answer with the bytes of a shape."""
    return Answer(raw=True, pieces=[shape.head + shape.body])


async def booked(door: Door, shape: UpstreamShape, count: int) -> None:
    """Check the newest of `count` usage rows."""
    row = (await door.usage_rows(count))[0]
    told = shape.booked
    assert row.status == "finished", shape.name
    whole = told is not None and None not in (told.prompt, told.completion)
    assert row.estimated is not whole, shape.name
    assert row.prompt_tokens and row.completion_tokens, "a missing count is estimated, never 0"
    if told is not None:
        assert told.prompt in (None, row.prompt_tokens), shape.name
        assert told.completion in (None, row.completion_tokens), shape.name
        assert (row.cached_tokens, row.cache_write_tokens, row.reasoning_tokens) == (
            told.cached,
            told.written,
            told.reasoning,
        ), shape.name


@pytest.mark.parametrize("group", GROUPS)
async def test_a_stream_is_what_the_catalogue_promises(
    upstream: FakeUpstream, door: Door, group: str
) -> None:
    shapes = [each for each in GOOD if each.about == group]
    for count, shape in enumerate(shapes, 1):
        upstream.plan(playing(shape))
        *events, end = parse_events(await door.stream_text(**ASKED))
        assert end == "[DONE]", shape.name
        assert read_chunks(events) == promised(shape), shape.name
        assert (events[-1]["choices"] == []) is (shape.booked is not None), shape.name
        await booked(door, shape, count)


@pytest.mark.parametrize("group", GROUPS)
async def test_a_whole_answer_is_what_the_catalogue_promises(
    upstream: FakeUpstream, door: Door, group: str
) -> None:
    shapes = [each for each in GOOD if each.about == group]
    for count, shape in enumerate(shapes, 1):
        upstream.plan(playing(shape))
        answer = await door.chat()
        assert answer.status_code == 200, (shape.name, answer.text)
        assert answer.headers["content-type"].startswith("application/json")
        assert read_whole(answer.content) == promised(shape), shape.name
        await booked(door, shape, count)


@pytest.mark.parametrize("shape", BAD, ids=lambda each: each.name)
async def test_a_failure_is_what_the_catalogue_promises(
    upstream: FakeUpstream, door: Door, shape: UpstreamShape
) -> None:
    arrived, body, text = asyncio.Event(), shape.body, ""
    # Content that comes in one read with the failure would not be sent: the next deployment may do.
    cut = body.index(b"\n\n", body.index(b'"Hi"')) + 2 if shape.text else 0
    pieces: list[bytes | Pause] = [shape.head + body[:cut], Pause(arrived), body[cut:]]
    upstream.plan(Answer(raw=True, pieces=pieces, end="cut"))
    if not shape.text:
        arrived.set()
    async with door.stream() as response:
        assert response.status_code == (200 if shape.text else shape.status)
        async for piece in response.aiter_text():
            text += piece
            arrived.set()
    *events, failure = parse_events(text) if shape.text else [json.loads(text)]
    assert read_chunks(events).text == shape.text
    assert (failure["error"]["code"] or "") == shape.error


@pytest.mark.parametrize("shape", BAD, ids=lambda each: each.name)
async def test_a_whole_failure_is_what_the_catalogue_promises(
    upstream: FakeUpstream, door: Door, shape: UpstreamShape
) -> None:
    upstream.plan(playing(shape))
    answer = await door.chat()
    assert answer.status_code == shape.status
    assert (answer.json()["error"]["code"] or "") == shape.error


def final(shape: UpstreamShape, choice: Any) -> None:
    """Check what the official client makes of an answer."""
    message = choice.message
    assert message.role == "assistant", shape.name
    assert (message.content or "") == shape.text, shape.name
    assert choice.finish_reason == shape.reason, shape.name
    calls = [(each.function.name, each.function.arguments) for each in message.tool_calls or ()]
    assert calls == list(shape.calls), shape.name
    assert (getattr(message, "reasoning_content", None) or "") == shape.thinking, shape.name


@pytest.mark.parametrize("group", GROUPS)
async def test_the_official_client_reads_every_shape(
    upstream: FakeUpstream, door: Door, group: str
) -> None:
    said: Any = [{"role": "user", "content": "Hi"}]
    shapes = [each for each in GOOD if each.about == group and "$PAD" not in each.template]
    async with openai.AsyncOpenAI(base_url=f"{door.url}/api/v1", api_key=OWNER) as sdk:
        for shape in shapes:
            upstream.plan(playing(shape))
            whole = await sdk.chat.completions.create(model=MODEL, messages=said)
            final(shape, whole.choices[0])
            if shape.reason in ("length", "content_filter"):
                continue  # its stream raises for both
            upstream.plan(playing(shape))
            async with sdk.chat.completions.stream(model=MODEL, messages=said) as stream:
                async for _ in stream:
                    pass
                final(shape, (await stream.get_final_completion()).choices[0])
