"""A running request and a kept answer, whichever process is asked: the answer is the same."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from nodes.family import TWO, child_of, kill, port_of
from support.fakes.gauge import Gauge
from support.fakes.upstream import FakeUpstream
from support.front_door import (
    MODEL,
    NO_AUTHORITIES,
    OWNER,
    bearer,
    parse_events,
    request_body,
    roxy_toml,
)
from support.kept import KEEP, held_after
from support.processes import FarDoor, Roxy, serving
from support.waiting import PATIENCE_S, soon

CONNECTIONS = 4
"""How many requests a test has under way in one process."""


@asynccontextmanager
async def pair(
    path: Path, upstream: FakeUpstream, *, settings: str = ""
) -> AsyncIterator[tuple[Roxy, Process, Process]]:
    """Run a gateway in two processes, with the clients of each."""
    async with AsyncExitStack() as stack:
        roxy = await stack.enter_async_context(
            serving(path, upstream, settings=settings, options=TWO)
        )
        one, other = await clients(stack, roxy)
        yield roxy, one, other


class Process:
    """One process: `door` is a client with a connection of its own, another one each time."""

    def __init__(self, doors: list[FarDoor]) -> None:
        self._doors = itertools.cycle(doors)

    @property
    def door(self) -> FarDoor:
        """Return a client whose connection is free."""
        return next(self._doors)


async def clients(stack: AsyncExitStack, roxy: Roxy, processes: int = 2) -> list[Process]:
    """Open some connections to each process; the tags in the ids that they make differ."""
    found: dict[str, list[FarDoor]] = {}
    one_connection = httpx.Limits(max_connections=1, keepalive_expiry=PATIENCE_S)
    async with asyncio.timeout(PATIENCE_S):
        while sum(len(doors) >= CONNECTIONS for doors in found.values()) < processes:
            client = await stack.enter_async_context(
                httpx.AsyncClient(
                    base_url=roxy.door.url,
                    timeout=PATIENCE_S,
                    limits=one_connection,
                    trust_env=False,
                    verify=NO_AUTHORITIES,
                )
            )
            answer = await client.get("/healthz")
            door = FarDoor(roxy.door.url, client)
            found.setdefault(answer.headers["x-request-id"][4:8], []).append(door)
    return [Process(doors) for doors in found.values()]


async def kept_here(
    door: FarDoor, key: str = OWNER, headers: dict[str, str] | None = None
) -> tuple[str, asyncio.Task[str]]:
    """Ask one process for a kept answer; return its id and the text to come."""
    begun: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def read() -> str:
        async with door.stream(headers=KEEP | (headers or {}), key=key) as response:
            assert response.status_code == 200, await response.aread()
            begun.set_result(response.headers["x-request-id"])
            return (await response.aread()).decode()

    task = asyncio.create_task(read())
    return await soon(begun), task


async def job(door: FarDoor, job_id: str, key: str = OWNER) -> Any:
    """Return what a process says of a job."""
    return await door.get(f"/api/v1/jobs/{job_id}", key)


async def streams(process: Process, job_id: str) -> None:
    """Wait until a request is being answered, as a process says."""
    async with asyncio.timeout(PATIENCE_S):
        while (await job(process.door, job_id)).json()["state"] != "streaming":
            await asyncio.sleep(0.01)


async def test_a_kept_answer_is_read_byte_for_byte_through_the_other_process(
    tmp_path: Path,
) -> None:
    async with FakeUpstream() as upstream, pair(tmp_path, upstream) as (_, one, other):
        answer, go_on = held_after(2)
        upstream.plan(answer)
        job_id, reading = await kept_here(one.door)
        seen = asyncio.create_task(other.door.get(f"/api/v1/jobs/{job_id}/stream?after=0"))
        await streams(other, job_id)
        go_on.set()
        direct = await soon(reading)
        passed = await soon(seen)
        assert passed.status_code == 200
        assert passed.text.removeprefix(": attached\n\n") == direct
        assert passed.headers["content-type"] == "text/event-stream; charset=utf-8"
        again = await other.door.get(f"/api/v1/jobs/{job_id}/stream?after=1")
        assert again.text.removeprefix(": attached\n\n") == direct.partition("\n\n")[2]
        facts = (await job(other.door, job_id)).json()
        assert facts == (await job(one.door, job_id)).json()
        assert (facts["state"], facts["kept"], facts["ending"]) == ("done", True, "finished")


async def test_a_request_is_stopped_through_the_other_process(tmp_path: Path) -> None:
    async with FakeUpstream() as upstream, pair(tmp_path, upstream) as (_, one, other):
        answer, _ = held_after(2)
        upstream.plan(answer)
        job_id, reading = await kept_here(one.door)
        stopped = await other.door.client.delete(f"/api/v1/jobs/{job_id}", headers=bearer(OWNER))
        assert stopped.status_code == 200
        assert parse_events(await soon(reading))[-1]["error"]["code"] == "stopped"
        assert (await upstream.request()).left.is_set() or await soon(
            (await upstream.request()).left.wait()
        )


async def test_only_who_may_see_a_request_sees_it_through_another_process(tmp_path: Path) -> None:
    async with FakeUpstream() as upstream, pair(tmp_path, upstream) as (_, one, other):
        answer, go_on = held_after(2)
        upstream.plan(answer)
        mine = await one.door.mint("mine")
        foreign = await one.door.mint("foreign")
        job_id, reading = await kept_here(one.door, mine)
        for key, status in ((mine, 200), (OWNER, 200), (foreign, 404)):
            assert (await job(other.door, job_id, key)).status_code == status
        assert (await job(other.door, job_id, "roxy_" + "x" * 38)).status_code == 401
        stream = f"/api/v1/jobs/{job_id}/stream"
        assert (await other.door.get(stream, foreign)).status_code == 404
        assert (await other.door.get(stream, OWNER)).status_code == 404, "the owner reads their own"
        go_on.set()
        await soon(reading)
        assert (await other.door.get(stream, mine)).status_code == 200


async def test_an_id_that_a_client_has_chosen_is_found_and_not_taken_twice(tmp_path: Path) -> None:
    chosen = {"X-Request-Id": "chosen-by-a-client"}
    async with FakeUpstream() as upstream, pair(tmp_path, upstream) as (_, one, other):
        answer, go_on = held_after(2)
        upstream.plan(answer)
        job_id, reading = await kept_here(one.door, headers=chosen)
        assert job_id == "chosen-by-a-client"
        await streams(other, job_id)
        twin = await other.door.client.post(
            "/api/v1/chat/completions", json=request_body(), headers=bearer(OWNER) | chosen
        )
        assert (twin.status_code, twin.json()["error"]["code"]) == (409, "conflict")
        assert (await job(other.door, job_id)).json()["state"] == "streaming", "the claim stays"
        go_on.set()
        await soon(reading)
        assert (await job(other.door, job_id)).json()["ending"] == "finished"


async def test_an_id_is_free_again_when_its_request_has_ended(tmp_path: Path) -> None:
    chosen = {"X-Request-Id": "chosen-by-a-client"}
    async with FakeUpstream() as upstream, pair(tmp_path, upstream) as (_, one, other):
        for door in (one.door, other.door, one.door):

            async def asked(door: FarDoor = door) -> int:
                answer = await door.client.post(
                    "/api/v1/chat/completions", json=request_body(), headers=bearer(OWNER) | chosen
                )
                assert answer.headers["x-request-id"] == "chosen-by-a-client"
                return int(answer.status_code)

            status = await asked()
            while status == 409:  # the release of the one before is on its way
                status = await asked()
            assert status == 200


async def test_requests_of_a_killed_process_are_not_there_and_its_ids_are_free(
    tmp_path: Path,
) -> None:
    chosen = {"X-Request-Id": "chosen-by-a-client"}
    async with FakeUpstream() as upstream, pair(tmp_path, upstream) as (roxy, dead, alive):
        upstream.plan(held_after(2)[0])
        made, first = await kept_here(dead.door)
        upstream.plan(held_after(2)[0])
        job_id, second = await kept_here(dead.door, headers=chosen)
        assert (await job(alive.door, job_id)).status_code == 200
        kill(child_of(port_of(await dead.door.get("/healthz")), roxy.pid), signal.SIGKILL)
        await asyncio.wait([first, second])
        assert first.exception() and second.exception()
        for one in (made, job_id):
            while (await job(alive.door, one)).status_code != 404:
                await asyncio.sleep(0.01)
        upstream.plan(held_after(2)[0])
        _, third = await kept_here(alive.door, headers=chosen)
        third.cancel()


async def test_live_and_health_are_those_of_all_processes(tmp_path: Path) -> None:
    async with FakeUpstream() as upstream, pair(tmp_path, upstream) as (_, one, other):
        answers = [held_after(2) for _ in range(3)]
        upstream.plan(*(answer for answer, _ in answers))
        readings = [await kept_here(door) for door in (one.door, other.door, other.door)]
        for door in (one.door, other.door):
            live = (await door.get("/api/v1/live")).json()
            (model,) = [each for each in live["models"] if each["id"] == MODEL]
            assert (model["running"], model["queued"], live["kept"]) == (3, 0, 3)
            assert {each["id"] for each in model["jobs"]} == {job_id for job_id, _ in readings}
            assert [each["busy"] for each in model["deployments"]] == [3]
            (node,) = live["nodes"]
            assert (node["state"], node["processes"], node["running"]) == ("here", 2, 3)
        for _, go_on in answers:
            go_on.set()
        for _, reading in readings:
            await soon(reading)
        for door in (one.door, other.door):
            health = (await door.get("/api/v1/health")).json()
            (model,) = [each for each in health["models"] if each["id"] == MODEL]
            assert (model["requests"], model["failures"]) == (3, 0)
            assert model["ttft_ms"] is not None
            assert [each["busy"] for each in model["deployments"]] == [0]


async def test_two_hundred_requests_over_four_processes_never_exceed_the_slots(
    tmp_path: Path,
) -> None:
    async with FakeUpstream() as upstream:
        settings = roxy_toml(upstream.base_url, max_concurrency=7)
        gauge = Gauge(upstream)
        async with serving(tmp_path, settings=settings, options=("--processes", "4")) as roxy:
            answers = await soon(asyncio.gather(*(roxy.door.chat(stream=True) for _ in range(200))))
        assert [answer.status_code for answer in answers] == [200] * 200
        assert gauge.most == 7


# Marks


async def test_a_mark_that_nobody_has_signed_changes_nothing_and_passes_nothing_on(
    tmp_path: Path,
) -> None:
    async with FakeUpstream() as upstream, pair(tmp_path, upstream) as (_, one, other):
        answer, _ = held_after(2)
        upstream.plan(answer)
        job_id, reading = await kept_here(one.door)
        here, there = one.door, other.door
        for mark in ("", "1;9.9.9.9;h;0;00", "x", ";;;;", "2;1.1.1.1;h;1;" + "0" * 64):
            headers = bearer(OWNER) | {"X-Roxy-Passed-On": mark}
            for door, status in ((here, 200), (there, 404)):
                answered = await door.client.get(f"/api/v1/jobs/{job_id}", headers=headers)
                assert answered.status_code == status, mark
            live = await there.client.get("/api/v1/live", headers=headers)
            (model,) = [each for each in live.json()["models"] if each["id"] == MODEL]
            assert model["running"] == 0, f"{mark}: only what is in the process that was asked"
        reading.cancel()


async def test_a_client_that_leaves_ends_the_reading_in_the_other_process(tmp_path: Path) -> None:
    async with FakeUpstream() as upstream, pair(tmp_path, upstream) as (_, one, other):
        answer, go_on = held_after(2)
        upstream.plan(answer)
        job_id, reading = await kept_here(one.door)
        path = f"/api/v1/jobs/{job_id}/stream?after=0"
        for _ in range(20):  # 16 readers are the most at a time
            async with other.door.client.stream("GET", path, headers=bearer(OWNER)) as response:
                assert response.status_code == 200
                async for text in response.aiter_text():
                    if "data: " in text:
                        break
        await streams(other, job_id)
        go_on.set()
        await soon(reading)
