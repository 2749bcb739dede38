"""Open the registry of nodes that the configuration names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from server.config.loading import Config
from server.config.redis_address import parse_redis_url
from server.nodes.peers.node_registry import MemoryRegistry, NodeRegistry


@asynccontextmanager
async def open_registry(config: Config) -> AsyncIterator[NodeRegistry]:
    """Return the registry in Redis, or one in memory for a gateway on one node.

    Raises StoreFailure.
    """
    if not config.redis_url:
        yield MemoryRegistry()
        return
    from server.nodes.peers.redis_registry import RedisRegistry

    registry = RedisRegistry(parse_redis_url(config.redis_url), config.server.node_name)
    try:
        await registry.start()
        yield registry
    finally:
        await registry.aclose()
