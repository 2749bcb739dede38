"""Several nodes on one PostgreSQL database: what one changes the others know, and nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from msgspec import structs
from support.builders.rows import NOON, a_key, a_row
from support.servers.postgres_server import PgBouncer, PostgresServer
from support.waiting import PATIENCE_S, eventually, soon

from server.keys.key_ring import KeyRing
from server.store.key import Key, NewKey
from server.store.postgres.postgres_store import PostgresStore
from server.store.rows import Batch, CounterRow, SessionRow, StoreChanges
from server.store.store import OWNER_META
from server.store.usage_queries import RankingQuery, SumsQuery


class Node:
    """One node's store, and what it has heard of the changes of others."""

    def __init__(self, store: PostgresStore) -> None:
        self.store = store
        self.heard: list[StoreChanges] = []
        store.on_foreign_change(self.heard.append)

    @property
    def keys(self) -> list[tuple[str, int, str]]:
        """Return the id, version and status of the keys that it has heard of."""
        return [(key.id, key.version, key.status) for heard in self.heard for key in heard.keys]

    @property
    def must_read_again(self) -> bool:
        """Return whether it has heard that it may have missed something."""
        return any(heard.all for heard in self.heard)


@asynccontextmanager
async def joined(url: str, spool: Path) -> AsyncIterator[Node]:
    async with PostgresStore(url, spool, patience_s=PATIENCE_S, read_limit_s=PATIENCE_S) as store:
        yield Node(store)


@pytest.fixture(scope="module")
def bouncer(postgres: PostgresServer) -> Iterator[PgBouncer]:
    with PgBouncer.made(postgres) as bouncer:
        yield bouncer


@pytest.fixture(params=["direct", "pgbouncer"])
def url(request: pytest.FixtureRequest, postgres: PostgresServer) -> str:
    """Return the URL of a new database, with and without a pooler in between."""
    url = postgres.new_database()
    if request.param == "direct":
        return url
    bouncer: PgBouncer = request.getfixturevalue("bouncer")
    return bouncer.before(url)


@pytest.fixture
async def nodes(url: str, tmp_path: Path) -> AsyncIterator[tuple[Node, Node]]:
    async with joined(url, tmp_path / "a") as one, joined(url, tmp_path / "b") as other:
        yield one, other


async def test_a_pooler_is_recognised(
    nodes: tuple[Node, Node], url: str, postgres: PostgresServer
) -> None:
    assert [node.store.pooled for node in nodes] == [f":{postgres.port}/" not in url] * 2


async def test_changes_of_one_node_are_told_to_the_others_and_not_to_itself(
    nodes: tuple[Node, Node],
) -> None:
    one, other = nodes
    await one.store.add_keys([a_key(1)])
    await eventually(lambda: other.keys == [(a_key(1).id, 1, "active")])
    assert await one.store.replace_key(a_key(1, status="revoked", version=2))
    await eventually(lambda: (a_key(1).id, 2, "revoked") in other.keys)
    assert await other.store.add_keys([a_key(2), a_key(1)]) == (1, 1)
    await eventually(lambda: one.keys == [(a_key(2).id, 1, "active")])
    session = SessionRow(b"s" * 32, "owner", b"c" * 32, 1, 1)
    await one.store.put_session(session)
    await other.store.note_sessions({session.digest: 2}, [])
    assert (await one.store.find_session(session.digest)) == structs.replace(session, seen_at=2)
    await one.store.note_sessions({}, [session.digest, b"unknown" + bytes(25)])
    await eventually(lambda: other.heard[-1].sessions == (session.digest,))
    await one.store.put_meta(OWNER_META, b"o" * 32)
    await eventually(lambda: other.heard[-1].owner == b"o" * 32)
    await other.store.put_meta("another", b"o")
    await other.store.add_keys([a_key(3)])
    await eventually(lambda: one.keys[-1][0] == a_key(3).id)
    assert [len(heard.sessions) for heard in one.heard] == [0, 0]
    assert not one.must_read_again and not other.must_read_again
    assert not any(heard.owner for heard in one.heard)


async def test_a_large_import_makes_the_others_read_everything_again(
    nodes: tuple[Node, Node],
) -> None:
    one, other = nodes
    keys = [a_key(number) for number in range(1, 1201)]
    assert await one.store.add_keys(iter(keys)) == (1200, 0)
    await eventually(lambda: other.must_read_again)
    assert await other.store.count_keys() == 1200
    assert not one.heard


async def test_an_import_that_fails_half_way_adds_nothing_and_tells_nothing(
    nodes: tuple[Node, Node],
) -> None:
    one, other = nodes

    def broken() -> Iterator[Key]:
        yield from (a_key(number) for number in range(1, 700))
        raise LookupError("the file ends here")

    with pytest.raises(LookupError):
        await one.store.add_keys(broken())
    assert await one.store.count_keys() == 0
    await one.store.add_keys([a_key(1)])
    await eventually(lambda: other.keys)
    assert not other.must_read_again


async def test_a_revoked_key_is_refused_on_the_other_node_whose_ring_holds_it(
    nodes: tuple[Node, Node],
) -> None:
    one, other = KeyRing(nodes[0].store), KeyRing(nodes[1].store)
    await one.load()
    await other.load()
    key, secret = await one.create(NewKey("shared"))
    await eventually(lambda: key.id in {heard[0] for heard in nodes[1].keys})
    found = other.find(secret, NOON)
    assert found is not None and found.id == key.id
    ended: list[str] = []
    other.on_change(lambda changed: ended.append(changed.status))
    await one.revoke(key.id)
    await eventually(lambda: ended == ["revoked"])
    assert other.find(secret, NOON) is None
    await one.aclose()
    await other.aclose()


async def test_a_notification_that_is_lost_costs_one_poll(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    url = postgres.new_database()
    async with joined(url, tmp_path / "a") as one, joined(url, tmp_path / "b") as other:
        await one.store.add_keys([a_key(1)])
        await eventually(lambda: other.keys)
        # A node that changes the keys and forgets the notification, as a lost one looks like.
        admin = await asyncpg.connect(url)
        await admin.execute(
            "UPDATE keys SET name = 'silent', version = 2;"
            "UPDATE change_count SET last = last + 1, token = gen_random_uuid();"
            "INSERT INTO changes (number, token, kind, id)"
            " SELECT last, token, 'key', (SELECT id FROM keys)::bytea FROM change_count"
        )
        await admin.close()
        await eventually(lambda: (a_key(1).id, 2, "active") in other.keys)
        assert not other.must_read_again


async def test_a_change_that_is_committed_late_is_not_skipped(
    nodes: tuple[Node, Node], url: str
) -> None:
    one, other = nodes
    await one.store.add_keys([a_key(1), a_key(2)])
    await eventually(lambda: len(other.keys) == 2)
    slow = await asyncpg.connect(url, statement_cache_size=0)
    work = slow.transaction()
    await work.start()
    await slow.execute("UPDATE keys SET version = 2 WHERE id = $1", a_key(1).id)
    number = await slow.fetchval("UPDATE change_count SET last = last + 1 RETURNING last")
    quick = asyncio.create_task(one.store.replace_key(a_key(2, version=2)))
    await one.store.check_writable()
    assert not quick.done(), "numbers are given in the order of the commits"
    await slow.execute(
        "INSERT INTO changes SELECT last, token, 'key', $1 FROM change_count WHERE last = $2",
        a_key(1).id.encode(),
        number,
    )
    await work.commit()
    await slow.close()
    assert await soon(quick)
    await eventually(lambda: {(a_key(n).id, 2, "active") for n in (1, 2)} <= set(other.keys))
    assert not other.must_read_again


@pytest.mark.parametrize(
    "statements",
    [
        ["DELETE FROM changes"],  # they were old
        ["DELETE FROM changes", "UPDATE change_count SET last = 0"],  # a shorter history
        [  # another history of the same length
            "UPDATE change_count SET token = gen_random_uuid()",
            "UPDATE changes SET token = (SELECT token FROM change_count)",
        ],
        [  # a longer one
            "DELETE FROM changes",
            "UPDATE change_count SET last = last + 5000",
            "INSERT INTO changes SELECT last, token, 'owner', '' FROM change_count",
        ],
    ],
)
async def test_a_history_with_a_gap_or_another_one_makes_nodes_read_everything_again(
    postgres: PostgresServer, tmp_path: Path, statements: list[str]
) -> None:
    url = postgres.new_database()
    async with joined(url, tmp_path / "a") as one, joined(url, tmp_path / "b") as other:
        await one.store.add_keys([a_key(1)])
        await eventually(lambda: other.keys)
        postgres.sql(*statements, database=url.rpartition("/")[2])
        async with joined(url, tmp_path / "c") as third:
            await third.store.replace_key(a_key(1, name="new", version=2))
            await eventually(lambda: other.must_read_again)
            heard = len(other.heard)
            await third.store.replace_key(a_key(1, name="newer", version=3))
            await eventually(lambda: len(other.heard) > heard)
            assert not other.heard[-1].all, "once is enough"


async def test_first_starts_at_the_same_time_create_the_tables_once(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    url = postgres.new_database()
    async with AsyncExitStack() as stack:
        opened = await asyncio.gather(
            *(stack.enter_async_context(joined(url, tmp_path / str(n))) for n in range(5))
        )
        await opened[0].store.add_keys([a_key()])
        assert [await node.store.count_keys() for node in opened] == [1] * 5


async def test_nodes_that_record_at_once_lose_nothing_and_never_block_each_other(
    nodes: tuple[Node, Node],
) -> None:
    await nodes[0].store.add_keys([a_key(number) for number in range(8)])

    def batch(number: int) -> Batch:
        order = range(40) if number % 2 else range(39, -1, -1)
        return Batch(
            rows=[a_row(n, key_id=f"key_{n % 8}", model=f"m{n % 5}") for n in order],
            counters=[CounterRow(f"key_{n % 8}", f"k{n}", number, "", NOON) for n in order],
            last_used={a_key(n % 8).id: number for n in order},
        )

    writers = [node.store.record(batch(number)) for number in range(30) for node in nodes]
    await asyncio.gather(*writers)
    (day,) = await nodes[0].store.usage_by(SumsQuery("2026-11-22", "2026-11-22", ("day",)))
    assert day.requests == len(writers) * 40
    (day,) = await nodes[1].store.usage_by(
        SumsQuery("2026-11-22", "2026-11-22", ("day",), key_id="key_3")
    )
    assert day.requests == len(writers) * 5
    assert {key.last_used_at for key in await nodes[0].store.load_keys()} == {29}
    assert nodes[0].store.trouble is None and nodes[1].store.trouble is None


async def test_sums_stop_before_they_overflow_and_stay_whole_together(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    url = postgres.new_database()
    async with joined(url, tmp_path / "a") as node:
        await node.store.record(Batch(rows=[a_row(1, key_id="k1"), a_row(2, key_id="k2")]))
        for table in ("usage_daily", "usage_daily_models"):
            change = f"UPDATE {table} SET prompt_tokens = {2**62 - 3}"
            postgres.sql(change, database=url.rpartition("/")[2])
        await node.store.record(Batch(rows=[a_row(3, key_id="k1"), a_row(4, key_id="k2")]))
        (day,) = await node.store.usage_by(SumsQuery("2026-11-22", "2026-11-22", ("day",)))
        assert (day.prompt_tokens, day.completion_tokens) == (2**62, 80)
        whole = await node.store.usage_by(
            SumsQuery("2026-11-22", "2026-11-22", (), key_id=("k1", "k2"))
        )
        assert [one.prompt_tokens for one in whole] == [2**63], "beyond what a bigint holds"
        most = await node.store.usage_ranking(
            RankingQuery("2026-11-22", "2026-11-22", "key_id", ["requests"], limit=9)
        )
        assert [(one.key_id, one.prompt_tokens) for one in most] == [("k1", 2**62), ("k2", 2**62)]


async def test_counters_of_an_older_moment_replace_no_newer_ones(
    nodes: tuple[Node, Node],
) -> None:
    one, other = nodes
    newer = CounterRow("key_1", "budget_month", 9, "2026-11", NOON + 1)
    await one.store.record(Batch(counters=[newer]))
    await other.store.record(Batch(counters=[structs.replace(newer, value=3, updated_at=NOON)]))
    assert await one.store.load_counters() == [newer]


async def test_one_node_at_a_time_holds_the_export(nodes: tuple[Node, Node]) -> None:
    one, other = nodes
    held = await asyncio.gather(*(node.store.holds_export() for node in (one, other) * 5))
    assert held in ([True, False] * 5, [False, True] * 5)


async def test_the_right_to_export_passes_on_when_its_holder_stops(
    url: str, tmp_path: Path
) -> None:
    async with joined(url, tmp_path / "a") as one:
        async with joined(url, tmp_path / "b") as other:
            assert await other.store.holds_export()
            assert not await one.store.holds_export()
        assert await one.store.holds_export()


async def test_the_right_to_export_of_a_node_that_died_expires(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    url = postgres.new_database()
    async with joined(url, tmp_path / "a") as one, joined(url, tmp_path / "b") as other:
        assert await other.store.holds_export()
        expire = "UPDATE leases SET expires_at = now() - interval '1 s'"
        postgres.sql(expire, database=url.rpartition("/")[2])
        assert await one.store.holds_export()
        assert not await other.store.holds_export()
