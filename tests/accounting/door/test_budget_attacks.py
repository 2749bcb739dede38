"""No trick spends more than a key's budget or tokens, in 200 requests at once.

The upstream bills a token for every byte and answers as long as it is let; its bill is compared
with the budget. Each row is one way to be billed more than the gateway counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.fakes.answers import Pause
from support.fakes.billing import Bill, dense
from support.fakes.upstream import FakeUpstream
from support.front_door import Door, front_door, request_body
from support.plain_http import CHAT, ask, request

MANY = 200
BUDGET = 200_000
BOTH = ("max_tokens", "max_completion_tokens")

BODIES: dict[str, dict[str, Any]] = {
    "no cap": {},
    "the other cap": {"max_completion_tokens": 1},
    "the older cap": {"max_tokens": 1},
    "two caps": {"max_tokens": 1, "max_completion_tokens": 2000},
    "a negative cap": {"max_tokens": -1},
    "no cap of 0": {"max_completion_tokens": 0},
    "a null cap": {"max_tokens": None},
    "many choices": {"max_tokens": 500, "n": 8},
    "many choices without a cap": {"n": 128},
    "dense text": {"content": dense(20_000), "max_tokens": 10},
    "a long schema": {
        "max_tokens": 10,
        "response_format": {"type": "json_schema", "json_schema": {"x": dense(20_000)}},
    },
    "a long tool": {
        "max_tokens": 10,
        "tools": [{"type": "function", "function": {"name": "f", "description": dense(20_000)}}],
    },
    "a long unknown member": {"max_tokens": 10, "instructions": dense(20_000)},
    "a long tool call": {
        "max_tokens": 10,
        "messages": [
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "a",
                        "type": "function",
                        "function": {"name": "f", "arguments": dense(20_000)},
                    }
                ],
            },
        ],
    },
    "a long file": {
        "max_tokens": 10,
        "content": [{"type": "file", "file": {"file_data": dense(20_000), "filename": "a"}}],
    },
    "a document as a picture": {
        "max_tokens": 10,
        "content": [
            {
                "type": "image_url",
                "image_url": {"url": "data:application/pdf;base64," + "QUJD" * 5000},
            }
        ],
    },
}


@contextlib.asynccontextmanager
async def billed(
    path: Path, bill: Bill, limits: dict[str, int], quirks: str = "", **options: Any
) -> AsyncIterator[tuple[Door, dict[str, Any]]]:
    """Run a gateway in front of an upstream that bills; give it and a key with these limits."""
    async with FakeUpstream() as upstream:
        upstream.plan(bill)
        async with front_door(path, upstream, quirks=quirks, **options) as door:
            yield door, await door.mint_key(limits=limits)


async def ask_at_once(door: Door, key: str, **body: Any) -> list[int]:
    """Send a request 200 times at once; return the statuses of the answers."""
    data = json.dumps(request_body(**body)).encode()
    whole = request("POST", CHAT, data, "X-Roxy-Max-Wait: 120", key=key)
    answers = await asyncio.gather(*(ask(door.port, whole) for _ in range(MANY)))
    statuses = [answer.status for answer in answers]
    assert set(statuses) <= {200, 402, 429}
    return statuses


async def spent(door: Door, key: str) -> int:
    budget = (await door.get("/api/v1/key", key)).json()["remaining"]["budget"]
    assert budget["reserved_microusd"] == 0
    return int(budget["spent_microusd"])


WAYS = [
    *((name, "max_tokens", "", False) for name in BODIES),
    *((name, "max_completion_tokens", "", True) for name in BODIES),
    *(
        (name, field, f'max_tokens_field = "{field}"', True)
        for name in ("no cap", "the other cap", "the older cap")
        for field in BOTH
    ),
]


@pytest.mark.parametrize(("name", "cap_field", "quirks", "stream"), WAYS)
async def test_the_bill_of_200_requests_at_once_stays_within_the_budget(
    tmp_path: Path, name: str, cap_field: str, quirks: str, stream: bool
) -> None:
    bill = Bill(cap_field=cap_field)
    async with billed(tmp_path, bill, {"budget_microusd": BUDGET}, quirks) as (door, key):
        statuses = await ask_at_once(door, key["key"], stream=stream, **BODIES[name])
        assert statuses.count(200) == len(bill.requests)
        assert 0 < bill.total_microusd <= BUDGET
        # What was sent upstream is charged to the last micro-dollar.
        assert await spent(door, key["key"]) == bill.total_microusd


@pytest.mark.parametrize("name", ["no cap", "dense text", "a long schema", "a long file"])
async def test_without_a_report_the_charge_is_no_less_than_the_bill_of_the_prompt(
    tmp_path: Path, name: str
) -> None:
    bill = Bill(completion_microusd=0.0, reports=False)
    async with billed(tmp_path, bill, {"budget_microusd": BUDGET}) as (door, key):
        await ask_at_once(door, key["key"], **BODIES[name])
        assert 0 < bill.total_microusd <= BUDGET
        assert await spent(door, key["key"]) >= bill.total_microusd


@pytest.mark.parametrize("stream", [False, True])
async def test_failures_that_are_billed_do_not_pass_the_budget(
    tmp_path: Path, stream: bool
) -> None:
    bills = [Bill(fails=True), Bill(fails=True), Bill()]
    async with contextlib.AsyncExitStack() as stack:
        upstreams = [await stack.enter_async_context(FakeUpstream()) for _ in bills]
        for upstream, bill in zip(upstreams, bills, strict=True):
            upstream.plan(bill)
        door = await stack.enter_async_context(front_door(tmp_path, *upstreams))
        key = await door.mint(limits={"budget_microusd": BUDGET, "requests_per_minute": None})
        data = json.dumps(request_body(max_tokens=2000, stream=stream)).encode()
        whole = request("POST", CHAT, data, "X-Roxy-Max-Wait: 120", key=key)
        answers = await asyncio.gather(*(ask(door.port, whole) for _ in range(MANY)))
        assert {answer.status for answer in answers} <= {200, 429, 502}
        total = sum(bill.total_microusd for bill in bills)
        assert 0 < total <= BUDGET
        assert await spent(door, key) == total
        # The owner has no budget: the next deployment answers.
        assert (await door.chat(stream=stream)).status_code == 200


async def leave_at(door: Door, key: str, mark: str) -> bool:
    """Read a stream until it contains `mark`, then hang up; return whether it was admitted."""
    async with door.stream(key=key, max_tokens=400) as response:
        text = ""
        async for piece in response.aiter_text():
            text += piece
            if mark in text:
                break
        return response.status_code == 200


async def test_clients_that_leave_at_the_finish_reason_pay_what_the_upstream_bills(
    tmp_path: Path,
) -> None:
    left = asyncio.Event()
    bill = Bill(usage_after=Pause(left))
    settings = "[stream]\nusage_wait_s = 60"
    async with billed(tmp_path, bill, {"budget_microusd": BUDGET}, settings=settings) as opened:
        door, key = opened
        reads = [leave_at(door, key["key"], '"finish_reason":"stop"') for _ in range(MANY)]
        admitted = sum(await asyncio.gather(*reads))
        left.set()
        assert admitted == len(bill.requests)
        await door.usage_rows(admitted)
        assert 0 < bill.total_microusd <= BUDGET
        assert await spent(door, key["key"]) == bill.total_microusd


async def test_clients_that_leave_at_the_first_text_cannot_pass_the_budget(tmp_path: Path) -> None:
    bill = Bill(usage_after=Pause(asyncio.Event()), completion_microusd=0.0)
    async with billed(tmp_path, bill, {"budget_microusd": BUDGET}) as (door, key):
        for _ in range(3):  # what the first have reserved comes back, and must have been charged
            reads = [leave_at(door, key["key"], '"content":"x"') for _ in range(MANY)]
            await asyncio.gather(*reads)
        assert 0 < bill.total_microusd <= BUDGET


async def test_a_token_limit_admits_no_more_than_it_says(tmp_path: Path) -> None:
    for number, body in enumerate((BODIES["no cap"], BODIES["the other cap"], {"n": 3})):
        bill, path = Bill(), tmp_path / str(number)
        path.mkdir()
        async with billed(path, bill, {"tokens_per_minute": 1_000}) as (door, key):
            await ask_at_once(door, key["key"], **body)
            answered = sum(
                asked.get("max_tokens", 0) * (asked.get("n") or 1) for asked in bill.requests
            )
            assert 0 < answered <= 1_000
            # The prompts' true tokens count too, so that the key may owe some, but not for long.
            left = (await door.get("/api/v1/key", key["key"])).json()["remaining"]
            assert left["tokens"]["reset_s"] <= 120


@pytest.mark.parametrize("caps", [(50, 20), (20, 50), (-1, 20), (20, 0)])
async def test_the_smaller_of_two_caps_holds_whatever_the_upstream_reads(
    tmp_path: Path, caps: tuple[int, int]
) -> None:
    bill = Bill()
    async with billed(tmp_path, bill, {"budget_microusd": BUDGET}) as (door, key):
        await door.chat(key=key["key"], **dict(zip(BOTH, caps, strict=True)))
        assert [bill.requests[0].get(name) for name in BOTH] == [20, 20]


async def test_a_key_without_limits_of_tokens_or_money_sends_its_request_as_it_is(
    tmp_path: Path,
) -> None:
    bill = Bill()
    async with billed(tmp_path, bill, {"requests_per_minute": 1_000}) as (door, key):
        await door.chat(key=key["key"])
        await door.chat(key=key["key"], max_completion_tokens=7)
    assert not any(name in bill.requests[0] for name in BOTH)
    assert "max_tokens" not in bill.requests[1]
    assert bill.requests[1]["max_completion_tokens"] == 7
