"""How much of answers is kept, for how long, and what a stop of the gateway does to them."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.fakes.upstream import (
    USAGE,
    FakeUpstream,
    chunk,
    event,
    stream_of,
    streaming,
)
from support.front_door import OWNER, Door, bearer, front_door
from support.kept import (
    ask,
    facts,
    held_after,
    noise,
    replay,
    status_of_stream,
)
from support.visitors import guest
from support.waiting import eventually


async def test_after_a_restart_the_answer_is_not_known(tmp_path: Path) -> None:
    async with FakeUpstream() as upstream:
        async with front_door(tmp_path, upstream) as door, ask(door) as reading:
            await reading.finish()
        async with front_door(tmp_path, upstream) as door:
            refused = await status_of_stream(door, reading.id, bearer(OWNER), "?after=1")
            assert refused == (404, "not_found")


async def test_what_an_answer_used_is_known_after_a_restart_to_its_holder_alone(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    """A page asks for it when the answer has ended, which may be when the gateway stops."""
    upstream.plan(stream_of(["Hello"], usage=USAGE))
    async with front_door(tmp_path, upstream) as door:
        own, other = await door.mint("own"), await door.mint("other")
        answer = await door.chat(key=own, stream=True)
        path = f"/api/v1/jobs/{answer.headers['x-request-id']}"
    async with front_door(tmp_path, upstream) as door:
        described = (await door.get(path, own)).json()
        assert (described["state"], described["ending"]) == ("done", "finished")
        assert described["usage"]["completion_tokens"] == USAGE["completion_tokens"]
        assert described["cost_microusd"] > 0
        assert (await door.get(path)).json() == described
        assert (await door.get(path, other)).status_code == 404
        refused = await door.client.get(path, headers=guest(door))
        assert refused.status_code == 404


async def test_a_request_is_described_while_its_usage_waits_for_the_database(
    door: Door, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "data" / "roxy.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = await door.chat()
        request_id = answer.headers["x-request-id"]
        described = (await door.get(f"/api/v1/jobs/{request_id}")).json()
        assert (described["state"], described["kept"]) == ("done", False)
        assert (await door.get(f"/api/v1/requests/{request_id}")).json()["id"] == request_id
        other.rollback()


@pytest.mark.gateway(settings="[answers]\nkeep_s = 0.2\n")
async def test_an_answer_is_forgotten_after_its_time(door: Door) -> None:
    ids = []
    for _ in range(3):
        async with ask(door) as reading:
            await reading.finish()
        ids.append(reading.id)
    answers = door.gateway.services.answers
    await eventually(lambda: not len(answers))
    assert answers.size_bytes == 0
    assert (await door.get(f"/api/v1/jobs/{ids[0]}/stream")).status_code == 404
    described = (await door.get(f"/api/v1/jobs/{ids[0]}")).json()
    assert (described["state"], described["kept"]) == ("done", False)


@pytest.mark.gateway(settings="[answers]\nmax_answer_bytes = 131072\n")
async def test_events_that_were_dropped_are_gone_and_the_rest_is_there(
    upstream: FakeUpstream, door: Door
) -> None:
    long = [chunk(f"{number}" + noise(number)) for number in range(40)]
    pieces = [event(each) for each in long] + [event(chunk(finish="stop")), event("[DONE]")]
    upstream.plan(streaming(pieces))
    async with ask(door) as reading:
        whole = await reading.finish()
    told = await facts(door, reading.id)
    assert 1 < told["first_event"] <= told["last_event"] == len(whole)
    refused = await status_of_stream(door, reading.id, bearer(OWNER), "?after=0")
    assert refused == (410, "answer_gone")
    first = told["first_event"] - 1
    assert await replay(door, reading.id, first) == whole[first:]


@pytest.mark.gateway(settings="[answers]\nmax_total_bytes = 1048576\n")
async def test_of_all_answers_the_one_that_ended_first_makes_room(
    upstream: FakeUpstream, door: Door
) -> None:
    ids = []
    for round_number in range(8):
        words = [noise(100 * round_number + number) for number in range(40)]
        upstream.plan(stream_of(words))
        async with ask(door) as reading:
            await reading.finish()
        ids.append(reading.id)
        assert door.gateway.services.answers.size_bytes <= 1048576
    refused = await status_of_stream(door, ids[0], bearer(OWNER), "?after=0")
    assert refused == (410, "answer_gone")
    assert (await facts(door, ids[0]))["ending"] == "finished", "what it used is still known"
    assert (await replay(door, ids[-1]))[-1] == "data: [DONE]"


async def test_an_id_of_a_kept_answer_is_not_given_again(door: Door) -> None:
    headers = bearer(OWNER) | {"X-Request-Id": "chosen-by-me"}
    async with ask(door, headers) as first:
        await first.finish()
    async with ask(door, headers) as second:
        await second.finish()
    assert first.id == "chosen-by-me" != second.id


async def test_a_stop_of_the_gateway_lets_an_unread_answer_finish(tmp_path: Path) -> None:
    async with FakeUpstream() as upstream:
        answer, gate = held_after(2)
        upstream.plan(answer)
        async with front_door(tmp_path, upstream) as door:
            async with ask(door) as reading:
                await reading.read(2)
            draining = asyncio.create_task(door.gateway.drain())
            gate.set()
            await draining
            (row,) = await door.usage_rows()
            assert row.status == "finished"
