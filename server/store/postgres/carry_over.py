"""Copy an SQLite installation into an empty PostgreSQL database, and compare both.

Everything is one transaction: a copy that was killed has changed nothing and can be repeated. The
source is only read, and the tables are compared before the commit.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing, contextmanager
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg

from server.store.postgres.connector import Connector
from server.store.postgres.postgres_errors import CALL_ERRORS, start_failure
from server.store.postgres.postgres_keys import COLUMNS, IMPORT_LOCK, note_change, plain_text
from server.store.postgres.postgres_schema import migrate_database, open_at_start
from server.store.row_values import DAY_SUMS, INVITATION_COLUMNS, USAGE_COLUMNS
from server.store.rows import DAY_MARKS
from server.store.sqlite.sqlite_file import connect
from server.store.store import OWNER_META, StoreFailure

if TYPE_CHECKING:
    from server.store.postgres.connector import Connection

CHUNK_ROWS = 2000
LEFT_BEHIND = ("keys_export", "written_at", "command_sha256")
"""Named values about files of the old installation: its export, and its secret for commands."""
MONEY = "coalesce(sum(cost_microusd), 0)"


class CopiedTable(NamedTuple):
    """A table to copy: its columns, what to read of SQLite, and what is compared.

    `flags` are columns that are numbers in SQLite and boolean here, `exact` those of any number.
    `chunk` is how many rows are read at once.
    """

    name: str
    columns: Sequence[str]
    checked: Sequence[str] = ()
    flags: Sequence[str] = ()
    exact: Sequence[str] = ()
    chunk: int = CHUNK_ROWS
    source: str = ""
    where: str = ""

    @property
    def read(self) -> str:
        """Return the statement that reads the rows of SQLite, in the order they were written."""
        order = " ORDER BY seq" if self.name == "usage" else ""
        columns = ", ".join(self.columns).replace("key_id", "id" if self.source else "key_id")
        return f"SELECT {columns} FROM {self.source or self.name}{self.where}{order}"

    def sums(self, table: str) -> str:
        """Return the statement that counts and adds up what is compared."""
        return f"SELECT {', '.join(('count(*)', *self.checked))} FROM {table}{self.where}"


TABLES = (
    CopiedTable(
        "keys", tuple(COLUMNS), ("count(CASE WHEN status = 'revoked' THEN 1 END)", "sum(version)")
    ),
    CopiedTable(
        "key_uses",
        ("key_id", "last_used_at"),
        ("sum(last_used_at)",),
        source="keys",
        where=" WHERE last_used_at IS NOT NULL",
    ),
    CopiedTable("meta", ("name", "value"), where=f" WHERE name NOT IN {LEFT_BEHIND}"),
    CopiedTable("sessions", ("sha256", "principal", "credential_sha256", "created_at", "seen_at")),
    CopiedTable("invitations", tuple(INVITATION_COLUMNS.split(", ")), flags=("gives_key",)),
    CopiedTable("counters", ("scope", "kind", "value", "period", "updated_at"), exact=("value",)),
    CopiedTable(
        "usage",
        tuple(USAGE_COLUMNS.split(", ")),
        (MONEY, "coalesce(sum(prompt_tokens), 0)", "coalesce(sum(completion_tokens), 0)"),
        flags=("estimated", "stream"),
    ),
    CopiedTable(
        "usage_daily",
        (*DAY_MARKS, *DAY_SUMS),
        ("coalesce(sum(requests), 0)", MONEY, "coalesce(sum(prompt_tokens), 0)"),
    ),
    CopiedTable(
        "usage_daily_models",
        (*DAY_MARKS[:1], *DAY_MARKS[2:], *DAY_SUMS),
        ("coalesce(sum(requests), 0)", MONEY, "coalesce(sum(prompt_tokens), 0)"),
    ),
    CopiedTable(
        "history_people",
        ("person", "seq", "forgotten", "used_bytes", "revoked_at"),
        ("coalesce(sum(used_bytes), 0)",),
    ),
    CopiedTable("history_settings", ("person", "value", "version", "changed")),
    CopiedTable(
        "history_conversations",
        (
            "person",
            "id",
            "title",
            "created",
            "updated",
            "pinned",
            "model",
            "deleted",
            "version",
            "changed",
            "size",
            "details",
            "words",
        ),
        ("coalesce(sum(size), 0)",),
    ),
    CopiedTable("history_erased", ("person", "id", "changed", "erased_at")),
    CopiedTable(
        "history_messages",
        (
            "person",
            "conversation",
            "id",
            "parent",
            "state",
            "created",
            "version",
            "changed",
            "size",
            "body",
            "words",
        ),
        ("coalesce(sum(size), 0)",),
        chunk=100,
    ),
    CopiedTable(
        "history_files",
        ("person", "id", "conversation", "name", "type", "size", "created", "content"),
        ("coalesce(sum(size), 0)", "coalesce(sum(length(content)), 0)"),
        chunk=1,
    ),
    CopiedTable("history_file_words", ("person", "file", "conversation", "words"), chunk=10),
    CopiedTable(
        "history_shares",
        (
            "person",
            "id",
            "token",
            "conversation",
            "message",
            "title",
            "created",
            "size",
            "snapshot",
        ),
        chunk=10,
    ),
    CopiedTable(
        "history_share_files",
        ("token", "id", "type", "content"),
        ("coalesce(sum(length(content)), 0)",),
        chunk=1,
    ),
)
"""Each table is compared by the number of its rows and by these sums."""
FULL = (
    "SELECT EXISTS (SELECT FROM keys) OR EXISTS (SELECT FROM usage)"
    " OR EXISTS (SELECT FROM sessions) OR EXISTS (SELECT FROM usage_daily)"
    " OR EXISTS (SELECT FROM history_people)"
    f" OR EXISTS (SELECT FROM meta WHERE name = '{OWNER_META}')"
)


class Carried(NamedTuple):
    """What was copied of one table: the number of rows, and the sums that were compared."""

    table: str
    rows: int
    sums: Sequence[int]


async def carry_over(source: Path, url: str) -> list[Carried]:
    """Copy the SQLite database `source`, of this version, into an empty database at `url`.

    Raises StoreFailure, and then the database at `url` has at most its tables.
    """
    connector = Connector(url)
    db = await open_at_start(connector)
    try:
        await migrate_database(connector, db)
        with closing(connect(source, "ro")) as old:
            return await _copy_all(connector, old, db)
    except CALL_ERRORS as error:
        raise start_failure(connector.address, error) from error
    finally:
        db.terminate()


async def _copy_all(connector: Connector, old: sqlite3.Connection, db: Connection) -> list[Carried]:
    await db.execute("BEGIN")
    await db.execute("SELECT pg_advisory_xact_lock($1)", IMPORT_LOCK)
    if await db.fetchval(FULL):
        raise StoreFailure(
            f"The database {connector.address} is not empty, and was not changed. Create another"
            " one for the copy; a gateway that has started with it once has stored its owner key"
            " there."
        )
    with _snapshot(old):
        await db.execute(f"DELETE FROM meta WHERE name NOT IN {LEFT_BEHIND}")
        for table in TABLES:
            try:
                await db.copy_records_to_table(
                    table.name, records=_rows(old, table), columns=list(table.columns)
                )
            except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, ValueError) as e:
                raise StoreFailure(
                    f"The table {table.name} cannot be copied ({' '.join(str(e).split())[:200]});"
                    f" the database {connector.address} was not changed."
                ) from e
        carried = [await _compare(connector, old, db, table) for table in TABLES]
    await note_change(db, [("all", b"")])
    await db.execute("COMMIT")
    return carried


@contextmanager
def _snapshot(old: sqlite3.Connection) -> Iterator[None]:
    old.execute("BEGIN")
    try:
        yield
    finally:
        old.execute("ROLLBACK")


async def _rows(old: sqlite3.Connection, table: CopiedTable) -> AsyncIterator[tuple[Any, ...]]:
    cursor = old.execute(table.read)
    flags = [table.columns.index(name) for name in table.flags]
    exact = [table.columns.index(name) for name in table.exact]
    while chunk := list(islice(cursor, table.chunk)):
        for row in chunk:
            values = [plain_text(one) if isinstance(one, str) else one for one in row]
            for place in flags:
                values[place] = bool(values[place])
            for place in exact:
                values[place] = Decimal(repr(values[place]))
            yield tuple(values)
        await asyncio.sleep(0)


async def _compare(
    connector: Connector, old: sqlite3.Connection, db: Connection, table: CopiedTable
) -> Carried:
    before = old.execute(table.sums(table.source or table.name)).fetchone()
    after = await db.fetchrow(table.sums(table.name))
    assert after is not None
    wanted, found = ([int(one or 0) for one in row] for row in (before, after))
    if wanted != found:
        raise StoreFailure(
            f"The copy of the table {table.name} differs ({wanted} and {found}); the database"
            f" {connector.address} was not changed. Please report this."
        )
    return Carried(table.name, found[0], found[1:])
