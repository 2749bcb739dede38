"""Chat completions through the front door: what leaves is what came, with our model name."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import openai
import pytest
from support.fakes.upstream import (
    USAGE,
    FakeUpstream,
    chunk,
    completion,
    document,
    event,
    events_of,
    stream_of,
    streaming,
)
from support.front_door import (
    MODEL,
    OWNER,
    Door,
    bearer,
    front_door,
    parse_events,
    request_body,
    text_of,
)
from support.schemas import validate_chunk, validate_completion


async def test_a_streamed_answer_arrives_chunk_by_chunk_with_the_catalog_id(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(stream_of(["Hel", "lo", " you"]))
    async with door.stream() as response:
        text = (await response.aread()).decode()
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache, no-transform"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["x-accel-buffering"] == "no"
    events = parse_events(text)
    assert events[-1] == "[DONE]"
    assert text_of(events) == "Hello you"
    for one in events[:-1]:
        validate_chunk(one)
        assert one["model"] == MODEL
    assert len({one["id"] for one in events[:-1]}) == 1


async def test_a_whole_answer_passes_with_the_catalog_id(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(completion("Hello", message={"reasoning_content": "thinking"}))
    answer = await door.chat("Hi")
    assert answer.status_code == 200
    validate_completion(answer.json())
    assert answer.json()["model"] == MODEL
    assert answer.json()["choices"][0]["message"]["reasoning_content"] == "thinking"
    assert answer.json()["usage"] == USAGE


async def test_the_upstream_gets_its_own_model_id_our_secret_and_no_header_of_the_client(
    upstream: FakeUpstream, door: Door
) -> None:
    await door.client.post(
        "/api/v1/chat/completions",
        json=request_body("Hi"),
        headers=bearer(OWNER)
        | {
            "x-stainless-lang": "python",
            "Cookie": "a=b",
            "OpenAI-Organization": "o",
            "User-Agent": "spy",
        },
    )
    seen = await upstream.request()
    assert seen.path == "/v1/chat/completions"
    assert seen.json["model"] == "upstream-model"
    assert seen.headers["authorization"] == "Bearer upstream-secret"
    assert set(seen.headers) <= {
        "host",
        "accept-encoding",
        "authorization",
        "content-type",
        "content-length",
        "accept",
        "user-agent",
    }
    assert seen.headers["accept-encoding"] == "identity"
    assert "spy" not in seen.head.decode() and OWNER not in seen.head.decode()


async def test_unknown_and_known_request_fields_reach_the_upstream_untouched(
    upstream: FakeUpstream, door: Door
) -> None:
    fields: dict[str, Any] = {
        "temperature": 0.5,
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
        "logprobs": True,
        "top_logprobs": 3,
        "seed": 7,
        "provider_extension": {"deep": [1, 2.50, {"k": None}]},
        "reasoning_effort": "low",
    }
    content = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
    ]
    await door.chat(content, **fields)
    seen = (await upstream.request()).json
    assert {name: seen[name] for name in fields} == fields
    assert seen["messages"] == [{"role": "user", "content": content}]


@pytest.mark.parametrize(
    "delta",
    [
        {
            "tool_calls": [
                {
                    "index": 0,
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "f", "arguments": "{"},
                }
            ]
        },
        {"content": "x", "vendor": {"model": "upstream-model-else"}},
        {"reasoning_content": "hmm", "reasoning": "hmm", "content": None},
        {"content": 'quoted \\"model\\":\\"upstream-model\\" \u2028 ü'},
    ],
)
async def test_chunks_pass_byte_exact_but_for_the_model(
    upstream: FakeUpstream, door: Door, delta: dict[str, Any]
) -> None:
    deltas = [{"role": "assistant"}, delta]
    first, raw = (
        json.dumps(chunk(each, system_fingerprint="fp", extra=[1.50, 2]), separators=(", ", ": "))
        for each in deltas
    )
    ending = event(chunk(finish="stop")) + event("[DONE]")
    upstream.plan(streaming([f"data: {first}\n\ndata: {raw}\n\n".encode(), ending]))
    text = await door.stream_text()
    for got, sent in zip(text.split("\n\n"), (first, raw), strict=False):
        assert got == "data: " + sent.replace('"model": "upstream-model"', f'"model": "{MODEL}"')


async def test_usage_is_always_asked_for_upstream_and_hidden_unless_the_client_asked(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(stream_of(["a", "b"], usage=USAGE))
    hidden = parse_events(await door.stream_text())
    assert (await upstream.request(0)).json["stream_options"] == {"include_usage": True}
    assert not [one for one in hidden[:-1] if one.get("usage") or not one["choices"]]

    shown = parse_events(await door.stream_text(stream_options={"include_usage": True}))
    assert shown[-2]["choices"] == [] and shown[-2]["usage"] == USAGE
    assert all(one["usage"] is None for one in shown[:-2])
    for one in shown[:-1]:
        validate_chunk(one)


async def test_usage_on_the_last_content_chunk_is_normalised(
    upstream: FakeUpstream, door: Door
) -> None:
    last = chunk(finish="stop") | {"usage": USAGE}
    pieces = [event(chunk({"content": "a"})), event(last), event("[DONE]")]
    upstream.plan(streaming(pieces))
    hidden = parse_events(await door.stream_text())
    assert not any(one.get("usage") for one in hidden[:-1])
    shown = parse_events(await door.stream_text(stream_options={"include_usage": True}))
    assert [bool(one["usage"]) for one in shown[:-1]] == [False, False, True]
    rows = await door.usage_rows(2)
    assert all((row.prompt_tokens, row.completion_tokens) == (11, 7) for row in rows)
    assert not any(row.estimated for row in rows)


async def test_the_stream_reaches_the_client_while_the_upstream_still_writes(
    upstream: FakeUpstream, door: Door
) -> None:
    from support.fakes.upstream import Pause

    go_on = asyncio.Event()
    pieces = events_of(["one", "two"])
    upstream.plan(streaming([*pieces[:2], Pause(go_on), *pieces[2:]]))
    async with door.stream() as response:
        lines = response.aiter_text()
        first = await anext(lines)
        assert "one" in first and "two" not in first
        go_on.set()
        rest = "".join([part async for part in lines])
        assert "two" in rest and rest.endswith("data: [DONE]\n\n")


async def test_multi_megabyte_events_pass_whole(upstream: FakeUpstream, door: Door) -> None:
    image = "A" * 5_000_000
    pieces = [
        event(chunk({"content": "", "images": [image]})),
        event(chunk(finish="stop")),
        event("[DONE]"),
    ]
    upstream.plan(streaming(pieces))
    events = parse_events(await door.stream_text())
    assert events[0]["choices"][0]["delta"]["images"] == [image]
    assert events[-1] == "[DONE]"


async def test_a_ten_megabyte_request_reaches_the_upstream_whole(
    upstream: FakeUpstream, door: Door
) -> None:
    url = "data:image/png;base64," + "A" * 10_000_000
    answer = await door.chat([{"type": "image_url", "image_url": {"url": url}}])
    assert answer.status_code == 200, answer.text
    assert (await upstream.request()).json["messages"][0]["content"][0]["image_url"]["url"] == url


async def test_identical_tokens_a_thousand_times_over_all_arrive(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(stream_of(["ha"] * 1000))
    assert text_of(parse_events(await door.stream_text())) == "ha" * 1000


def client(door: Any, key: str = OWNER) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{door.url}/api/v1", api_key=key, max_retries=0)


async def test_the_openai_client_streams_and_completes(upstream: FakeUpstream, door: Door) -> None:
    async with client(door) as sdk:
        whole = await sdk.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hi"}]
        )
        assert whole.choices[0].message.content == "Hello" and whole.model == MODEL
        upstream.plan(stream_of(["Hel", "lo"], usage=USAGE))
        stream = await sdk.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [one async for one in stream]
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello"
        assert chunks[-1].usage is not None and chunks[-1].usage.total_tokens == 18
        assert [one.id async for one in sdk.models.list()] == [MODEL]
        listed = sdk.models.list(extra_query={"all": "true"})
        assert {MODEL, "zai/glm-4.5"} < {one.id async for one in listed}
        assert (await sdk.models.retrieve("zai/glm-4.5")).id == "zai/glm-4.5"


async def test_the_openai_client_sees_our_errors_with_code_and_request_id(door: Door) -> None:
    async with client(door, "roxy_wrong") as sdk:
        with pytest.raises(openai.AuthenticationError) as caught:
            await sdk.models.list()
        assert caught.value.code == "invalid_api_key"
        assert caught.value.request_id is not None and caught.value.request_id.startswith("req_")
    async with client(door) as sdk:
        with pytest.raises(openai.NotFoundError) as missing:
            await sdk.chat.completions.create(
                model="no/such", messages=[{"role": "user", "content": "x"}]
            )
        assert missing.value.code == "model_not_found" and missing.value.param == "model"


async def test_tools_are_called_through_the_openai_client(
    upstream: FakeUpstream, door: Door
) -> None:
    calls = [
        {
            "tool_calls": [
                {
                    "index": 0,
                    "id": "a",
                    "type": "function",
                    "function": {"name": "f", "arguments": ""},
                }
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"x":1}'}}]},
        {
            "tool_calls": [
                {
                    "index": 1,
                    "id": "b",
                    "type": "function",
                    "function": {"name": "g", "arguments": "{}"},
                }
            ]
        },
    ]
    async with client(door) as sdk:
        upstream.plan(stream_of(calls, finish="tool_calls"))
        async with sdk.chat.completions.stream(
            model=MODEL,
            messages=[{"role": "user", "content": "Hi"}],
            tools=[
                {"type": "function", "function": {"name": n, "parameters": {"type": "object"}}}
                for n in "fg"
            ],
        ) as stream:
            final = await stream.get_final_completion()
        called = final.choices[0].message.tool_calls or []
        assert [(one.id, one.function.name, one.function.arguments) for one in called] == [
            ("a", "f", '{"x":1}'),
            ("b", "g", "{}"),
        ]


@pytest.mark.parametrize("path", ["/api/chat/completions", "/api/v1/chat/completions"])
async def test_both_paths_and_both_credentials_work(door: Door, path: str) -> None:
    for headers in (bearer(OWNER), {"x-api-key": OWNER}, {"Authorization": f"bearer {OWNER}"}):
        answer = await door.client.post(path, json=request_body("Hi"), headers=headers)
        assert answer.status_code == 200, answer.text


async def test_of_two_credentials_authorization_counts_and_the_other_is_not_looked_at(
    door: Door,
) -> None:
    key = await door.mint("limited")
    for bearer_key, other, kind in ((key, OWNER, "key"), (OWNER, "wrong", "owner")):
        both = bearer(bearer_key) | {"x-api-key": other}
        assert (await door.client.get("/api/v1/key", headers=both)).json()["kind"] == kind
    both = bearer("wrong") | {"x-api-key": OWNER}
    assert (await door.client.get("/api/v1/key", headers=both)).status_code == 401


async def test_the_owner_key_has_no_limits_and_no_headers_that_tell_of_them(door: Door) -> None:
    key = await door.mint("limited")
    for secret, told in ((key, True), (OWNER, False)):
        answer = await door.client.get("/api/v1/models", headers=bearer(secret))
        assert any(name.startswith("x-ratelimit-") for name in answer.headers) is told


async def test_no_page_of_another_site_is_allowed_to_read_an_answer(tmp_path: Path) -> None:
    asked = {"Origin": "https://other.test", "Access-Control-Request-Method": "POST"}
    async with front_door(tmp_path) as door:
        before = await door.client.request("OPTIONS", "/api/v1/chat/completions", headers=asked)
        answer = await door.client.get("/api/v1/models", headers=bearer(OWNER) | asked)
    assert (before.status_code, answer.status_code) == (405, 200)
    for each in (before, answer):
        assert not [name for name in each.headers if name.startswith("access-control-")]


async def test_basic_alone_is_no_key_and_keeps_none_from_counting(door: Door) -> None:
    basic = {"Authorization": "Basic dXNlcjpwYXNz"}
    without = await door.client.get("/api/v1/key")
    answer = await door.client.get("/api/v1/key", headers=basic)
    assert (answer.status_code, answer.json()) == (401, without.json())
    answer = await door.client.get("/api/v1/key", headers=basic | {"x-api-key": OWNER})
    assert answer.json()["kind"] == "owner"


async def test_an_answer_that_is_no_completion_is_a_502(upstream: FakeUpstream, door: Door) -> None:
    upstream.plan(
        document(b"<html>oops http://10.0.0.1/</html>", headers={"content-type": "text/html"})
    )
    answer = await door.chat("Hi")
    assert answer.status_code == 502
    assert answer.json()["error"]["type"] == "upstream_error"
    assert "10.0.0.1" not in answer.text and "html" not in answer.text
