"""The backends of a store, for the tests of what every store must do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from support.builders.store_backends import Backend
from support.servers.keeper_link import kept_store
from support.servers.postgres_server import PostgresServer
from support.waiting import PATIENCE_S

from server.store.postgres.postgres_store import PostgresStore
from server.store.sqlite.sqlite_store import SqliteStore
from server.store.store import Store


@pytest.fixture(params=["sqlite", "postgres", "keeper"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Return what opens one and the same store again and again."""
    in_a_file = partial(SqliteStore, tmp_path / "roxy.db", patience_s=PATIENCE_S)
    if request.param == "sqlite":
        return in_a_file
    if request.param == "keeper":
        return partial(kept_store, in_a_file)
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.new_database()
    return partial(
        PostgresStore, url, tmp_path / "spool", patience_s=PATIENCE_S, read_limit_s=PATIENCE_S
    )


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[Store]:
    async with backend() as store:
        yield store
