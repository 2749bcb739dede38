"""What an upstream states about money: key holders read it, guests do not."""

from __future__ import annotations

from typing import Any

import pytest
from support.fakes.upstream import (
    USAGE,
    FakeUpstream,
    chunk,
    completion,
    event,
    stream_of,
    streaming,
)
from support.front_door import OWNER, Door, bearer, parse_events, request_body, text_of
from support.visitors import guest

STATED: dict[str, Any] = {
    **USAGE,
    "cost": 0.0123,
    "cost_details": {"upstream_inference_cost": 0.0123},
    "is_byok": True,
}
GATEWAY = {"gateway": {"cost": "0.0123", "marketCost": "0.02", "generationId": "gen_1"}}


@pytest.mark.parametrize("stream", [False, True])
async def test_guests_get_no_costs_of_the_upstream(
    upstream: FakeUpstream, door: Door, stream: bool
) -> None:
    text = 'It says {"cost": 1}.'
    whole = completion(text, usage=STATED, message={"provider_metadata": GATEWAY})
    upstream.plan(stream_of([text, " Yes"], usage=STATED) if stream else whole)
    body = request_body("Hi", stream=stream)
    if stream:
        body["stream_options"] = {"include_usage": True}
    for headers, is_guest in ((bearer(OWNER), False), (guest(door), True)):
        answer = await door.client.post("/api/v1/chat/completions", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        parts = parse_events(answer.text)[:-1] if stream else [answer.json()]
        usage = parts[-1]["usage"]
        assert usage["prompt_tokens"] == USAGE["prompt_tokens"]
        assert usage["completion_tokens"] == USAGE["completion_tokens"]
        assert ("cost" in usage, "is_byok" in usage) == (not is_guest, not is_guest)
        assert ("0.0123" in answer.text) is not is_guest
        if stream:
            assert text_of(parse_events(answer.text)) == text + " Yes"
        else:
            assert parts[0]["choices"][0]["message"]["content"] == text
            assert "gen_1" in answer.text


async def test_a_cost_beside_the_text_is_not_sent_to_guests(
    upstream: FakeUpstream, door: Door
) -> None:
    """The Vercel AI Gateway states it in the last chunk with a choice."""
    first = chunk({"role": "assistant", "content": "Hello"})
    last = chunk({"content": "", "provider_metadata": GATEWAY}, finish="stop")
    upstream.plan(streaming([event(first), event(last), event("[DONE]")]))
    headers = guest(door)
    answer = await door.client.post(
        "/api/v1/chat/completions", json=request_body("Hi", stream=True), headers=headers
    )
    assert text_of(parse_events(answer.text)) == "Hello"
    assert "gen_1" in answer.text
    assert "0.0123" not in answer.text
    assert "0.02" not in answer.text
