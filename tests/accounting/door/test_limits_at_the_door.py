"""Limits of keys, seen from outside: exact under parallelism, refunded when nothing was done."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.fakes.upstream import (
    USAGE,
    FakeUpstream,
    Pause,
    chunk,
    completion,
    event,
    refusal,
    streaming,
)
from support.front_door import MODEL, OWNER, Door, bearer, front_door
from support.waiting import PATIENCE_S

SIX = [
    f"x-ratelimit-{what}-{kind}"
    for what in ("limit", "remaining", "reset")
    for kind in ("requests", "tokens")
]


async def test_two_hundred_parallel_requests_against_a_limit_admit_exactly_the_limit(
    upstream: FakeUpstream, door: Door
) -> None:
    key = await door.mint(limits={"requests_per_minute": 10})  # one more comes back every 6 s
    answers = await asyncio.gather(*(door.chat(key=key) for _ in range(200)))
    assert Counter(answer.status_code for answer in answers) == {200: 10, 429: 190}
    assert len(upstream.requests) == 10
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert refused.json()["error"]["type"] == "requests"
    assert 1 <= int(refused.headers["retry-after"]) <= 6
    assert int(refused.headers["retry-after-ms"]) <= 6000
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"


async def test_every_answer_of_a_limited_key_carries_true_headers(door: Door) -> None:
    key = await door.mint(limits={"requests_per_minute": 10, "tokens_per_minute": 1000})
    first = await door.chat(key=key)
    assert all(name in first.headers for name in SIX)
    assert first.headers["x-ratelimit-remaining-requests"] == "9"
    second = await door.get("/api/v1/models", key)
    assert second.headers["x-ratelimit-remaining-requests"] == "9"
    assert second.headers["x-ratelimit-remaining-tokens"] == str(1000 - 18)
    wrong = await door.chat(key=key, messages=[])
    assert wrong.status_code == 400 and wrong.headers["x-ratelimit-remaining-requests"] == "9"
    async with door.stream(key=key) as response:
        await response.aread()
    assert response.headers["x-ratelimit-remaining-requests"] == "8"
    missing = await door.get("/api/v1/models/no/such", key)
    assert missing.status_code == 404 and all(name in missing.headers for name in SIX)
    owner = await door.chat()
    assert not any(name in owner.headers for name in SIX)


async def test_new_keys_get_sixty_requests_a_minute_unless_told_otherwise(door: Door) -> None:
    key = await door.mint()
    assert (await door.chat(key=key)).headers["x-ratelimit-limit-requests"] == "60"
    free = await door.mint(limits={"requests_per_minute": None})
    assert "x-ratelimit-limit-requests" not in (await door.chat(key=free)).headers


async def test_a_failed_request_gives_back_its_tokens_and_money_but_stays_counted(
    upstream: FakeUpstream, door: Door
) -> None:
    limits = {"requests_per_minute": 5, "tokens_per_minute": 5_000, "budget_microusd": 1_000_000}
    key = await door.mint(limits=limits)
    upstream.plan(refusal(500))
    for _ in range(4):
        assert (await door.chat(key=key)).status_code == 502
    upstream.plan(completion())
    answer = await door.chat(key=key)
    assert answer.status_code == 200
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert (await door.chat(key=key)).status_code == 429
    left = (await door.get("/api/v1/key", key)).json()["remaining"]["budget"]
    assert left["reserved_microusd"] == 0
    assert left["spent_microusd"] == 11 * 1 + 7 * 2


@pytest.mark.parametrize("reported", [None, USAGE], ids=["no usage", "usage"])
async def test_a_request_that_delivered_nothing_costs_what_its_upstreams_report(
    upstream: FakeUpstream, door: Door, reported: dict[str, Any] | None
) -> None:
    begun = event(chunk({"content": "lost"}, usage=reported))
    failing = event({"error": {"message": "x", "type": "overloaded_error"}})
    limits = {"requests_per_minute": 5, "tokens_per_minute": 5000, "budget_microusd": 1_000_000}
    made = await door.mint_key(limits=limits)
    upstream.plan(streaming([begun + failing]))
    refused = await door.chat(key=made["key"], stream=True)
    assert refused.status_code == 503
    told = await door.get("/api/v1/key", made["key"])
    assert told.headers["x-ratelimit-remaining-requests"] == "4"
    # Without a report it is free; what each attempt's upstream reports, it bills.
    times = len(upstream.requests) if reported else 0
    assert told.headers["x-ratelimit-remaining-tokens"] == str(5000 - times * 18)
    cost = times * (11 * 1 + 7 * 2)
    assert told.json()["remaining"]["budget"]["spent_microusd"] == cost
    (row,) = await door.usage_rows()
    assert (row.status, row.prompt_tokens) == ("failed", times * 11 or None)
    assert (row.cost_microusd, row.estimated) == (cost, False)


async def test_the_tokens_of_a_stopped_answer_times_the_prices_are_what_it_costs(
    upstream: FakeUpstream, door: Door
) -> None:
    pieces: list[bytes | Pause] = [event(chunk({"content": "Once upon"})), Pause(asyncio.Event())]
    made = await door.mint_key(limits={"budget_microusd": 1_000_000})
    upstream.plan(streaming(pieces))
    async with door.stream(key=made["key"]) as response:
        await anext(response.aiter_text())
    (row,) = await door.usage_rows()
    assert row.estimated and row.prompt_tokens and row.completion_tokens
    assert row.cost_microusd == row.prompt_tokens * 1 + row.completion_tokens * 2
    (summed,) = (await door.get(f"/api/v1/usage?group_by=key&key={made['id']}")).json()["data"]
    assert summed["cost_microusd"] == summed["prompt_tokens"] + 2 * summed["completion_tokens"]
    assert summed["estimated_tokens"] == row.prompt_tokens + row.completion_tokens


async def test_concurrency_counts_what_runs_and_frees_at_the_end(
    upstream: FakeUpstream, door: Door
) -> None:
    hold = asyncio.Event()
    pieces: list[bytes | Pause] = [
        event(chunk({"content": "x"})),
        Pause(hold),
        event(chunk(finish="stop")),
        event("[DONE]"),
    ]
    key = await door.mint(limits={"concurrent_requests": 1})
    upstream.plan(streaming(pieces), completion())
    async with door.stream(key=key) as response:
        await anext(response.aiter_text())
        refused = await door.chat(key=key)
        assert refused.status_code == 429 and "retry-after" in refused.headers
        hold.set()
    async with asyncio.timeout(PATIENCE_S):
        while (await door.chat(key=key)).status_code != 200:
            await asyncio.sleep(0.02)


async def test_parallel_requests_cannot_overspend_a_budget(
    upstream: FakeUpstream, door: Door
) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 1000, "total_tokens": 1010}
    upstream.plan(completion(usage=usage))
    limits = {"requests_per_minute": None, "budget_microusd": 20_000, "budget_period": "total"}
    key = await door.mint(limits=limits)
    for _ in range(3):
        answers = await asyncio.gather(*(door.chat(key=key, max_tokens=1000) for _ in range(30)))
        refused = [one for one in answers if one.status_code == 429]
        codes = {one.json()["error"]["code"] for one in refused}
        assert codes <= {"rate_limit_exceeded", "insufficient_quota"}
    spent = (await door.get("/api/v1/key", key)).json()["remaining"]["budget"]["spent_microusd"]
    assert 15_000 <= spent <= 20_000
    assert spent == len(upstream.requests) * 2010


async def test_a_budget_that_others_hold_for_the_moment_is_a_short_wait(
    upstream: FakeUpstream, door: Door
) -> None:
    hold = asyncio.Event()
    rest = [event(chunk(finish="stop", usage=USAGE)), event("[DONE]")]
    key = await door.mint(limits={"budget_microusd": 3_000, "budget_period": "total"})
    upstream.plan(streaming([event(chunk({"content": "x"})), Pause(hold), *rest]), completion())
    async with door.stream(key=key, max_tokens=1000) as response:
        text = response.aiter_text()
        await anext(text)
        refused = await door.chat(key=key, max_tokens=1000)
        assert refused.status_code == 429
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert refused.headers["retry-after"] == "1"
        assert "x-should-retry" not in refused.headers
        never = await door.chat(key=key, max_tokens=2000)
        assert never.status_code == 429
        assert never.json()["error"]["code"] == "insufficient_quota"
        assert "can never fit" in never.json()["error"]["message"]
        assert never.headers["x-should-retry"] == "false"
        assert "retry-after" not in never.headers
        hold.set()
        async for _ in text:
            pass
    assert (await door.chat(key=key, max_tokens=1000)).status_code == 200
    assert len(upstream.requests) == 2


async def test_limits_survive_a_restart(tmp_path: Path) -> None:
    async with FakeUpstream() as upstream:
        async with front_door(tmp_path, upstream) as door:
            # A restart takes real time, and a limit of one comes back after a minute.
            key = await door.mint(limits={"requests_per_minute": 1})
            assert [(await door.chat(key=key)).status_code for _ in range(2)] == [200, 429]
        async with front_door(tmp_path, upstream) as door:
            assert (await door.chat(key=key)).status_code == 429


async def test_usage_reports_what_was_used_per_key_model_and_day(door: Door) -> None:
    made = await door.mint_key("team a")
    for _ in range(3):
        await door.chat(key=made["key"])
    await door.chat()
    await door.usage_rows(4)
    usage = (await door.get("/api/v1/usage")).json()
    assert {row["key_name"]: row["requests"] for row in usage["data"]} == {
        "team a": 3,
        "Owner": 1,
    }
    mine = next(row for row in usage["data"] if row["key_id"] == made["id"])
    assert (mine["prompt_tokens"], mine["completion_tokens"], mine["cost_microusd"]) == (
        33,
        21,
        75,
    )
    assert mine["model"] == MODEL
    table = await door.get("/api/v1/usage?format=csv&group_by=key")
    assert table.headers["content-type"].startswith("text/csv")
    head = table.text.splitlines()[0]
    assert head.startswith("key_name,requests,failed,prompt_tokens")
    nobody = await door.get("/api/v1/usage?format=csv&group_by=key&key=nobody")
    assert nobody.text.splitlines() == [head], "a table without rows has the same columns"
    total = (await door.get("/api/v1/usage?group_by=model")).json()["data"]
    assert [row["requests"] for row in total] == [4]
    refused = await door.client.get("/api/v1/usage", headers=bearer(made["key"]))
    assert refused.status_code == 403 and refused.json()["error"]["code"] == "permission_denied"
    for wrong in (
        "start=x",
        "group_by=colour",
        "format=xml",
        "nope=1",
        "start=2026-02-01&end=2026-01-01",
    ):
        answer = await door.client.get(f"/api/v1/usage?{wrong}", headers=bearer(OWNER))
        assert answer.status_code == 400 and answer.json()["error"]["param"]


PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}


@pytest.mark.parametrize(("quirks", "status"), [("", 200), ("picture_tokens = 50_000", 429)])
async def test_a_budget_reserves_what_a_picture_can_cost_at_this_deployment(
    tmp_path: Path, upstream: FakeUpstream, quirks: str, status: int
) -> None:
    async with front_door(tmp_path, upstream, quirks=quirks) as door:
        key = await door.mint(limits={"budget_microusd": 100_000})
        plain = await door.chat("Hi", key=key, max_tokens=10)
        assert plain.status_code == 200
        pictures = await door.chat([PICTURE, PICTURE], key=key, max_tokens=10)
        assert pictures.status_code == status, pictures.text


async def test_what_a_deployment_adds_to_a_request_is_estimated_too(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    upstream.plan(completion("Hello", usage=None))
    added = "x" * 40_000
    async with front_door(tmp_path, upstream, quirks=f'add_fields = {{ a = "{added}" }}') as door:
        key = await door.mint(limits={"budget_microusd": 10_000_000})
        assert (await door.chat("Hi", key=key, max_tokens=10)).status_code == 200
        (row,) = await door.usage_rows()
    assert row.estimated
    assert row.prompt_tokens is not None and row.prompt_tokens >= len(added) // 4
    assert row.cost_microusd is not None and row.cost_microusd >= len(added), "a token a byte"
