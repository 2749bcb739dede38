"""PostgreSQL away: calls fail at once and change nothing, usage waits, and all heals by itself."""

from __future__ import annotations

import asyncio
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import pytest
import trustme
from support.builders.rows import NOON, a_key, a_row
from support.patience import HASTY_S
from support.servers.postgres_server import PASSWORD, PostgresServer
from support.servers.unreliable_wire import UnreliableWire
from support.waiting import PATIENCE_S, eventually, soon

from server.keys.key_ring import KeyRing
from server.store.key import NewKey
from server.store.migrate import Migration
from server.store.postgres.postgres_errors import outage_of
from server.store.postgres.postgres_opening import open_postgres_store
from server.store.postgres.postgres_schema import postgres_migrations
from server.store.postgres.postgres_store import PostgresStore
from server.store.postgres.usage.usage_spool import UsageSpool
from server.store.rows import Batch, CounterRow, KeyQuery, SessionRow, UsageRow
from server.store.store import StoreFailure
from server.store.usage_queries import PercentileQuery, SumsQuery
from workers.errors import StoreUnavailable
from workers.run.job import Attempt


@asynccontextmanager
async def opened(
    url: str, tmp_path: Path, patience_s: float = PATIENCE_S
) -> AsyncIterator[PostgresStore]:
    """Open a store; one that must find a server away which only hangs has less patience."""
    spool = tmp_path / "spool"
    async with PostgresStore(url, spool, patience_s=patience_s, read_limit_s=PATIENCE_S) as store:
        yield store


@pytest.fixture
async def wire(postgres: PostgresServer) -> AsyncIterator[UnreliableWire]:
    async with UnreliableWire(postgres.port) as wire:
        yield wire


@pytest.fixture
async def store(
    postgres: PostgresServer, wire: UnreliableWire, tmp_path: Path
) -> AsyncIterator[PostgresStore]:
    """Open a store whose connections pass the wire."""
    async with opened(wire.url(postgres.new_database()), tmp_path) as store:
        yield store


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was said about the database, from warnings on."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "roxy.store" and "the database" in record.getMessage()
    ]


async def whole_outage(
    store: PostgresStore,
    begin: Callable[[], Awaitable[object]],
    end: Callable[[], Awaitable[object]],
) -> None:
    """Take the database away and back, and try everything meanwhile and afterwards."""
    ring = KeyRing(store)
    await ring.load()
    key, secret = await ring.create(NewKey("known"))
    await store.record(Batch(rows=[a_row(1)]))
    await begin()
    for _ in range(2):  # the first finds it out, the second is refused without a try
        with pytest.raises(StoreUnavailable) as refusal:
            await soon(ring.create(NewKey("refused")))
        assert refusal.value.status == 503
    with pytest.raises(StoreUnavailable):
        await soon(ring.revoke(key.id))
    for read in (store.find_key("k"), store.list_keys(KeyQuery()), store.usage_rows()):
        with pytest.raises(StoreUnavailable):
            await soon(read)
    assert ring.find(secret, NOON) == key, "a known key goes on to work"
    await eventually(lambda: store.trouble is not None)
    for number in range(2, 5):
        await soon(store.record(Batch(rows=[a_row(number)], last_used={key.id: number})))
    assert not await soon(store.holds_export())
    await end()
    await eventually(lambda: store.trouble is None)
    await everything_saved(store, 4)
    assert (await ring.revoke(key.id)).status == "revoked"
    assert [found.name for found in await store.list_keys(KeyQuery())] == ["known"]
    (found,) = await store.load_keys()
    assert (found.status, found.last_used_at) == ("revoked", 4)
    await ring.aclose()


async def everything_saved(store: PostgresStore, count: int) -> None:
    """Wait until so many requests are saved, each once, in the rows and in both sums."""
    async with asyncio.timeout(PATIENCE_S):
        rows: Sequence[UsageRow] = ()
        while len(rows) < count:
            await asyncio.sleep(0.01)
            with suppress(StoreUnavailable):
                rows = (await store.usage_rows()).rows
    assert sorted(row.request_id for row in rows) == [f"req_{n}" for n in range(1, count + 1)]
    for groups in (("day",), ("day", "key_id")):
        (day,) = await store.usage_by(SumsQuery("2026-11-22", "2026-11-22", groups))
        assert day.requests == count


# Away


async def test_a_server_that_is_killed_and_comes_back(
    own_postgres: PostgresServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(own_postgres.new_database(), tmp_path) as store:
        caplog.clear()
        await whole_outage(
            store,
            lambda: asyncio.to_thread(own_postgres.kill),
            lambda: asyncio.to_thread(own_postgres.start),
        )
        said = lines(caplog)
        assert len(said) == 2, "each change of state is one line"
        assert "cannot be used" in said[0] and "can be used again" in said[1]
        assert PASSWORD not in caplog.text


async def test_a_server_that_hangs_and_goes_on(
    own_postgres: PostgresServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(own_postgres.new_database(), tmp_path, HASTY_S) as store:
        caplog.clear()
        await whole_outage(
            store,
            lambda: asyncio.to_thread(own_postgres.hang),
            lambda: asyncio.to_thread(own_postgres.go_on),
        )
        assert [line.rpartition(": ")[2] for line in lines(caplog)[:1]] == ["it does not answer"]


async def test_packets_that_are_lost(
    postgres: PostgresServer, wire: UnreliableWire, tmp_path: Path
) -> None:
    async def begin() -> None:
        wire.mode = "silent"

    async def end() -> None:
        wire.mode = "through"
        wire.cut()

    async with opened(wire.url(postgres.new_database()), tmp_path, HASTY_S) as store:
        await whole_outage(store, begin, end)


async def test_connections_that_are_refused_and_reset(
    store: PostgresStore, wire: UnreliableWire
) -> None:
    async def begin() -> None:
        wire.refuse()
        wire.cut()

    await whole_outage(store, begin, wire.listen)


async def test_idle_connections_that_were_closed_are_replaced_without_an_error(
    store: PostgresStore, wire: UnreliableWire
) -> None:
    await store.add_keys([a_key(1)])
    for number in range(1, 4):
        wire.cut()
        await store.record(Batch(rows=[a_row(number)]))
        wire.cut()
        assert await store.find_key(a_key(1).id) == a_key(1, version=number)
        wire.cut()
        assert await store.replace_key(a_key(1, version=number + 1))
    await everything_saved(store, 3)


async def test_a_batch_whose_answer_was_lost_is_saved_once(
    store: PostgresStore, wire: UnreliableWire
) -> None:
    await store.record(Batch(rows=[a_row(1)]))
    wire.mode = "loses answers"
    await soon(store.record(Batch(rows=[a_row(2)], last_used={"key_1": 5})))
    await eventually(lambda: store.trouble is not None)
    wire.mode = "through"
    await everything_saved(store, 2)


async def test_a_change_whose_answer_was_lost_reaches_the_memory_of_its_own_node(
    store: PostgresStore, wire: UnreliableWire, postgres: PostgresServer
) -> None:
    ring = KeyRing(store)
    await ring.load()
    key, secret = await ring.create(NewKey("k"))
    # The commit waits, so that the answer of the commit alone is lost.
    admin = await asyncpg.connect(postgres.url(postgres.newest))
    await admin.execute(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END $$;"
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON changes DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION wait()"
    )
    await admin.execute("SELECT pg_advisory_lock(7)")
    revoking = asyncio.create_task(ring.revoke(key.id))
    async with asyncio.timeout(PATIENCE_S):
        while not await admin.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)
    wire.mode = "loses answers"
    await admin.execute("SELECT pg_advisory_unlock(7)")
    with pytest.raises(StoreUnavailable):
        await soon(revoking)
    assert ring.find(secret, NOON) is not None, "whether it was revoked is not known here"
    wire.mode = "through"
    await eventually(lambda: ring.find(secret, NOON) is None)
    await admin.close()
    await ring.aclose()


async def test_a_loop_that_is_busy_is_no_outage(
    postgres: PostgresServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = postgres.new_database()
    async with PostgresStore(url, tmp_path / "spool", patience_s=HASTY_S) as store:
        for _ in range(3):
            time.sleep(HASTY_S * 0.7)  # noqa: ASYNC251 - the loop is held up, as by long computations
            for _ in range(3):
                await asyncio.sleep(0)
        assert not lines(caplog)
        assert store.trouble is None


# Read-only, full


async def test_a_primary_that_becomes_read_only_and_back(
    store: PostgresStore, postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    name = postgres.newest
    await store.add_keys([a_key(1)])
    await store.record(Batch(rows=[a_row(1)]))
    caplog.clear()
    postgres.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    postgres.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    await eventually(lambda: "read-only" in (store.trouble or ""))
    with pytest.raises(StoreUnavailable):
        await store.add_keys([a_key(2)])
    assert await store.find_key(a_key(1).id) == a_key(1), "reading goes on"
    await store.record(Batch(rows=[a_row(2)]))
    postgres.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
    await eventually(lambda: store.trouble is None)
    await everything_saved(store, 2)
    await store.add_keys([a_key(2)])
    assert len(lines(caplog)) == 2


async def test_a_full_server_refuses_and_heals(
    own_postgres: PostgresServer, tmp_path: Path
) -> None:
    own_postgres.new_database()
    own_postgres.sql("CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 2")
    own_postgres.sql(f"ALTER DATABASE {own_postgres.newest} OWNER TO few")
    few = own_postgres.url(own_postgres.newest, user="few", password="few")
    async with opened(few, tmp_path) as store:
        await store.record(Batch(rows=[a_row(1)]))
        results = await asyncio.gather(
            *(store.add_keys([a_key(n)]) for n in range(1, 6)), return_exceptions=True
        )
        assert all(isinstance(one, tuple | StoreUnavailable) for one in results)
        await store.record(Batch(rows=[a_row(2)]))
        own_postgres.sql("ALTER ROLE few CONNECTION LIMIT 30")
        await eventually(lambda: store.trouble is None)
        await everything_saved(store, 2)
        await store.add_keys([a_key(9)])


async def test_a_long_read_is_ended_with_a_503_and_delays_nothing(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    url = postgres.new_database()
    async with PostgresStore(
        url, tmp_path / "spool", patience_s=PATIENCE_S, read_limit_s=1.0
    ) as store:
        await store.record(Batch(rows=[a_row(n) for n in range(1, 50)]))
        postgres.sql(
            "ALTER TABLE usage RENAME TO u",
            "CREATE VIEW usage AS SELECT u.*, pg_sleep(600) IS NULL AS slow FROM u",
            database=postgres.newest,
        )
        reading = asyncio.create_task(store.find_usage_row("req_1"))
        paging = asyncio.create_task(
            store.ttft_percentile(PercentileQuery(50, "2026-11-22", "2026-11-22"))
        )
        await store.add_keys([a_key(1)])
        assert await store.find_key(a_key(1).id) == a_key(1)
        for slow in (reading, paging):
            with pytest.raises(StoreUnavailable) as ended:
                await soon(slow)
            assert ended.value.status == 503
        store._reads._limit_s = PATIENCE_S
        assert await store.count_keys() == 1
        assert store.trouble is None


# The spool


BATCH = Batch(
    rows=[a_row(1, attempts=(Attempt("a@b", 1, 2, "answered"),)), a_row(2, deployment=None)],
    counters=[CounterRow("key_1", "budget_month", 9_007_199_254_740_993, "2026-11", NOON)],
    last_used={"key_1": 7},
)


async def test_usage_that_waited_when_the_process_was_killed_is_saved_once(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    url = postgres.new_database()
    spool = UsageSpool(tmp_path / "spool")
    await spool.put(BATCH)
    await spool.put(Batch(rows=[a_row(3)]))
    (file,) = (tmp_path / "spool").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    with file.open("ab") as out:
        out.write(b'00000000 {"id": "cut in the mid')
    kept = file.read_bytes()
    for _ in range(2):  # the second time as if the kill had come between the save and the delete
        async with opened(url, tmp_path) as store:
            await everything_saved(store, 3)
            await eventually(lambda: not file.exists())
            assert [row.value for row in await store.load_counters()] == [9_007_199_254_740_993]
        file.write_bytes(kept)
    file.write_bytes(kept[:-20].replace(b"req_1", b"req_9"))
    async with opened(url, tmp_path) as store:
        await eventually(lambda: not file.exists())
        await everything_saved(store, 3)


async def test_a_full_spool_refuses_and_keeps_what_it_has(
    postgres: PostgresServer, wire: UnreliableWire, tmp_path: Path
) -> None:
    spool = UsageSpool(tmp_path / "spool", cap_bytes=1500)
    url = wire.url(postgres.new_database())
    async with PostgresStore(url, spool, patience_s=PATIENCE_S) as store:
        wire.refuse()
        wire.cut()
        await eventually(lambda: store.trouble is not None)
        with suppress(StoreUnavailable):
            for kept in range(1, 100):
                await store.record(Batch(rows=[a_row(kept)]))
        assert 1 < kept < 10 and spool.size_bytes <= 1500
        await wire.listen()
        await everything_saved(store, kept - 1)
        await store.record(Batch(rows=[a_row(kept)]))
        await everything_saved(store, kept)


async def test_a_spool_that_cannot_be_written_refuses(
    postgres: PostgresServer, wire: UnreliableWire, tmp_path: Path
) -> None:
    (tmp_path / "spool").write_text("a file where the directory should be")
    spool = UsageSpool(tmp_path / "spool" / "inside")
    with pytest.raises(StoreUnavailable):
        await spool.put(BATCH)


# Phrases


@pytest.mark.parametrize(
    ("error", "phrase"),
    [
        (TimeoutError(), "it does not answer"),
        (ConnectionResetError(), "the connection broke"),
        (asyncpg.InterfaceError("connection is closed"), "the connection broke"),
        (asyncpg.InternalClientError("cannot switch to state 15"), "the connection broke"),
        (asyncpg.CannotConnectNowError("x"), "it is starting up or stopping"),
        (asyncpg.CrashShutdownError("x"), "it has crashed and restarts"),
        (asyncpg.TooManyConnectionsError("x"), "it has no free connection left"),
        (asyncpg.ProtocolViolationError("query_wait_timeout"), "it has no free connection left"),
        (asyncpg.DiskFullError("x"), "its disk is full"),
        (asyncpg.DeadlockDetectedError("x"), "another transaction was in the way"),
        (asyncpg.ConnectionFailureError("x"), "the connection broke"),
        (asyncpg.IndexCorruptedError("index \n broken"), "index broken"),
        (asyncpg.UndefinedTableError("x"), None),
        (asyncpg.InterfaceError("another operation is in progress"), None),
        (LookupError(), None),
    ],
)
def test_outages_are_told_from_faults_of_the_gateway(error: Exception, phrase: str | None) -> None:
    assert outage_of(error) == phrase


# Starts that fail


async def failure(url: str, tmp_path: Path) -> str:
    """Return the one line of a start that fails; it never shows a password."""
    with pytest.raises(StoreFailure) as refusal:
        async with open_postgres_store(url, spool=tmp_path / "spool"):
            pass
    said = str(refusal.value)
    assert "\n" not in said and PASSWORD not in said and "hunter2" not in said
    return said


async def test_a_start_says_in_one_line_what_is_wrong(
    postgres: PostgresServer, wire: UnreliableWire, tmp_path: Path
) -> None:
    url = postgres.new_database()
    assert "refuses the user or the password" in await failure(
        postgres.url(postgres.newest, password="hunter2"), tmp_path
    )
    assert "no such database" in await failure(postgres.url("missing"), tmp_path)
    host = url.replace("127.0.0.1", "no-such-host.invalid")
    assert "host name is not known" in await failure(host, tmp_path)
    assert "no TLS" in await failure(url + "?sslmode=require", tmp_path)
    missing = f"{url}?sslmode=verify-full&sslrootcert={tmp_path}/missing.pem"
    assert "sslrootcert" in await failure(missing, tmp_path)
    for mode in ("verify-ca", "verify-full"):
        assert "add sslrootcert=" in await failure(f"{url}?sslmode={mode}", tmp_path)
    for option in ("sslmod=require", "work_mem=much", "server_version=9"):
        said = await failure(f"{url}?{option}", tmp_path)
        assert "an option that is refused" in said and option.partition("=")[0] in said
    wire.refuse()
    assert "nothing listens there" in await failure(wire.url(url), tmp_path)
    assert "ROXY_DATABASE_URL" in await failure(f"{url}?sslmode=nonsense", tmp_path)


async def test_tls_is_checked_against_the_authority_that_is_named(tmp_path: Path) -> None:
    ours, others = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(str(tmp_path / "ours.pem"))
    others.cert_pem.write_to_path(str(tmp_path / "others.pem"))
    certificate = ours.issue_cert("localhost")
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    with PostgresServer.made(
        {"ssl": "on", "ssl_cert_file": "../chain.pem", "ssl_key_file": "../key.pem"},
        {"chain.pem": chain, "key.pem": certificate.private_key_pem.bytes()},
    ) as server:
        url = server.new_database().replace("127.0.0.1", "localhost")
        verified = f"{url}?sslmode=verify-full&sslrootcert={tmp_path}"
        async with opened(f"{verified}/ours.pem", tmp_path) as store:
            await store.check_writable()
        said = await failure(f"{verified}/others.pem", tmp_path)
        assert "certificate is not accepted" in said and "sslrootcert" in said
        by_address = verified.replace("localhost", "127.0.0.1")
        assert "certificate is not accepted" in await failure(f"{by_address}/ours.pem", tmp_path)


async def test_a_user_without_the_right_to_create_is_told_so(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    url = postgres.new_database()
    name = postgres.newest
    postgres.sql(f"CREATE ROLE weak_{name} LOGIN PASSWORD 'hunter2'")
    weak = postgres.url(name, user=f"weak_{name}", password="hunter2")
    said = await failure(weak, tmp_path)
    assert "cannot be set up (permission denied" in said and "ALTER DATABASE" in said
    async with opened(url, tmp_path):
        pass
    grant = f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO weak_{name}"
    postgres.sql(grant, database=name)
    async with opened(weak, tmp_path) as store:
        await store.add_keys([a_key(1)])
        await store.record(Batch(rows=[a_row(1)]))
        assert (await store.usage_rows()).rows == [a_row(1)]


async def test_a_newer_schema_another_one_and_foreign_tables_are_refused_and_left_alone(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    url = postgres.new_database()
    known = postgres_migrations()
    later = Migration(len(known) + 1, "9999_later.sql", "CREATE TABLE later (n int);")
    async with PostgresStore(url, tmp_path / "spool", migrations=[*known, later]):
        pass
    assert "newer version of roxy (migration 9999_later.sql)" in await failure(url, tmp_path)
    edited = known[0]._replace(sql=known[0].sql + "-- edited")
    with pytest.raises(StoreFailure, match="differs from"):
        async with PostgresStore(url, tmp_path / "spool", migrations=[edited, *known[1:], later]):
            pass
    for foreign in ("CREATE TABLE keys (n int)", "CREATE TABLE migrations (n int)"):
        url = postgres.new_database()
        postgres.sql(foreign, database=postgres.newest)
        assert "tables of another program" in await failure(url, tmp_path)


async def test_a_migration_that_fails_is_undone_as_a_whole(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    url = postgres.new_database()
    broken = Migration(2, "0002_broken.sql", "CREATE TABLE toys (n int); INSERT INTO nowhere;")
    with pytest.raises(asyncpg.PostgresSyntaxError):
        async with PostgresStore(
            url, tmp_path / "spool", migrations=[postgres_migrations()[0], broken]
        ):
            pass
    admin = await asyncpg.connect(url)
    assert await admin.fetchval("SELECT to_regclass('toys')") is None
    assert await admin.fetchval("SELECT max(version) FROM migrations") == 1
    await admin.close()


async def test_sessions_and_named_values_fail_cleanly_too(
    store: PostgresStore, wire: UnreliableWire
) -> None:
    wire.refuse()
    wire.cut()
    for call in (
        store.put_session(SessionRow(b"s" * 32, "owner", b"c" * 32, 1, 1)),
        store.note_sessions({}, [b"s" * 32]),
        store.find_session(b"s" * 32),
        store.put_meta("a", b"b"),
        store.put_meta_if_absent("a", b"b"),
        store.load_meta("a"),
        store.check_writable(),
        store.prune("2026-11-22"),
        store.drop_counters(NOON),
    ):
        with pytest.raises(StoreUnavailable):
            await soon(call)
