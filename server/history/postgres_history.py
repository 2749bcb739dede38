"""The chat history in the PostgreSQL database of the store, on connections of its own.

Nodes that write for the same person wait for each other: the first step locks the person's row.
Reads see one moment of the database.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

from server.history.step_history import StepHistory
from server.history.steps.sql_steps import Steps
from server.store.postgres.postgres_connections import READ, write
from server.store.postgres.postgres_store import PostgresStore

if TYPE_CHECKING:
    from server.store.postgres.connector import Connection

Result = TypeVar("Result")

READ_S = 2.0
WRITE_S = 5.0
SCAN_S = 10.0
"""A file of 10 MB takes a while on a slow network."""
KIND_SIZE = 2


class PostgresHistory(StepHistory):
    """A `ChatHistory` in the database of a store, with which its connections close."""

    def __init__(self, store: PostgresStore) -> None:
        self._state, patience_s = store.state, store.patience_s
        self._writes = store.more_connections(size=KIND_SIZE, limit_s=max(WRITE_S, patience_s))
        self._reads = store.more_connections(
            size=KIND_SIZE, limit_s=max(READ_S, patience_s), reads=True
        )
        self._scans = store.more_connections(
            size=KIND_SIZE, limit_s=max(SCAN_S, patience_s), reads=True
        )

    async def read(self, steps: Steps[Result]) -> Result:
        """Run steps that only read."""
        return await self._reads.run(lambda db: _run(db, steps), begin=READ)

    async def scan(self, steps: Steps[Result]) -> Result:
        """Run steps that read for longer, on other connections."""
        return await self._scans.run(lambda db: _run(db, steps), begin=READ)

    async def write(self, steps: Steps[Result]) -> Result:
        """Run steps that write; durable on return."""
        return await write(self._writes, self._state, lambda db: _run(db, steps))

    async def wipe(self) -> None:
        """Leave the rest to PostgreSQL, whose vacuum frees what deleted rows have used."""


async def _run(db: Connection, steps: Steps[Result]) -> Result:
    try:
        statement, values = next(steps)
        while True:
            rows: Any = ()
            if isinstance(values, list):
                await db.executemany(numbered(statement), values)
            else:
                rows = await db.fetch(numbered(statement), *values)
            statement, values = steps.send(rows)
    except StopIteration as ended:
        result: Result = ended.value
        return result
    finally:
        steps.close()


@functools.lru_cache(maxsize=1000)
def numbered(statement: str) -> str:
    """Return a statement with $1, $2, ... for its question marks."""
    first, *rest = statement.split("?")
    return first + "".join(f"${number}{part}" for number, part in enumerate(rest, 1))
