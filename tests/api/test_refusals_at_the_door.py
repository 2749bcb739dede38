"""What upstreams refuse reaches clients as the right error, with the headers that SDKs read."""

from __future__ import annotations

import json

import pytest
from support.fakes.upstream import Answer, FakeUpstream
from support.front_door import Door
from support.inputs.upstream_refusals import REFUSALS, RefusalRow

BY_NAME = {row.name: row for row in REFUSALS}
ABOUT_REQUESTS = [row for row in REFUSALS if row.becomes == 400]
OTHERS = (
    "openai wrong key",
    "openai empty account",
    "openai tokens per minute",
    "openai overloaded",
    "gemini retry info",
    "moonshot rate",
    "anthropic overloaded with a wait",
    "nginx bad gateway",
    "cloudflare block",
    "brotli",
)


def answer_of(row: RefusalRow) -> Answer:
    """Return the refusal as the upstream sends it."""
    headers = {"content-type": "application/json"} | dict(row.headers)
    return Answer(status=row.status, headers=headers, pieces=[row.body], framing="length")


async def check(row: RefusalRow, upstream: FakeUpstream, door: Door, *, stream: bool) -> None:
    """Send a request that the upstream refuses, and check the whole answer.

    It does not wait until the upstream may be asked again.
    """
    upstream.plan(answer_of(row))
    answer = await door.chat(stream=stream, max_wait_s=0.1)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (row.becomes, row.code), row.name
    assert row.says in error["message"]
    retry = None if row.should_retry is None else str(row.should_retry).lower()
    assert answer.headers.get("x-should-retry") == retry, row.name
    assert ("retry-after" in answer.headers) == (row.wait_s is not None), row.name
    shown = json.dumps(error, ensure_ascii=False) + str(answer.headers)
    for part in row.never:
        assert part not in shown, row.name


async def test_every_refusal_of_a_request_is_a_400_that_is_not_retried(
    upstream: FakeUpstream, door: Door
) -> None:
    assert len(ABOUT_REQUESTS) > 60
    for number, row in enumerate(ABOUT_REQUESTS):
        await check(row, upstream, door, stream=number % 2 == 0)


@pytest.mark.parametrize("name", OTHERS)
async def test_other_refusals_say_whether_and_when_to_try_again(
    upstream: FakeUpstream, door: Door, name: str
) -> None:
    await check(BY_NAME[name], upstream, door, stream=False)
