"""One SQLite connection in a thread of its own.

Each call runs in the thread as one whole function: calls do not interleave, and a cancelled caller
interrupts nothing half-way. A call that cannot start in time, because the file is locked or the
thread is busy, fails without having begun, so no caller waits longer than `patience_s`. A thread
for reads can have a limit: a call that reads for longer is interrupted and fails.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import aiosqlite

from server.store.sqlite.sqlite_file import ENVIRONMENT, primary_code
from server.store.store import TOO_SLOW, UNREADABLE
from workers.errors import StoreUnavailable

log = logging.getLogger("roxy.store")

Result = TypeVar("Result")

FETCH_ROWS = 64
"""Rows per step of aiosqlite's cursors. None is used here: each function reads all its rows."""
CHECK_EVERY = 20_000
"""Steps of SQLite's virtual machine between two looks at the clock: about a millisecond."""


class SqliteThread(aiosqlite.Connection):
    """An aiosqlite connection that runs whole functions, and ends together with its thread.

    `patience_s` is how long a call waits to start, locks of other programs included; `limit_s` is
    how long it may run, None: without limit. `trouble` is the error of the last write; None: it
    succeeded. Reads do not change it: they often work while writes fail, and the other way round.
    """

    def __init__(
        self,
        path: Path,
        opener: Callable[[], sqlite3.Connection],
        patience_s: float,
        *,
        limit_s: float | None = None,
    ) -> None:
        super().__init__(opener, FETCH_ROWS)
        self.trouble: str | None = None
        self._path = path
        self._patience_s = patience_s
        self._limit_s = limit_s
        self._serving = False

    async def start(self) -> None:
        """Start the thread and open the database in it. Raises the opener's errors."""
        try:
            await self
        except BaseException:
            self._thread.join()
            raise
        self._serving = True

    async def close(self) -> None:
        """Finish the calls under way, close the database and end the thread."""
        self._serving = False
        try:
            await super().close()
        finally:
            # aiosqlite does not join its thread; without this it could outlive the event loop.
            self._thread.join()

    async def run(
        self, work: Callable[[sqlite3.Connection], Result], *, reads: bool = False
    ) -> Result:
        """Run `work` in the thread and return its result; `reads`: it writes nothing.

        Raises StoreUnavailable; nothing was changed then.
        """
        if not self._serving:
            raise StoreUnavailable("The gateway has closed its database. Try again shortly.")
        deadline = time.monotonic() + self._patience_s
        try:
            result: Result = await self._execute(  # type: ignore[no-untyped-call]
                self._run_in_time, self._conn, work, deadline
            )
        except (sqlite3.Error, TimeoutError) as error:
            code = primary_code(error) if isinstance(error, sqlite3.Error) else None
            if code == sqlite3.SQLITE_INTERRUPT:
                raise StoreUnavailable(TOO_SLOW) from error
            if isinstance(error, sqlite3.Error) and code not in ENVIRONMENT:
                raise  # a bug in the gateway, such as a wrong statement
            if reads:
                log.warning("%s cannot be read: %s", self._path, error)
                raise StoreUnavailable(UNREADABLE) from error
            self._note(str(error))
            raise StoreUnavailable from error
        if not reads:
            self._note(None)
        return result

    def _run_in_time(
        self, db: sqlite3.Connection, work: Callable[[sqlite3.Connection], Result], deadline: float
    ) -> Result:
        """Run `work`, in the thread, if it can begin by the deadline."""
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("it was busy for too long")
        # The wait in the thread's queue and the wait for the file's lock share one patience.
        db.execute(f"PRAGMA busy_timeout = {int(left_s * 1000)}")
        if self._limit_s is not None:
            ends_at = time.monotonic() + self._limit_s
            db.set_progress_handler(lambda: time.monotonic() > ends_at, CHECK_EVERY)
        return work(db)

    def _note(self, trouble: str | None) -> None:
        """Keep the current error; log the first failure and the recovery, not each call between."""
        if trouble is not None and self.trouble is None:
            log.error("%s cannot be used: %s", self._path, trouble)
        elif trouble is None and self.trouble is not None:
            log.warning("%s can be used again", self._path)
        self.trouble = trouble


@contextmanager
def transaction(db: sqlite3.Connection, *, durable: bool = False) -> Iterator[None]:
    """Commit the statements of the block, or none of them.

    `durable` waits until they are on the disk: in WAL mode, FULL syncs the -wal after each commit,
    NORMAL only before a checkpoint (https://www.sqlite.org/pragma.html#pragma_synchronous).
    """
    # SQLite refuses to change this inside a transaction, so it is set before each one.
    db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    # IMMEDIATE takes the write lock at once. A deferred transaction that takes it after a read
    # fails with SQLITE_BUSY, without waiting, when another program has written in between.
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # some errors, such as a full disk, have rolled back already
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
        raise
