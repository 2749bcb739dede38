"""Clients of gateways that count in Redis: exact limits over two, and answers while it is away."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from support.fakes.answers import Pause, chunk, completion, event, streaming
from support.fakes.upstream import FakeUpstream
from support.front_door import Door, front_door
from support.servers.redis_server import RedisServer
from support.waiting import PATIENCE_S, eventually

MONEY = {"requests_per_minute": None, "budget_microusd": 20_000, "budget_period": "total"}
COST = 11 * 1 + 7 * 2
"""Micro-dollars that the fake upstream's usual answer costs."""


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    (tmp_path / "redis").mkdir()
    async with RedisServer(tmp_path / "redis", keeps=True) as server:
        yield server


@contextlib.asynccontextmanager
async def opened(
    path: Path, upstream: FakeUpstream, redis: RedisServer, settings: str = ""
) -> AsyncIterator[Door]:
    """Run a gateway that counts in Redis."""
    await asyncio.to_thread(path.mkdir, exist_ok=True)
    environ = {"ROXY_REDIS_URL": redis.url}
    async with front_door(path, upstream, environ=environ, settings=settings) as door:
        yield door


async def twins(path: Path, upstream: FakeUpstream, redis: RedisServer, **limits: object) -> str:
    """Create a key that the databases of two gateways hold, and return it."""
    async with opened(path / "a", upstream, redis) as door:
        key = await door.mint(limits=limits)
    shutil.copytree(path / "a", path / "b")
    return key


async def test_two_gateways_run_exactly_the_limit_of_200_parallel_requests(
    tmp_path: Path, upstream: FakeUpstream, redis: RedisServer
) -> None:
    key = await twins(tmp_path, upstream, redis, concurrent_requests=7, requests_per_minute=None)
    hold = asyncio.Event()
    end = [event(chunk(finish="stop")), event("[DONE]")]
    upstream.plan(streaming([event(chunk({"content": "x"})), Pause(hold), *end]))
    async with (
        opened(tmp_path / "a", upstream, redis) as first,
        opened(tmp_path / "b", upstream, redis) as second,
    ):
        answers: list[int] = []

        async def ask(door: Door) -> None:
            async with door.stream(key=key) as response:
                answers.append(response.status_code)
                if response.status_code != 200:
                    assert response.headers["retry-after"] == "1"
                await response.aread()

        asked = [asyncio.create_task(ask((first, second)[n % 2])) for n in range(200)]
        await eventually(lambda: len(answers) == 200)
        hold.set()
        await asyncio.gather(*asked)
        assert Counter(answers) == {200: 7, 429: 193}
        upstream.plan(completion())
        for door in (first, second):
            assert (await door.chat(key=key)).status_code == 200


async def test_a_budget_is_one_over_two_gateways_and_a_restart_of_both(
    tmp_path: Path, upstream: FakeUpstream, redis: RedisServer
) -> None:
    key = await twins(tmp_path, upstream, redis, **MONEY)
    for _ in range(2):
        async with (
            opened(tmp_path / "a", upstream, redis) as first,
            opened(tmp_path / "b", upstream, redis) as second,
        ):
            for n in range(30):
                assert (await (first, second)[n % 2].chat(key=key, max_tokens=50)).is_success
    async with opened(tmp_path / "b", upstream, redis) as door:
        used = await remaining(door, key)
    assert used["spent_microusd"] == 60 * COST
    assert used["reserved_microusd"] == 0


async def remaining(door: Door, key: str) -> dict[str, int]:
    """Return the state of a key's budget."""
    answer = (await door.get("/api/v1/key", key)).json()
    budget: dict[str, int] = answer["remaining"]["budget"]
    return budget


async def guest(door: Door) -> httpx.Response:
    """Ask without a key, as the chat page of a browser does."""
    return await door.client.post(
        "/api/v1/chat/completions",
        json={"model": "test/model", "messages": [{"role": "user", "content": "Hi"}]},
    )


async def test_while_redis_is_away_limits_are_shared_and_what_cannot_be_is_refused(
    tmp_path: Path, upstream: FakeUpstream, redis: RedisServer
) -> None:
    async with opened(tmp_path / "a", upstream, redis) as door:
        money = await door.mint(limits=MONEY)
        few = await door.mint(limits={"requests_per_minute": 3})
        free = await door.mint(limits={"requests_per_minute": None})
        assert (await door.chat(key=money, max_tokens=50)).status_code == 200
        await redis.kill()
        refused = await door.chat(key=money, max_tokens=50)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "limits_unavailable"
        assert refused.headers["retry-after"] == "2"
        statuses = [(await door.chat(key=few)).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        assert [(await door.chat(key=free)).status_code for _ in range(5)] == [200] * 5
        assert (await door.chat()).status_code == 200
        ready = await door.get("/readyz", None)
        assert ready.status_code == 200
        assert "Redis is away" in ready.text
        await redis.start()
        async with asyncio.timeout(PATIENCE_S):
            while (await door.chat(key=money, max_tokens=50)).status_code != 200:
                pass
        assert "away" not in (await door.get("/readyz", None)).text
        assert (await door.chat(key=few)).status_code == 429
        assert (await remaining(door, money))["spent_microusd"] == 2 * COST


async def test_a_wrong_redis_stops_the_start_with_one_line(tmp_path: Path) -> None:
    from support.processes import run  # starts the real command

    finished = await run(
        "serve", "--port", "0", cwd=tmp_path, environ={"ROXY_REDIS_URL": "redis://:hunter2@x:y"}
    )
    assert "ROXY_REDIS_URL must be redis://" in finished.complaint
    assert "hunter2" not in finished.err
