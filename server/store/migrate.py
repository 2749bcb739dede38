"""Migrate a database's schema: forward only, one transaction per numbered file.

The transaction also records the file's name and SHA-256, so that a killed process leaves the
database before or after the file, never in between. A recorded file must not change.
All of this blocks; it runs at start, in the store's thread.
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
    """A numbered file of SQL statements."""

    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Return the checksum that is recorded for the file."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def released_migrations() -> tuple[Migration, ...]:
    """Read the migrations of this version of the gateway."""
    return read_migrations(resources.files("migrations"))


def read_migrations(folder: Traversable) -> tuple[Migration, ...]:
    """Read a folder's numbered files in order. Raises ValueError for a missing or double number."""
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
    """Return the migrations that the database still needs; changes nothing.

    Raises StoreFailure for a database of a newer version, or one with other migrations.
    """
    applied = db.execute("SELECT version, name, sha256 FROM migrations ORDER BY version").fetchall()
    if len(applied) > len(known):
        raise StoreFailure(
            f"{path} was written by a newer version of roxy (migration {applied[-1][1]}) and was"
            " not changed. Run that version, or restore an older backup."
        )
    for (version, name, sha256), ours in zip(applied, known, strict=False):
        if (version, sha256) != (ours.version, ours.sha256):
            raise StoreFailure(
                f"{path} was created with a migration {name} that differs from {ours.name} of this"
                " roxy; it was not changed. Install a released version of roxy."
            )
    return known[len(applied) :]


def apply_migration(db: sqlite3.Connection, migration: Migration) -> None:
    """Run one file and record it in the same transaction. `db` is in autocommit mode."""
    # SQLite's DDL is transactional (https://www.sqlite.org/lang_transaction.html). `executescript`
    # is not used: it commits what is open before it starts (Python documentation, sqlite3).
    db.execute("BEGIN IMMEDIATE")
    try:
        db.execute(CREATE_RECORDS)
        for statement in split_statements(migration.sql):
            db.execute(statement)
            if not db.in_transaction:
                raise ValueError(f"{migration.name} must not begin or end transactions")
        if db.execute("PRAGMA foreign_key_check").fetchone() is not None:
            raise ValueError(f"{migration.name} leaves rows whose foreign keys refer to nothing")
        record = (migration.version, migration.name, migration.sha256, int(time.time()))
        db.execute("INSERT INTO migrations VALUES (?, ?, ?, ?)", record)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
        raise


def split_statements(sql: str) -> Iterator[str]:
    """Split a script into statements at the semicolons that SQLite takes as their ends.

    Strings, comments and triggers, which may contain semicolons, stay whole.
    """
    statement = ""
    # `complete_statement` uses SQLite's own tokenizer, so a semicolon in a string does not count.
    for piece in re.split(r"(?<=;)", sql):
        statement += piece
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if _has_sql(statement):
        raise ValueError(
            f"the last statement does not end with a semicolon: {statement.strip()[:60]!r}"
        )


def _has_sql(statement: str) -> bool:
    without_comments = re.sub(r"--[^\n]*|/\*.*?\*/", "", statement, flags=re.DOTALL)
    return bool(without_comments.strip())
