"""What an upstream reports with its failure is billed by it, so it is booked, once."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.fakes.upstream import (
    USAGE,
    FakeUpstream,
    chunk,
    completion,
    document,
    event,
    refusal,
    streaming,
)
from support.front_door import Door, front_door
from support.waiting import soon

if TYPE_CHECKING:
    from support.fakes.answers import Answer

ERROR = {"message": "The model crashed.", "type": "server_error", "param": None, "code": None}
USED = (USAGE["prompt_tokens"], USAGE["completion_tokens"])
BUDGET = 10_000_000

FAILED: dict[str, tuple[bool, Answer]] = {
    "beside the error": (False, refusal(500, {"error": ERROR, "usage": USAGE})),
    "inside the error": (False, refusal(502, {"error": ERROR | {"metadata": {"usage": USAGE}}})),
    "with a 400": (True, refusal(400, {"error": ERROR, "usage": USAGE})),
    "with status 200": (False, document({"error": ERROR, "usage": USAGE})),
    "without choices": (False, document({"id": "a", "choices": [], "usage": USAGE})),
    "in an event": (True, streaming([event({"error": ERROR, "usage": USAGE})])),
    "before the error": (
        True,
        streaming([event(chunk(choices=[], usage=USAGE)), event({"error": ERROR})]),
    ),
    "after the error": (
        True,
        streaming([event({"error": ERROR}) + event(chunk(choices=[], usage=USAGE))]),
    ),
    "of an empty stream": (
        True,
        streaming([event(chunk(choices=[], usage=USAGE)), event("[DONE]")]),
    ),
}


@pytest.mark.parametrize("name", FAILED)
async def test_usage_that_comes_with_a_failure_is_booked(
    upstream: FakeUpstream, door: Door, name: str
) -> None:
    stream, answer = FAILED[name]
    upstream.plan(answer)
    key = await door.mint(limits={"budget_microusd": BUDGET})
    response = await door.chat(key=key, stream=stream)
    assert response.status_code >= 400, response.text
    (row,) = await door.usage_rows()
    assert (row.status, row.prompt_tokens, row.completion_tokens) == ("failed", *USED)
    assert not row.estimated
    assert row.cost_microusd
    budget = (await door.get("/api/v1/key", key)).json()["remaining"]["budget"]
    assert budget["spent_microusd"] == row.cost_microusd
    assert budget["reserved_microusd"] == 0


@pytest.mark.parametrize(
    "answer",
    [
        refusal(500),
        refusal(429, {"error": ERROR, "usage": USAGE}, headers={"retry-after": "3600"}),
        refusal(400, {"error": ERROR | {"n_prompt_tokens": 9000, "n_ctx": 8192}}),
    ],
    ids=["nothing", "a limit's counts", "counts of a prompt that is too long"],
)
async def test_a_failure_that_reports_no_use_is_free(
    upstream: FakeUpstream, door: Door, answer: Any
) -> None:
    upstream.plan(answer)
    assert (await door.chat()).status_code >= 400
    (row,) = await door.usage_rows()
    assert (row.status, row.prompt_tokens, row.cost_microusd) == ("failed", None, 0)


async def test_the_failed_attempt_and_the_answer_of_the_next_deployment_are_both_booked(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(FakeUpstream())
        second = await stack.enter_async_context(FakeUpstream())
        door = await stack.enter_async_context(front_door(tmp_path, first, second))
        first.plan(refusal(500, {"error": ERROR, "usage": USAGE}))
        second.plan(completion("Hello", usage=USAGE))
        answer = await soon(door.chat())
        assert answer.status_code == 200
        assert answer.json()["usage"]["prompt_tokens"] == USED[0], "the client reads its answer's"
        (row,) = await door.usage_rows()
    assert (row.status, row.prompt_tokens, row.completion_tokens) == (
        "finished",
        2 * USED[0],
        2 * USED[1],
    )
