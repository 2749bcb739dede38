"""Bring a database's schema up to date: forward only, one transaction per numbered file.

Each file runs together with the record of its name and SHA-256, so that a process killed half-way
leaves the database before or after it, never in between. Files that are recorded may not change.
All of this blocks: it runs at start, in the store's thread.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

from server.store.store import StoreFailure

FILE_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")

CREATE_RECORDS = """
    CREATE TABLE IF NOT EXISTS migrations (
        version    INTEGER PRIMARY KEY,
        name       TEXT NOT NULL,
        sha256     TEXT NOT NULL,
        applied_at INTEGER NOT NULL
    )
"""


class Migration(NamedTuple):
    """One numbered file."""

    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Give the checksum under which the file is recorded."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def released_migrations() -> tuple[Migration, ...]:
    """Read the migrations that this version of the gateway ships."""
    return read_migrations(resources.files("migrations"))


def read_migrations(folder: Traversable) -> tuple[Migration, ...]:
    """Read a folder's numbered files in order. Raises ValueError for a gap or a doubled number."""
    found = sorted(
        Migration(int(match[1]), file.name, file.read_text(encoding="utf-8"))
        for file in folder.iterdir()
        if (match := FILE_NAME.fullmatch(file.name))
    )
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"migrations must be numbered 1, 2, 3, ...: {[m.name for m in found]}")
    return tuple(found)


def find_pending(
    db: sqlite3.Connection, path: Path, known: Sequence[Migration]
) -> Sequence[Migration]:
    """Find what is still to be applied, reading only.

    Raises StoreFailure for a database that a newer version wrote, or whose past differs from ours.
    """
    applied = db.execute("SELECT version, name, sha256 FROM migrations ORDER BY version").fetchall()
    if len(applied) > len(known):
        raise StoreFailure(
            f"{path} was written by a newer version of roxy (migration {applied[-1][1]}): it was"
            " left as it is. Run that version, or restore a backup made before it."
        )
    for (version, name, sha256), ours in zip(applied, known, strict=False):
        if (version, sha256) != (ours.version, ours.sha256):
            raise StoreFailure(
                f"{path} was made with another migration {name} than the {ours.name} of this roxy:"
                " it was left as it is. Install a released version of roxy."
            )
    return known[len(applied) :]


def apply_migration(db: sqlite3.Connection, migration: Migration) -> None:
    """Run one file and record it, all or nothing. `db` is in autocommit mode."""
    db.execute("BEGIN IMMEDIATE")
    try:
        db.execute(CREATE_RECORDS)
        for statement in split_statements(migration.sql):
            db.execute(statement)
            if not db.in_transaction:
                raise ValueError(f"{migration.name} must leave transactions alone")
        if db.execute("PRAGMA foreign_key_check").fetchone() is not None:
            raise ValueError(f"{migration.name} leaves rows that refer to nothing")
        record = (migration.version, migration.name, migration.sha256, int(time.time()))
        db.execute("INSERT INTO migrations VALUES (?, ?, ?, ?)", record)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
        raise


def split_statements(sql: str) -> Iterator[str]:
    """Split a script as SQLite reads it: strings, comments and triggers stay whole."""
    statement = ""
    for piece in re.split(r"(?<=;)", sql):
        statement += piece
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if _says_something(statement):
        raise ValueError(f"the last statement has no end: {statement.strip()[:60]!r}")


def _says_something(statement: str) -> bool:
    without_comments = re.sub(r"--[^\n]*|/\*.*?\*/", "", statement, flags=re.DOTALL)
    return bool(without_comments.strip())
