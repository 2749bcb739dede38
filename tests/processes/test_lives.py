"""The lives of the processes: killed children, a killed keeper, stops and reloads under load."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from nodes.family import (
    TWO,
    child_of,
    children_of,
    doors_to_each,
    ended,
    kill,
    port_of,
    proc_file,
)
from support.fakes.upstream import (
    FakeUpstream,
    Pause,
    answer_as_asked,
    chunk,
    completion,
    event,
    streaming,
)
from support.front_door import (
    NO_AUTHORITIES,
    OWNER,
    bearer,
    parse_events,
    request_body,
    roxy_toml,
    text_of,
)
from support.processes import FarDoor, Roxy, run, serving
from support.waiting import PATIENCE_S, eventually, soon


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


class Stream:
    """A running stream of one child: its text so far, and how it ended."""

    def __init__(self, door: FarDoor, **options: Any) -> None:
        self.begun = asyncio.Event()
        self.text = ""
        self.port = 0
        self.broken = False
        self.task = asyncio.create_task(self._read(door, options))

    async def _read(self, door: FarDoor, options: dict[str, Any]) -> None:
        try:
            async with door.stream(**options) as response:
                self.port = port_of(response)
                async for piece in response.aiter_text():
                    self.text += piece
                    self.begun.set()
        except httpx.TransportError:
            self.broken = True
        finally:
            self.begun.set()


async def streams_of_each(roxy: Roxy, most: int = 60, **options: Any) -> dict[int, Stream]:
    """Start streams until there is one in each child; return the first of each child."""
    found: dict[int, Stream] = {}
    for _ in range(most):
        stream = Stream(roxy.door, **options)
        await soon(stream.begun.wait())
        found.setdefault(child_of(stream.port, roxy.pid), stream)
        if len(found) == len(children_of(roxy.pid)):
            return found
    raise AssertionError("one child gets all connections")


async def replaced(roxy: Roxy, dead: int) -> list[int]:
    """Wait until another child serves in the place of a dead one; return all children."""
    await eventually(lambda: dead not in children_of(roxy.pid) and len(children_of(roxy.pid)) == 2)
    await roxy.says(rf"process \d \((?!{dead}\)).* serves now")
    return children_of(roxy.pid)


async def test_a_killed_child_is_replaced_and_only_its_own_streams_end(tmp_path: Path) -> None:
    hold = asyncio.Event()
    async with FakeUpstream() as upstream, serving(tmp_path, upstream, options=TWO) as roxy:
        upstream.plan(held(hold))
        streams = await streams_of_each(roxy)
        victim, survivor = streams
        kill(victim)
        await soon(streams[victim].task)
        assert streams[victim].broken
        await replaced(roxy, victim)
        assert not streams[survivor].task.done()
        hold.set()
        await soon(streams[survivor].task)
        assert text_of(parse_events(streams[survivor].text)) == "first last"
        assert "has ended by SIGKILL" in roxy.err
        async with doors_to_each(roxy.door, roxy.pid) as doors:
            assert victim not in doors and survivor in doors
            for door in doors.values():
                assert (await door.chat(stream=True)).status_code == 200


async def test_what_a_killed_child_had_taken_comes_back(tmp_path: Path) -> None:
    hold = asyncio.Event()
    limits = {"requests_per_minute": None, "concurrent_requests": 60, "tokens_per_minute": 100_000}
    async with FakeUpstream() as upstream, serving(tmp_path, upstream, options=TWO) as roxy:
        upstream.plan(held(hold))
        key = await roxy.door.mint(limits=limits)
        streams = await streams_of_each(roxy, key=key, max_tokens=500)
        victim, survivor = streams
        kill(victim)
        await replaced(roxy, victim)
        hold.set()
        await soon(streams[survivor].task)
        upstream.plan(completion())

        async def remaining() -> dict[str, Any]:
            left: dict[str, Any] = (await roxy.door.get("/api/v1/key", key)).json()["remaining"]
            return left

        async with asyncio.timeout(PATIENCE_S):
            while (left := await remaining())["concurrent_requests"]["running"]:
                await asyncio.sleep(0.02)
        assert left["tokens"]["remaining"] > 100_000 - 500


async def test_connections_that_wait_for_a_killed_child_are_served_by_the_next(
    tmp_path: Path,
) -> None:
    async with FakeUpstream() as upstream, serving(tmp_path, upstream, options=TWO) as roxy:
        victim = children_of(roxy.pid)[0]
        kill(victim, signal.SIGSTOP)  # connections wait in its queue now
        asked = [asyncio.create_task(roxy.door.chat()) for _ in range(40)]
        await eventually(lambda: sum(one.done() for one in asked) >= 1)
        kill(victim)
        await replaced(roxy, victim)
        answers = await soon(asyncio.gather(*asked, return_exceptions=True))
        # One that the dead child had accepted is cut; none is refused, and none waits for ever.
        served = [one for one in answers if not isinstance(one, BaseException)]
        assert all(one.status_code == 200 for one in served)
        assert not any(isinstance(one, httpx.ConnectError) for one in answers)
        assert len(served) >= 35


async def test_a_child_that_keeps_dying_is_started_less_and_less_often(tmp_path: Path) -> None:
    async with FakeUpstream() as upstream, serving(tmp_path, upstream, options=TWO) as roxy:
        async with asyncio.timeout(PATIENCE_S):
            # A child that has lived for ten seconds counts as steady, which a busy machine makes
            # of one that is to die early: then the next one dies.
            while "another starts in 0.5 s" not in roxy.err:
                victim = children_of(roxy.pid)[-1]
                kill(victim)
                await replaced(roxy, victim)
        await roxy.says("another starts now|takes its place")
        assert (await roxy.door.chat()).status_code == 200
        roxy.signal(signal.SIGTERM)
        assert await roxy.ended() == 0


async def test_children_end_with_their_keeper_and_streams_say_so(tmp_path: Path) -> None:
    hold = asyncio.Event()
    async with FakeUpstream() as upstream, short_directory() as sockets:
        environ = {"TMPDIR": str(sockets)}
        async with serving(tmp_path, upstream, options=TWO, environ=environ) as roxy:
            upstream.plan(held(hold))
            streams = await streams_of_each(roxy)
            children = children_of(roxy.pid)
            kill(roxy.pid)
            for stream in streams.values():
                await soon(stream.task)
                assert not stream.broken
                error = parse_events(stream.text)[-1]["error"]
                assert error["code"] == "server_is_draining"
            await ended(*children)
            assert "Traceback" not in roxy.err
        left = set(sockets.iterdir())
        assert len(left) == 1, "its directory for sockets"
        others = {sockets / name for name in (f"roxy-{os.getpid()}-runs", "roxy-notes", "other")}
        for other in others:
            other.mkdir()
        async with serving(tmp_path, upstream, options=TWO, environ=environ) as roxy:
            upstream.plan(completion())
            assert (await roxy.door.chat()).status_code == 200
            (own,) = set(sockets.iterdir()) - others
            assert own not in left and own.name.startswith(f"roxy-{roxy.pid}-")


@contextlib.asynccontextmanager
async def short_directory() -> AsyncIterator[Path]:
    """Make a directory whose path leaves room for the name of a Unix socket (unix(7))."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_under_load_finishes_what_runs_and_leaves_nothing(
    tmp_path: Path, number: int
) -> None:
    hold = asyncio.Event()
    async with FakeUpstream() as upstream, serving(tmp_path, upstream, options=TWO) as roxy:
        upstream.plan(held(hold))
        streams = await streams_of_each(roxy)
        children = children_of(roxy.pid)
        roxy.signal(number)
        await roxy.says("stopping 2 processes")
        hold.set()
        for stream in streams.values():
            await soon(stream.task)
            assert text_of(parse_events(stream.text)) == "first last"
            assert parse_events(stream.text)[-1] == "[DONE]"
        assert await roxy.ended() == 0
        await ended(*children)
        requests = len(upstream.requests)
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "roxy.db")) as db:
        assert db.execute("SELECT sum(requests) FROM usage_daily").fetchone() == (requests,)


class Load:
    """Clients that ask again and again, each on connections of its own; what failed is kept."""

    def __init__(self, door: FarDoor, upstream: FakeUpstream) -> None:
        self.answers = 0
        self.failures: list[str] = []
        self._door = door
        self._upstream = upstream
        self._stop = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self, clients: int) -> AsyncIterator[Load]:
        """Keep the load up while the block runs."""
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(self._ask(stream=number % 2 == 0))
            yield self
            self._stop.set()

    async def more(self, count: int) -> None:
        """Wait for so many more answers."""
        goal = self.answers + count
        await eventually(lambda: self.answers >= goal)

    async def _ask(self, *, stream: bool) -> None:
        async with httpx.AsyncClient(
            base_url=self._door.url, timeout=PATIENCE_S, trust_env=False, verify=NO_AUTHORITIES
        ) as client:
            while not self._stop.is_set():
                try:
                    answer = await client.post(
                        "/api/v1/chat/completions",
                        json=request_body("Hi", stream=stream),
                        headers=bearer(OWNER),
                    )
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                else:
                    whole = answer.status_code == 200 and (not stream or "[DONE]" in answer.text)
                    if not whole:
                        self.failures.append(f"{answer.status_code} {answer.text}")
                self.answers += 1


async def test_a_reload_under_load_replaces_every_child_and_fails_no_request(
    tmp_path: Path,
) -> None:
    hold = asyncio.Event()
    async with FakeUpstream() as upstream:
        settings = roxy_toml(upstream.base_url)
        async with serving(tmp_path, settings=settings, options=TWO) as roxy:
            upstream.plan(held(hold))
            streams = await streams_of_each(roxy)
            upstream.plan(answer_as_asked)
            before = children_of(roxy.pid)
            async with Load(roxy.door, upstream).running(8) as load:
                await load.more(20)
                (tmp_path / "roxy.toml").write_text(settings.replace("Test One", "Test Two"))
                roxy.signal(signal.SIGHUP)
                await roxy.says("the configuration was reloaded; 2 processes were replaced")
                await load.more(20)
            assert load.failures == []
            assert set(streams) <= set(before)
            # A stream that began before is not cut, and its process ends after it.
            assert not any(stream.task.done() for stream in streams.values())
            models = (await roxy.door.get("/api/v1/models")).json()["data"]
            assert [one["name"] for one in models if one["id"] == "test/one"] == ["Test Two"]
            hold.set()
            for stream in streams.values():
                await soon(stream.task)
                assert text_of(parse_events(stream.text)) == "first last"
            await roxy.door.client.aclose()  # its idle connections keep the old processes
            await ended(*before)
            assert len(children_of(roxy.pid)) == 2
            roxy.signal(signal.SIGTERM)
            assert await roxy.ended() == 0


async def test_roxy_reload_says_how_it_ended_and_a_bad_file_changes_nothing(
    tmp_path: Path,
) -> None:
    async with FakeUpstream() as upstream:
        settings = roxy_toml(upstream.base_url)
        async with serving(tmp_path, settings=settings, options=TWO) as roxy:
            before = children_of(roxy.pid)
            (tmp_path / "roxy.toml").write_text(settings + "\n[no_such_section]\n")
            refused = await run("reload", "--data-dir", tmp_path / "data", cwd=tmp_path)
            assert "unknown section `no_such_section`" in refused.complaint
            (tmp_path / "roxy.toml").write_text("[server]\nmax_connections = 0\n" + settings)
            roxy.signal(signal.SIGHUP)
            await roxy.says("the configuration was not reloaded: .*max_connections")
            for section, name, value in (
                ("server", "host", '"127.0.0.2"'),
                ("server", "node_url", '"http://127.0.0.1:1"'),
                ("queue", "max_waiting", "7"),
                ("limits", "when_store_is_down", '"allow"'),
                ("usage", "retention_days", "7"),
                ("log", "format", '"json"'),
            ):
                (tmp_path / "roxy.toml").write_text(f"[{section}]\n{name} = {value}\n{settings}")
                refused = await run("reload", cwd=tmp_path)
                assert f"{section}.{name} has changed: that needs a restart" in refused.complaint
            assert children_of(roxy.pid) == before
            assert (await roxy.door.chat()).status_code == 200
            (tmp_path / "roxy.toml").write_text(settings)
            done = await run("reload", cwd=tmp_path)
            assert (done.code, done.out) == (0, f"Reloaded the gateway at {roxy.door.url}.\n")
            assert not set(children_of(roxy.pid)) & set(before) or len(before) == 2


@pytest.mark.parametrize("runs_alone", [True, False])
async def test_roxy_reload_says_why_there_is_nothing_to_reload(
    tmp_path: Path, runs_alone: bool
) -> None:
    if not runs_alone:
        refused = await run("reload", cwd=tmp_path)
        assert "no gateway runs with the data directory" in refused.complaint
        return
    async with FakeUpstream() as upstream, serving(tmp_path, upstream) as roxy:
        refused = await run("reload", cwd=tmp_path)
        assert "cannot reload, because it serves in one process" in refused.complaint
        assert (await roxy.door.chat()).status_code == 200


async def test_a_start_that_fails_leaves_no_process_and_says_why(tmp_path: Path) -> None:
    async with FakeUpstream() as upstream, serving(tmp_path, upstream, options=TWO) as roxy:
        second = tmp_path / "second"
        second.mkdir()
        # Tornado's `bind_sockets` leaves a socket to be collected when it fails.
        quiet = {"PYTHONWARNINGS": ""}
        busy = ("--port", str(roxy.door.port))
        taken = await run("serve", *TWO, *busy, cwd=second, environ=quiet)
        assert f"port {roxy.door.port}" in taken.complaint
        twice = await run(
            "serve", "--processes", "2", "--port", "0", "--data-dir", tmp_path / "data", cwd=second
        )
        assert "Another roxy" in twice.complaint


async def test_the_first_start_prints_an_owner_key_that_every_process_knows(
    tmp_path: Path,
) -> None:
    nobody = {"ROXY_ADMIN_API_KEY": ""}
    async with serving(tmp_path, options=TWO, environ=nobody, open_files=200) as roxy:
        assert roxy.owner_key
        assert re.findall("at most .*", roxy.err) == [
            "at most 136 client connections: the system allows 200 open files per process"
        ]
        async with doors_to_each(roxy.door, roxy.pid) as doors:
            for door in doors.values():
                assert (await door.get("/api/v1/keys", roxy.owner_key)).status_code == 200


async def test_children_have_neither_the_secrets_of_the_keeper_nor_arguments_that_hold_any(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, options=TWO) as roxy:
        for child in children_of(roxy.pid):
            environ = proc_file(child, "environ")
            assert OWNER.encode() not in environ and b"TEST_UPSTREAM_KEY" in environ
            arguments = proc_file(child, "cmdline").split(b"\0")
            assert arguments[1:4] == [b"-P", b"-m", b"server.processes"] and len(arguments) == 6
