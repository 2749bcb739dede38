"""The chat history in the file of the SQLite store, on connections and threads of its own.

A file of 10 MB that is written here does not hold up the thread that changes keys, and a search
does not hold up the pages that ask for changes. What is deleted is overwritten (secure_delete), and
the -wal file is emptied after something was erased, so that no copy of the files has it.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from server.history.step_history import StepHistory
from server.history.steps.sql_steps import Steps
from server.store.sqlite.sqlite_file import PATIENCE_S, connect
from server.store.sqlite.sqlite_thread import SqliteThread, transaction
from workers.errors import StoreUnavailable
from workers.units import KIB, MIB

log = logging.getLogger("roxy.history")

Result = TypeVar("Result")

CACHE_BYTES = 8 * MIB
READ_LIMIT_S = 5.0
WIPE_WAIT_MS = 200
WIPE_TRIES = 5
MAX_WAL_BYTES = 64 * MIB


class SqliteHistory(StepHistory):
    """A `ChatHistory` in the database `path`, which a store has opened and migrated."""

    def __init__(self, path: Path, *, patience_s: float = PATIENCE_S) -> None:
        some = partial(SqliteThread, path)
        self._writes = some(partial(_open_to_write, path), patience_s)
        reader = partial(_open_to_read, path)
        self._reads = some(reader, patience_s, limit_s=READ_LIMIT_S)
        self._scans = some(reader, max(patience_s, READ_LIMIT_S), limit_s=READ_LIMIT_S)
        self._threads = (self._writes, self._reads, self._scans)

    async def __aenter__(self) -> Self:
        started = []
        try:
            for thread in self._threads:
                await thread.start()
                started.append(thread)
        except BaseException:
            for thread in started:
                await thread.close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for thread in reversed(self._threads):
            await thread.close()

    async def read(self, steps: Steps[Result]) -> Result:
        """Run steps that only read."""
        return await self._reads.run(partial(_read, steps=steps), reads=True)

    async def scan(self, steps: Steps[Result]) -> Result:
        """Run steps that read for longer, in another thread."""
        return await self._scans.run(partial(_read, steps=steps), reads=True)

    async def write(self, steps: Steps[Result]) -> Result:
        """Run steps that write; durable on return."""
        return await self._writes.run(partial(_write, steps=steps))

    async def wipe(self) -> None:
        """Copy the -wal into the database and empty it, as soon as no reader needs it."""
        try:
            for _ in range(WIPE_TRIES):
                if await self._writes.run(_empty_wal):
                    return
                await asyncio.sleep(WIPE_WAIT_MS / 1000)
            log.warning("erased conversations stay in the -wal file until its next checkpoint")
        except StoreUnavailable as error:
            log.warning("erased conversations stay in the -wal file: %s", error)


def _open_to_write(path: Path) -> sqlite3.Connection:
    db = connect(path, "rw")
    db.execute("PRAGMA secure_delete = ON").fetchall()
    db.execute(f"PRAGMA journal_size_limit = {MAX_WAL_BYTES}").fetchall()
    db.execute(f"PRAGMA cache_size = -{CACHE_BYTES // KIB}")
    return db


def _open_to_read(path: Path) -> sqlite3.Connection:
    db = connect(path, "ro")
    # Faster, and the words of the search are folded already.
    db.execute("PRAGMA case_sensitive_like = ON")
    db.execute(f"PRAGMA cache_size = -{CACHE_BYTES // KIB}")
    return db


def run_steps(db: sqlite3.Connection, steps: Steps[Result]) -> Result:
    """Run steps on a connection, in the transaction that is open."""
    try:
        statement, values = next(steps)
        while True:
            if isinstance(values, list):
                db.executemany(statement, values)
                statement, values = steps.send(())
            else:
                statement, values = steps.send(db.execute(statement, values).fetchall())
    except StopIteration as ended:
        result: Result = ended.value
        return result
    finally:
        steps.close()


def _read(db: sqlite3.Connection, steps: Steps[Result]) -> Result:
    db.execute("BEGIN")
    try:
        return run_steps(db, steps)
    finally:
        db.execute("ROLLBACK")


def _write(db: sqlite3.Connection, steps: Steps[Result]) -> Result:
    with transaction(db, durable=True):
        return run_steps(db, steps)


def _empty_wal(db: sqlite3.Connection) -> bool:
    """Return whether the -wal is empty (https://www.sqlite.org/pragma.html, wal_checkpoint)."""
    db.execute(f"PRAGMA busy_timeout = {WIPE_WAIT_MS}")
    busy, *_ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy
