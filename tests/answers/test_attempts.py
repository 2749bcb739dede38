"""What is on record of the deployments that were tried for a request, one after the other."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.described import described
from support.fakes.upstream import (
    FakeUpstream,
    chunk,
    document,
    event,
    refusal,
    refusing_url,
    silence,
    streaming,
)
from support.front_door import MODEL, Door, front_door
from support.kept import UPDATES, ask, held_after, stop
from support.waiting import soon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.fakes.answers import Answer

IMPATIENT = "[stream]\nfirst_content_timeout_s = 2\ngap_timeout_s = 2\n"


@asynccontextmanager
async def tried(
    path: Path, *answers: Answer | None, settings: str = IMPATIENT
) -> AsyncIterator[tuple[Door, list[FakeUpstream]]]:
    """Run a gateway whose deployments answer so, in this order; one without an answer refuses."""
    async with AsyncExitStack() as stack:
        places: list[FakeUpstream | str] = []
        for answer in answers:
            if answer is None:
                places.append(stack.enter_context(refusing_url()))
                continue
            upstream = await stack.enter_async_context(FakeUpstream())
            upstream.plan(answer)
            places.append(upstream)
        door = await stack.enter_async_context(front_door(path, *places, settings=settings))
        yield door, [place for place in places if isinstance(place, FakeUpstream)]


async def recorded(door: Door) -> dict[str, Any]:
    """Read the only request on record, as its owner does, and hold it against the description."""
    (row,) = await door.usage_rows()
    told = await described(door)
    shown: dict[str, Any] = await told.call(door, "get", "/requests/{id}", id=row.request_id)
    return shown


def endings(record: dict[str, Any]) -> list[str]:
    """Return how the attempts ended, and require that they followed each other."""
    attempts = record["attempts"]
    for before, after in itertools.pairwise(attempts):
        assert before["start_ms"] + before["duration_ms"] <= after["start_ms"] + 1
    assert record["queued_ms"] <= attempts[0]["start_ms"]
    assert attempts[-1]["start_ms"] + attempts[-1]["duration_ms"] <= record["duration_ms"]
    assert attempts[-1]["deployment"] == record["deployment"]
    return [attempt["ending"] for attempt in attempts]


async def test_every_deployment_that_was_tried_is_on_record(tmp_path: Path) -> None:
    hello = streaming([event(chunk({"content": "Hi"})), event(chunk(finish="stop"))])
    async with tried(tmp_path, None, refusal(500), silence(), hello) as (door, _):
        await door.stream_text()
        record = await recorded(door)
        deployments = door.gateway.services.catalog.models[MODEL].deployments
        names = [deployment.id for deployment in deployments]
        assert [attempt["deployment"] for attempt in record["attempts"]] == names
        assert endings(record) == [
            *("upstream_unavailable", "upstream_unavailable", "upstream_timeout", "answered")
        ]
        assert record["attempts"][2]["duration_ms"] >= 1_900
        assert record["status"] == "finished"


async def test_a_request_that_nobody_answered_tells_how_each_failed(tmp_path: Path) -> None:
    waits = refusal(429, headers={"retry-after": "7"})
    impatient = IMPATIENT + "[queue]\nmax_wait_s = 0.1\n"
    async with tried(tmp_path, waits, refusal(503), None, settings=impatient) as (door, _):
        assert (await door.chat()).status_code == 429
        record = await recorded(door)
        assert endings(record) == [
            *("upstream_rate_limited", "upstream_overloaded", "upstream_unavailable")
        ]


async def test_the_log_calls_a_failure_what_the_record_calls_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with tried(tmp_path, refusal(429), refusal(400)) as (door, _):
        caplog.set_level("INFO", "roxy.workers")
        await door.chat()
        told = endings(await recorded(door))
        lines = [line for line in caplog.messages if " failed: " in line]
        assert told == ["upstream_rate_limited", "upstream_rejected"]
        assert [line.split(" failed: ")[1].split()[0] for line in lines] == told
        assert "(HTTP 429: " in lines[0] and lines[1].endswith("(HTTP 400: rejected)")


async def test_the_log_names_an_added_member_that_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unknown = {"error": {"message": "Unrecognized request argument supplied: stream_options"}}
    hello = streaming([event(chunk({"content": "Hi"})), event(chunk(finish="stop"))])
    async with tried(tmp_path, hello) as (door, (upstream,)):
        upstream.plan(refusal(400, unknown), hello)
        await door.stream_text()
        (line,) = [line for line in caplog.messages if "left out" in line]
        assert "does not take stream_options, which the gateway adds" in line


async def test_a_client_that_leaves_while_others_are_tried_is_on_record(tmp_path: Path) -> None:
    async with tried(tmp_path, refusal(500), silence(), settings="") as (door, (_, silent)):
        asking = asyncio.ensure_future(door.chat())
        seen = await silent.request()
        asking.cancel()
        await soon(seen.left.wait())
        record = await recorded(door)
        assert endings(record) == ["upstream_unavailable", "cancelled"]
        assert (record["status"], record["http_status"]) == ("cancelled", 499)


async def test_a_single_attempt_is_on_record_when_it_did_not_answer(tmp_path: Path) -> None:
    cut = streaming([event(chunk({"content": "Hi"}))], end="reset")
    async with tried(tmp_path, cut) as (door, _):
        await door.stream_text()
        record = await recorded(door)
        assert (endings(record), record["status"]) == (["upstream_disconnected"], "cut")


async def test_a_single_attempt_that_answered_is_not_worth_a_line(door: Door) -> None:
    await door.stream_text()
    assert (await recorded(door))["attempts"] is None


@pytest.mark.gateway(max_concurrency=1)
async def test_a_request_that_was_never_sent_has_no_attempts(
    upstream: FakeUpstream, door: Door
) -> None:
    held, gate = held_after(2)
    upstream.plan(held)
    async with ask(door) as running:
        await running.read(2)
        async with ask(door, UPDATES) as waiting:
            await waiting.read_comment("queued")
            await stop(door, waiting.id)
            await waiting.finish()
        gate.set()
        await running.finish()
    rows = {row.request_id: row for row in await door.usage_rows(2)}
    assert (rows[waiting.id].status, rows[waiting.id].attempts) == ("cancelled", None)


async def test_an_upstreams_own_words_are_never_on_record(tmp_path: Path) -> None:
    told = {"error": {"message": "secret words", "code": "secret_code", "type": "secret_type"}}
    async with tried(tmp_path, document(told, status=400)) as (door, _):
        answer = await door.chat()
        assert answer.json()["error"]["code"] == "secret_code", "its client may know"
        record = await recorded(door)
        assert endings(record) == ["upstream_rejected"]
        assert "secret" not in str(record)
