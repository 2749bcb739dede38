"""An error before the first byte of a stream is a status, also for clients that get updates."""

from __future__ import annotations

from time import monotonic
from typing import Any

import pytest
from support.fakes.answers import refusal, stream_of
from support.fakes.upstream import FakeUpstream
from support.front_door import Door, front_door, parse_events, text_of
from support.kept import KEEP, UPDATES


@pytest.mark.parametrize("kept", [{}, KEEP])
@pytest.mark.parametrize(
    ("plan", "status"),
    [
        (refusal(400), 400),
        (refusal(429, headers={"retry-after": "3000"}), 429),
        (refusal(401), 502),
    ],
)
async def test_an_early_error_keeps_its_status_with_queue_updates(
    upstream: FakeUpstream, door: Door, plan: Any, status: int, kept: dict[str, str]
) -> None:
    upstream.plan(plan)
    async with door.stream(headers=UPDATES | kept) as response:
        body = await response.aread()
    assert response.status_code == status, body
    assert response.headers["content-type"].startswith("application/json")
    assert response.json()["error"]["message"]


@pytest.mark.gateway(settings="[stream]\nheartbeat_s = 5\n")
async def test_a_stream_that_would_wait_longer_than_its_head_gets_the_status_and_the_wait(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(refusal(429, headers={"retry-after": "30"}))
    began = monotonic()
    for _ in range(2):  # refused by the upstream, then while it cools
        async with door.stream() as response:
            body = await response.aread()
        assert response.status_code == 429, body
        lasted_s = monotonic() - began
        assert 30 - lasted_s <= int(response.headers["retry-after"]) <= 30
        assert "x-should-retry" not in response.headers, "SDKs try again after the wait"
    assert len(upstream.requests) == 1
    async with door.stream(headers=UPDATES) as response:
        assert response.status_code == 200
        assert ": queued position=1" in await anext(response.aiter_text()), "it waits, and says so"


async def test_a_second_attempt_begins_no_stream_either(tmp_path: Any) -> None:
    async with (
        FakeUpstream() as one,
        FakeUpstream() as two,
        front_door(tmp_path, one, two) as door,
    ):
        one.plan(refusal(500))
        two.plan(refusal(400))
        async with door.stream(headers=UPDATES) as response:
            await response.aread()
        assert response.status_code == 400
        two.plan(stream_of(["fine"]))
        async with door.stream(headers=UPDATES) as response:
            text = (await response.aread()).decode()
        assert response.status_code == 200
        events = [part for part in text.split("\n\n") if not part.startswith(":")]
        assert text_of(parse_events("\n\n".join(events))) == "fine"
