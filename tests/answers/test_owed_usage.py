"""Leaving at the finish reason is not cheaper than staying: the usage is waited for."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.fakes.upstream import (
    USAGE,
    FakeUpstream,
    Pause,
    chunk,
    event,
    events_of,
    stream_of,
    streaming,
)
from support.front_door import OWNER, Door, bearer, front_door, parse_events
from support.waiting import eventually, soon

if TYPE_CHECKING:
    from support.fakes.answers import Answer

PATIENT = "[stream]\nusage_wait_s = 60\n"
BRIEF = "[stream]\nusage_wait_s = 0.2\n"
USED = (USAGE["prompt_tokens"], USAGE["completion_tokens"])


def finished_but_for_usage(hold: asyncio.Event, *after: bytes, end: Any = "clean") -> Answer:
    """Plan an answer that pauses between its finish reason and `after`."""
    before = events_of(["Hello"], done=False)
    return streaming([*before, Pause(hold), *after], end=end)


def usage_events() -> list[bytes]:
    return [event(chunk(choices=[], usage=USAGE)), event("[DONE]")]


async def read_to_finish(door: Door, **more: Any) -> str:
    """Read a stream up to its finish reason, then hang up; return the request id."""
    async with door.stream(**more) as response:
        text = ""
        async for piece in response.aiter_text():
            text += piece
            if '"finish_reason":"stop"' in text:
                return response.headers["x-request-id"]
    raise AssertionError("the answer ended without a finish reason")


@pytest.mark.gateway(settings=PATIENT)
@pytest.mark.parametrize(
    "late",
    [
        usage_events(),
        usage_events()[:1],  # without an end mark
        [b": working\n\n", usage_events()[0] + usage_events()[1]],
        [usage_events()[0].replace(b"data: ", b"data:").replace(b"\n\n", b"\r\n\r\n")],
        [usage_events()[0][:30], usage_events()[0][30:]],  # an event in two reads
    ],
    ids=["usage-and-done", "usage-only", "a-comment-before", "other-framing", "split"],
)
async def test_a_client_that_leaves_at_the_finish_reason_pays_what_the_upstream_bills(
    upstream: FakeUpstream, door: Door, late: list[bytes]
) -> None:
    hold = asyncio.Event()
    upstream.plan(finished_but_for_usage(hold, *late))
    await read_to_finish(door)
    hold.set()
    (row,) = await door.usage_rows()
    assert (row.status, row.http_status) == ("cancelled", 499)
    assert (row.prompt_tokens, row.completion_tokens, row.estimated) == (*USED, False)
    assert door.gateway.services.engine.jobs == {}


@pytest.mark.gateway(settings=PATIENT)
async def test_the_connection_is_kept_for_the_next_request(
    upstream: FakeUpstream, door: Door
) -> None:
    hold = asyncio.Event()
    upstream.plan(finished_but_for_usage(hold, *usage_events()), stream_of(["next"]))
    await read_to_finish(door)
    hold.set()
    await door.usage_rows()
    await soon((await upstream.request()).answered.wait())
    await door.stream_text()
    assert upstream.connections == 1


@pytest.mark.gateway(settings=PATIENT)
async def test_a_stop_through_the_api_pays_it_too(upstream: FakeUpstream, door: Door) -> None:
    hold = asyncio.Event()
    upstream.plan(finished_but_for_usage(hold, *usage_events()))
    async with door.stream() as response:
        text = ""
        async for piece in response.aiter_text():
            text += piece
            if '"finish_reason":"stop"' in text and "stopped" not in text:
                path = f"/api/v1/jobs/{response.headers['x-request-id']}"
                stopped = await door.client.delete(path, headers=bearer(OWNER))
                assert stopped.json()["state"] == "done"
        # The reader gets its end before the usage comes.
        assert parse_events(text)[-1]["error"]["code"] == "stopped"
    hold.set()
    (row,) = await door.usage_rows()
    assert (row.status, row.prompt_tokens, row.completion_tokens) == ("cancelled", *USED)


@pytest.mark.gateway(settings=PATIENT)
async def test_the_keys_slot_is_taken_until_the_usage_has_come(
    upstream: FakeUpstream, door: Door
) -> None:
    key = await door.mint(limits={"concurrent_requests": 1})
    hold = asyncio.Event()
    upstream.plan(finished_but_for_usage(hold, *usage_events()), stream_of(["next"]))
    await read_to_finish(door, key=key)
    await eventually(lambda: all(job.ended for job in door.gateway.services.engine.jobs.values()))
    refused = await door.chat(key=key)
    assert refused.status_code == 429, refused.text
    hold.set()
    await door.usage_rows()
    assert (await door.chat(key=key, stream=True)).status_code == 200


@pytest.mark.gateway(settings=PATIENT, max_concurrency=1)
async def test_the_deployments_slot_is_taken_until_the_usage_has_come(
    upstream: FakeUpstream, door: Door
) -> None:
    hold = asyncio.Event()
    upstream.plan(finished_but_for_usage(hold, *usage_events()), stream_of(["next"]))
    await read_to_finish(door)
    waiting = asyncio.ensure_future(door.stream_text())
    engine = door.gateway.services.engine
    await eventually(lambda: [job.state for job in engine.jobs.values()] == ["done", "queued"])
    assert len(upstream.requests) == 1
    hold.set()
    assert "next" in await soon(waiting)


@pytest.mark.gateway(settings=BRIEF)
async def test_usage_that_does_not_come_is_estimated_and_the_upstream_let_go(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(finished_but_for_usage(asyncio.Event()))
    await read_to_finish(door)
    (row,) = await door.usage_rows()
    assert (row.status, row.estimated, row.completion_tokens) == ("cancelled", True, 2)
    await soon((await upstream.request()).left.wait())


@pytest.mark.gateway(settings="[stream]\nusage_wait_s = 0\n")
async def test_waiting_for_usage_can_be_switched_off(upstream: FakeUpstream, door: Door) -> None:
    upstream.plan(finished_but_for_usage(asyncio.Event()))
    await read_to_finish(door)
    await soon((await upstream.request()).left.wait())
    (row,) = await door.usage_rows()
    assert (row.status, row.estimated) == ("cancelled", True)


@pytest.mark.gateway(settings=PATIENT)
async def test_a_choice_that_has_not_finished_is_not_waited_for(
    upstream: FakeUpstream, door: Door
) -> None:
    pieces: list[bytes | Pause] = [
        event(chunk("first", index=0)),
        event(chunk("second", index=1)),
        event(chunk(finish="stop", index=0)),
        Pause(asyncio.Event()),
    ]
    upstream.plan(streaming(pieces))
    await read_to_finish(door, n=2)
    await soon((await upstream.request()).left.wait())
    (row,) = await door.usage_rows()
    assert (row.status, row.estimated) == ("cancelled", True)


@pytest.mark.gateway(settings=PATIENT)
@pytest.mark.parametrize("end", ["cut", "reset"])
async def test_an_upstream_that_fails_while_its_usage_is_awaited_ends_the_wait(
    upstream: FakeUpstream, door: Door, end: Any
) -> None:
    hold = asyncio.Event()
    upstream.plan(finished_but_for_usage(hold, end=end))
    await read_to_finish(door)
    await eventually(lambda: all(job.ended for job in door.gateway.services.engine.jobs.values()))
    hold.set()
    (row,) = await door.usage_rows()
    assert (row.status, row.estimated) == ("cancelled", True)
    assert len(upstream.requests) == 1


@pytest.mark.gateway(settings="[stream]\nusage_wait_s = 60\n")
async def test_usage_after_the_end_mark_is_read_and_the_client_does_not_wait_for_it(
    upstream: FakeUpstream, door: Door
) -> None:
    hold = asyncio.Event()
    usage, end = usage_events()
    upstream.plan(streaming([*events_of(["Hello"], done=False), end, Pause(hold), usage]))
    assert "[DONE]" in await soon(door.stream_text())
    hold.set()
    (row,) = await door.usage_rows()
    assert (row.status, row.prompt_tokens, row.completion_tokens) == ("finished", *USED)
    assert not row.estimated


async def test_an_upstream_that_stays_open_after_the_end_mark_is_settled_without_it(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(streaming([*events_of(["Hello"], done=True), Pause(asyncio.Event())]))
    assert "[DONE]" in await soon(door.stream_text())
    (row,) = await door.usage_rows()
    assert (row.status, row.estimated) == ("finished", True)
    await soon((await upstream.request()).left.wait())


async def test_a_shutdown_does_not_wait_for_usage_longer_than_for_answers(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    upstream.plan(finished_but_for_usage(asyncio.Event()))
    settings = "[server]\ndrain_timeout_s = 0.1\n" + PATIENT
    async with front_door(tmp_path, upstream, settings=settings) as door:
        await read_to_finish(door)
        store_path = door.gateway.services.directory.database
    await soon((await upstream.request()).left.wait())
    async with front_door(tmp_path, upstream, settings=settings) as door:
        assert door.gateway.services.directory.database == store_path
        (row,) = await door.usage_rows()
    assert (row.status, row.estimated) == ("cancelled", True)


@pytest.mark.gateway(settings=PATIENT)
async def test_the_live_api_shows_what_waits_for_its_usage(
    upstream: FakeUpstream, door: Door
) -> None:
    hold = asyncio.Event()
    upstream.plan(finished_but_for_usage(hold, *usage_events()))
    request_id = await read_to_finish(door)
    engine = door.gateway.services.engine
    await eventually(lambda: [job.state for job in engine.jobs.values()] == ["done"])
    live = (await door.get("/api/v1/live")).json()
    shown = [(job["id"], job["state"]) for model in live["models"] for job in model["jobs"]]
    assert shown == [(request_id, "done")]
    hold.set()
    await door.usage_rows()
