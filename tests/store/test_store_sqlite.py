"""SQLite under trouble: locks, full disks, kills. Calls fail cleanly, nothing is lost, it heals."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import stat
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
from msgspec import structs
from support.builders.rows import a_key, a_row
from support.patience import HASTY_S
from support.waiting import PATIENCE_S, soon

from server.keys.export import KeyExport
from server.keys.export_file import read_export
from server.keys.key_ring import KeyRing
from server.keys.read_through import when_read
from server.store.key import NewKey
from server.store.rows import Batch, CounterRow, KeyQuery, UsageMark
from server.store.sqlite.sqlite_file import open_database
from server.store.sqlite.sqlite_store import SqliteStore
from server.store.sqlite.sqlite_thread import SqliteThread
from server.store.store import StoreFailure
from server.store.usage_queries import PercentileQuery, RankingQuery, RowsQuery, SumsQuery
from workers.errors import StoreUnavailable

ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

HOLD = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """Open a store that waits for its turn as long as a busy machine needs."""
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        yield store


@contextmanager
def hasty(store: SqliteStore) -> Iterator[None]:
    """Make calls that cannot begin fail soon, while the block runs."""
    store._db._patience_s = HASTY_S
    try:
        yield
    finally:
        store._db._patience_s = PATIENCE_S


@asynccontextmanager
async def locked(path: Path) -> AsyncIterator[None]:
    """Have another process hold the database's write lock."""
    async with running(HOLD, path) as process:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"held\n"
        yield


@asynccontextmanager
async def running(script: str, *arguments: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a script in another process, which ends with its standard input or is killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        *map(str, arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=ENVIRONMENT,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.communicate()


# Locked


async def test_a_counter_that_is_written_while_old_ones_are_dropped_stays(
    store: SqliteStore,
) -> None:
    old = CounterRow("guest:1.2.3.4", "requests_day", 7, "", 1.0)
    new = structs.replace(old, value=8, updated_at=9.0)
    await store.record(Batch(counters=[old]))
    async with locked(store.path):
        writing = asyncio.create_task(store.record(Batch(counters=[new])))
        dropping = asyncio.create_task(store.drop_counters(5.0))
        await store.load_counters()  # reads come in turn: the old counter has been found
    await writing
    assert await dropping == 0
    assert await store.load_counters() == [new]


async def test_a_locked_database_is_unavailable_soon_and_heals(store: SqliteStore) -> None:
    async with locked(store.path):
        with hasty(store), pytest.raises(StoreUnavailable) as refusal:
            await soon(store.add_keys([a_key()]))
        assert refusal.value.status == 503
        assert refusal.value.retry_after_s is not None
        assert refusal.value.retry_after_s <= 3
        assert "locked" in str(store.trouble)
        assert await store.load_keys() == [], "reading still works"
    await store.add_keys([a_key()])
    assert store.trouble is None
    assert await store.load_keys() == [a_key()]


async def test_the_loop_goes_on_while_the_database_is_locked(store: SqliteStore) -> None:
    async with locked(store.path):
        waiting = asyncio.create_task(store.record(Batch(rows=[a_row()])))
        for _ in range(10):
            await asyncio.sleep(0.01)
            assert not waiting.done(), "the loop turns while a thread waits"
    await waiting


async def test_calls_behind_a_lock_all_give_up_in_time_and_none_happens_later(
    store: SqliteStore,
) -> None:
    async with locked(store.path):
        with hasty(store):  # one after the other they would take 300 s
            calls = (store.add_keys([a_key(number)]) for number in range(1, 101))
            results = await soon(asyncio.gather(*calls, return_exceptions=True))
    assert all(isinstance(result, StoreUnavailable) for result in results)
    await store.check_writable()
    assert await store.load_keys() == [], "a refused change must not happen after all"


async def test_a_call_whose_turn_comes_too_late_is_not_carried_out(tmp_path: Path) -> None:
    thread = SqliteThread(
        tmp_path / "any.db", lambda: sqlite3.connect(tmp_path / "any.db"), patience_s=0.0
    )
    await thread.start()
    carried_out: list[sqlite3.Connection] = []
    with pytest.raises(StoreUnavailable):
        await thread.run(carried_out.append)
    assert carried_out == [] and thread.trouble == "it was busy for too long"
    await thread.close()


async def test_a_lock_that_is_let_go_in_time_is_not_noticed(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        async with locked(store.path):
            waiting = asyncio.create_task(store.add_keys([a_key()]))
            await asyncio.sleep(0.1)
            assert not waiting.done()
        await waiting
        assert await store.load_keys() == [a_key()]


# Slow reads

ENDLESS = (
    "WITH RECURSIVE n(i) AS (SELECT hold() UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
)


async def test_a_read_without_end_delays_no_write_and_is_ended_with_a_503(tmp_path: Path) -> None:
    path = tmp_path / "roxy.db"
    go_on = threading.Event()

    def hold() -> int:
        return int(go_on.wait(PATIENCE_S))

    async with SqliteStore(path, patience_s=PATIENCE_S, read_limit_s=0.5) as store:
        await store._reads.run(lambda db: db.create_function("hold", 0, hold), reads=True)
        reading = asyncio.create_task(store._read(ENDLESS))
        waiting = asyncio.create_task(store.usage_rows())
        await store.add_keys([a_key()])
        await store.record(Batch(rows=[a_row()]))
        await store.check_writable()
        assert await store.find_key(a_key().id) == a_key()
        assert not reading.done(), "the writes did not wait for the read"
        go_on.set()
        with pytest.raises(StoreUnavailable, match="takes too long") as refusal:
            await reading
        assert refusal.value.status == 503
        assert store.trouble is None, "a slow read says nothing about writes"
        assert [row.request_id for row in (await waiting).rows] == ["req_1"]


async def test_reads_that_fail_do_not_make_the_gateway_unready(store: SqliteStore) -> None:
    await store.add_keys([a_key(number) for number in range(1, 200)])
    await store._db.run(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    whole = store.path.read_bytes()
    store.path.write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))
    with pytest.raises(StoreUnavailable, match="cannot read"):
        await store.count_keys()
    with pytest.raises(StoreUnavailable, match="cannot read"):
        await store.find_key("key_unknown")
    assert store.trouble is None
    store.path.write_bytes(whole)


# Indexes


async def plans(store: SqliteStore, read: Callable[[], Awaitable[object]]) -> list[str]:
    """Return how SQLite answers the statements of a read."""
    seen: list[str] = []
    await store._reads.run(lambda db: db.set_trace_callback(seen.append), reads=True)
    await read()
    await store._reads.run(lambda db: db.set_trace_callback(None), reads=True)
    statements = [one for one in seen if one.startswith("SELECT")]
    assert statements
    found: list[str] = []
    for statement in statements:
        found += [row[-1] for row in await store._read(f"EXPLAIN QUERY PLAN {statement}")]
    return found


@pytest.mark.parametrize("status", [None, "finished", "failed"])
@pytest.mark.parametrize("model", [None, "a"])
@pytest.mark.parametrize("key_id", [None, "key_1"])
async def test_a_page_of_requests_is_read_in_the_order_of_an_index(
    store: SqliteStore, key_id: str | None, model: str | None, status: str | None
) -> None:
    await store.record(Batch([a_row(number, model="a", status="failed") for number in range(9)]))
    for before in (None, UsageMark(1_700_000_000.0, 5)):
        steps = await plans(
            store,
            partial(
                store.usage_rows,
                RowsQuery(key_id=key_id, model=model, status=status, before=before),
            ),
        )
        assert not any("TEMP B-TREE" in step for step in steps), steps
        wanted = [name for name, value in (("key_id", key_id), ("model", model)) if value]
        indexed = "".join(step for step in steps if "INDEX usage_" in step)
        assert all(f"{name}=?" in indexed for name in wanted if status != "failed"), steps
        assert ("status=?" in indexed) == (status == "failed"), steps


async def test_lists_and_sums_read_no_table_as_a_whole(store: SqliteStore) -> None:
    await store.add_keys([a_key(number) for number in range(1, 50)])
    await store.record(Batch([a_row(number) for number in range(9)]))
    span = ("2026-11-01", "2026-11-30")
    for read in (
        partial(store.list_keys, KeyQuery(limit=5, descending=True)),
        partial(store.list_keys, KeyQuery(limit=5, revoked=True)),
        partial(store.list_keys, KeyQuery(limit=5, search="x", revoked=False)),
        partial(store.list_keys, KeyQuery(limit=5, after=a_key(7).id)),
        partial(store.list_keys, KeyQuery(name="key 7")),
        partial(store.shared_names, ["key 7"]),
        partial(store.usage_by, SumsQuery(*span, ("day", "model"))),
        partial(store.usage_by, SumsQuery(*span, key_id="key_1")),
        partial(store.usage_by, SumsQuery(*span, ("day", "key_id"), key_id=["key_1", "key_2"])),
        partial(store.find_usage_row, "req_1"),
        partial(store.ttft_percentile, PercentileQuery(95, *span, key_id="key_1", model="a")),
    ):
        steps = await plans(store, read)
        for step in steps:
            assert not step.startswith("SCAN") or "INDEX keys_" in step, steps


# Sums at the end of the range


async def test_sums_that_reach_the_end_stay_whole_and_are_added_up_exactly(
    store: SqliteStore,
) -> None:
    rows = [a_row(1), a_row(2, key_id="key_2"), a_row(3, key_id="key_3")]
    await store.record(Batch(rows))
    most = 2**62
    fill = f"UPDATE usage_daily SET prompt_tokens = {most - 1}, cost_microusd = {most - 1}"
    await store._db.run(lambda db: db.execute(fill).rowcount)
    await store.record(Batch([a_row(4, prompt_tokens=500, cost_microusd=None)]))
    days = await store.usage_by(SumsQuery("2026-11-22", "2026-11-22"))
    assert [day.prompt_tokens for day in days] == [most, most - 1, most - 1]
    assert all(type(day.prompt_tokens) is int for day in days)
    (together,) = await store.usage_by(
        SumsQuery("2026-11-22", "2026-11-22", ("model",), key_id=("key_1", "key_2", "key_3"))
    )
    assert together.prompt_tokens == 3 * most - 2
    assert together.cost_microusd == 3 * most - 3
    assert together.requests == 4
    (first, *_) = await store.usage_ranking(
        RankingQuery(
            "2026-11-22", "2026-11-22", "model", ["cost_microusd"], key_id="key_2", limit=3
        )
    )
    assert first.cost_microusd == most - 1


# Full


async def test_a_full_database_is_unavailable_loses_nothing_and_heals(store: SqliteStore) -> None:
    await store.add_keys([a_key(1)])
    (pages,) = await store._db.run(lambda db: db.execute("PRAGMA page_count").fetchone())
    await store._db.run(lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchall())
    rows = [a_row(number) for number in range(500)]
    with pytest.raises(StoreUnavailable):
        await store.record(Batch(rows=rows))
    assert "full" in str(store.trouble)
    assert (await store.usage_rows()).rows == []
    assert await store.usage_by(SumsQuery("2026-01-01", "2026-12-31")) == []
    await store._db.run(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchall())
    await store.record(Batch(rows=rows))
    assert await store.load_keys() == [a_key(1)]
    (day,) = await store.usage_by(SumsQuery("2026-01-01", "2026-12-31"))
    assert day.requests == 500


FILES_STOP_GROWING = """
import asyncio, resource, sys
from pathlib import Path
from msgspec import structs
from server.keys.key_ring import KeyRing
from server.store.key import NewKey
from server.store.sqlite.sqlite_store import SqliteStore
from workers.errors import StoreUnavailable

async def main():
    async with SqliteStore(Path(sys.argv[1]), patience_s=60.0) as store:
        ring = KeyRing(store)
        await ring.create(NewKey("before"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))
        refused = 0
        for _ in range(200):
            try:
                await ring.create(NewKey("tight"))
            except StoreUnavailable:
                refused += 1
        assert 0 < refused < 200, refused
        assert set(await ring.list()) == set(await store.load_keys())
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        await ring.create(NewKey("after"))
        print(len(await ring.list()), 200 - refused + 2)

asyncio.run(main())
"""


async def test_a_disk_that_takes_no_more_refuses_keys_and_heals(tmp_path: Path) -> None:
    async with running(FILES_STOP_GROWING, tmp_path / "roxy.db") as process:
        assert process.stdout is not None
        created, expected = (await process.stdout.read()).split()
        assert created == expected
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        assert len(await store.load_keys()) == int(created)


# Damaged while running, and at start


async def test_damage_while_running_is_unavailable_not_a_crash(store: SqliteStore) -> None:
    await store.add_keys([a_key(number) for number in range(1, 200)])
    await store._db.run(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    size = store.path.stat().st_size
    store.path.write_bytes(store.path.read_bytes()[:4096] + b"\xa5" * (size - 4096))
    await store._db.run(lambda db: db.execute("PRAGMA shrink_memory").fetchall())
    with pytest.raises(StoreUnavailable):
        await store.load_keys()
    with pytest.raises(StoreUnavailable):
        await store.add_keys([a_key(500)])


async def test_a_key_that_makes_no_sense_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "roxy.db"
    async with SqliteStore(path, patience_s=PATIENCE_S) as store:
        await store.add_keys([a_key(models=("a",))])
    with closing(open_database(path)) as db:
        db.execute("UPDATE keys SET models = '[1, 2'")
    async with SqliteStore(path, patience_s=PATIENCE_S) as store:
        with pytest.raises(StoreFailure, match="cannot be read") as failure:
            await store.load_keys()
    assert str(path) in str(failure.value)


# The thread


async def test_closing_ends_the_thread_and_later_calls_are_refused(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        assert len(set(threading.enumerate()) - before) == 2, "one writes and one reads"
    assert set(threading.enumerate()) == before
    with pytest.raises(StoreUnavailable):
        await store.load_keys()


async def test_a_start_that_fails_leaves_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    (tmp_path / "roxy.db").write_bytes(b"")
    with pytest.raises(StoreFailure):
        await SqliteStore(tmp_path / "roxy.db").__aenter__()
    assert set(threading.enumerate()) == before


async def test_what_was_asked_for_before_closing_is_done(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        puts = [asyncio.create_task(store.add_keys([a_key(number)])) for number in range(1, 20)]
        await asyncio.sleep(0)
    await asyncio.gather(*puts)
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        assert len(await store.load_keys()) == 19


async def test_a_cancelled_call_tears_nothing(store: SqliteStore) -> None:
    rows = [a_row(number) for number in range(500)]
    for _ in range(10):
        recording = asyncio.create_task(store.record(Batch(rows=rows)))
        await asyncio.sleep(0)
        recording.cancel()
        with pytest.raises(asyncio.CancelledError):
            await recording
    days = await store.usage_by(SumsQuery("2026-01-01", "2026-12-31"))
    await store.check_writable()
    assert sum(day.requests for day in days) % 500 == 0


# Killed

KEEP_CREATING = """
import asyncio, sys
from pathlib import Path
from server.store.data_directory import DataDirectory
from server.keys.export import KeyExport
from server.keys.key_ring import KeyRing
from server.store.key import NewKey
from server.store.sqlite.sqlite_store import SqliteStore

async def main():
    with DataDirectory(Path(sys.argv[1])) as data:
        async with SqliteStore(data.database, patience_s=60.0) as store:
            ring = KeyRing(store)
            await ring.load()
            async with KeyExport(data.export, ring):
                while True:
                    key, secret = await ring.create(NewKey("ci"))
                    print("created", key.id, secret, flush=True)
                    key, _ = await ring.create(NewKey("revoked"))
                    await ring.revoke(key.id)
                    print("revoked", key.id, "-", flush=True)

asyncio.run(main())
"""


@pytest.mark.time_limit(240)
async def test_every_acknowledged_key_change_survives_a_kill(tmp_path: Path) -> None:
    data = tmp_path / "data"
    created: dict[str, str] = {}
    revoked: set[str] = set()
    for _ in range(10):
        async with running(KEEP_CREATING, data) as process:
            assert process.stdout is not None
            for _ in range(random.randint(1, 60)):
                note(await process.stdout.readline(), created, revoked)
            process.kill()
            for line in (await process.stdout.read()).splitlines(keepends=True):
                note(line, created, revoked)
        check_export(data / "api-keys.json", created)
    async with SqliteStore(data / "roxy.db", patience_s=PATIENCE_S) as store:
        ring = KeyRing(store)
        await ring.load()
    for key_id, secret in created.items():
        found = await when_read(partial(ring.find, secret, 0))
        assert found is not None
        assert found.id == key_id
    for key_id in revoked:
        assert (await ring.get(key_id)).status == "revoked"


def note(line: bytes, created: dict[str, str], revoked: set[str]) -> None:
    """Note an acknowledgement, if it is a whole one."""
    if not line.endswith(b"\n"):
        return
    what, key_id, secret = line.decode().split()
    if what == "created":
        created[key_id] = secret
    else:
        revoked.add(key_id)


def check_export(path: Path, created: dict[str, str]) -> None:
    """Whatever the moment of the kill, the export is whole, private and holds no secret."""
    if not path.exists():
        return
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    read_export(path)
    text = path.read_text()
    assert not any(secret in text for secret in created.values())


@pytest.mark.time_limit(240)
async def test_a_first_start_that_is_killed_anywhere_completes_the_next_time(
    tmp_path: Path,
) -> None:
    for attempt in range(8):
        data = tmp_path / str(attempt)
        async with running(KEEP_CREATING, data) as process:
            await until(lambda data=data: data.exists())  # type: ignore[misc]
            await asyncio.sleep(attempt * 0.002)  # somewhere on the way
            process.kill()
        async with SqliteStore(data / "roxy.db", patience_s=PATIENCE_S) as store:
            ring = KeyRing(store)
            await ring.load()
            async with KeyExport(data / "api-keys.json", ring):
                await ring.create(NewKey("after"))
        assert json.loads((data / "api-keys.json").read_text())["keys"]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    while not condition():
        await asyncio.sleep(0.001)
