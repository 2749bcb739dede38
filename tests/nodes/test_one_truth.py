"""Several processes serve as one: limits, keys, sessions and usage are the same whichever is asked.

Every test runs the command in real processes: a keeper and its children.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import Any

from nodes.family import TWO, doors_to_each
from support.fakes.upstream import FakeUpstream, Pause, chunk, event, streaming
from support.front_door import (
    OWNER,
    Door,
    bearer,
    front_door,
    parse_events,
    request_body,
    roxy_toml,
)
from support.processes import serving
from support.visitors import Browser
from support.waiting import eventually, soon

PRICES = "prices = { prompt = 1.0, completion = 2.0 }"


def held(hold: asyncio.Event) -> Any:
    """Return a streamed answer that stops after its first content until `hold` is set."""
    return streaming(
        [
            event(chunk({"content": "first "})),
            Pause(hold),
            event(chunk({"content": "last"})),
            event(chunk(finish="stop")),
            event("[DONE]"),
        ]
    )


async def ask_at_once(
    door: Door, key: str, upstream: FakeUpstream, hold: asyncio.Event
) -> Counter[int]:
    """Send 200 requests at once, none of which is finished before all were admitted or refused."""
    before = len(upstream.requests)
    upstream.plan(held(hold))
    asked = [
        asyncio.create_task(door.chat(key=key, stream=True, max_tokens=100)) for _ in range(200)
    ]
    await eventually(
        lambda: sum(one.done() for one in asked) + len(upstream.requests) - before == 200
    )
    hold.set()
    return Counter(answer.status_code for answer in await asyncio.gather(*asked))


LIMITS = (
    ({"concurrent_requests": 30}, False),
    ({"budget_microusd": 20_000}, False),
    ({"requests_per_minute": 10}, True),
    ({"tokens_per_minute": 2_000}, True),
)
"""Limits of a key, and whether time gives back what was used."""


async def test_two_hundred_requests_at_once_take_of_two_processes_what_they_take_of_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "alone").mkdir()
    async with contextlib.AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(FakeUpstream())
        alone = await stack.enter_async_context(
            front_door(tmp_path / "alone", upstream, prices=PRICES)
        )
        settings = roxy_toml(upstream.base_url, prices=PRICES)
        roxy = await stack.enter_async_context(serving(tmp_path, settings=settings, options=TWO))
        for limit, comes_back in LIMITS:
            limits = {"requests_per_minute": None} | limit
            key = await alone.mint(limits=limits)
            expected = await ask_at_once(alone, key, upstream, asyncio.Event())
            assert 5 < expected[200] < 100 and expected[429] == 200 - expected[200]
            key = await roxy.door.mint(limits=limits)
            began = time.monotonic()
            answers = await ask_at_once(roxy.door, key, upstream, asyncio.Event())
            minutes = (time.monotonic() - began) / 60
            # Exactly the limit, and what a minute's limit has let come back meanwhile.
            most = expected[200] + (1 + int(expected[200] * minutes) if comes_back else 0)
            assert expected[200] <= answers[200] <= most, limit
            assert answers[429] == 200 - answers[200], limit


async def test_a_revoked_key_is_refused_everywhere_once_the_delete_is_answered(
    tmp_path: Path,
) -> None:
    hold = asyncio.Event()
    async with FakeUpstream() as upstream, serving(tmp_path, upstream, options=TWO) as roxy:
        upstream.plan(held(hold))
        made = await roxy.door.mint_key(limits={"requests_per_minute": None})
        async with doors_to_each(roxy.door, roxy.pid) as doors:
            assert len(doors) == 2
            running = [
                asyncio.create_task(door.stream_text(key=made["key"])) for door in doors.values()
            ]
            await upstream.request(1)
            async with doors_to_each(roxy.door, roxy.pid) as others:
                for door in others.values():
                    assert (await door.get("/api/v1/key", made["key"])).status_code == 200
                door = next(iter(others.values()))
                gone = await door.client.delete(f"/api/v1/keys/{made['id']}", headers=bearer(OWNER))
                assert gone.status_code == 200
                for door in others.values():
                    assert (await door.get("/api/v1/key", made["key"])).status_code == 401
            for text in await soon(asyncio.gather(*running)):
                assert parse_events(text)[-1]["error"]["code"] == "invalid_api_key"


async def test_a_key_made_or_changed_through_one_process_counts_in_the_other(
    tmp_path: Path,
) -> None:
    async with (
        FakeUpstream() as upstream,
        serving(tmp_path, upstream, options=TWO) as roxy,
        doors_to_each(roxy.door, roxy.pid) as doors,
    ):
        first, second = doors.values()
        made = await first.mint_key("before", limits={"requests_per_minute": 7})
        assert (await second.get("/api/v1/key", made["key"])).json()["name"] == "before"
        changed = await second.client.patch(
            f"/api/v1/keys/{made['id']}", json={"name": "after"}, headers=bearer(OWNER)
        )
        assert changed.status_code == 200
        assert (await first.get("/api/v1/key", made["key"])).json()["name"] == "after"
        turned = await first.client.post(
            f"/api/v1/keys/{made['id']}/rotate", json={}, headers=bearer(OWNER)
        )
        assert (await second.get("/api/v1/key", made["key"])).status_code == 401
        assert (await second.get("/api/v1/key", turned.json()["key"])).status_code == 200
        exported = tmp_path / "data" / "api-keys.json"
        await eventually(lambda: "after" in exported.read_text())


async def test_a_browser_that_signs_in_at_one_process_is_known_to_the_other_until_it_leaves(
    tmp_path: Path,
) -> None:
    async with (
        serving(tmp_path, options=TWO) as roxy,
        doors_to_each(roxy.door, roxy.pid) as doors,
    ):
        first, second = doors.values()
        here, there = Browser(first), Browser(second)
        assert (await here.sign_in(OWNER)).status_code == 303
        there.cookies = here.cookies
        assert (await there.open("/keys")).status_code == 200
        assert (await there.open("/keys")).status_code == 200
        stolen = dict(here.cookies)
        left = await there.submit("/logout")
        assert left.status_code == 303
        for browser in (here, there):
            browser.cookies = dict(stolen)
            assert (await browser.open("/keys")).status_code != 200


async def test_a_guest_of_one_process_is_one_of_the_other(tmp_path: Path) -> None:
    async with (
        FakeUpstream() as upstream,
        serving(tmp_path, upstream, options=TWO) as roxy,
        doors_to_each(roxy.door, roxy.pid) as doors,
    ):
        first, second = doors.values()
        here, there = Browser(first), Browser(second)
        await here.open("/")
        there.cookies, there.token = here.cookies, here.token
        for browser, left in ((here, "9"), (there, "8")):
            body = request_body("Hi")
            answer = await browser.call("POST", "chat/completions", json=body)
            assert answer.status_code == 200
            assert answer.headers["x-ratelimit-remaining-requests"] == left


async def test_wrong_keys_are_counted_over_all_processes(tmp_path: Path) -> None:
    async with (
        FakeUpstream() as upstream,
        serving(tmp_path, upstream, options=TWO) as roxy,
        doors_to_each(roxy.door, roxy.pid) as doors,
    ):
        first, second = doors.values()
        for door in (first, second) * 5:
            assert (await door.get("/api/v1/key", "wrong-key")).status_code == 401
        for door in (first, second):
            await soon(refused_wrong_key(door))
        assert (await second.get("/api/v1/keys")).status_code == 200


async def refused_wrong_key(door: Door) -> None:
    """Send wrong keys until one is refused unread."""
    while (await door.get("/api/v1/key", "wrong-key")).status_code != 429:
        pass


async def test_the_headers_of_limits_are_true_whichever_process_answers(tmp_path: Path) -> None:
    async with FakeUpstream() as upstream, serving(tmp_path, upstream, options=TWO) as roxy:
        key = await roxy.door.mint(limits={"requests_per_minute": 5})
        async with doors_to_each(roxy.door, roxy.pid) as doors:
            first, second = doors.values()
            left = [
                int((await door.chat(key=key)).headers["x-ratelimit-remaining-requests"])
                for door in (first, second, first, second, first)
            ]
            assert left[0] == 4 and sorted(left, reverse=True) == left
            refused = await second.chat(key=key)
            assert refused.status_code == 429
            assert refused.headers["x-ratelimit-remaining-requests"] == "0"


async def test_usage_of_all_processes_is_in_one_place(tmp_path: Path) -> None:
    async with (
        FakeUpstream() as upstream,
        serving(tmp_path, upstream, options=TWO) as roxy,
        doors_to_each(roxy.door, roxy.pid) as doors,
    ):
        for door in doors.values():
            for _ in range(3):
                assert (await door.chat()).status_code == 200
        roxy.signal(signal.SIGTERM)
        assert await roxy.ended() == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "roxy.db")) as db:
        assert db.execute("SELECT sum(requests) FROM usage_daily").fetchone() == (6,)
    lines = [line for line in roxy.out.splitlines() if "chat/completions" in line]
    assert len(lines) == 6 and all(" 200 POST " in line for line in lines)
