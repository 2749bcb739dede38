"""Lists of the owner that have pages: each page leads to the next, and together they have all."""

from __future__ import annotations

import csv
import io
import json
import time
from typing import Any

import pytest
from support.builders.rows import a_key, a_row
from support.fakes.upstream import FakeUpstream, completion
from support.front_door import OWNER, Door, bearer, request_body
from support.waiting import eventually

from server.store.rows import DAY_MARKS, Batch

KEYS = [a_key(number, name=f"{'shop' if number % 2 else 'lab'} {number}") for number in range(25)]
ABSURD = 2**53 - 1


async def page(door: Door, path: str) -> dict[str, Any]:
    """Return a page of a list."""
    answer = await door.get(f"/api/v1/{path}")
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def test_keys_come_in_pages_the_oldest_first(door: Door) -> None:
    await door.gateway.services.store.add_keys(KEYS)
    whole = await page(door, "keys")
    assert [key["id"] for key in whole["data"]] == [key.id for key in KEYS]
    assert whole["has_more"] is False
    assert (whole["first_id"], whole["last_id"]) == (KEYS[0].id, KEYS[-1].id)
    for size, pages in ((10, 3), (5, 5), (24, 2), (25, 1)):
        seen: list[dict[str, Any]] = []
        query = f"keys?limit={size}"
        for number in range(1, pages + 1):
            shown = await page(door, query)
            seen += shown["data"]
            assert shown["has_more"] is (number < pages)
            query = f"keys?limit={size}&after={shown['last_id']}"
        assert seen == whole["data"]
        assert (await page(door, query))["data"] == []


async def test_keys_are_searched(door: Door) -> None:
    await door.gateway.services.store.add_keys(KEYS)
    found = await page(door, "keys?search=SHOP&limit=5")
    assert [key["name"] for key in found["data"]] == [f"shop {n}" for n in (1, 3, 5, 7, 9)]
    assert found["has_more"] is True
    none = await page(door, "keys?search=%25")
    assert none == {
        "object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "after=key_unknown", "before=1", "order=desc"]
)
async def test_a_wrong_parameter_of_the_keys_is_a_400(door: Door, query: str) -> None:
    answer = await door.get(f"/api/v1/keys?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == query.partition("=")[0]


async def some_usage(door: Door) -> None:
    """Record the usage of four keys with two models on three days."""
    rows = [
        a_row(
            number,
            at=time.time() - number % 3 * 86_400,
            key_id=f"key_{number % 4}",
            model=("a,b", "=c")[number // 12],
            estimated=number % 4 == 0,
        )
        for number in range(24)
    ]
    await door.gateway.services.store.record(Batch(rows))


@pytest.mark.parametrize("groups", ["day,key,model", "key", "model,key", "day", "model", "key,day"])
async def test_usage_comes_in_pages_sorted_by_its_groups(door: Door, groups: str) -> None:
    await some_usage(door)
    whole = await page(door, f"usage?group_by={groups}")
    assert (whole["has_more"], whole["next"]) == (False, None)
    fields = [mark for mark in DAY_MARKS if mark.removesuffix("_id") in groups.split(",")]
    marks = [[row[field] for field in fields] for row in whole["data"]]
    assert marks == sorted(marks) and len(marks) > 1
    seen: list[dict[str, Any]] = []
    more = ""
    while True:
        shown = await page(door, f"usage?group_by={groups}&limit=2{more}")
        assert len(shown["data"]) <= 2
        seen += shown["data"]
        if not shown["has_more"]:
            break
        more = f"&after={shown['next']}"
    assert seen == whole["data"]
    assert sum(row["requests"] for row in seen) == 24
    assert sum(row["estimated_tokens"] for row in seen) == 6 * 30
    assert sum(row["estimated_cost_microusd"] for row in seen) == 6 * 50


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=10001", "after=x", "after=W10=", "after=WyJhIl0=", "after=bnVsbA=="]
)
async def test_a_wrong_page_of_usage_is_a_400(door: Door, query: str) -> None:
    answer = await door.get(f"/api/v1/usage?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == query.partition("=")[0]


async def test_a_long_csv_is_sent_in_pieces_and_has_every_row_once(door: Door) -> None:
    now = time.time()
    rows = [a_row(n, at=now, key_id=f"key_{n:05}", estimated=n == 7) for n in range(10_001)]
    await door.gateway.services.store.record(Batch(rows))
    answer = await door.get("/api/v1/usage?format=csv&group_by=key")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.headers["cache-control"] == "no-store"
    told = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["key_id"] for row in told] == [row.key_id for row in rows]
    assert [row["estimated_cost_usd"] for row in told if row["estimated_requests"] == "1"] == [
        "0.000050"
    ]
    whole = await page(door, "usage?group_by=key")
    assert (len(whole["data"]), whole["has_more"]) == (10_000, True)


async def test_an_answer_in_pieces_has_a_head_for_head_and_an_end_for_http_1_0(door: Door) -> None:
    await door.gateway.services.store.add_keys(KEYS)
    head = await door.client.head("/api/v1/usage?format=csv", headers=bearer(OWNER))
    assert head.status_code == 200 and head.content == b""
    assert head.headers["content-type"] == "text/csv; charset=utf-8"
    old = await door.raw(
        f"GET /keys/export HTTP/1.0\r\nAuthorization: Bearer {OWNER}\r\n\r\n".encode()
    )
    start, _, body = old.partition(b"\r\n\r\n")
    assert b"chunked" not in start.lower()
    assert len(json.loads(body)["keys"]) == len(KEYS)


async def test_a_client_that_leaves_a_long_answer_ends_it(door: Door) -> None:
    many = [a_key(number, name="x" * 100) for number in range(20_000)]
    await door.gateway.services.store.add_keys(many)
    async with door.client.stream("GET", "/keys/export", headers=bearer(OWNER)) as answer:
        async for _ in answer.aiter_raw():
            break
    assert len((await door.get("/keys/export")).json()["keys"]) == len(many)


async def test_absurd_usage_does_not_stop_the_ledger(upstream: FakeUpstream, door: Door) -> None:
    usage = {"prompt_tokens": ABSURD, "completion_tokens": ABSURD, "total_tokens": 2 * ABSURD}
    made = await door.mint_key("app", limits=None)
    for _ in range(12):
        upstream.plan(completion(usage=usage))
        await door.chat(key=made["key"])
    await door.usage_rows(12)
    await door.chat()
    await door.usage_rows(13)
    assert not door.gateway.services.ledger.degraded
    assert (await door.get("/readyz")).status_code == 200
    (row,) = (await page(door, f"usage?key={made['id']}&group_by=key"))["data"]
    assert row["requests"] == 12


async def test_a_ledger_with_a_row_that_cannot_be_stored_recovers(door: Door) -> None:
    services = door.gateway.services
    services.ledger._add(a_row(1, model="half a pair: \ud800"))
    services.ledger._add(a_row(2))
    await door.usage_rows(1)
    await eventually(lambda: not services.ledger.degraded)
    assert (await door.get("/readyz")).status_code == 200
    assert [row.request_id for row in await door.usage_rows(1)] == ["req_2"]


async def test_a_key_outside_of_memory_is_served_like_any_other(door: Door) -> None:
    made = await door.mint_key("app")
    ring = door.gateway.services.keys
    ring._memory.limit = 2
    for number in range(4):
        await door.mint_key(f"other {number}")
    answer = await door.client.post(
        "/api/v1/chat/completions", json=request_body(), headers=bearer(made["key"])
    )
    assert answer.status_code == 200
    await door.client.delete(f"/api/v1/keys/{made['id']}", headers=bearer(OWNER))
    for number in range(4):
        await door.mint_key(f"one more {number}")
    answer = await door.client.post(
        "/api/v1/chat/completions", json=request_body(), headers=bearer(made["key"])
    )
    assert answer.status_code == 401
