"""The database file: check it, make it, copy it, migrate it, open it.

A file that is damaged, foreign or too new is looked at without being written to, and refused with
a `StoreFailure`; nothing ever starts empty in its place. A new file is built under another name
and renamed when it is whole, so an empty `roxy.db` is always damage and never a first start.
All of this blocks: it runs at start, in the store's thread.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from server.store.migrate import Migration, apply_migration, find_pending, released_migrations
from server.store.private_file import create_private, put_in_place
from server.store.store import StoreFailure
from workers.units import MIB

log = logging.getLogger("roxy.store")

APPLICATION_ID = 0x526F7879
"""Offset 68 of the header, "Roxy" (https://www.sqlite.org/fileformat2.html, 1.3.9)."""

HEADER_BYTES = 100
MAGIC = b"SQLite format 3\0"
WHOLE_CHECK_BYTES = 8 * MIB
"""Up to this size all pages are checked at start (20 to 35 ms), beyond it what is kept for ever."""

OTHER_DIRECTORY = "choose another one with --data-dir"
OTHER_PLACE = "choose another place for the copy"
KEPT_TABLES = ("migrations", "keys", "meta", "counters", "usage_daily")
PATIENCE_S = 1.5

DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
DENIED = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN})
DISK = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM})
ENVIRONMENT = DAMAGE | LOCKED | DENIED | DISK
"""Primary result codes that come from the world outside, not from a bug of ours."""


def open_database(path: Path, migrations: Sequence[Migration] | None = None) -> sqlite3.Connection:
    """Open the gateway's database, made or migrated as needed. Raises StoreFailure."""
    known = released_migrations() if migrations is None else migrations
    with _explained(path):
        if path.exists():
            pending = check_database(path, known)
            if pending:
                _migrate(path, pending)
        else:
            _create(path, known)
        return _open_for_service(path)


def connect(path: Path, mode: str, *, immutable: bool = False) -> sqlite3.Connection:
    """Connect in autocommit mode; `mode` is "ro" or "rw", so that no file is made by accident.

    `immutable` reads the main file alone and leaves no trace beside it.
    """
    uri = f"{path.absolute().as_uri()}?mode={mode}{'&immutable=1' if immutable else ''}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=PATIENCE_S)


def check_database(path: Path, known: Sequence[Migration]) -> Sequence[Migration]:
    """Check an existing file without changing it; gives the migrations it still needs."""
    wal = _beside(path, "-wal")
    unfinished = wal.exists() and wal.stat().st_size > 0  # the last process was killed
    with _explained(path):
        _check_header(path, may_grow=unfinished)
        with closing(connect(path, "ro", immutable=not unfinished)) as db:
            _check_pages(db, path)
            try:
                return find_pending(db, path, known)
            except sqlite3.OperationalError as error:
                if primary_code(error) == sqlite3.SQLITE_ERROR:
                    raise _damaged(path, str(error)) from error
                raise


def backup_database(source: Path, target: Path) -> None:
    """Copy a database, also one in use, into a new private file. Raises StoreFailure."""
    if not source.exists():
        raise StoreFailure(f"{source} does not exist: there is nothing to back up.")
    if target.exists():
        raise StoreFailure(f"{target} exists: choose another name for the backup.")
    _copy(source, target, OTHER_PLACE)


def _copy(source: Path, target: Path, instead: str = OTHER_DIRECTORY) -> None:
    part = _beside(target, ".part")
    try:
        with _explained(target, instead):
            part.unlink(missing_ok=True)
            create_private(part)
        with (
            closing(connect(part, "rw")) as copy,
            _explained(source),
            closing(connect(source, "ro")) as db,
        ):
            _check_pages(db, source)
            with _explained(target, instead):
                db.backup(copy)
        with _explained(target, instead):
            put_in_place(part, target)
    except BaseException:
        for leftover in ("", "-journal", "-wal", "-shm"):
            _beside(part, leftover).unlink(missing_ok=True)
        raise


def _create(path: Path, known: Sequence[Migration]) -> None:
    wal = _beside(path, "-wal")
    if wal.exists() and wal.stat().st_size > 0:
        raise StoreFailure(
            f"{path} is missing, but its {wal.name} is there: put {path.name} back, or move"
            f" {wal.name} away to start with a new database."
        )
    new = _beside(path, ".new")
    for leftover in ("", "-journal", "-wal", "-shm"):
        _beside(new, leftover).unlink(missing_ok=True)
    create_private(new)
    with closing(connect(new, "rw")) as db:
        db.execute("PRAGMA synchronous = OFF")  # it is synced as a whole before it gets its name
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for migration in known:
            apply_migration(db, migration)
        db.execute("PRAGMA journal_mode = WAL")
    put_in_place(new, path)
    log.info("made a new database: %s", path)


def _migrate(path: Path, pending: Sequence[Migration]) -> None:
    backup = _beside(path, f".before-{pending[0].version:04}")
    _copy(path, backup)
    with closing(connect(path, "rw")) as db:
        db.execute("PRAGMA synchronous = FULL")
        for migration in pending:
            try:
                apply_migration(db, migration)
            except sqlite3.Error as error:
                raise StoreFailure(
                    f"Migration {migration.name} of {path} failed ({error}): it was undone, and"
                    f" the database from before is also in {backup.name}."
                ) from error
            log.info("migrated %s: %s (before: %s)", path, migration.name, backup.name)


def _open_for_service(path: Path) -> sqlite3.Connection:
    db = connect(path, "rw")
    try:
        db.execute("PRAGMA journal_mode = WAL").fetchall()
        db.execute("PRAGMA foreign_keys = ON")
        db.execute(f"PRAGMA journal_size_limit = {64 * MIB}")
        db.execute("BEGIN")
        db.execute("DELETE FROM migrations WHERE 0")  # may it be written? Better asked now
        db.execute("ROLLBACK")
    except BaseException:
        db.close()
        raise
    return db


def _check_header(path: Path, *, may_grow: bool) -> None:
    """Check the first 100 bytes; `may_grow`: part of the database is still in the -wal."""
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    size = path.stat().st_size
    if not header:
        raise _damaged(path, "the file is empty")
    if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
        raise _damaged(path, "this is not an SQLite database")
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise StoreFailure(
            f"{path} is a database of another program: it was left as it is. Move it away, or"
            " choose another directory with --data-dir."
        )
    page_size = int.from_bytes(header[16:18], "big")
    page_size = 65536 if page_size == 1 else page_size
    if size < page_size * int.from_bytes(header[28:32], "big") and not may_grow:
        raise _damaged(path, "its end is missing")


def _check_pages(db: sqlite3.Connection, path: Path) -> None:
    if path.stat().st_size <= WHOLE_CHECK_BYTES:
        checks = ["PRAGMA quick_check(1)"]
    else:
        checks = [f"PRAGMA quick_check({table})" for table in KEPT_TABLES]
    for check in checks:
        (found,) = db.execute(check).fetchone()
        if found != "ok":
            raise _damaged(path, " ".join(found.split()))


@contextmanager
def _explained(path: Path, instead: str = OTHER_DIRECTORY) -> Iterator[None]:
    """Turn what SQLite and the disk say at start into one clear line.

    `instead` is what else can be done where the path cannot be used.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = primary_code(error)
        if code in DAMAGE:
            raise _damaged(path, str(error)) from error
        if code in LOCKED:
            raise StoreFailure(
                f"{path} is locked by another program: close that one and start again."
            ) from error
        if code in DENIED:
            raise _denied(path, str(error), instead) from error
        if code in DISK:
            raise StoreFailure(
                f"{path} cannot be written ({error}): make room on its disk, or look at the disk's"
                " health, and start again."
            ) from error
        raise
    except OSError as error:
        raise _denied(path, error.strerror or str(error), instead) from error


def primary_code(error: sqlite3.Error) -> int | None:
    """Give SQLite's primary result code; None for errors of Python's own making."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _damaged(path: Path, detail: str) -> StoreFailure:
    return StoreFailure(
        f"{path} is damaged ({detail}): it was left as it is. Restore a backup in its place, or"
        f" move {path.name} and {path.name}-wal away: the next start makes a new database with the"
        " keys of api-keys.json."
    )


def _denied(path: Path, detail: str, instead: str) -> StoreFailure:
    return StoreFailure(
        f"{path} cannot be used ({detail}): give this user write access to it and to its"
        f" directory, or {instead}."
    )


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
