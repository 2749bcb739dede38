"""The spare process: it takes the place of a child that dies, and knows what the others know."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import httpx
from nodes.family import (
    TWO,
    children_of,
    doors_to_each,
    ended,
    family_of,
    kill,
    spare_of,
    spares_of,
)
from support.fakes.upstream import FakeUpstream
from support.front_door import OWNER, bearer, roxy_toml
from support.processes import serving
from support.waiting import eventually, soon


async def test_the_spare_serves_what_waits_for_a_killed_child_and_another_spare_follows(
    tmp_path: Path,
) -> None:
    async with FakeUpstream() as upstream, serving(tmp_path, upstream, options=TWO) as roxy:
        revoked = await roxy.door.mint_key(name="revoked")
        valid = await roxy.door.mint(name="valid", limits={"requests_per_minute": 1})
        spare = await spare_of(roxy.pid)
        gone = await roxy.door.client.delete(f"/api/v1/keys/{revoked['id']}", headers=bearer(OWNER))
        assert gone.status_code == 200
        assert (await roxy.door.chat(key=valid)).status_code == 200
        victim, survivor = children_of(roxy.pid)
        kill(victim, signal.SIGSTOP)  # connections wait in its queue now
        asked = [asyncio.create_task(roxy.door.chat()) for _ in range(40)]
        await eventually(lambda: sum(one.done() for one in asked) >= 1)
        kill(victim)
        answers = await soon(asyncio.gather(*asked, return_exceptions=True))
        assert not any(isinstance(one, httpx.ConnectError) for one in answers)
        served = [one for one in answers if isinstance(one, httpx.Response)]
        assert len(served) >= 35 and all(one.status_code == 200 for one in served)
        assert children_of(roxy.pid) == sorted([survivor, spare])
        await roxy.says(rf"process 1 \({victim}\) has ended by SIGKILL; process {spare} takes")
        async with doors_to_each(roxy.door, roxy.pid) as doors:
            # What has happened while it was the spare holds for it, too.
            assert (await doors[spare].chat(key=revoked["key"])).status_code == 401
            assert (await doors[spare].chat(key=valid)).status_code == 429
        assert await spare_of(roxy.pid) not in (victim, spare, survivor)


async def test_a_killed_spare_is_replaced_and_a_child_that_dies_without_one_is_started_anew(
    tmp_path: Path,
) -> None:
    async with FakeUpstream() as upstream, serving(tmp_path, upstream, options=TWO) as roxy:
        first = await spare_of(roxy.pid)
        kill(first)
        await roxy.says(rf"the spare process \({first}\) has ended by SIGKILL; another starts")
        second = await spare_of(roxy.pid, first)
        victim = children_of(roxy.pid)[0]
        kill(second)
        kill(victim)  # before another spare can be ready; the keeper may learn of it first
        then = rf"(another starts now|process {second} takes its place)"
        await roxy.says(rf"process \d \({victim}\) has ended by SIGKILL; {then}")
        await roxy.says(r"process \d \(\d+\) serves now")
        assert len(children_of(roxy.pid)) == 2
        assert (await roxy.door.chat()).status_code == 200
        third = await spare_of(roxy.pid, first, second)
        children = children_of(roxy.pid)
        kill(roxy.pid)
        await ended(third, *children)


async def test_a_spare_has_the_configuration_of_the_last_reload_that_went_well(
    tmp_path: Path,
) -> None:
    async with FakeUpstream() as upstream:
        settings = roxy_toml(upstream.base_url)
        async with serving(tmp_path, settings=settings, options=TWO) as roxy:
            old = await spare_of(roxy.pid)
            (tmp_path / "roxy.toml").write_text(f"[no_such_section]\n{settings}")
            roxy.signal(signal.SIGHUP)
            await roxy.says("the configuration was not reloaded")
            assert spares_of(roxy.pid) == {old}
            (tmp_path / "roxy.toml").write_text(settings.replace("Test One", "Test Two"))
            before = children_of(roxy.pid)
            roxy.signal(signal.SIGHUP)
            await roxy.says("the configuration was reloaded; 2 processes were replaced")
            await ended(old)
            spare = await spare_of(roxy.pid)
            await roxy.door.client.aclose()  # its idle connections keep the old processes
            await ended(*before)
            kill(children_of(roxy.pid)[0])
            await eventually(lambda: spare in children_of(roxy.pid))
            async with doors_to_each(roxy.door, roxy.pid) as doors:
                models = (await doors[spare].get("/api/v1/models")).json()["data"]
                assert [one["name"] for one in models if one["id"] == "test/one"] == ["Test Two"]
            family = family_of(roxy.pid)  # the next spare among them, which is just starting
            roxy.signal(signal.SIGTERM)
            assert await roxy.ended() == 0
            await ended(*family)
