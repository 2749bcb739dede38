"""Two nodes with one PostgreSQL and one Redis, through both front doors: one truth."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from support.fakes.upstream import FakeUpstream
from support.front_door import MODEL, OWNER, Door, bearer, front_door, request_body
from support.servers.postgres_server import PostgresServer
from support.servers.redis_server import RedisServer
from support.waiting import eventually, soon

PARALLEL = 200


class Nodes(NamedTuple):
    """Two gateways that share what they keep."""

    one: Door
    other: Door
    redis: RedisServer

    def each(self, count: int) -> list[Door]:
        """Return so many doors, by turns."""
        return [self.one if number % 2 else self.other for number in range(count)]


async def answers_so(door: Door, key: str, status: int) -> None:
    """Return once a node answers a key with a status."""
    while await status_of(door, key) != status:
        await asyncio.sleep(0.01)


@pytest.fixture
async def nodes(
    tmp_path: Path, postgres: PostgresServer, upstream: FakeUpstream
) -> AsyncIterator[Nodes]:
    database = postgres.new_database()
    async with contextlib.AsyncExitStack() as stack:
        redis = await stack.enter_async_context(RedisServer(tmp_path, "valkey"))
        environ = {"ROXY_DATABASE_URL": database, "ROXY_REDIS_URL": redis.url}
        doors: list[Door] = []
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            door = front_door(tmp_path / name, upstream, environ=environ, max_concurrency=PARALLEL)
            doors.append(await stack.enter_async_context(door))
        yield Nodes(doors[0], doors[1], redis)


async def ask(door: Door, key: str) -> httpx.Response:
    """Ask for a completion."""
    return await door.client.post(
        "/api/v1/chat/completions", json=request_body(model=MODEL), headers=bearer(key)
    )


async def status_of(door: Door, key: str) -> int:
    """Return how a node answers a key."""
    return (await door.get("/api/v1/models", key)).status_code


async def test_both_nodes_together_admit_what_one_would(nodes: Nodes) -> None:
    key = await nodes.one.mint(limits={"requests_per_minute": 4})
    began = time.monotonic()
    assert (await ask(nodes.one, key)).status_code == 200
    answers = await asyncio.gather(*(ask(door, key) for door in nodes.each(PARALLEL)))
    # One comes back to this limit every 15 s, by the clock of the server.
    came_back = int((time.monotonic() - began) / 15)
    counts = [answer.status_code for answer in answers]
    assert 3 <= counts.count(200) <= 3 + came_back
    assert counts.count(429) == PARALLEL - counts.count(200)
    assert all("x-ratelimit-remaining-requests" in answer.headers for answer in answers)


async def test_both_nodes_together_keep_a_budget(nodes: Nodes) -> None:
    key = await nodes.one.mint(limits={"budget_microusd": 50_000, "budget_period": "total"})
    assert (await ask(nodes.one, key)).status_code == 200
    answers = await asyncio.gather(*(ask(door, key) for door in nodes.each(PARALLEL)))
    assert {answer.status_code for answer in answers} <= {200, 429, 402}
    left = [(await door.get("/api/v1/key", key)).json()["remaining"] for door in nodes.each(2)]
    assert left[0]["budget"] == left[1]["budget"]
    assert 0 < left[0]["budget"]["spent_microusd"] <= 50_000


async def test_a_key_works_on_the_other_node_at_once_and_ends_on_both(nodes: Nodes) -> None:
    made = await nodes.one.mint_key()
    assert await status_of(nodes.other, made["key"]) == 200
    changed = await nodes.other.client.patch(
        f"/api/v1/keys/{made['id']}", json={"name": "renamed"}, headers=bearer(OWNER)
    )
    assert changed.status_code == 200
    await nodes.one.client.delete(f"/api/v1/keys/{made['id']}", headers=bearer(OWNER))
    await soon(answers_so(nodes.other, made["key"], 401))
    shown = (await nodes.other.get(f"/api/v1/keys/{made['id']}")).json()
    assert (shown["name"], shown["status"]) == ("renamed", "revoked")


async def test_usage_of_both_nodes_is_one_sum(nodes: Nodes) -> None:
    made = await nodes.one.mint_key()
    answers = await asyncio.gather(*(ask(door, made["key"]) for door in nodes.each(40)))
    assert {answer.status_code for answer in answers} == {200}

    async def summed() -> int:
        usage = (await nodes.one.get(f"/api/v1/usage?key={made['id']}&group_by=key")).json()
        return sum(row["requests"] for row in usage["data"])

    async def all_summed() -> None:
        while await summed() != 40:
            await asyncio.sleep(0.02)

    await soon(all_summed())
    log = (await nodes.other.get(f"/api/v1/requests?key={made['id']}")).json()
    assert len({row["id"] for row in log["data"]}) == 40


async def test_a_store_that_is_away_is_told_and_the_node_stays_ready(nodes: Nodes) -> None:
    limited = await nodes.one.mint(limits={"budget_microusd": 10**9})
    free = await nodes.one.mint(limits=None)
    assert (await ask(nodes.one, limited)).status_code == 200
    await nodes.redis.kill()
    refused = await ask(nodes.one, limited)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "limits_unavailable")
    assert "retry-after" in refused.headers
    assert (await ask(nodes.one, free)).status_code == 200
    assert (await ask(nodes.one, OWNER)).status_code == 200
    ready = await nodes.one.get("/readyz")
    assert ready.status_code == 200 and "Redis" in ready.json()["away"][0]
    assert "Redis" in (await nodes.one.get("/api/v1/live")).json()["away"][0]
    page = (await nodes.one.get("/live")).text
    assert '<span lang="en">Redis is away' in page
    await nodes.redis.start()
    running = nodes.one.gateway.services.counters
    await eventually(lambda: running.trouble is None)
    assert (await ask(nodes.one, limited)).status_code == 200
    assert "away" not in (await nodes.one.get("/readyz")).json()
