"""Open the registry of nodes that the configuration names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from server.config.loading import Config
from server.config.redis_address import parse_redis_url
from server.nodes.peers.node_registry import MemoryRegistry, NodeRegistry
from server.store.patience import StorePatience
from server.store.store import Store


@asynccontextmanager
async def open_registry(
    config: Config, store: Store, patience: StorePatience | None = None
) -> AsyncIterator[NodeRegistry]:
    """Return the registry in Redis, else in the PostgreSQL database of `store`, else in memory.

    A gateway whose store is SQLite has one node. Raises StoreFailure.
    """
    if not config.redis_url:
        async with _without_redis(config, store) as found:
            yield found
        return
    from server.nodes.peers.redis_registry import RedisRegistry

    address, node_id = parse_redis_url(config.redis_url), config.server.node_name
    registry = RedisRegistry(address, node_id, patience)
    try:
        await registry.start()
        yield registry
    finally:
        await registry.aclose()


@asynccontextmanager
async def _without_redis(config: Config, store: Store) -> AsyncIterator[NodeRegistry]:
    if not config.database_url:
        yield MemoryRegistry()
        return
    from server.nodes.peers.postgres_registry import PostgresRegistry
    from server.store.postgres.postgres_store import PostgresStore

    assert isinstance(store, PostgresStore)
    registry = PostgresRegistry(store.lease_connections)
    try:
        registry.start()
        yield registry
    finally:
        await registry.aclose()
