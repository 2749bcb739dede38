"""Open the shared counters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from server.config.redis_address import parse_redis_url
from server.store.store import StoreFailure

if TYPE_CHECKING:
    from server.accounting.redis_counters.redis_counters import RedisCounters, Spent
    from server.config.settings import WhenDown


@asynccontextmanager
async def open_redis_counters(
    url: str, *, node_id: str, when_down: WhenDown, spent: Spent
) -> AsyncIterator[RedisCounters]:
    """Connect to Redis and return the counters; at the end send what is not acknowledged.

    Raises StoreFailure with one line, without the URL's password.
    """
    try:
        address = parse_redis_url(url)
    except ValueError as error:
        raise StoreFailure(f"ROXY_REDIS_URL {error}") from error
    try:
        from server.accounting.redis_counters.redis_counters import RedisCounters
    except ModuleNotFoundError as error:
        raise StoreFailure(
            "ROXY_REDIS_URL needs the extra `redis`: pip install 'roxy-ai[redis]'"
        ) from error
    counters = RedisCounters(address, node_id=node_id, when_down=when_down, spent=spent)
    try:
        await counters.start()
        yield counters
    finally:
        await counters.aclose()
