"""What the gateway writes into requests is refused once: what upstreams take is remembered."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from support.fakes.upstream import (
    Answer,
    FakeUpstream,
    Pause,
    Request,
    answer_as_asked,
    chunk,
    completion,
    event,
    refusal,
    streaming,
)
from support.front_door import MODEL, Door

from workers.catalog.catalog import Deployment
from workers.catalog.learnt import lesson_of
from workers.catalog.quirks import Quirks
from workers.errors import UpstreamRejected
from workers.request.chat_request import parse_chat


def rejecting(*members: str) -> Any:
    """Plan an upstream that refuses these members by name, like servers with strict schemas."""

    def answer(request: Request) -> Answer:
        for member in members:
            if member in request.json:
                words = f"Unsupported parameter: '{member}' is not supported with this model."
                error = {"message": words, "type": "invalid_request_error", "param": member}
                return refusal(400, {"error": error | {"code": "unsupported_parameter"}})
        return answer_as_asked(request)

    return answer


@pytest.mark.parametrize(
    "members",
    [("stream_options",), ("max_completion_tokens",), ("stream_options", "max_completion_tokens")],
    ids="+".join,
)
async def test_an_added_member_that_is_refused_is_left_out_and_that_is_remembered(
    upstream: FakeUpstream, door: Door, members: tuple[str, ...]
) -> None:
    key = await door.mint(limits={"budget_microusd": 10_000_000})
    upstream.plan(rejecting(*members))
    for _ in range(3):
        assert "[DONE]" in await door.stream_text(key=key)
    assert len(upstream.requests) == 3 + len(members)
    for request in upstream.requests[-3:]:
        assert not set(members) & set(request.json)
        assert "max_tokens" in request.json
    rows = await door.usage_rows(3)
    assert [len(row.attempts or ()) for row in reversed(rows)] == [1 + len(members), 0, 0]


def gpt5(most: int = 4096) -> Any:
    """Plan an upstream that takes one member for the cap, as OpenAI's newer models do."""

    def answer(request: Request) -> Answer:
        asked = request.json
        if "max_tokens" in asked:
            words = "Unsupported parameter: 'max_tokens' is not supported with this model. Use"
            words += " 'max_completion_tokens' instead."
            if "max_completion_tokens" in asked:
                words = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not"
                words += " supported."
            error = {"message": words, "param": "max_tokens", "code": "invalid_parameter"}
            return refusal(400, {"error": error})
        if asked.get("max_completion_tokens", 0) > most:
            return too_large("max_completion_tokens", asked["max_completion_tokens"], most)
        return answer_as_asked(request)

    return answer


def too_large(member: str, sent: int, most: int) -> Answer:
    """Return the refusal of a cap as OpenAI words it."""
    words = f"{member} is too large: {sent}. This model supports at most {most} completion tokens,"
    words += f" whereas you provided {sent}."
    return refusal(400, {"error": {"message": words, "param": member, "code": "invalid_value"}})


async def learnt(door: Door) -> list[str]:
    """Return what the health API says that was learnt of the only deployment."""
    health = (await door.get("/api/v1/health")).json()
    (model,) = [one for one in health["models"] if one["id"] == MODEL]
    return list(model["deployments"][0]["learnt"])


async def test_a_cap_that_the_client_never_sent_is_lowered_to_what_the_upstream_takes(
    upstream: FakeUpstream, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    key = await door.mint(limits={"budget_microusd": 10_000_000})
    upstream.plan(gpt5(most=4096))
    assert await learnt(door) == []
    for stream in (True, False, True):
        assert (await door.chat(key=key, stream=stream)).status_code == 200
    sent = [one.json.get("max_completion_tokens") for one in upstream.requests]
    assert sent == [8192, 8192, 4096, 4096, 4096]
    assert [("max_tokens" in one.json) for one in upstream.requests] == [True, *[False] * 4]
    assert await learnt(door) == [
        'max_tokens_field = "max_completion_tokens"',
        "max_output_tokens = 4096",
    ]
    lines = [line for line in caplog.messages if "set max_output_tokens = 4096" in line]
    assert len(lines) == 1
    # A cap of the client is the client's: it is not changed, and its refusal is passed on.
    refused = await door.chat(key=key, max_tokens=5000)
    assert (refused.status_code, "5000" in refused.text) == (400, True)
    assert (await door.chat(key=key, max_tokens=20)).status_code == 200
    assert [one.json["max_completion_tokens"] for one in upstream.requests[-2:]] == [5000, 20]


async def test_no_cap_is_sent_to_an_upstream_that_does_not_say_how_many_tokens_it_takes(
    upstream: FakeUpstream, door: Door
) -> None:
    def answer(request: Request) -> Answer:
        if request.json.get("max_tokens", 0) > 100:
            return refusal(400, {"error": {"message": "max_tokens is too large"}})
        return answer_as_asked(request)

    key = await door.mint(limits={"budget_microusd": 10_000_000})
    upstream.plan(answer)
    for _ in range(2):
        assert (await door.chat(key=key)).status_code == 200
    assert [one.json.get("max_tokens") for one in upstream.requests] == [8192, None, None]
    assert await learnt(door) == ["max_output_tokens < 8192"]
    # Smaller caps still bind: a limit may depend on them.
    few = await door.mint(limits={"tokens_per_minute": 80})
    assert (await door.chat(key=few)).status_code == 200
    assert 0 < upstream.requests[-1].json["max_tokens"] < 80


async def test_a_cap_that_does_not_fit_beside_one_prompt_is_lowered_for_that_request_alone(
    upstream: FakeUpstream, door: Door
) -> None:
    words = (
        "This model's maximum context length is 9000 tokens. However, you requested 9192 tokens"
        " (1000 in the messages, 8192 in the completion)."
    )
    key = await door.mint(limits={"budget_microusd": 10_000_000})
    upstream.plan(refusal(400, {"error": {"message": words}}), completion())
    for _ in range(2):
        assert (await door.chat(key=key)).status_code == 200
    assert [one.json["max_tokens"] for one in upstream.requests] == [8192, 8000, 8192]
    assert await learnt(door) == []


async def test_what_was_learnt_is_learnt_anew_when_it_is_refused(
    upstream: FakeUpstream, door: Door
) -> None:
    key = await door.mint(limits={"budget_microusd": 10_000_000})
    upstream.plan(rejecting("max_tokens"))
    assert (await door.chat(key=key)).status_code == 200
    upstream.plan(rejecting("max_completion_tokens"))
    for _ in range(2):
        assert (await door.chat(key=key)).status_code == 200
    assert await learnt(door) == ['max_tokens_field = "max_tokens"']
    upstream.plan(rejecting("max_completion_tokens", "max_tokens"))
    before = len(upstream.requests)
    assert (await door.chat(key=key)).status_code == 400
    assert len(upstream.requests) == before + 2


async def test_what_was_learnt_is_remembered_though_the_client_leaves(
    upstream: FakeUpstream, door: Door
) -> None:
    hold = asyncio.Event()
    pieces: list[bytes | Pause] = [event(chunk({"content": "x"})), Pause(hold)]
    key = await door.mint(limits={"budget_microusd": 10_000_000})
    refused = {"error": {"message": "Unsupported parameter: 'max_tokens' is not supported."}}
    upstream.plan(refusal(400, refused), streaming(pieces), completion())
    async with door.stream(key=key) as response:
        await anext(response.aiter_text())
    assert (await door.chat(key=key)).status_code == 200
    assert "max_tokens" not in upstream.requests[2].json


async def test_a_member_of_the_client_that_is_refused_is_the_clients_error(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(rejecting("max_tokens"))
    for _ in range(2):
        answer = await door.chat(max_tokens=5)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "max_tokens")
    assert len(upstream.requests) == 2


async def test_options_that_a_client_adds_do_not_end_the_reports_of_usage_for_all(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(rejecting("stream_options"), answer_as_asked)
    answer = await door.chat(stream=True, stream_options={"include_usage": True, "foo": 1})
    assert answer.status_code == 400
    await door.stream_text()
    assert [("stream_options" in request.json) for request in upstream.requests] == [True, True]


async def test_nothing_is_remembered_of_an_upstream_that_refuses_the_second_try_too(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(rejecting("stream_options", "messages"))
    for count in (2, 4):
        assert (await door.chat(stream=True)).status_code == 400
        assert len(upstream.requests) == count
    assert "stream_options" in upstream.requests[2].json


@pytest.mark.parametrize(
    ("stated", "assumed", "refused", "renamed"),
    [
        ("", False, "max_tokens", "max_completion_tokens"),
        ("both", False, "max_completion_tokens", "max_tokens"),
        ("max_completion_tokens", True, "max_completion_tokens", "max_tokens"),
        ("max_completion_tokens", True, "max_tokens", None),  # it was not sent
        ("max_completion_tokens", False, "max_completion_tokens", None),  # the owner says so
    ],
)
def test_what_the_owner_states_about_the_cap_counts_before_what_a_refusal_says(
    stated: Any, assumed: bool, refused: str, renamed: str | None
) -> None:
    deployment = Deployment(
        "m@up",
        "openai",
        "https://up.example/v1",
        "m",
        quirks=Quirks(max_tokens_field=stated),
        cap_field_assumed=assumed,
    )
    message = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    request = parse_chat(msgspec.json.encode(message))
    request.cap, request.cap_is_added = 100, True
    error = UpstreamRejected()
    error.refused_member = refused
    lesson = lesson_of(deployment, request, error)
    assert (lesson.changes if lesson else None) == (renamed and {"max_tokens_field": renamed})
