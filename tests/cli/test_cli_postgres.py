"""`roxy` commands with ROXY_DATABASE_URL: the shared database in place of the file."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from msgspec import structs
from support.builders.conversations import QUOTA, answer, changes, question, save
from support.builders.rows import NOON, a_key, a_row
from support.command_line import CommandLine
from support.command_line import shell as new_shell
from support.servers.counter_nodes import node
from support.servers.postgres_server import PASSWORD, PostgresServer, program
from support.servers.redis_server import RedisServer
from support.waiting import PATIENCE_S, until

from server.accounting.admission import guest_limits
from server.cli.key_administration import open_keys
from server.config.loading import load_config
from server.config.settings import Guests
from server.history.chat_history import ChatHistory
from server.history.history_records import FileRecord, HistorySettings, StoredFile
from server.history.postgres_history import PostgresHistory
from server.history.sqlite_history import SqliteHistory
from server.store.data_directory import DataDirectory
from server.store.key import Limits, NewKey
from server.store.postgres.postgres_schema import postgres_migrations
from server.store.postgres.postgres_store import PATIENCE_S as REQUESTS_WAIT_S
from server.store.postgres.postgres_store import PostgresStore
from server.store.rows import Batch, CounterRow, SessionRow
from server.store.sqlite.sqlite_file import connect
from server.store.sqlite.sqlite_store import SqliteStore
from server.store.store import OWNER_META, Store
from server.store.usage_queries import RowsQuery, SumsQuery

__all__ = ["new_shell"]
SPAN = ("2026-01-01", "2026-12-31")


@pytest.fixture
def shell(new_shell: CommandLine) -> CommandLine:
    return new_shell


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.new_database()


async def fill(store: Store) -> None:
    """Write some of everything."""
    keys = [a_key(n, name=f"Zoë {n}", last_used_at=n * 10 or None) for n in range(700)]
    await store.add_keys(keys)
    await store.replace_key(structs.replace(keys[5], status="revoked", version=2))
    await store.put_meta(OWNER_META, b"o" * 32)
    await store.put_meta("guest_cookie_secret", b"g" * 32)
    await store.put_session(SessionRow(b"s" * 32, "owner", b"c" * 32, 5, 6))
    rows = [
        a_row(n, at=NOON + n * 3600, key_id=f"key_{n % 7}", cost_microusd=n, stream=n % 2 == 0)
        for n in range(3000)
    ]
    big = CounterRow("key_1", "budget_month", 9_007_199_254_740_993, "2026-11", NOON)
    rate = CounterRow("key_1", "requests", 2.25, "", NOON)
    await store.record(Batch(rows=rows, counters=[big, rate]))


async def contents(store: Store) -> dict[str, object]:
    """Return everything that a store has."""
    page = await store.usage_rows(RowsQuery(limit=5000))
    return {
        "keys": sorted(await store.load_keys(), key=lambda key: key.id),
        "owner": await store.load_meta(OWNER_META),
        "guests": await store.load_meta("guest_cookie_secret"),
        "sessions": await store.load_sessions(),
        "rows": list(page.rows),
        "days": await store.usage_by(SumsQuery(*SPAN)),
        "all keys": await store.usage_by(SumsQuery(*SPAN, ("day", "model"))),
        "counters": sorted(await store.load_counters(), key=lambda row: row.kind),
    }


async def converse(history: ChatHistory) -> None:
    """Write some of everything of a chat history."""
    for number in range(30):
        asked = question(text=f"Zoë \0 {number}")
        await save(history, asked, answer(), conversation=f"c_{number}", title=f"t \0 {number}")
    for number in range(3):
        picture = StoredFile("cat.png", "image/png", bytes(range(256)) * 100)
        await history.put_file("owner", f"f_{number}", "c_1", picture, QUOTA)
    attached = FileRecord("f_1", "cat.png", "image/png", 25600)
    await save(history, question(5, files=(attached,)), conversation="c_1")
    await history.share("owner", "c_1", "m_5", QUOTA)
    await history.put_settings("owner", HistorySettings({"enter": "send"}, 0))
    await history.erase("owner", "c_2")


async def conversations(history: ChatHistory) -> dict[str, object]:
    """Return everything that a chat history has."""
    (link,) = await history.shares("owner")
    return {
        "list": await changes(history, 0, "c_1"),
        "file": await history.file("owner", "f_2"),
        "link": await history.shared(link.token),
        "picture": await history.shared_file(link.token, "f_1"),
        "found": await history.search("owner", ["zoë", "7"], 10),
    }


def installation(path: Path) -> dict[str, object]:
    """Fill the database of a data directory, as a gateway that has stopped leaves it."""

    async def work() -> dict[str, object]:
        with DataDirectory(path) as directory:
            database = directory.database
            async with SqliteStore(database, patience_s=PATIENCE_S) as store:
                await fill(store)
                async with SqliteHistory(database, patience_s=PATIENCE_S) as history:
                    await converse(history)
                    return await contents(store) | await conversations(history)

    return asyncio.run(work())


def shared_contents(url: str, tmp_path: Path) -> dict[str, object]:
    async def work() -> dict[str, object]:
        async with PostgresStore(url, tmp_path / "spool", patience_s=PATIENCE_S) as store:
            return await contents(store) | await conversations(PostgresHistory(store))

    return asyncio.run(work())


# roxy migrate --from


def test_an_installation_is_copied_whole_and_left_as_it_was(
    shell: CommandLine, url: str, tmp_path: Path
) -> None:
    before = installation(tmp_path / "data")
    source = tmp_path / "data" / "roxy.db"
    content = source.read_bytes()
    done = shell.run("migrate", "--from", source, ROXY_DATABASE_URL=url)
    assert done.code == 0, done
    assert shared_contents(url, tmp_path) == before
    assert source.read_bytes() == content
    for line in (
        "keys: 700",
        "requests: 3000, 4.498500 dollars",
        "sessions: 1",
        "limit counters: 2",
        "conversations: 29",
    ):
        assert line in done.out.splitlines()
    assert PASSWORD not in done.out + done.err
    again = shell.run("migrate", "--from", source, ROXY_DATABASE_URL=url).complaint
    assert "is not empty, and was not changed" in again
    assert shared_contents(url, tmp_path) == before


async def test_a_copy_carries_the_limits_in_use_into_redis(
    shell: CommandLine, url: str, tmp_path: Path
) -> None:
    began = now = time.time()
    guest, limits = "guest:192.0.2.1", Limits(tokens_per_minute=10**9)
    async with RedisServer(tmp_path, "redis") as redis:
        with DataDirectory(tmp_path / "data") as directory:
            async with SqliteStore(directory.database, patience_s=PATIENCE_S) as store:
                await store.add_keys([structs.replace(a_key(1), limits=limits)])
                counters = [
                    CounterRow(guest, "requests_day", 30.0, "", now),
                    CounterRow("guests", "requests_day", 100.0, "", now),
                    CounterRow("guest:192.0.2.2", "requests_day", 30.0, "", now - 2 * 86_400),
                    CounterRow(a_key(1).id, "tokens", 9e8, "", now),
                    CounterRow("key_gone", "tokens", 9e8, "", now),
                ]
                await store.record(Batch(counters=counters))
        environ = {"ROXY_DATABASE_URL": url, "ROXY_REDIS_URL": redis.url}
        source = tmp_path / "data" / "roxy.db"
        done = shell.run("migrate", "--from", source, **environ)
        assert "limits that are in use, copied into Redis: 3" in done.out.splitlines(), done
        each, together = guest_limits(Guests())
        async with node(redis.url) as shared:
            for scope, limit, used in ((guest, each, 30), ("guests", together, 100)):
                day = (await shared.standing(scope, limit)).requests_day
                assert day is not None
                # Of a day's requests some come back in the time that this takes.
                back = (time.time() - began) * day.limit / 86_400
                assert used - back <= day.limit - day.remaining <= used
            standing = await shared.standing("guest:192.0.2.2", each)
            assert standing.requests_day is not None
            assert standing.requests_day.remaining == each.requests_per_day
            tokens = (await shared.standing(a_key(1).id, limits)).tokens
            assert tokens is not None and tokens.remaining < tokens.limit
    away = shell.run("migrate", "--from", source, **environ).complaint
    assert "cannot reach Redis" in away


def test_a_copy_that_fails_half_way_changes_nothing_and_can_be_repeated(
    shell: CommandLine, postgres: PostgresServer, url: str, tmp_path: Path
) -> None:
    before = installation(tmp_path / "data")
    assert shell.run("migrate", ROXY_DATABASE_URL=url).code == 0
    name = url.rpartition("/")[2]
    # The server ends the connection in the middle, as it does when the copy is killed.
    postgres.sql(
        "CREATE FUNCTION quit() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$",
        "CREATE TRIGGER quit BEFORE INSERT ON usage FOR EACH ROW EXECUTE FUNCTION quit()",
        database=name,
    )
    command = ("migrate", "--from", tmp_path / "data" / "roxy.db")
    assert "cannot be used" in shell.run(*command, ROXY_DATABASE_URL=url).complaint
    postgres.sql("DROP TRIGGER quit ON usage", database=name)
    assert shell.run(*command, ROXY_DATABASE_URL=url).code == 0
    assert shared_contents(url, tmp_path) == before


def test_a_copy_that_differs_is_not_kept(
    shell: CommandLine, postgres: PostgresServer, url: str, tmp_path: Path
) -> None:
    installation(tmp_path / "data")
    assert shell.run("migrate", ROXY_DATABASE_URL=url).code == 0
    name = url.rpartition("/")[2]
    postgres.sql(
        "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF NEW.request_id = 'req_17' THEN RETURN NULL; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER lose BEFORE INSERT ON usage FOR EACH ROW EXECUTE FUNCTION lose()",
        database=name,
    )
    command = ("migrate", "--from", tmp_path / "data" / "roxy.db")
    assert "copy of the table usage differs" in shell.run(*command, ROXY_DATABASE_URL=url).complaint
    postgres.sql("DROP TRIGGER lose ON usage", database=name)
    assert shell.run(*command, ROXY_DATABASE_URL=url).code == 0


def test_a_copy_says_what_it_needs(shell: CommandLine, url: str, tmp_path: Path) -> None:
    source = tmp_path / "data" / "roxy.db"
    assert "Set ROXY_DATABASE_URL" in shell.run("migrate", "--from", source).complaint
    missing = shell.run("migrate", "--from", source, ROXY_DATABASE_URL=url).complaint
    assert "does not exist" in missing
    installation(tmp_path / "data")
    with DataDirectory(tmp_path / "data") as directory:
        directory.announce("http://127.0.0.1:1")
        running = shell.run("migrate", "--from", source, ROXY_DATABASE_URL=url).complaint
        assert "is running with" in running and "stop it" in running
    with closing(connect(source, "rw")) as db:
        db.execute("UPDATE usage SET status = 'a' || char(0) WHERE seq = 3")
    assert shell.run("migrate", "--from", source, ROXY_DATABASE_URL=url).code == 0


# The other commands


def test_keys_are_managed_in_the_shared_database_while_gateways_use_it(
    shell: CommandLine, url: str, tmp_path: Path
) -> None:
    shared = {"ROXY_DATABASE_URL": url}
    created = shell.run("keys", "create", "ci", **shared)
    assert created.code == 0, created
    assert created.out.startswith("roxy_")
    with DataDirectory(tmp_path / "data"):  # a gateway of this machine runs
        listed = shell.run("keys", "list", **shared)
        assert " ci " in listed.out
        key_id = listed.out.splitlines()[1].split()[0]
        rotated = shell.run("keys", "rotate", key_id, **shared)
        assert rotated.out.startswith("roxy_") and rotated.out != created.out
        exported = shell.run("keys", "export", **shared)
        assert [key["name"] for key in json.loads(exported.out)["keys"]] == ["ci"]
        assert created.out.strip() not in exported.out
        assert shell.run("keys", "export", "copy.json", **shared).code == 0
        assert shell.run("keys", "revoke", key_id, **shared).code == 0
        known = shell.run("keys", "import", "copy.json", **shared)
        assert "Keys added: 0, already present: 1." in known.out
        assert "revoked" in shell.run("keys", "list", **shared).out
    assert not (tmp_path / "data" / "roxy.db").exists()


async def test_a_command_waits_longer_for_the_database_than_a_request_may(url: str) -> None:
    config = load_config({}, {"ROXY_DATABASE_URL": url})
    async with open_keys(config) as keys:
        other = await asyncpg.connect(url)

        async def waits() -> bool:
            return bool(await other.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

        async with other.transaction():
            await other.execute("LOCK TABLE keys")
            making = asyncio.create_task(keys.create(NewKey("ci")))
            await until(waits)
            await asyncio.sleep(2 * REQUESTS_WAIT_S)
        await other.close()
        key, _ = await making
        assert await keys.list() == (key,)


def test_migrate_check_and_backup_name_the_shared_database(
    shell: CommandLine, postgres: PostgresServer, url: str
) -> None:
    place = url.rpartition("@")[2]
    due = shell.run("check", ROXY_DATABASE_URL=url)
    assert (
        f"database: {place} (PostgreSQL " in due.out
        and f"{len(postgres_migrations())} migrations due" in due.out
    )
    assert f"{place} is up to date" in shell.run("migrate", ROXY_DATABASE_URL=url).out
    ready = shell.run("check", ROXY_DATABASE_URL=url, ROXY_DEMO="true")
    assert f"database: {place} (PostgreSQL " in ready.out and "due" not in ready.out
    release = subprocess.check_output([program("postgres"), "--version"], text=True).split()[2]
    assert f"(PostgreSQL {release})" in ready.out
    assert ready.code == 0
    wrong = postgres.url("nowhere")
    failed = shell.run("check", ROXY_DATABASE_URL=wrong, ROXY_DEMO="true")
    assert "it has no such database" in failed.out and failed.code == 1
    assert "ROXY_DATABASE_URL" in shell.run("check", "--offline", ROXY_DATABASE_URL=wrong).out
    assert "pg_dump" in shell.run("backup", "copy.db", ROXY_DATABASE_URL=url).complaint
    assert PASSWORD not in due.out + ready.out + failed.out + failed.err


async def test_check_says_whether_redis_can_be_used(shell: CommandLine, tmp_path: Path) -> None:
    async with RedisServer(tmp_path, "valkey", "--requirepass", "hunter2") as redis:
        place = redis.url.rpartition("/")[2]
        right = {"ROXY_REDIS_URL": f"redis://:hunter2@{place}", "ROXY_DEMO": "true"}
        works = shell.run("check", **right)
        assert (works.code, f"limits: Redis at {place}\n" in works.out) == (0, True)
        assert "hunter2" not in works.out
        for user in ("", ":wrong@"):
            wrong = {"ROXY_REDIS_URL": f"redis://{user}{place}", "ROXY_DEMO": "true"}
            fails = shell.run("check", **wrong)
            assert (fails.code, f"limits: Redis at {place}: it " in fails.out) == (1, True)
            assert shell.run("check", "--offline", **wrong).code == 0
