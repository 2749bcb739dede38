"""Two nodes with one PostgreSQL, with and without Redis: each request is known to both."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from nodes.family import TWO
from nodes.registries import in_postgres
from support.fakes.raw_upstream import Peer, RawUpstream
from support.fakes.upstream import FakeUpstream
from support.front_door import MODEL, OWNER, Door, bearer, front_door, parse_events, request_body
from support.kept import ask, attach, facts, held_after
from support.network.ports import free_port
from support.processes import serving
from support.servers.postgres_server import PostgresServer
from support.servers.redis_server import RedisServer
from support.visitors import Browser
from support.waiting import PATIENCE_S, soon

from server.answers.peers import NodeSeen
from server.http.request_id import new_request_id

WITH_AND_WITHOUT = pytest.mark.parametrize("with_redis", [True, False], ids=["redis", "postgres"])
CHOSEN = {"X-Request-Id": "chosen-by-a-client"}


class Nodes(NamedTuple):
    """Two gateways that share what they keep and know each other's URLs."""

    one: Door
    other: Door
    redis: RedisServer | None
    stop_other: contextlib.AsyncExitStack


@contextlib.asynccontextmanager
async def two_nodes(
    path: Path, postgres: PostgresServer, upstream: FakeUpstream, *, with_redis: bool = True
) -> AsyncIterator[Nodes]:
    """Run two nodes, named `one` and `other`."""
    database = postgres.new_database()
    async with contextlib.AsyncExitStack() as stack:
        redis = RedisServer(path, "valkey") if with_redis else None
        if redis is not None:
            await stack.enter_async_context(redis)
        doors: list[Door] = []
        last = contextlib.AsyncExitStack()
        for name in ("one", "other"):
            (path / name).mkdir()
            port = free_port()
            environ = {
                "ROXY_DATABASE_URL": database,
                "ROXY_REDIS_URL": redis.url if redis is not None else "",
                "ROXY_SERVER_NODE_ID": name,
                "ROXY_SERVER_NODE_URL": f"http://127.0.0.1:{port}",
            }
            if name == "other":
                await stack.enter_async_context(last)
            run = front_door(path / name, upstream, environ=environ, port=port, max_concurrency=4)
            doors.append(await (last if name == "other" else stack).enter_async_context(run))
        nodes = Nodes(doors[0], doors[1], redis, last)
        for door in doors:
            await sees(door, {"one", "other"})
        yield nodes


async def live(door: Door) -> Any:
    """Return what runs, as a node sees it."""
    answer = await door.get("/api/v1/live")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def sees(door: Door, states: set[str]) -> None:
    """Wait until a node lists nodes with these ids."""
    async with asyncio.timeout(PATIENCE_S):
        while {node["id"] for node in (await live(door))["nodes"]} != states:
            await asyncio.sleep(0.05)


async def live_of_both(door: Door) -> Any:
    """Return what runs once both nodes have answered in time, which a busy machine may prevent."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = await live(door)
            if {node["state"] for node in found["nodes"]} == {"here", "up"}:
                return found


@WITH_AND_WITHOUT
async def test_a_kept_answer_goes_on_at_the_other_node(
    tmp_path: Path, postgres: PostgresServer, upstream: FakeUpstream, with_redis: bool
) -> None:
    async with two_nodes(tmp_path, postgres, upstream, with_redis=with_redis) as nodes:
        answer, go_on = held_after(2)
        upstream.plan(answer)
        async with ask(nodes.one) as direct:
            first = await direct.read(2)
            async with attach(nodes.other, direct.id, after=1) as passed:
                assert await passed.read(1) == first[1:]
                assert (await facts(nodes.other, direct.id))["state"] == "streaming"
                go_on.set()
                rest = await direct.finish()
                assert await passed.finish() == rest[1:]
        assert await facts(nodes.other, direct.id) == await facts(nodes.one, direct.id)


@WITH_AND_WITHOUT
async def test_what_runs_is_listed_and_stopped_on_both_nodes(
    tmp_path: Path, postgres: PostgresServer, upstream: FakeUpstream, with_redis: bool
) -> None:
    async with two_nodes(tmp_path, postgres, upstream, with_redis=with_redis) as nodes:
        answer, _ = held_after(2)
        another, go_on = held_after(2)
        upstream.plan(answer, another)
        async with ask(nodes.one) as here, ask(nodes.other) as there:
            for door, name in ((nodes.one, "one"), (nodes.other, "other")):
                found = await live_of_both(door)
                (model,) = [each for each in found["models"] if each["id"] == MODEL]
                assert (model["running"], model["workers"]) == (2, 8)
                assert {job["node"] for job in model["jobs"]} == {"one", "other"}
                states = {node["id"]: node["state"] for node in found["nodes"]}
                assert states.pop(name) == "here"
                assert set(states.values()) == {"up"}
            path = f"/api/v1/jobs/{here.id}"
            stopped = await nodes.other.client.delete(path, headers=bearer(OWNER))
            assert stopped.status_code == 200
            events = "".join(f"{event}\n\n" for event in await here.finish())
            assert parse_events(events)[-1]["error"]["code"] == "stopped"
            assert (await facts(nodes.one, there.id))["state"] in ("connecting", "streaming")
            go_on.set()  # else the stop of the node waits for it
            await there.finish()


async def test_the_page_shows_all_nodes_and_stops_what_runs_on_the_other(
    tmp_path: Path, postgres: PostgresServer, upstream: FakeUpstream
) -> None:
    async with two_nodes(tmp_path, postgres, upstream) as nodes:
        answer, _ = held_after(2)
        upstream.plan(answer)
        async with ask(nodes.one) as running:
            browser = Browser(nodes.other)
            await browser.sign_in(OWNER)
            await live_of_both(nodes.other)
            page = (await browser.open("/live")).text
            assert 'id="node-one"' in page and 'id="node-other"' in page
            assert "shows this page" in page
            assert f'id="job-{running.id}"' in page
            stopped = await browser.submit(f"/live/{running.id}/stop")
            assert stopped.status_code == 303
            events = "".join(f"{event}\n\n" for event in await running.finish())
            assert parse_events(events)[-1]["error"]["code"] == "stopped"


@WITH_AND_WITHOUT
async def test_an_id_is_taken_once_over_both_nodes_and_free_again(
    tmp_path: Path, postgres: PostgresServer, upstream: FakeUpstream, with_redis: bool
) -> None:
    async with two_nodes(tmp_path, postgres, upstream, with_redis=with_redis) as nodes:
        answer, go_on = held_after(2)
        upstream.plan(answer)
        running = asyncio.create_task(chosen(nodes.one))
        await upstream.request()
        assert (await facts(nodes.other, CHOSEN["X-Request-Id"]))["state"] != "done"
        assert await chosen(nodes.other) == 409
        go_on.set()
        assert await soon(running) == 200
        while (status := await chosen(nodes.other)) == 409:  # the release is on its way
            continue
        assert status == 200


async def chosen(door: Door) -> int:
    """Ask with the chosen id."""
    answer = await door.client.post(
        "/api/v1/chat/completions",
        json=request_body(stream=True),
        headers=bearer(OWNER) | CHOSEN,
    )
    return answer.status_code


async def test_a_key_of_the_other_node_is_known_on_the_routes_that_pass_on(
    tmp_path: Path, postgres: PostgresServer, upstream: FakeUpstream
) -> None:
    async with two_nodes(tmp_path, postgres, upstream) as nodes:
        for path, status in (("jobs/no-such-job", 404), ("live", 403), ("health", 403)):
            key = await nodes.one.mint()  # not in the memory of the other node
            assert (await nodes.other.get(f"/api/v1/{path}", key)).status_code == status
        unknown = "roxy_" + "x" * 38
        assert (await nodes.other.get("/api/v1/jobs/no-such-job", unknown)).status_code == 401


async def test_a_node_that_is_gone_is_a_503_for_its_answers_and_shown_as_gone(
    tmp_path: Path, postgres: PostgresServer, upstream: FakeUpstream
) -> None:
    async with two_nodes(tmp_path, postgres, upstream) as nodes:
        async with ask(nodes.other) as reading:
            await reading.finish()
        await nodes.stop_other.aclose()
        answer = await nodes.one.get(f"/api/v1/jobs/{reading.id}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "node_unavailable")
        assert answer.headers["retry-after"]
        (gone,) = [one for one in (await live(nodes.one))["nodes"] if one["id"] == "other"]
        assert gone["state"] == "silent"


async def test_a_node_that_hangs_is_shown_as_not_answering_and_holds_up_nothing(
    tmp_path: Path, postgres: PostgresServer, upstream: FakeUpstream
) -> None:
    async def hangs(peer: Peer) -> None:
        await peer.gone()

    database = postgres.new_database()
    async with RawUpstream(hangs) as hung, in_postgres(database) as registry:
        # The kernel accepts its connections, and it reports itself no more.
        node = NodeSeen(id="hung", url=hung.url, version="1", started_at=1.0, tags=("hung",))
        await registry.report(node)
        environ = {"ROXY_DATABASE_URL": database, "ROXY_SERVER_NODE_ID": "one"}
        async with front_door(tmp_path, upstream, environ=environ) as door:
            await sees(door, {"one", "hung"})
            states = {one["id"]: one["state"] for one in (await soon(live(door)))["nodes"]}
            assert states == {"one": "here", "hung": "silent"}
            for method in ("GET", "DELETE"):
                path = f"/api/v1/jobs/{new_request_id('hung')}"
                answer = await soon(door.client.request(method, path, headers=bearer(OWNER)))
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
                assert answer.json()["error"]["code"] == "node_unavailable"
            assert (await door.chat()).status_code == 200


async def test_while_redis_is_away_ids_are_taken_here_and_requests_are_answered(
    tmp_path: Path, postgres: PostgresServer, upstream: FakeUpstream
) -> None:
    async with two_nodes(tmp_path, postgres, upstream) as nodes:
        assert nodes.redis is not None
        await nodes.redis.kill()
        assert await chosen(nodes.one) == 200
        unknown = await nodes.one.get("/api/v1/jobs/" + "x" * 20)
        assert unknown.status_code == 404


async def test_two_nodes_of_two_processes_each_are_one(
    tmp_path: Path, postgres: PostgresServer, upstream: FakeUpstream
) -> None:
    """A request may be two hops away: at the other node, and there in the other process."""
    database = postgres.new_database()
    async with contextlib.AsyncExitStack() as stack:
        redis = await stack.enter_async_context(RedisServer(tmp_path, "redis"))
        nodes = []
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            port = str(free_port())
            environ = {
                "ROXY_DATABASE_URL": database,
                "ROXY_REDIS_URL": redis.url,
                "ROXY_SERVER_NODE_ID": name,
                "ROXY_SERVER_NODE_URL": f"http://127.0.0.1:{port}",
            }
            run = serving(
                tmp_path / name, upstream, environ=environ, options=(*TWO, "--port", port)
            )
            nodes.append(await stack.enter_async_context(run))
        one, other = nodes
        await sees(other.door, {"one", "other"})
        answer, go_on = held_after(2)
        upstream.plan(answer)
        async with ask(one.door) as direct:
            await direct.read(2)
            # Each reader keeps its connection, so that they reach all processes of the node.
            readers = [
                await stack.enter_async_context(attach(other.door, direct.id)) for _ in range(8)
            ]
            go_on.set()
            events = await direct.finish()
            for reader in readers:
                assert await reader.finish() == events
        assert len(upstream.requests) == 1
