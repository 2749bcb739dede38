"""Registries of nodes as each node opens them, in Redis and in PostgreSQL."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from support.servers.redis_server import RedisServer

from server.config.redis_address import parse_redis_url
from server.nodes.peers.postgres_registry import PostgresRegistry
from server.nodes.peers.redis_registry import RedisRegistry
from server.store.postgres.postgres_store import PostgresStore


@contextlib.asynccontextmanager
async def in_redis(server: RedisServer, name: str) -> AsyncIterator[RedisRegistry]:
    """Connect one node to a registry in Redis."""
    running = RedisRegistry(parse_redis_url(server.url), name)
    await running.start()
    try:
        yield running
    finally:
        await running.aclose()


@contextlib.asynccontextmanager
async def in_postgres(url: str) -> AsyncIterator[PostgresRegistry]:
    """Connect one node to a registry in PostgreSQL."""
    async with PostgresStore(url, None) as store:
        running = PostgresRegistry(store.lease_connections)
        running.start()
        try:
            yield running
        finally:
            await running.aclose()
