"""The registry of nodes, in Redis and in PostgreSQL: the same rules hold for both."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from msgspec.structs import replace
from nodes.registries import in_postgres, in_redis
from support.servers.postgres_server import PostgresServer
from support.servers.redis_server import RedisServer
from support.servers.unreliable_wire import UnreliableWire
from support.waiting import PATIENCE_S

from server.answers.peers import GONE_AFTER_S, NodeSeen
from server.nodes.peers.node_registry import NodeRegistry
from workers.errors import StoreUnavailable

NODE = NodeSeen(id="one", url="http://one", version="1", started_at=1.0, tags=("aaaa",))

Join = Callable[[str], AbstractAsyncContextManager[NodeRegistry]]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with RedisServer(tmp_path, "redis") as running:
        yield running


@pytest.fixture(params=["redis", "postgres"])
def join(request: pytest.FixtureRequest) -> Join:
    """Connect a node to the registry of each kind."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("server")
        return lambda name: in_redis(server, name)
    url = request.getfixturevalue("postgres").new_database()
    return lambda _name: in_postgres(url)


async def test_claims_and_nodes_are_those_of_all(join: Join) -> None:
    async with join("one") as one, join("other") as other:
        assert await one.claim("an-id", "aaaa")
        assert await one.claim("an-id", "aaaa"), "it is the same process"
        assert not await other.claim("an-id", "bbbb")
        assert await other.find("an-id") == "aaaa"
        await other.release("an-id", "bbbb")
        assert await other.find("an-id") == "aaaa", "another one's claim stays"
        await one.release("an-id", "aaaa")
        assert await other.find("an-id") is None
        assert await other.claim("an-id", "bbbb")
        await other.drop("bbbb")
        assert await one.claim("an-id", "aaaa")
        await one.report(NODE)
        (seen,) = await other.nodes()
        assert replace(seen, seen_s=0.0) == NODE
        assert not seen.is_gone
        assert replace(seen, seen_s=GONE_AFTER_S + 1).is_gone
        await one.report(replace(NODE, tags=("aaaa", "cccc")))
        (seen,) = await other.nodes()
        assert seen.tags == ("aaaa", "cccc")
    async with join("third") as third:
        assert await third.claim("an-id", "cccc"), "a node that ends releases its claims"


async def test_a_first_release_does_not_end_the_claim_that_follows_it(join: Join) -> None:
    async with join("one") as one, join("other") as other:
        assert await one.claim("an-id", "aaaa")
        _, claimed = await asyncio.gather(one.release("an-id", "aaaa"), one.claim("an-id", "aaaa"))
        assert claimed
        assert await other.find("an-id") == "aaaa"


async def test_of_many_claims_at_once_each_id_has_one_holder(join: Join) -> None:
    ids = [f"id-{number:03}" for number in range(200)]
    async with join("one") as one, join("other") as other:
        both = await asyncio.gather(
            *(
                registry.claim(name, tag)
                for name in ids
                for registry, tag in ((one, "aaaa"), (other, "bbbb"))
            )
        )
        firsts, seconds = both[::2], both[1::2]
        assert all(first != second for first, second in zip(firsts, seconds, strict=True))
        holders = ["aaaa" if first else "bbbb" for first in firsts]
        assert [await other.find(name) for name in ids] == holders
        await asyncio.gather(*(one.release(name, "aaaa") for name in ids))
        left = [await one.find(name) for name in ids]
        assert left == [None if holder == "aaaa" else "bbbb" for holder in holders]
        assert await one.claim("an-id", "aaaa")
        _, claimed = await asyncio.gather(one.release("an-id", "aaaa"), one.claim("an-id", "aaaa"))
        assert claimed
        assert await other.find("an-id") == "aaaa", "the claim came after the release"


async def test_a_claim_that_was_lost_and_taken_by_another_is_not_released(
    server: RedisServer,
) -> None:
    async with in_redis(server, "one") as one, in_redis(server, "other") as other:
        assert await one.claim("an-id", "aaaa")
        await server.kill()
        await server.start()  # empty
        async with in_redis(server, "third") as third, asyncio.timeout(PATIENCE_S):
            while await third.find("an-id") != "bbbb":
                await other.claim("an-id", "bbbb")
            await one.find("of-no-matter")
            await one.release("an-id", "aaaa")
            assert await third.find("an-id") == "bbbb"


async def test_without_redis_claims_are_local_and_nodes_those_known_last(
    server: RedisServer,
) -> None:
    async with in_redis(server, "one") as one:
        await one.report(NODE)
        await server.kill()
        await works_alone(one)


async def test_without_postgres_claims_are_local_and_come_back_with_it(
    postgres: PostgresServer,
) -> None:
    url = postgres.new_database()
    async with UnreliableWire(postgres.port) as wire, in_postgres(wire.url(url)) as one:
        await one.report(NODE)
        wire.refuse()
        wire.cut()
        await works_alone(one)
        await wire.listen()
        async with in_postgres(url) as other, asyncio.timeout(PATIENCE_S):
            assert await one.claim("another-id", "aaaa")
            while await other.find("another-id") != "aaaa":
                await one.claim("another-id", "aaaa")  # as its renewal does


async def works_alone(one: NodeRegistry) -> None:
    """Check a registry that cannot be asked; it knew one node before."""
    assert await one.claim("an-id", "aaaa")
    assert await one.find("an-id") == "aaaa"
    assert not await one.claim("an-id", "bbbb")
    assert await one.find("another-id") is None
    await one.release("an-id", "aaaa")
    (known,) = await one.nodes()
    assert known.id == "one"
    assert await one.nodes() == [known], "a node that cannot report itself does not age"
    with contextlib.suppress(StoreUnavailable):
        await one.report(replace(NODE, tags=("dddd",)))
    (known,) = await one.nodes()
    assert known.tags == ("dddd",), "its processes find each other all the same"
