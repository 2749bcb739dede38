"""Processes that live and answer nothing: a child is replaced, and a keeper's children end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from nodes.family import TWO, children_of, doors_to_each, ended, kill
from support.fakes.upstream import FakeUpstream
from support.processes import serving
from support.waiting import eventually, soon

from server.nodes.link import Link, open_link
from server.nodes.procedure import Service
from server.processes import pulse
from server.processes.pulse import PULSE, SILENT_TICKS, wait_until_silent

TICK_S = 0.01


@pytest.fixture(autouse=True)
def short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask often; the processes that a test starts are not changed by this."""
    monkeypatch.setattr(pulse, "TICK_S", TICK_S)


@contextlib.asynccontextmanager
async def linked() -> AsyncIterator[tuple[Link, Link]]:
    """Yield both ends of a link, each of which answers."""
    ends = []
    for sock in socket.socketpair():
        service = Service()
        service.answer_at_once(PULSE, lambda _: None)
        ends.append(await open_link(sock, service))
    try:
        yield ends[0], ends[1]
    finally:
        for link in ends:
            await link.aclose()


async def test_an_end_that_answers_is_not_silent_however_long_this_process_was_paused() -> None:
    async with linked() as (near, far):
        watch = asyncio.create_task(wait_until_silent(near))
        for _ in range(3):
            await asyncio.sleep(2 * TICK_S)
            time.sleep(2 * SILENT_TICKS * TICK_S)  # noqa: ASYNC251 - the pause of both processes
        await asyncio.sleep(2 * SILENT_TICKS * TICK_S)
        assert not watch.done()
        far.close()
        assert not await soon(watch)


async def test_an_end_that_reads_nothing_is_silent() -> None:
    near, far = socket.socketpair()
    with far:
        link = await open_link(near, Service())
        assert await soon(wait_until_silent(link))
        link.abort()
        await link.aclose()


async def test_an_end_that_is_lost_while_it_is_asked_is_not_silent() -> None:
    near, far = socket.socketpair()
    link = await open_link(near, Service())
    watch = asyncio.create_task(wait_until_silent(link))
    await asyncio.sleep(2 * TICK_S)
    far.close()
    assert not await soon(watch)
    await link.aclose()


async def test_a_child_that_hangs_is_replaced_and_its_waiting_connections_are_served(
    tmp_path: Path,
) -> None:
    async with FakeUpstream() as upstream, serving(tmp_path, upstream, options=TWO) as roxy:
        victim = children_of(roxy.pid)[0]
        kill(victim, signal.SIGSTOP)
        asked = [asyncio.create_task(roxy.door.chat()) for _ in range(40)]
        await roxy.says("does not answer; it is killed")
        answers = await soon(asyncio.gather(*asked, return_exceptions=True))
        # One that it had accepted is cut; all that waited at its socket are served by the next.
        served = [one for one in answers if not isinstance(one, BaseException)]
        assert all(one.status_code == 200 for one in served)
        assert len(served) >= 35
        async with doors_to_each(roxy.door, roxy.pid) as doors:
            assert len(doors) == 2 and victim not in doors


async def test_children_of_a_keeper_that_hangs_end_and_come_back_with_it(tmp_path: Path) -> None:
    async with FakeUpstream() as upstream, serving(tmp_path, upstream, options=TWO) as roxy:
        children = children_of(roxy.pid)
        async with doors_to_each(roxy.door, roxy.pid) as doors:
            kill(roxy.pid, signal.SIGSTOP)
            # Nothing can be decided: clients get an error, and liveness probes are not answered.
            answers = await soon(
                asyncio.gather(*(door.chat() for door in doors.values()), return_exceptions=True)
            )
        for answer in answers:
            assert isinstance(answer, httpx.Response), answer
            assert answer.json()["error"]["code"] == "server_is_draining"
        await ended(*children)
        kill(roxy.pid, signal.SIGCONT)
        await eventually(lambda: len(children_of(roxy.pid)) == 2)
        assert (await roxy.door.chat()).status_code == 200
