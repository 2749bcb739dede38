"""Open the shared counters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from server.config.redis_address import RedisAddress, parse_redis_url
from server.store.patience import StorePatience
from server.store.store import StoreFailure

if TYPE_CHECKING:
    from server.accounting.redis_counters.redis_counters import RedisCounters, Spent
    from server.accounting.redis_counters.redis_link import RedisLink
    from server.config.settings import WhenDown


@asynccontextmanager
async def open_redis_counters(
    url: str,
    *,
    node_id: str,
    when_down: WhenDown,
    spent: Spent,
    patience: StorePatience | None = None,
) -> AsyncIterator[RedisCounters]:
    """Connect to Redis and return the counters; at the end send what is not acknowledged.

    Raises StoreFailure with one line, without the URL's password.
    """
    address = _address(url)
    from server.accounting.redis_counters.redis_counters import RedisCounters

    counters = RedisCounters(
        address, node_id=node_id, when_down=when_down, spent=spent, patience=patience
    )
    try:
        await counters.start()
        yield counters
    finally:
        await counters.aclose()


async def describe_redis(url: str) -> str:
    """Return where Redis is, if it can be used; no limit is touched. Raises StoreFailure."""
    async with open_redis_link(url, "roxy-check"):
        return f"Redis at {_address(url)}"


@asynccontextmanager
async def open_redis_link(url: str, name: str) -> AsyncIterator[RedisLink]:
    """Connect to Redis for a command. Raises StoreFailure."""
    address = _address(url)
    from server.accounting.redis_counters.redis_link import RedisLink

    link = RedisLink(address, name, _nothing, lambda _reason: None)
    try:
        await link.start()
        yield link
    finally:
        await link.aclose()


def _address(url: str) -> RedisAddress:
    """Return the address, if what speaks to Redis is installed. Raises StoreFailure."""
    if find_spec("hiredis") is None:
        raise StoreFailure("ROXY_REDIS_URL needs the extra `redis`: pip install 'roxy-ai[redis]'")
    try:
        return parse_redis_url(url)
    except ValueError as error:
        raise StoreFailure(f"ROXY_REDIS_URL {error}") from error


async def _nothing(_connection: object) -> None:
    """Do nothing with a new connection."""
