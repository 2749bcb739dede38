"""Connections to PostgreSQL: no call waits for one that a server which hangs never opens."""

from __future__ import annotations

import asyncio

import pytest
from support.servers.postgres_server import PostgresServer
from support.waiting import PATIENCE_S, soon

from server.store.postgres.connector import Connector
from server.store.postgres.database_state import DatabaseState
from server.store.postgres.postgres_connections import Connections
from workers.errors import StoreUnavailable


@pytest.mark.parametrize("finds", ["to open one", "its turn"])
async def test_a_call_that_waits_for_a_connection_ends_when_the_database_is_found_away(
    own_postgres: PostgresServer, finds: str
) -> None:
    url = own_postgres.new_database()
    state = DatabaseState("the database")
    # Reads may take long; a database that hangs must not make them.
    connections = Connections(Connector(url), state, size=1, limit_s=10 * PATIENCE_S, reads=True)
    if finds == "its turn":
        await connections.run(lambda db: db.fetchval("SELECT 1"))
    own_postgres.hang()
    try:
        calls = [
            asyncio.create_task(connections.run(lambda db: db.fetchval("SELECT 1")))
            for _ in range(3)
        ]
        await asyncio.sleep(0)
        state.note(away="it does not answer")
        connections.cut()
        for call in calls:
            with pytest.raises(StoreUnavailable):
                await soon(call)
        state.note()
    finally:
        own_postgres.go_on()
    assert await connections.run(lambda db: db.fetchval("SELECT 1")) == 1
    await connections.aclose(PATIENCE_S)
