"""One SQLite connection in one thread of its own.

Each call crosses to the thread once, as a whole function: calls never mix, and a caller that is
cancelled tears nothing. A call that cannot have its turn in time (the file is locked, the thread
is busy) gives up without having begun, so that nobody waits longer than the patience.
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

from server.store.sqlite_file import ENVIRONMENT, primary_code
from workers.errors import StoreUnavailable

log = logging.getLogger("roxy.store")

Result = TypeVar("Result")

FETCH_ROWS = 64
"""aiosqlite's size of a step through a cursor; no cursor leaves the thread here."""


class SqliteThread(aiosqlite.Connection):
    """An aiosqlite connection that runs whole functions, and ends together with its thread.

    `patience_s` is how long a call waits for its turn, the locks of other programs included.
    `trouble` says what is wrong at the moment; None: nothing has failed since the last write that
    worked. Reads often work while nothing can be written, so they prove nothing.
    """

    def __init__(
        self, path: Path, opener: Callable[[], sqlite3.Connection], patience_s: float
    ) -> None:
        super().__init__(opener, FETCH_ROWS)
        self.trouble: str | None = None
        self._path = path
        self._patience_s = patience_s
        self._serving = False

    async def start(self) -> None:
        """Start the thread and open the database in it. Raises what the opener raises."""
        try:
            await self
        except BaseException:
            self._thread.join()
            raise
        self._serving = True

    async def close(self) -> None:
        """Finish what was asked for, close the database and end the thread."""
        self._serving = False
        try:
            await super().close()
        finally:
            self._thread.join()  # it has nothing left to do but return

    async def run(
        self, work: Callable[[sqlite3.Connection], Result], *, reads: bool = False
    ) -> Result:
        """Do `work` in the thread; `reads`: it writes nothing.

        Raises StoreUnavailable, and then nothing was changed.
        """
        if not self._serving:
            raise StoreUnavailable("The gateway has closed its database. Try again shortly.")
        deadline = time.monotonic() + self._patience_s

        def turn(db: sqlite3.Connection) -> Result:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("it was busy for too long")
            db.execute(f"PRAGMA busy_timeout = {int(left_s * 1000)}")
            return work(db)

        try:
            result: Result = await self._execute(turn, self._conn)  # type: ignore[no-untyped-call]
        except (sqlite3.Error, TimeoutError) as error:
            if isinstance(error, sqlite3.Error) and primary_code(error) not in ENVIRONMENT:
                raise  # a bug of ours
            self._note(str(error))
            raise StoreUnavailable from error
        if not reads:
            self._note(None)
        return result

    def _note(self, trouble: str | None) -> None:
        """Log when trouble begins and ends, not every call in between."""
        if trouble is not None and self.trouble is None:
            log.error("%s cannot be used at the moment: %s", self._path, trouble)
        elif trouble is None and self.trouble is not None:
            log.warning("%s can be used again", self._path)
        self.trouble = trouble


@contextmanager
def transaction(db: sqlite3.Connection, *, durable: bool = False) -> Iterator[None]:
    """Commit what is done inside, or nothing of it; `durable` syncs it to the disk first."""
    # SQLite refuses to change this inside a transaction, so it is said before each.
    db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
        raise
