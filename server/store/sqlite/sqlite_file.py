"""The database file: check, create, copy, migrate and open it.

A file that is damaged, foreign or too new is read only, and refused with a StoreFailure; the
gateway never starts with an empty database in its place. A new file is built under another name and
renamed when it is complete, so an empty `roxy.db` is always damage and never a first start.
All of this blocks; it runs at start, in the store's thread.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from server.store.migrate import Migration, apply_migration, find_pending, released_migrations
from server.store.patience import StorePatience
from server.store.private_file import create_private, put_in_place
from server.store.store import StoreFailure
from workers.units import MIB

log = logging.getLogger("roxy.store")

APPLICATION_ID = 0x526F7879
"""Offset 68 of the header, "Roxy" (https://www.sqlite.org/fileformat2.html, 1.3.9)."""

HEADER_BYTES = 100
MAGIC = b"SQLite format 3\0"
WHOLE_CHECK_BYTES = 8 * MIB
"""Up to this size all pages are checked at start (20 to 35 ms); beyond it the KEPT_TABLES only."""
CHECK_S = 1.0
"""The longest check at start: 1,000,000 keys alone would take 4 to 8 s. What is damaged beyond what
was checked is found when it is read."""

OTHER_DIRECTORY = "choose another one with --data-dir"
OTHER_PLACE = "choose another place for the copy"
KEPT_TABLES = ("migrations", "meta", "keys", "counters", "usage_daily")
"""All tables but the usage rows, which are many and are deleted after the retention time."""
PATIENCE_S = StorePatience().sqlite_s

DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
DENIED = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN})
DISK = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM})
ENVIRONMENT = DAMAGE | LOCKED | DENIED | DISK
"""Primary result codes whose cause is the disk or another program, not a bug in the gateway."""


def open_database(path: Path, migrations: Sequence[Migration] | None = None) -> sqlite3.Connection:
    """Open the gateway's database; create or migrate it as needed. Raises StoreFailure."""
    known = released_migrations() if migrations is None else migrations
    with _explained(path):
        if path.exists():
            pending = check_database(path, known)
            if pending:
                _migrate(path, pending)
        else:
            _create(path, known)
        return _open_for_service(path)


def connect(
    path: Path, mode: str, *, immutable: bool = False, patience_s: float = PATIENCE_S
) -> sqlite3.Connection:
    """Connect in autocommit mode; `mode` is "ro" or "rw", which do not create a missing file.

    `immutable` ignores the -wal file and creates no -shm file beside a database that is only read
    (https://www.sqlite.org/uri.html, "immutable").
    """
    uri = f"{path.absolute().as_uri()}?mode={mode}{'&immutable=1' if immutable else ''}"
    # isolation_level=None: Python begins no transactions of its own, so BEGIN stands in our code.
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=patience_s)


def check_database(
    path: Path, known: Sequence[Migration], *, max_check_s: float = CHECK_S
) -> Sequence[Migration]:
    """Check an existing file without changing it; return the migrations it still needs."""
    wal = _beside(path, "-wal")
    # The last connection deletes the -wal when it closes; a process that was killed leaves it.
    unfinished = wal.exists() and wal.stat().st_size > 0
    with _explained(path):
        _check_header(path, may_grow=unfinished)
        with closing(connect(path, "ro", immutable=not unfinished)) as db:
            _check_pages(db, path, max_check_s)
            try:
                return find_pending(db, path, known)
            except sqlite3.OperationalError as error:
                # The generic SQLITE_ERROR is "no such table": the record of migrations is missing.
                if primary_code(error) == sqlite3.SQLITE_ERROR:
                    raise _damaged(path, str(error)) from error
                raise


def backup_database(source: Path, target: Path) -> None:
    """Copy a database, even one in use, into a new private file. Raises StoreFailure."""
    if not source.exists():
        raise StoreFailure(f"{source} does not exist, so there is nothing to back up.")
    if target.exists():
        raise StoreFailure(f"{target} already exists: choose another name for the backup.")
    _copy(source, target, OTHER_PLACE)


def _copy(source: Path, target: Path, instead: str = OTHER_DIRECTORY) -> None:
    part = _beside(target, ".part")
    # A read-only connection creates a -wal and a -shm file but cannot delete them when it closes
    # (https://www.sqlite.org/wal.html, "Read-Only Databases"). If a -wal is there, it stays as it
    # is: another process uses it, or it holds what a killed one has written.
    mode = "ro" if _beside(source, "-wal").exists() else "rw"
    try:
        with _explained(target, instead):
            part.unlink(missing_ok=True)
            create_private(part)
        with (
            closing(connect(part, "rw")) as copy,
            _explained(source),
            closing(connect(source, mode)) as db,
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
            f"{path} is missing, but {wal.name} exists: restore {path.name}, or move {wal.name}"
            " away to start with a new database."
        )
    new = _beside(path, ".new")
    for leftover in ("", "-journal", "-wal", "-shm"):
        _beside(new, leftover).unlink(missing_ok=True)
    create_private(new)
    with closing(connect(new, "rw")) as db:
        db.execute("PRAGMA synchronous = OFF")  # `put_in_place` syncs the whole file
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for migration in known:
            apply_migration(db, migration)
        db.execute("PRAGMA journal_mode = WAL")
    put_in_place(new, path)
    log.info("created a new database: %s", path)


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
                    f"Migration {migration.name} of {path} failed ({error}) and was undone. A copy"
                    f" from before the migrations is in {backup.name}."
                ) from error
            log.info("migrated %s: %s (copy: %s)", path, migration.name, backup.name)


def _open_for_service(path: Path) -> sqlite3.Connection:
    db = connect(path, "rw")
    try:
        # WAL: readers such as `roxy backup` do not block the writer, and a commit is one append.
        db.execute("PRAGMA journal_mode = WAL").fetchall()
        db.execute("PRAGMA foreign_keys = ON")  # off by default, and per connection
        # Without a limit the -wal keeps its largest size for ever (https://www.sqlite.org/wal.html).
        db.execute(f"PRAGMA journal_size_limit = {64 * MIB}")
        # A statement that changes no row still fails on a read-only file: fail at start, not later.
        db.execute("BEGIN")
        db.execute("DELETE FROM migrations WHERE 0")
        db.execute("ROLLBACK")
    except BaseException:
        db.close()
        raise
    return db


def _check_header(path: Path, *, may_grow: bool) -> None:
    """Check the header (https://www.sqlite.org/fileformat2.html, section 1.3).

    `may_grow`: the end of the database is still in the -wal.
    """
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    size = path.stat().st_size
    if not header:
        raise _damaged(path, "the file is empty")
    if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
        raise _damaged(path, "this is not an SQLite database")
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise StoreFailure(
            f"{path} is a database of another program and was not changed. Move it away, or"
            " choose another directory with --data-dir."
        )
    page_size = int.from_bytes(header[16:18], "big")
    page_size = 65536 if page_size == 1 else page_size  # 65536 does not fit into the two bytes
    if size < page_size * int.from_bytes(header[28:32], "big") and not may_grow:
        raise _damaged(path, "it is shorter than its header says")


def _check_pages(db: sqlite3.Connection, path: Path, max_check_s: float | None = None) -> None:
    """Check the pages of a database; after `max_check_s` the rest counts as whole."""
    if path.stat().st_size <= WHOLE_CHECK_BYTES:
        checks = ["PRAGMA quick_check(1)"]
    else:
        checks = [f"PRAGMA quick_check({table})" for table in KEPT_TABLES]
    # interrupt() and not a progress handler, which this check calls only since SQLite 3.41.
    max_check_s = threading.TIMEOUT_MAX if max_check_s is None else max_check_s
    ends_at = time.monotonic() + max_check_s
    timer = threading.Timer(max_check_s, db.interrupt)
    timer.start()
    try:
        for check in checks:
            if time.monotonic() >= ends_at:
                raise TimeoutError
            (found,) = db.execute(check).fetchone()
            if found != "ok":
                raise _damaged(path, " ".join(found.split()))
    except (sqlite3.OperationalError, TimeoutError) as error:
        if isinstance(error, sqlite3.Error) and primary_code(error) != sqlite3.SQLITE_INTERRUPT:
            raise
        log.info("%s is large: it was checked for %g s, not as a whole", path, max_check_s)
    finally:
        timer.cancel()
        timer.join()  # the connection may be closed next


@contextmanager
def _explained(path: Path, instead: str = OTHER_DIRECTORY) -> Iterator[None]:
    """Turn errors of SQLite and the disk into a StoreFailure with one line.

    `instead` is the alternative to offer where the path cannot be used.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = primary_code(error)
        if code in DAMAGE:
            raise _damaged(path, str(error)) from error
        if code in LOCKED:
            raise StoreFailure(
                f"{path} is locked by another program: close that program and start again."
            ) from error
        if code in DENIED:
            raise _denied(path, str(error), instead) from error
        if code in DISK:
            raise StoreFailure(
                f"{path} cannot be written ({error}): free space on its disk, or check the disk for"
                " errors, and start again."
            ) from error
        raise
    except OSError as error:
        raise _denied(path, error.strerror or str(error), instead) from error


def primary_code(error: sqlite3.Error) -> int | None:
    """Return SQLite's primary result code; None for errors that Python's module raises itself.

    Extended codes hold the primary one in their low byte (https://www.sqlite.org/rescode.html).
    """
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _damaged(path: Path, detail: str) -> StoreFailure:
    return StoreFailure(
        f"{path} is damaged ({detail}) and was not changed. Restore a backup, or move {path.name}"
        f" and {path.name}-wal away: the next start creates a new database with the keys of"
        " api-keys.json."
    )


def _denied(path: Path, detail: str, instead: str) -> StoreFailure:
    return StoreFailure(
        f"{path} cannot be used ({detail}): give this user write access to it and to its"
        f" directory, or {instead}."
    )


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
