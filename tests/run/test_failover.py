"""Failover at the front door: what waits for room, what cools down, and what is tried again."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.fakes.upstream import (
    Answer,
    FakeUpstream,
    Pause,
    chunk,
    completion,
    event,
    refusal,
    refusing_url,
    silence,
    streaming,
)
from support.front_door import MODEL, OWNER, Door, bearer, front_door, parse_events, request_body
from support.waiting import PATIENCE_S, eventually, soon

from workers.run.deployment_state import FAILURES_IN_A_ROW
from workers.run.retries import EXTRA_LOAD, FIRST_TOKENS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

RESET = Answer(raw=True, end="reset")
NO_PATIENCE = {"X-Roxy-Max-Wait": "0"}


async def ask(door: Door, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    """Ask for a whole completion, with more headers."""
    return await door.client.post(
        "/api/v1/chat/completions",
        json=request_body(**body),
        headers=bearer(OWNER) | (headers or {}),
    )


def held(text: str, event_: asyncio.Event) -> Answer:
    """Plan a whole answer that waits for an event."""
    (body,) = completion(text).pieces
    return Answer(headers={"content-type": "application/json"}, pieces=[Pause(event_), body])


@asynccontextmanager
async def two(
    path: Path, *, room: int = 1, settings: str = ""
) -> AsyncIterator[tuple[Door, FakeUpstream, FakeUpstream]]:
    """Run a gateway in front of two upstreams, of which the first is preferred."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(FakeUpstream())
        second = await stack.enter_async_context(FakeUpstream())
        door = await stack.enter_async_context(
            front_door(path, first, second, max_concurrency=room, settings=settings)
        )
        yield door, first, second


async def states(door: Door) -> list[str]:
    """Return the states of the deployments of the test model, as the owner sees them."""
    health = (await door.get("/api/v1/health")).json()
    (model,) = [one for one in health["models"] if one["id"] == MODEL]
    return [one["state"] for one in model["deployments"]]


async def loads(door: Door) -> list[int]:
    """Return how many requests the deployments of the test model carry."""
    scheduler = door.gateway.services.engine.scheduler
    (report,) = await scheduler.report([door.gateway.services.catalog.models[MODEL]])
    return [one.busy for one in report.deployments]


def jobs(door: Door) -> list[str]:
    return sorted(job.state for job in door.gateway.services.engine.jobs.values())


# The first is down, the second is full


@pytest.mark.parametrize("down", ["refused", "reset", "500", "401", "429", "overloaded"])
async def test_when_the_first_is_down_and_the_second_full_the_others_wait_for_it(
    tmp_path: Path, down: str
) -> None:
    answers = {
        "reset": RESET,
        "500": refusal(500),
        "401": refusal(401),
        "429": refusal(429, headers={"retry-after": "3600"}),
        "overloaded": refusal(503, headers={"retry-after": "3600"}),
    }
    async with AsyncExitStack() as stack:
        second = await stack.enter_async_context(FakeUpstream())
        first: FakeUpstream | str
        if down == "refused":
            first = stack.enter_context(refusing_url())
        else:
            first = await stack.enter_async_context(FakeUpstream())
            first.plan(answers[down])
        release = asyncio.Event()
        second.plan(held("one", release), completion("more"))
        door = await stack.enter_async_context(
            front_door(tmp_path, first, second, max_concurrency=1)
        )
        asked = [asyncio.ensure_future(door.chat()) for _ in range(8)]
        await second.request()
        await eventually(lambda: jobs(door) == ["connecting"] + ["queued"] * 7)
        deployments = door.gateway.services.catalog.models[MODEL].deployments
        assert await loads(door) == [0, 1]
        release.set()
        got = await soon(asyncio.gather(*asked))
        assert [answer.status_code for answer in got] == [200] * 8
        assert len(second.requests) == 8
        rows = await door.usage_rows(8)
        assert {row.deployment for row in rows} == {deployments[1].id}


async def test_a_wait_for_a_slot_is_bounded_by_the_requests_patience(tmp_path: Path) -> None:
    async with two(tmp_path) as (door, first, second):
        first.plan(refusal(401))  # no attempt of a later request takes from its patience
        second.plan(held("one", asyncio.Event()))
        running = asyncio.ensure_future(door.chat())
        await second.request()
        answer = await ask(door, {"X-Roxy-Max-Wait": "0.3"})
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "server_is_overloaded"
        assert int(answer.headers["retry-after"]) >= 1
        assert len(second.requests) == 1
        assert (await ask(door, NO_PATIENCE)).status_code in (502, 503)
        running.cancel()


async def test_a_waiting_client_that_leaves_frees_its_place(tmp_path: Path) -> None:
    async with two(tmp_path) as (door, first, second):
        first.plan(refusal(500))
        release = asyncio.Event()
        second.plan(held("one", release))
        running = asyncio.ensure_future(door.chat())
        await second.request()
        waiting = asyncio.ensure_future(door.chat())
        await eventually(lambda: jobs(door) == ["connecting", "queued"])
        waiting.cancel()
        await eventually(lambda: jobs(door) == ["connecting"])
        release.set()
        assert (await soon(running)).status_code == 200
        assert len(second.requests) == 1
        rows = await door.usage_rows(2)
        assert sorted(row.status for row in rows) == ["cancelled", "finished"]
        assert [row.prompt_tokens for row in rows if row.status == "cancelled"] == [None]


async def test_a_client_is_told_its_place_while_it_waits_for_a_slot(tmp_path: Path) -> None:
    async with two(tmp_path) as (door, first, second):
        first.plan(refusal(500))
        release = asyncio.Event()
        said = [event(chunk("Hi")), event(chunk(finish="stop")), event("[DONE]")]
        second.plan(streaming([Pause(release), *said]), streaming(said))
        running = asyncio.ensure_future(door.stream_text())
        await second.request()
        text = ""
        async with door.stream(headers={"X-Roxy-Queue-Updates": "true"}) as response:
            async for piece in response.aiter_text():
                text += piece
                if ": queued position=1 waiting=1" in text:
                    release.set()
        assert text.endswith("data: [DONE]\n\n")
        await soon(running)


async def test_every_deployment_is_tried_once_and_then_the_error_is_told(tmp_path: Path) -> None:
    async with two(tmp_path) as (door, first, second):
        first.plan(refusal(500))
        release = asyncio.Event()
        second.plan(held("one", release), refusal(500))
        running = asyncio.ensure_future(door.chat())
        await second.request()
        waiting = asyncio.ensure_future(door.chat())
        await eventually(lambda: jobs(door) == ["connecting", "queued"])
        release.set()
        assert (await soon(running)).status_code == 200
        assert (await soon(waiting)).status_code == 502
        assert len(second.requests) == 2
        failed = next(row for row in await door.usage_rows(2) if row.status == "failed")
        assert [attempt.ending for attempt in failed.attempts] == ["upstream_unavailable"] * 2


async def test_a_deployment_that_cools_for_too_long_is_not_waited_for(tmp_path: Path) -> None:
    async with two(tmp_path, room=8) as (door, first, second):
        first.plan(refusal(500))
        second.plan(refusal(429, headers={"retry-after": "3600"}))
        assert (await door.chat()).status_code == 429
        assert (await soon(door.chat())).status_code == 502
        assert (len(first.requests), len(second.requests)) == (2, 1)


async def test_a_slot_that_a_failed_attempt_leaves_is_used_at_once(tmp_path: Path) -> None:
    async with two(tmp_path) as (door, first, second):
        fail, release = asyncio.Event(), asyncio.Event()
        broken = refusal(500)
        first.plan(
            Answer(status=500, headers=broken.headers, pieces=[Pause(fail), *broken.pieces]),
            completion("waited"),
        )
        second.plan(refusal(500), held("moved on", release))
        moving = asyncio.ensure_future(door.chat())
        await first.request()
        waiting = asyncio.ensure_future(door.chat())
        await eventually(lambda: jobs(door) == ["connecting", "queued"])
        fail.set()
        await second.request(1)
        assert "waited" in (await soon(waiting)).text
        assert not moving.done()
        release.set()
        assert "moved on" in (await soon(moving)).text


# Cooling


async def test_a_request_waits_for_the_stated_time_if_it_has_the_patience(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(refusal(429, headers={"retry-after-ms": "300"}), completion("after all"))
    answer = await door.chat()
    assert answer.status_code == 200
    assert len(upstream.requests) == 2
    (row,) = await door.usage_rows()
    assert [attempt.ending for attempt in row.attempts] == ["upstream_rate_limited", "answered"]
    first, second = row.attempts
    rounding_ms = 3  # each of three figures
    assert second.start_ms >= first.start_ms + first.duration_ms + 300 - rounding_ms
    assert row.queued_ms >= 300 - rounding_ms


@pytest.mark.parametrize("status", [429, 503, 529])
async def test_a_stated_wait_that_is_too_long_is_told_and_the_upstream_left_alone(
    upstream: FakeUpstream, door: Door, status: int
) -> None:
    upstream.plan(refusal(status, headers={"retry-after": "3600"}))
    told = 429 if status == 429 else 503
    for _ in range(5):
        answer = await door.chat()
        assert answer.status_code == told
        assert 3500 <= int(answer.headers["retry-after"]) <= 3600
    assert len(upstream.requests) == 1
    assert await states(door) == ["cooling"]
    rows = await door.usage_rows(5)
    assert sorted(row.status for row in rows) == [
        "failed",
        "refused",
        "refused",
        "refused",
        "refused",
    ]


@pytest.mark.gateway(max_concurrency=1)
async def test_what_waits_is_told_at_once_when_all_cool_for_too_long(
    upstream: FakeUpstream, door: Door
) -> None:
    release = asyncio.Event()
    limited = refusal(429, headers={"retry-after": "3600"})
    upstream.plan(
        Answer(status=429, headers=limited.headers, pieces=[Pause(release), *limited.pieces])
    )
    asked = [asyncio.ensure_future(door.chat()) for _ in range(4)]
    await upstream.request()
    await eventually(lambda: jobs(door) == ["connecting"] + ["queued"] * 3)
    release.set()
    for answer in await soon(asyncio.gather(*asked)):
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 3500
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "failure",
    [refusal(500), refusal(502, b"<html>bad gateway</html>"), RESET, streaming([b"data: ?\n\n"])],
    ids=["500", "html", "reset", "garbage"],
)
async def test_an_upstream_that_fails_again_and_again_is_left_alone(
    upstream: FakeUpstream, door: Door, caplog: pytest.LogCaptureFixture, failure: Answer
) -> None:
    caplog.set_level(logging.INFO, "roxy.workers")
    upstream.plan(failure)
    statuses = [(await ask(door, NO_PATIENCE, stream=True)).status_code for _ in range(40)]
    assert len(upstream.requests) in range(
        FAILURES_IN_A_ROW, FAILURES_IN_A_ROW + probes(caplog) + 1
    )
    assert statuses[: FAILURES_IN_A_ROW - 1] == [502] * (FAILURES_IN_A_ROW - 1)
    assert set(statuses[FAILURES_IN_A_ROW:]) == {502}
    answer = await ask(door, NO_PATIENCE)
    assert answer.json()["error"]["code"] == "upstream_unavailable", "it has room, but it fails"
    assert int(answer.headers["retry-after"]) >= 1


def probes(caplog: pytest.LogCaptureFixture) -> int:
    """Count how often a deployment was probed: on a slow machine the first cooldown ends early."""
    return sum("tried with one request" in record.message for record in caplog.records)


async def cools(caplog: pytest.LogCaptureFixture) -> None:
    """Wait until a deployment cools, or has done so: on a slow machine it is probed already."""
    await eventually(lambda: "is not used for" in caplog.text)


async def test_hundreds_of_parallel_requests_do_not_hammer_a_dead_upstream(
    upstream: FakeUpstream, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "roxy.workers")
    upstream.plan(refusal(500))
    await soon(asyncio.gather(*(ask(door, NO_PATIENCE) for _ in range(20))))
    before = len(upstream.requests)
    answers = await soon(asyncio.gather(*(ask(door, NO_PATIENCE) for _ in range(200))))
    codes = {answer.json()["error"]["code"] for answer in answers}
    assert "upstream_unavailable" in codes
    assert codes <= {"upstream_unavailable", "server_is_overloaded"}, "one probe leaves no room"
    assert len(upstream.requests) <= before + probes(caplog)


async def test_a_request_that_comes_while_all_cool_is_served_when_they_have_cooled(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(refusal(429, headers={"retry-after": "1"}), completion("later"))
    assert (await ask(door, NO_PATIENCE)).status_code == 429
    assert "later" in (await soon(door.chat())).text
    assert len(upstream.requests) == 2


async def test_after_cooling_one_request_probes_and_the_others_wait_for_it(
    upstream: FakeUpstream, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "roxy.workers")
    release = asyncio.Event()
    upstream.plan(
        refusal(503, headers={"retry-after": "0.2"}), held("probe", release), completion("more")
    )
    asked = [asyncio.ensure_future(door.chat())]
    await cools(caplog)
    asked += [asyncio.ensure_future(door.chat()) for _ in range(5)]
    await upstream.request(1)
    await eventually(lambda: jobs(door) == ["connecting"] + ["queued"] * 5)
    assert await states(door) == ["probing"]
    assert len(upstream.requests) == 2
    release.set()
    answers = await soon(asyncio.gather(*asked))
    assert [answer.status_code for answer in answers] == [200] * 6
    assert len(upstream.requests) == 7


async def test_a_stream_that_has_begun_is_a_good_probe_though_it_lasts(
    upstream: FakeUpstream, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "roxy.workers")
    release = asyncio.Event()
    end = [event(chunk(finish="stop")), event("[DONE]")]
    said: list[bytes | Pause] = [event(chunk("Hi")), Pause(release), *end]
    upstream.plan(refusal(503, headers={"retry-after": "0.2"}), streaming(said))
    asked = [asyncio.ensure_future(door.stream_text())]
    await cools(caplog)
    asked += [asyncio.ensure_future(door.stream_text()) for _ in range(2)]
    await upstream.request(3)
    release.set()
    for text in await soon(asyncio.gather(*asked)):
        assert parse_events(text)[-1] == "[DONE]"


@pytest.mark.parametrize(
    "fault",
    [
        refusal(401),
        refusal(
            403, {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}
        ),
        refusal(402),
        refusal(429, {"error": {"message": "quota", "code": "insufficient_quota"}}),
    ],
    ids=["401", "403", "402", "no credit"],
)
async def test_a_refused_secret_or_an_empty_account_puts_a_deployment_aside(
    tmp_path: Path, fault: Answer
) -> None:
    async with two(tmp_path) as (door, first, second):
        first.plan(fault)
        for _ in range(3):
            assert (await door.chat()).status_code == 200
        assert (len(first.requests), len(second.requests)) == (1, 3)
        assert await states(door) == ["cooling", "ready"]


async def test_the_only_deployment_with_a_refused_secret_says_so_without_a_wait(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(refusal(401))
    first, second = await door.chat(), await door.chat()
    assert (first.status_code, second.status_code) == (502, 502)
    assert first.json()["error"]["message"] == second.json()["error"]["message"]
    assert "credentials" in second.json()["error"]["message"]
    assert second.headers["x-should-retry"] == "false"
    assert "retry-after" not in second.headers
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "rejection",
    [
        refusal(400, {"error": {"message": "invalid temperature"}}),
        refusal(400, {"error": {"message": "flagged", "code": "content_filter"}}),
        refusal(413),
        refusal(422, {"detail": [{"loc": ["body", "n"], "msg": "too large"}]}),
    ],
    ids=["invalid", "moderated", "large", "fastapi"],
)
async def test_one_users_bad_prompts_never_cool_a_deployment_for_others(
    upstream: FakeUpstream, door: Door, rejection: Answer
) -> None:
    upstream.plan(*[rejection] * 40, completion("for others"))
    for _ in range(40):
        assert 400 <= (await door.chat()).status_code < 500
    assert (await door.chat()).status_code == 200
    assert await states(door) == ["ready"]


@pytest.mark.gateway(settings="[stream]\nfirst_content_timeout_s = 0.3\n")
async def test_a_prompt_that_may_have_been_processed_is_not_sent_again(
    upstream: FakeUpstream, door: Door
) -> None:
    for answer in (silence(), RESET, refusal(500)):
        upstream.plan(answer)
        before = len(upstream.requests)
        assert (await door.chat(stream=True)).status_code in (502, 504)
        assert len(upstream.requests) == before + 1


async def test_a_request_that_found_no_connection_is_tried_again_after_a_pause(
    tmp_path: Path,
) -> None:
    with refusing_url() as nowhere:
        async with front_door(tmp_path, nowhere) as door:
            assert (await door.chat()).status_code == 502
            assert (await ask(door, NO_PATIENCE)).status_code == 502
            hasty, patient = await door.usage_rows(2)
    assert hasty.attempts == () or len(hasty.attempts) == 1
    assert len(patient.attempts) == 2
    first, second = patient.attempts
    assert second.start_ms - first.start_ms - first.duration_ms >= 249


async def test_a_failing_upstream_gets_at_most_a_fifth_more_load(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(refusal(429, headers={"retry-after-ms": "10"}))
    count = 60
    for _ in range(count):
        assert (await door.chat()).status_code == 429
    extra = len(upstream.requests) - count
    assert 5 <= extra <= FIRST_TOKENS + EXTRA_LOAD * count


# What the owner sees


async def test_each_change_of_a_state_is_logged_once(
    upstream: FakeUpstream, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "roxy.workers")
    upstream.plan(*[refusal(500)] * FAILURES_IN_A_ROW)
    for _ in range(30):
        await ask(door, NO_PATIENCE)
    told = [record.message for record in caplog.records if "not used" in record.message]
    assert len(told) in range(1, probes(caplog) + 2)
    assert told[0].endswith("s: upstream_unavailable")


async def test_a_deployment_that_recovers_is_logged_as_used_again(
    tmp_path: Path, upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "roxy.workers")
    async with front_door(tmp_path, upstream, max_concurrency=1) as door:
        upstream.plan(refusal(429, headers={"retry-after-ms": "100"}), completion())
        assert (await door.chat()).status_code == 200
        (name,) = [one.id for one in door.gateway.services.catalog.models[MODEL].deployments]
        assert await states(door) == ["ready"]
    lines = [record.message for record in caplog.records if record.message.startswith(name)]
    assert lines == [
        f"{name} is not used for 0.1 s: upstream_rate_limited",
        f"{name} is tried with one request",
        f"{name} is used again",
    ]


async def test_wider_probes_are_not_logged(
    tmp_path: Path, upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "roxy.workers")
    async with front_door(tmp_path, upstream, max_concurrency=8) as door:
        upstream.plan(refusal(429, headers={"retry-after-ms": "100"}), completion())
        for _ in range(4):
            assert (await door.chat()).status_code == 200
        assert await states(door) == ["ready"]
    lines = [record.message for record in caplog.records if record.message.startswith(MODEL)]
    assert len(lines) == 3, lines
    assert lines[1].endswith("is tried with one request")
    assert lines[2].endswith("is used again")


async def test_a_stop_does_not_wait_for_what_cools(tmp_path: Path, upstream: FakeUpstream) -> None:
    upstream.plan(refusal(429, headers={"retry-after": "60"}))
    settings = "[server]\ndrain_timeout_s = 0.1\n"
    async with asyncio.timeout(PATIENCE_S):
        async with front_door(tmp_path, upstream, settings=settings) as door:
            waiting = asyncio.ensure_future(door.chat())
            await upstream.request()
            await eventually(lambda: jobs(door) == ["queued"])
            engine = door.gateway.services.engine
            await engine.drain(0.01)
            answer = await waiting
    assert answer.json()["error"]["code"] == "server_is_draining"
