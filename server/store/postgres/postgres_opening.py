"""Open the database that ROXY_DATABASE_URL names.

asyncpg comes with the extra `roxy-ai[postgres]` and is imported here only, when it is needed.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from server.store.patience import StorePatience
from server.store.store import READ_LIMIT_S, StoreFailure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from server.store.postgres.carry_over import Carried
    from server.store.postgres.postgres_store import PostgresStore

COMMAND_PATIENCE = StorePatience(postgres_s=10.0)
"""How long a command waits: no request waits for it."""


@asynccontextmanager
async def open_postgres_store(
    url: str, *, spool: Path | None, patience: StorePatience | None = None
) -> AsyncIterator[PostgresStore]:
    """Open the store. Raises StoreFailure.

    `spool` is the directory for usage that waits while the database is away, which belongs to this
    process alone; None: nothing waits.
    """
    patience = patience or StorePatience()
    check_installed()
    from server.store.postgres.postgres_store import PostgresStore

    longest_s = patience.postgres_s
    read_limit_s = max(READ_LIMIT_S, longest_s)
    async with PostgresStore(url, spool, patience_s=longest_s, read_limit_s=read_limit_s) as store:
        yield store


async def migrate_postgres(url: str) -> str:
    """Create or upgrade the tables; return the address of the database. Raises StoreFailure."""
    async with open_postgres_store(url, spool=None, patience=COMMAND_PATIENCE) as store:
        return store.address


async def describe_postgres(url: str) -> str:
    """Return the address of a database and what it is; changes nothing. Raises StoreFailure."""
    check_installed()
    from server.store.postgres.connector import Connector
    from server.store.postgres.postgres_schema import check_schema, open_at_start

    connector = Connector(url)
    db = await open_at_start(connector)
    try:
        pending = await check_schema(connector, db)
        version = db.get_server_version()
    finally:
        db.terminate()
    pooler = ", through a pooler" if connector.pooled else ""
    due = f", {len(pending)} migrations due" if pending else ""
    return f"{connector.address} (PostgreSQL {version.major}.{version.micro}{pooler}{due})"


async def carry_over_to_postgres(source: Path, url: str) -> list[Carried]:
    """Copy an SQLite database into an empty one; see `carry_over`. Raises StoreFailure."""
    check_installed()
    from server.store.postgres.carry_over import carry_over

    return await carry_over(source, url)


def check_installed() -> None:
    """Raise StoreFailure where asyncpg is not installed."""
    try:
        import asyncpg  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise StoreFailure(
            "ROXY_DATABASE_URL needs the extra for PostgreSQL: pip install 'roxy-ai[postgres]'."
        ) from error
