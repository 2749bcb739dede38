"""The backends of a store, for the tests of what every store must do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from support.builders.store_backends import Backend
from support.waiting import PATIENCE_S

from server.store.sqlite_store import SqliteStore
from server.store.store import Store


@pytest.fixture(params=["sqlite"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    backends: dict[str, Backend] = {
        "sqlite": partial(SqliteStore, tmp_path / "roxy.db", patience_s=PATIENCE_S)
    }
    return backends[request.param]


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[Store]:
    async with backend() as store:
        yield store
