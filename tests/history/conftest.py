"""The backends of the chat history, for the tests of what every one must do."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.builders.conversations import HistoryBackend
from support.servers.keeper_link import kept_history
from support.servers.postgres_server import PostgresServer
from support.waiting import PATIENCE_S

from server.history.chat_history import ChatHistory
from server.history.postgres_history import PostgresHistory
from server.history.sqlite_history import SqliteHistory
from server.store.postgres.postgres_store import PostgresStore
from server.store.sqlite.sqlite_store import SqliteStore


@pytest.fixture(params=["sqlite", "postgres", "keeper"])
def history_backend(request: pytest.FixtureRequest, tmp_path: Path) -> HistoryBackend:
    file = tmp_path / "roxy.db"
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.new_database()

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[ChatHistory]:
        if request.param == "postgres":
            spool = tmp_path / "spool"
            async with PostgresStore(url, spool, patience_s=PATIENCE_S) as shared:
                yield PostgresHistory(shared)
            return
        async with (
            SqliteStore(file, patience_s=PATIENCE_S) as store,
            SqliteHistory(file, patience_s=PATIENCE_S) as history,
        ):
            if request.param == "sqlite":
                yield history
                return
            async with kept_history(store, history) as kept:
                yield kept

    return opened


@pytest.fixture
async def history(history_backend: HistoryBackend) -> AsyncIterator[ChatHistory]:
    async with history_backend() as opened:
        yield opened
