"""Migrations: in order, once, whole or not at all."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs
from support.waiting import PATIENCE_S

from server.store.migrate import (
    Migration,
    apply_migration,
    read_migrations,
    released_migrations,
    split_statements,
)
from server.store.rows import Batch
from server.store.sqlite.sqlite_file import connect, open_database
from server.store.sqlite.sqlite_store import SqliteStore
from server.store.store import StoreFailure
from server.store.usage_queries import SumsQuery

FIRST = Migration(1, "0001_pets.sql", "CREATE TABLE pets (name TEXT);")
SECOND = Migration(
    2, "0002_age.sql", "ALTER TABLE pets ADD COLUMN age;\nUPDATE pets SET age = 1; -- all\n"
)


def tables(db: sqlite3.Connection) -> set[str]:
    """Return the names of a database's tables."""
    return {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def a_pet(path: Path, *migrations: Migration) -> None:
    """Make a database at some version, with a row in it."""
    with closing(open_database(path, migrations)) as db:
        db.execute("INSERT INTO pets (name) VALUES ('Rex')")


def test_the_released_migrations_are_numbered_and_make_every_table(tmp_path: Path) -> None:
    released = released_migrations()
    assert [migration.version for migration in released] == list(range(1, len(released) + 1))
    with closing(open_database(tmp_path / "roxy.db")) as db:
        assert tables(db) >= {
            *("keys", "meta", "counters", "usage", "usage_daily", "sessions", "migrations")
        }
        recorded = db.execute("SELECT version, name, sha256 FROM migrations").fetchall()
    assert recorded == [(m.version, m.name, m.sha256) for m in released]


OLD_ROW = """
INSERT INTO usage (
    request_id, at, key_id, model, deployment, status, http_status, prompt_tokens,
    completion_tokens, estimated, cost_microusd, ttft_ms, duration_ms, queued_ms, stream
) VALUES ('req_old', 1.5, 'owner', 'a/b', 'a/b@c', 'finished', 200, 10, 20, 0, 50, 100, 900, 5, 1)
"""


async def test_requests_from_before_attempts_were_recorded_are_still_read(tmp_path: Path) -> None:
    path = tmp_path / "roxy.db"
    with closing(open_database(path, released_migrations()[:2])) as db:
        db.execute(OLD_ROW)
    async with SqliteStore(path, patience_s=PATIENCE_S) as store:
        row = await store.find_usage_row("req_old")
        assert row is not None
        assert (row.deployment, row.duration_ms, row.attempts) == ("a/b@c", 900, None)
        await store.record(Batch(rows=[structs.replace(row, request_id="req_new")]))
        assert len((await store.usage_rows()).rows) == 2
    with closing(connect(tmp_path / "roxy.db.before-0003", "ro", immutable=True)) as db:
        assert db.execute("SELECT request_id FROM usage").fetchall() == [("req_old",)]
        assert "attempts" not in {name for _, name, *_ in db.execute("PRAGMA table_info(usage)")}


OLD_DAY = """
INSERT INTO usage_daily VALUES ('1970-01-01', {!r}, 'a/b', 2, 0, 10, 20, 0, 0, 1, 0, {}, 0, 0, 5)
"""


async def test_sums_from_before_gain_their_estimated_share_and_those_of_all_keys(
    tmp_path: Path,
) -> None:
    path = tmp_path / "roxy.db"
    with closing(open_database(path, released_migrations()[:3])) as db:
        db.execute(OLD_ROW)
        db.execute(OLD_ROW.replace("req_old", "req_guess").replace("10, 20, 0, 50", "3, 4, 1, 7"))
        db.execute(OLD_DAY.format("owner", 60))
        db.execute(OLD_DAY.format("key_1", 2**62))
        db.execute(OLD_DAY.format("key_2", 2**62))
    async with SqliteStore(path, patience_s=PATIENCE_S) as store:
        days = await store.usage_by(SumsQuery("1970-01-01", "1970-01-01"))
        assert [day.estimated_tokens for day in days] == [0, 0, 7]
        assert [day.estimated_cost_microusd for day in days] == [0, 0, 7]
        (together,) = await store.usage_by(SumsQuery("1970-01-01", "1970-01-01", ("day", "model")))
        assert (together.requests, together.prompt_tokens) == (6, 30)
        assert (together.estimated_tokens, together.estimated_cost_microusd) == (7, 7)
        assert type(together.cost_microusd) is int


def test_a_gap_or_a_doubled_number_is_a_mistake(tmp_path: Path) -> None:
    for name in ("0001_a.sql", "0003_c.sql", "notes.txt"):
        (tmp_path / name).write_text("SELECT 1;")
    with pytest.raises(ValueError, match="numbered"):
        read_migrations(tmp_path)
    (tmp_path / "0003_c.sql").rename(tmp_path / "0001_b.sql")
    with pytest.raises(ValueError, match="numbered"):
        read_migrations(tmp_path)
    (tmp_path / "0001_b.sql").rename(tmp_path / "0002_b.sql")
    assert [m.name for m in read_migrations(tmp_path)] == ["0001_a.sql", "0002_b.sql"]


def test_an_existing_database_is_copied_aside_and_migrated(tmp_path: Path) -> None:
    path = tmp_path / "roxy.db"
    a_pet(path, FIRST)
    with closing(open_database(path, [FIRST, SECOND])) as db:
        assert db.execute("SELECT name, age FROM pets").fetchall() == [("Rex", 1)]
    backup = tmp_path / "roxy.db.before-0002"
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with closing(connect(backup, "ro", immutable=True)) as db:
        assert db.execute("SELECT * FROM pets").fetchall() == [("Rex",)]


def test_an_up_to_date_database_is_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "roxy.db"
    a_pet(path, FIRST)
    a_pet(path, FIRST)
    assert [file.name for file in tmp_path.iterdir()] == ["roxy.db"]


def test_a_newer_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "roxy.db"
    a_pet(path, FIRST, SECOND)
    before = path.read_bytes()
    with pytest.raises(StoreFailure, match=r"newer version of roxy \(migration 0002_age.sql\)"):
        open_database(path, [FIRST])
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["roxy.db"]


def test_an_edited_released_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "roxy.db"
    a_pet(path, FIRST)
    before = path.read_bytes()
    edited = FIRST._replace(sql=FIRST.sql + " -- a harmless remark")
    with pytest.raises(StoreFailure, match=r"0001_pets\.sql"):
        open_database(path, [edited, SECOND])
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE toys (name); INSERT INTO nowhere VALUES (1);",
        "CREATE TABLE toys (name); CREATE TABLE toys (name);",
        "CREATE TABLE toys (name); syntax error;",
    ],
)
def test_a_migration_that_fails_is_undone_as_a_whole(tmp_path: Path, sql: str) -> None:
    path = tmp_path / "roxy.db"
    a_pet(path, FIRST)
    third = Migration(3, "0003_toys.sql", sql)
    with pytest.raises(StoreFailure, match=r"0003_toys\.sql .* undone"):
        open_database(path, [FIRST, SECOND, third])
    with closing(open_database(path, [FIRST, SECOND])) as db:
        assert tables(db) == {"pets", "migrations"}
        assert db.execute("SELECT age FROM pets").fetchall() == [(1,)], "the second one stays"


def test_a_migration_may_not_end_its_own_transaction(tmp_path: Path) -> None:
    a_pet(tmp_path / "roxy.db", FIRST)
    second = Migration(2, "0002_x.sql", "CREATE TABLE x (y); COMMIT; CREATE TABLE z (y);")
    with pytest.raises(ValueError, match="must not begin or end transactions"):
        open_database(tmp_path / "roxy.db", [FIRST, second])


def test_a_migration_may_not_leave_dangling_references(tmp_path: Path) -> None:
    a_pet(tmp_path / "roxy.db", FIRST)
    sql = "CREATE TABLE a (id PRIMARY KEY); CREATE TABLE b (a REFERENCES a);"
    sql += "INSERT INTO b VALUES (1);"
    with pytest.raises(ValueError, match="refer to nothing"):
        open_database(tmp_path / "roxy.db", [FIRST, Migration(2, "0002_x.sql", sql)])
    with closing(open_database(tmp_path / "roxy.db", [FIRST])) as db:
        assert tables(db) == {"pets", "migrations"}


KILLED_HALF_WAY = """
import os, sys
from pathlib import Path
from server.store.migrate import Migration, apply_migration
from server.store.sqlite.sqlite_file import connect

db = connect(Path(sys.argv[1]), "rw")
db.create_function("die", 0, lambda: os.kill(os.getpid(), 9))
sql = "ALTER TABLE pets ADD COLUMN age; UPDATE pets SET age = 7; SELECT die(); DROP TABLE pets;"
apply_migration(db, Migration(2, "0002_age.sql", sql))
"""


def test_a_migration_that_was_killed_half_way_completes_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "roxy.db"
    a_pet(path, FIRST)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_HALF_WAY, str(path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert killed.returncode == -9
    with closing(open_database(path, [FIRST, SECOND])) as db:
        assert db.execute("SELECT name, age FROM pets").fetchall() == [("Rex", 1)]


def test_a_copy_that_was_killed_half_way_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "roxy.db"
    a_pet(path, FIRST)
    (tmp_path / "roxy.db.before-0002.part").write_bytes(b"half a copy")
    (tmp_path / "roxy.db.before-0002").write_bytes(b"an older attempt")
    open_database(path, [FIRST, SECOND]).close()
    assert {file.name for file in tmp_path.iterdir()} == {"roxy.db", "roxy.db.before-0002"}


def test_applying_needs_nothing_but_a_connection(tmp_path: Path) -> None:
    (tmp_path / "plain.db").touch()
    with closing(connect(tmp_path / "plain.db", "rw")) as db:
        apply_migration(db, FIRST)
        assert tables(db) == {"pets", "migrations"}


TRIGGER = "CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM b; SELECT ';'; END;"


@pytest.mark.parametrize(
    ("script", "statements"),
    [
        ("", []),
        ("-- only a comment; with a semicolon\n", []),
        ("SELECT 1; SELECT 2;", ["SELECT 1;", "SELECT 2;"]),
        ("SELECT ';'; -- the end; really\n", ["SELECT ';';"]),
        ("SELECT 1 /* ; */ + 1;\n-- a;\nSELECT 2;", ["SELECT 1 /* ; */ + 1;", "-- a;\nSELECT 2;"]),
        (TRIGGER + "\nSELECT 1;", [TRIGGER, "SELECT 1;"]),
    ],
)
def test_a_script_is_split_as_sqlite_reads_it(script: str, statements: list[str]) -> None:
    assert [statement.strip() for statement in split_statements(script)] == statements


def test_a_statement_without_an_end_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="does not end with a semicolon"):
        list(split_statements("SELECT 1; SELECT 2"))
