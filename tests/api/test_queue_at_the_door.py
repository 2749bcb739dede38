"""The queue from outside: whose turn it is, what waiting clients see, and when it is full."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from support.fakes.upstream import (
    Answer,
    FakeUpstream,
    Pause,
    answer_as_asked,
    chunk,
    event,
    streaming,
)
from support.front_door import (
    MODEL,
    OWNER,
    Door,
    bearer,
    front_door,
    parse_events,
    request_body,
    text_of,
)
from support.schemas import validate_error
from support.visitors import guest
from support.waiting import PATIENCE_S, eventually, soon

from workers.run.queue import FIRST_GUESS_S

PATH = "/api/v1/chat/completions"
UPDATE = re.compile(r": queued position=(\d+) waiting=(\d+) expected_wait_s=(\d+\.\d)\n\n")
Asked = asyncio.Task[httpx.Response]


def held_stream(hold: asyncio.Event) -> Answer:
    first, last = event(chunk({"content": "x"})), event(chunk(finish="stop"))
    return streaming([first, Pause(hold), last, event("[DONE]")])


class Counter:
    """A gateway with one worker that is busy until `open`; `ask` stands in the queue before it."""

    def __init__(self, door: Door, upstream: FakeUpstream) -> None:
        self.door = door
        self._upstream = upstream
        self._held = asyncio.Event()
        self._first: asyncio.Task[str] | None = None

    async def close(self) -> None:
        """Occupy the worker with a request of the owner."""
        before = len(self._upstream.requests)
        self._upstream.plan(held_stream(self._held), answer_as_asked)
        self._first = asyncio.create_task(self.door.stream_text("first"))
        await self._upstream.request(before)

    async def ask(
        self,
        content: str,
        key: str = OWNER,
        *,
        headers: Mapping[str, str] | None = None,
        **body: Any,
    ) -> Asked:
        """Send a request and wait until it stands in the queue, or is answered."""
        jobs = self.door.gateway.services.engine.jobs
        before = set(jobs)
        sent = request_body(content, **body)
        headers = {**(bearer(key) if key else {}), **(headers or {})}
        asked = asyncio.create_task(self.door.client.post(PATH, json=sent, headers=headers))
        await eventually(lambda: not (before.issuperset(jobs) and not asked.done()))
        return asked

    async def where(self, request_id: str, key: str = OWNER) -> Any:
        """Ask where a request is."""
        return await self.door.get(f"/api/v1/jobs/{request_id}", key)

    async def open(self, *asked: Asked) -> list[str]:
        """Resume the worker and return the contents in the order in which they were served."""
        self._held.set()
        assert self._first is not None
        async with asyncio.timeout(PATIENCE_S):
            await self._first
            for answer in await asyncio.gather(*asked):
                assert answer.status_code == 200, answer.text
        return [one.json["messages"][0]["content"] for one in self._upstream.requests[1:]]


@contextlib.asynccontextmanager
async def counter(path: Path, settings: str = "") -> AsyncIterator[Counter]:
    async with (
        FakeUpstream() as upstream,
        front_door(path, upstream, settings=settings, max_concurrency=1) as door,
    ):
        yield Counter(door, upstream)


def own_id(name: str) -> dict[str, str]:
    return {"X-Request-Id": name}


async def test_who_waits_can_ask_where_under_the_id_it_sent(tmp_path: Path) -> None:
    async with counter(tmp_path) as desk:
        await desk.close()
        keys = [await desk.door.mint(name) for name in "ab"]
        asked = [
            await desk.ask("1", keys[0], headers=own_id("my-request-1")),
            await desk.ask("2", keys[0], headers=own_id("my-request-2")),
            await desk.ask("3", keys[1], headers=own_id("my-request-3")),
        ]
        told = (await desk.where("my-request-2", keys[0])).json()
        assert (told["id"], told["object"]) == ("my-request-2", "job")
        assert (told["model"], told["state"]) == (MODEL, "queued")
        assert (told["position"], told["waiting"]) == (3, 3)  # the other key has its turn before
        assert told["expected_wait_s"] > 0
        places = [(await desk.where(f"my-request-{n}")).json()["position"] for n in (1, 2, 3)]
        assert places == [1, 3, 2], "the owner sees all"
        for name, key in (("my-request-3", keys[0]), ("no-such-request", keys[0])):
            hidden = await desk.where(name, key)
            assert hidden.status_code == 404
            validate_error(hidden.json())
        assert (await desk.door.get("/api/v1/jobs/my-request-1", None)).status_code == 401
        assert await desk.open(*asked) == ["1", "3", "2"]
        assert [answer.result().headers["x-request-id"] for answer in asked] == [
            f"my-request-{n}" for n in (1, 2, 3)
        ]
        await desk.door.usage_rows(3)
        ended = (await desk.where("my-request-1", keys[0])).json()
        assert (ended["state"], ended["position"], ended["waiting"]) == ("done", None, None)
        assert ended["ending"] == "finished"


async def test_an_id_in_use_does_not_hide_the_request_that_has_it(tmp_path: Path) -> None:
    async with counter(tmp_path) as desk:
        await desk.close()
        keys = [await desk.door.mint(name) for name in "ab"]
        first = await desk.ask("1", keys[0], headers=own_id("the-same-id"))
        second = await desk.ask("2", keys[1], headers=own_id("the-same-id"))
        assert (await desk.where("the-same-id", keys[0])).json()["position"] == 1
        assert (await desk.where("the-same-id", keys[1])).status_code == 404
        await desk.open(first, second)
        assert first.result().headers["x-request-id"] == "the-same-id"
        assert second.result().headers["x-request-id"] != "the-same-id"


async def test_a_stream_tells_its_place_in_comments_when_asked_to(tmp_path: Path) -> None:
    async with counter(tmp_path, "[stream]\nheartbeat_s = 0.05\n") as desk:
        await desk.close()
        ahead = await desk.ask("ahead")
        plain = await desk.ask("plain", stream=True)
        headers = {"X-Roxy-Queue-Updates": "true"}
        async with desk.door.stream("told", headers=headers) as response:
            assert response.status_code == 200
            text = response.aiter_text()
            received = await anext(text)
            found = UPDATE.match(received)
            assert found is not None, received
            assert (found[1], found[2]) == ("3", "3") and float(found[3]) > 0
            await desk.open(ahead, plain)
            received += "".join([part async for part in text])
        comments = "".join(block + "\n\n" for block in received.split("\n\n") if block[:1] == ":")
        events = parse_events(received)
        assert comments and text_of(events) == "Hello" and events[-1] == "[DONE]"
        assert not UPDATE.search(plain.result().text)


async def test_the_openai_client_takes_no_notice_of_the_comments(tmp_path: Path) -> None:
    async with counter(tmp_path) as desk:
        await desk.close()
        async with openai.AsyncOpenAI(
            base_url=f"{desk.door.url}/api/v1", api_key=OWNER, max_retries=0
        ) as client:
            stream = await client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": "Hi"}],
                stream=True,
                extra_headers={"X-Roxy-Queue-Updates": "true"},
            )
            await desk.open()
            said = [one.choices[0].delta.content or "" async for one in stream if one.choices]
            assert "".join(said) == "Hello"


async def test_who_may_not_wait_so_long_is_refused_with_an_honest_estimate(tmp_path: Path) -> None:
    async with counter(tmp_path) as desk:
        await desk.close()
        key = await desk.door.mint(limits={"requests_per_minute": None})
        asked = [await desk.ask(f"{n}", key, headers=own_id(f"waiting-{n}")) for n in range(6)]
        patient = await desk.ask("patient", key, headers={"X-Roxy-Max-Wait": "60"})
        expected_s = (await desk.where("waiting-5")).json()["expected_wait_s"]
        hurried = await (await desk.ask("hurried", key, headers={"X-Roxy-Max-Wait": "0.05"}))
        assert hurried.status_code == 503
        validate_error(hurried.json())
        assert hurried.json()["error"]["code"] == "server_is_overloaded"
        told_s = int(hurried.headers["retry-after-ms"]) / 1000
        later_s = (await desk.where("waiting-5")).json()["expected_wait_s"]
        assert expected_s <= told_s <= 2 * later_s  # two places further back, and some jitter
        assert told_s <= int(hurried.headers["retry-after"]) < told_s + 1
        assert "hurried" not in await desk.open(*asked, patient)
        left = (await desk.door.get("/api/v1/key", key)).json()
        assert left["limits"]["requests_per_minute"] is None


async def test_the_wait_told_is_learnt_from_the_requests_that_were_served(tmp_path: Path) -> None:
    waits = []
    for served in (0, 1):
        async with counter(tmp_path) as desk:
            for _ in range(served):
                assert (await desk.door.chat()).is_success
            await desk.close()
            asked = await desk.ask("1", headers=own_id("the-one-that-waits"))
            waits.append((await desk.where("the-one-that-waits")).json()["expected_wait_s"])
            await desk.open(asked)
    assert waits[0] >= FIRST_GUESS_S
    assert waits[1] != FIRST_GUESS_S


async def test_a_refused_request_gives_back_what_it_took(tmp_path: Path) -> None:
    async with counter(tmp_path) as desk:
        await desk.close()
        key = await desk.door.mint(limits={"requests_per_minute": 5})
        for _ in range(8):
            refused = await (await desk.ask("late", key, headers={"X-Roxy-Max-Wait": "0"}))
            assert refused.status_code == 503
        left = (await desk.door.get("/api/v1/key", key)).json()["remaining"]
        assert left["requests"]["remaining"] == 5
        await desk.open()


@pytest.mark.parametrize("wait", ["soon", "-1", "nan", "inf", ""])
async def test_a_wait_that_is_no_time_is_a_400(door: Door, wait: str) -> None:
    headers = bearer(OWNER) | {"X-Roxy-Max-Wait": wait}
    answer = await door.client.post(PATH, json=request_body(), headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "X-Roxy-Max-Wait"


async def test_a_full_queue_pushes_out_the_newest_of_the_longest_lane(tmp_path: Path) -> None:
    async with counter(tmp_path, "[queue]\nmax_waiting = 4\n") as desk:
        await desk.close()
        greedy, quiet = await desk.door.mint("greedy"), await desk.door.mint("quiet")
        asked = [await desk.ask(f"g{n}", greedy) for n in range(4)]
        fifth = await (await desk.ask("g4", greedy))
        assert fifth.status_code == 503, "the longest lane makes no room for itself"
        modest = await desk.ask("q0", quiet)
        pushed = await soon(asked.pop())
        assert pushed.status_code == 503
        for refused in (fifth, pushed):
            validate_error(refused.json())
            assert refused.json()["error"]["code"] == "server_is_overloaded"
            assert int(refused.headers["retry-after"]) >= 1
        owner = await desk.ask("owner", headers=own_id("the-owners-own"))
        assert (await desk.where("the-owners-own")).json()["position"] == 1
        assert await desk.open(*asked, modest, owner) == ["owner", "g0", "q0", "g1", "g2"]


async def test_the_owner_goes_first_and_a_burst_delays_its_own_key_only(tmp_path: Path) -> None:
    async with counter(tmp_path) as desk:
        await desk.close()
        burst, quiet = await desk.door.mint("burst"), await desk.door.mint("quiet")
        asked = [await desk.ask(f"b{n}", burst) for n in range(5)]
        asked += [await desk.ask("q0", quiet), await desk.ask("q1", quiet)]
        asked.append(await desk.ask("owner"))
        served = await desk.open(*asked)
        assert served == ["owner", "b0", "q0", "b1", "q1", "b2", "b3", "b4"]


async def test_a_heavier_key_gets_more_turns(tmp_path: Path) -> None:
    async with counter(tmp_path) as desk:
        await desk.close()
        heavy, light = await desk.door.mint("heavy", weight=3), await desk.door.mint("light")
        asked = [await desk.ask(f"l{n}", light) for n in range(2)]
        asked += [await desk.ask(f"h{n}", heavy) for n in range(6)]
        served = await desk.open(*asked)
        assert sorted(served[:4]) == ["h0", "h1", "h2", "l0"]
        assert sorted(served[4:]) == ["h3", "h4", "h5", "l1"]


async def test_all_guests_share_one_turn(tmp_path: Path) -> None:
    async with counter(tmp_path, "[guests]\nconcurrent_requests = 9\n") as desk:
        await desk.close()
        key = await desk.door.mint()
        first, second = guest(desk.door), guest(desk.door)
        asked = [
            await desk.ask("a0", "", headers=first),
            await desk.ask("a1", "", headers=first),
            await desk.ask("b0", "", headers=second | own_id("a-guests-own")),
            await desk.ask("b1", "", headers=second),
            await desk.ask("k0", key),
            await desk.ask("k1", key),
        ]
        assert (await desk.where("a-guests-own")).json()["position"] == 5
        assert await desk.open(*asked) == ["a0", "k0", "a1", "k1", "b0", "b1"]
