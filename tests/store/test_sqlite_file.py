"""The database file at start: what is damaged, foreign or denied is refused and left alone."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.ordinary_user import private_place

from server.store.migrate import released_migrations
from server.store.sqlite.sqlite_file import (
    WHOLE_CHECK_BYTES,
    backup_database,
    check_database,
    connect,
    open_database,
)
from server.store.store import StoreFailure

__all__ = ["private_place"]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Make a database of some 100 pages, closed in order."""
    path = tmp_path / "roxy.db"
    with closing(open_database(path)) as db:
        fill(db, 2000)
    return path


def fill(db: sqlite3.Connection, facts: int, value: bytes = b"v" * 200) -> None:
    """Write facts whose names and values take room."""
    db.execute("BEGIN")
    values = [(f"fact {number}", value) for number in range(facts)]
    db.executemany("INSERT INTO meta (name, value) VALUES (?, ?)", values)
    db.execute("COMMIT")


def snapshot(folder: Path) -> dict[str, bytes]:
    """Read a folder's files, but for the -shm index, which holds no data."""
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if not path.name.endswith("-shm") and path.stat().st_size
    }


def refusal_of(path: Path) -> str:
    """Open a database that must be refused; gives the one line that says why."""
    before = snapshot(path.parent)
    with pytest.raises(StoreFailure) as refusal:
        open_database(path)
    assert snapshot(path.parent) == before, "a refused database is left as it is"
    line = str(refusal.value)
    assert "\n" not in line
    assert str(path) in line
    return line


def test_a_new_database_is_private_and_has_its_schema(tmp_path: Path) -> None:
    path = tmp_path / "roxy.db"
    with closing(open_database(path)) as db:
        db.execute("INSERT INTO meta VALUES ('a', 'b')")
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("roxy.db", "roxy.db-wal", "roxy.db-shm"), 0o600)
    assert [file.name for file in tmp_path.iterdir()] == ["roxy.db"], "closed, it is one file"


def test_a_path_is_no_part_of_a_uri(tmp_path: Path) -> None:
    folder = tmp_path / "50% ?mode=memory#x"
    folder.mkdir()
    open_database(folder / "roxy.db").close()
    assert (folder / "roxy.db").stat().st_size > 0


def test_a_first_start_that_was_killed_is_done_again(tmp_path: Path) -> None:
    for leftover in ("roxy.db.new", "roxy.db.new-journal", "roxy.db.new-wal"):
        (tmp_path / leftover).write_bytes(b"half a database")
    open_database(tmp_path / "roxy.db").close()
    assert [file.name for file in tmp_path.iterdir()] == ["roxy.db"]


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_to_a_few_bytes(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def make_text(path: Path) -> None:
    path.write_text("dear diary, " * 1000)


def spoil_page_size(path: Path) -> None:
    overwrite(path, 16, b"\x00\x07")


def spoil_schema(path: Path) -> None:
    overwrite(path, 100, b"\xff" * 1000)


def spoil_middle(path: Path) -> None:
    overwrite(path, path.stat().st_size // 8192 * 4096, b"\xa5" * 8192)


def spoil_last_page(path: Path) -> None:
    overwrite(path, path.stat().st_size - 4096, b"\xff" * 64)


def forget_migrations(path: Path) -> None:
    with closing(connect(path, "rw")) as db:
        db.execute("DROP TABLE migrations")


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize(
    "spoil",
    [
        empty,
        cut_in_half,
        cut_to_a_few_bytes,
        make_text,
        spoil_page_size,
        spoil_schema,
        spoil_middle,
        spoil_last_page,
        forget_migrations,
    ],
)
def test_a_damaged_database_is_refused_and_left_as_it_is(
    database: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(database)
    line = refusal_of(database)
    assert "damaged" in line
    assert "Restore a backup" in line


@pytest.mark.parametrize("spoil", [cut_in_half, make_text, spoil_schema, spoil_middle])
def test_damage_is_also_found_beside_the_log_of_a_killed_process(
    database: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    killed = tmp_path / "killed"
    killed.mkdir()
    with closing(open_database(database)) as db:
        db.execute("INSERT INTO meta VALUES ('last words', 'x')")
        for suffix in ("", "-wal"):
            shutil.copy(f"{database}{suffix}", killed)
    spoil(killed / "roxy.db")
    assert "damaged" in refusal_of(killed / "roxy.db")


def test_what_a_killed_process_left_in_the_log_is_there(database: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    killed.mkdir()
    with closing(open_database(database)) as db:
        db.execute("INSERT INTO meta VALUES ('last words', 'x')")
        for suffix in ("", "-wal"):
            shutil.copy(f"{database}{suffix}", killed)
    with closing(open_database(killed / "roxy.db")) as db:
        assert db.execute("SELECT value FROM meta WHERE name = 'last words'").fetchone() == ("x",)


def test_a_large_database_is_checked_where_it_matters(tmp_path: Path) -> None:
    path = tmp_path / "roxy.db"
    with closing(open_database(path)) as db:
        fill(db, 2000, b"v" * 9000)
    assert path.stat().st_size > WHOLE_CHECK_BYTES
    open_database(path).close()
    spoil_last_page(path)
    assert "damaged" in refusal_of(path)


def test_the_check_of_a_large_database_ends_in_time(tmp_path: Path) -> None:
    path = tmp_path / "roxy.db"
    with closing(open_database(path)) as db:
        fill(db, 2000, b"v" * 9000)
    spoil_last_page(path)
    known = released_migrations()
    assert check_database(path, known, max_check_s=0.0) == ()
    with pytest.raises(StoreFailure, match="damaged"):
        check_database(path, known)


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "roxy.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE bookmarks (url)")
    assert "another program" in refusal_of(path)


def test_a_log_without_its_database_is_not_thrown_away(database: Path) -> None:
    wal = database.with_name("roxy.db-wal")
    wal.write_bytes(b"committed transactions")
    database.unlink()
    assert "roxy.db-wal" in refusal_of(database)
    assert not database.exists()


def test_a_database_that_another_program_holds_is_refused(database: Path) -> None:
    holder = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None);"
    holder += "db.execute('PRAGMA locking_mode = EXCLUSIVE'); db.execute('BEGIN EXCLUSIVE');"
    holder += "print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(StoreFailure, match="locked by another program"):
            open_database(database)
        process.communicate()
    open_database(database).close()


# Permissions


def test_a_read_only_file_is_refused(private_place: Path) -> None:
    path = private_place / "roxy.db"
    open_database(path).close()
    path.chmod(0o400)
    assert "write access" in refusal_of(path)


def test_a_read_only_directory_is_refused(private_place: Path) -> None:
    path = private_place / "roxy.db"
    open_database(path).close()
    private_place.chmod(0o500)
    assert "write access" in refusal_of(path)


def test_nothing_is_made_in_a_read_only_directory(private_place: Path) -> None:
    private_place.chmod(0o500)
    assert "write access" in refusal_of(private_place / "roxy.db")


def test_a_file_of_somebody_else_is_refused(private_place: Path) -> None:
    path = private_place / "roxy.db"
    open_database(path).close()
    path.chmod(0o000)
    with pytest.raises(StoreFailure, match="write access"):
        open_database(path)


# Backups


def test_a_backup_of_a_database_in_use_is_whole_and_private(database: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup.db"
    with closing(open_database(database)) as db:
        db.execute("INSERT INTO meta VALUES ('newest', 'x')")
        backup_database(database, target)
        db.execute("INSERT INTO meta VALUES ('later', 'x')")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with closing(open_database(target)) as copy:
        assert copy.execute("SELECT count(*) FROM meta").fetchone() == (2001,)
    assert not list(tmp_path.glob("*.part*"))


def test_a_backup_of_an_unused_database_leaves_nothing_beside_it(
    database: Path, tmp_path: Path
) -> None:
    open_database(database).close()
    before = sorted(database.parent.iterdir())
    backup_database(database, tmp_path / "backup.db")
    assert sorted(set(database.parent.iterdir()) - {tmp_path / "backup.db"}) == before


def test_a_backup_overwrites_nothing(database: Path, tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    for target in (database, tmp_path):
        with pytest.raises(StoreFailure, match="exists"):
            backup_database(database, target)
    with pytest.raises(StoreFailure, match="does not exist"):
        backup_database(tmp_path / "none.db", tmp_path / "copy.db")
    assert snapshot(tmp_path) == before


def test_a_damaged_database_is_not_backed_up(database: Path, tmp_path: Path) -> None:
    spoil_middle(database)
    with pytest.raises(StoreFailure, match="damaged"):
        backup_database(database, tmp_path / "copy.db")
    assert not list(tmp_path.glob("copy*"))
