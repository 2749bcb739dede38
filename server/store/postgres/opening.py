"""Open the database that ROXY_DATABASE_URL names.

asyncpg comes with the extra `roxy-ai[postgres]` and is imported here only, when it is needed.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from server.store.store import StoreFailure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from server.store.postgres.postgres_store import PostgresStore


@asynccontextmanager
async def open_postgres_store(url: str, *, spool: Path) -> AsyncIterator[PostgresStore]:
    """Open the store; `spool` is the directory for usage that waits. Raises StoreFailure."""
    check_installed()
    from server.store.postgres.postgres_store import PostgresStore

    async with PostgresStore(url, spool) as store:
        yield store


def check_installed() -> None:
    """Raise StoreFailure where asyncpg is not installed."""
    try:
        import asyncpg  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise StoreFailure(
            "ROXY_DATABASE_URL needs the extra for PostgreSQL: pip install 'roxy-ai[postgres]'."
        ) from error
