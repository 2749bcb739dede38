"""Open a PostgreSQL database at the start; create and migrate its tables, forward only.

Each file runs in one transaction that also records it, under an advisory lock, so that nodes that
start at the same time wait for each other and each file runs once. A database of a newer version is
refused. A database that is up to date is only read, so the gateway's user needs no right to create.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING

import asyncpg

from server.store.migrate import Migration, read_migrations
from server.store.postgres.connector import Connector
from server.store.postgres.postgres_errors import CALL_ERRORS, STARTING, start_failure
from server.store.store import StoreFailure

if TYPE_CHECKING:
    from server.store.postgres.connector import Connection

log = logging.getLogger("roxy.store")

START_S = 10.0
"""How long a start waits for a database that is starting too, and for each of its own calls."""
MIGRATION_LOCK = 0x526F7879
"""The number of the advisory lock: "Roxy", as SQLite's application id."""
LOCK_WAIT_MS = 60_000
OLDEST_SERVER = (13, 0)
"""Has gen_random_uuid() without an extension (PostgreSQL 13 release notes)."""

# Not to_regclass(): it may answer from a cache, which waiting for an advisory lock does not renew.
HAS_RECORDS = (
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_tables"
    " WHERE tablename = 'migrations' AND schemaname = ANY (current_schemas(false)))"
)
CREATE_RECORDS = """
    CREATE TABLE migrations (
        version    integer PRIMARY KEY,
        name       text NOT NULL,
        sha256     text NOT NULL,
        applied_at bigint NOT NULL
    )
"""


def postgres_migrations() -> tuple[Migration, ...]:
    """Read the migrations for PostgreSQL of this version of the gateway."""
    return read_migrations(resources.files("migrations") / "postgres")


async def migrate_database(
    connector: Connector, connection: Connection, known: Sequence[Migration] | None = None
) -> None:
    """Bring the database up to date. Raises StoreFailure, and then nothing was changed."""
    known = postgres_migrations() if known is None else known
    try:
        _check_server(connector, connection)
        while await _pending(connector, connection, known):
            await _apply_next(connector, connection, known)
    except CALL_ERRORS as error:
        raise start_failure(connector.address, error) from error


async def check_schema(connector: Connector, connection: Connection) -> Sequence[Migration]:
    """Return the migrations that the database still needs; changes nothing."""
    try:
        _check_server(connector, connection)
        return await _pending(connector, connection, postgres_migrations())
    except CALL_ERRORS as error:
        raise start_failure(connector.address, error) from error


def _check_server(connector: Connector, connection: Connection) -> None:
    version = connection.get_server_version()
    if (version.major, version.minor) < OLDEST_SERVER:
        raise StoreFailure(
            f"The database {connector.address} runs PostgreSQL {version.major}: this version of"
            f" roxy needs {OLDEST_SERVER[0]} or later."
        )


async def _pending(
    connector: Connector, connection: Connection, known: Sequence[Migration]
) -> Sequence[Migration]:
    if not await connection.fetchval(HAS_RECORDS):
        return known
    try:
        applied = await connection.fetch(
            "SELECT version, name, sha256 FROM migrations ORDER BY version"
        )
    except asyncpg.UndefinedColumnError as error:
        raise _foreign(connector.address) from error
    if len(applied) > len(known):
        raise StoreFailure(
            f"The database {connector.address} was written by a newer version of roxy (migration"
            f" {applied[-1]['name']}) and was not changed. Run that version, or restore an older"
            " backup."
        )
    for record, ours in zip(applied, known, strict=False):
        if (record["version"], record["sha256"]) != (ours.version, ours.sha256):
            raise StoreFailure(
                f"The database {connector.address} was created with a migration {record['name']}"
                f" that differs from {ours.name} of this roxy; it was not changed. Install a"
                " released version of roxy."
            )
    return known[len(applied) :]


async def _apply_next(
    connector: Connector, connection: Connection, known: Sequence[Migration]
) -> None:
    await connection.execute(f"BEGIN; SET LOCAL lock_timeout = {LOCK_WAIT_MS}")
    try:
        await connection.execute(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
        pending = await _pending(
            connector, connection, known
        )  # again, because others may have worked
        if pending:
            await _run(connection, pending[0], first=len(pending) == len(known))
        await connection.execute("COMMIT")
    except asyncpg.DuplicateTableError as error:
        await connection.execute("ROLLBACK")
        raise _foreign(connector.address) from error
    except BaseException:
        if not connection.is_closed():
            await connection.execute("ROLLBACK")
        raise
    if pending:
        log.info("migrated the database %s: %s", connector.address, pending[0].name)


async def _run(connection: Connection, migration: Migration, *, first: bool) -> None:
    if first and not await connection.fetchval(HAS_RECORDS):
        await connection.execute(CREATE_RECORDS)
    await connection.execute(migration.sql)
    await connection.execute(
        "INSERT INTO migrations VALUES ($1, $2, $3, $4)",
        migration.version,
        migration.name,
        migration.sha256,
        int(time.time()),
    )


def _foreign(address: str) -> StoreFailure:
    return StoreFailure(
        f"The database {address} holds tables of another program and was not changed. Create a"
        " database for roxy alone."
    )


async def open_at_start(connector: Connector) -> Connection:
    """Open the first connection; wait for a database that is starting as well.

    Raises StoreFailure.
    """
    deadline = time.monotonic() + START_S
    while True:
        try:
            async with asyncio.timeout(START_S):
                return await connector.open_first()
        except (*CALL_ERRORS, ValueError) as error:
            if getattr(error, "sqlstate", None) != STARTING or time.monotonic() > deadline:
                raise start_failure(connector.address, error) from error
        await asyncio.sleep(0.2)
