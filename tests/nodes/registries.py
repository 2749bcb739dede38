"""Registries of nodes as each node opens them, in Redis and in PostgreSQL."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from support.patience import patient_stores
from support.servers.redis_server import RedisServer
from support.waiting import PATIENCE_S

from server.config.redis_address import parse_redis_url
from server.nodes.peers.postgres_registry import PostgresRegistry
from server.nodes.peers.redis_registry import RedisRegistry
from server.store.postgres.postgres_store import PostgresStore


@contextlib.asynccontextmanager
async def in_redis(server: RedisServer, name: str) -> AsyncIterator[RedisRegistry]:
    """Connect one node to a registry in Redis."""
    running = RedisRegistry(parse_redis_url(server.url), name, patient_stores())
    await running.start()
    try:
        yield running
    finally:
        await running.aclose()


@contextlib.asynccontextmanager
async def in_postgres(url: str) -> AsyncIterator[PostgresRegistry]:
    """Connect one node to a registry in PostgreSQL."""
    async with PostgresStore(url, None, patience_s=PATIENCE_S, read_limit_s=PATIENCE_S) as store:
        running = PostgresRegistry(store.lease_connections)
        running.start()
        try:
            yield running
        finally:
            await running.aclose()
