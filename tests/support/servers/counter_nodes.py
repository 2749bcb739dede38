"""Every kind of counters on one clock that a test moves by hand."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

from support.fakes.clocks import Clocks
from support.patience import patient_stores
from support.servers.keeper_link import kept_counters
from support.servers.redis_server import RedisServer
from support.waiting import PATIENCE_S

from server.accounting.counters import Counters
from server.accounting.memory_counters import MemoryCounters
from server.accounting.redis_counters.redis_counters import RedisCounters, Spent
from server.config.redis_address import parse_redis_url
from server.config.settings import WhenDown
from server.store.key import BudgetPeriod
from server.store.patience import StorePatience
from server.store.sqlite.sqlite_store import SqliteStore

Make = Callable[[], Awaitable[Counters]]


@contextlib.asynccontextmanager
async def makers(kind: str, clocks: Clocks, path: Path) -> AsyncIterator[Make]:
    """Return a function that makes counters of a kind; those of Redis share one server."""
    async with contextlib.AsyncExitStack() as stack:
        if kind == "memory":

            async def in_memory() -> Counters:
                return MemoryCounters(clock=clocks.now, wall=clocks.wall)

            yield in_memory
            return
        if kind == "keeper":

            async def of_a_keeper() -> Counters:
                memory = MemoryCounters(clock=clocks.now, wall=clocks.wall)
                file = SqliteStore(path / "keeper.db", patience_s=PATIENCE_S)
                store = await stack.enter_async_context(file)
                return await stack.enter_async_context(kept_counters(store, memory))

            yield of_a_keeper
            return
        server = await stack.enter_async_context(RedisServer(path, kind))

        async def in_redis() -> Counters:
            return await stack.enter_async_context(node(server.url, clocks=clocks))

        yield in_redis


@contextlib.asynccontextmanager
async def node(
    url: str,
    name: str = "a",
    *,
    clocks: Clocks | None = None,
    when_down: WhenDown = "share",
    spent: Spent | None = None,
    beat_s: float = 10.0,
    max_scopes: int = 1_000,
    patience: StorePatience | None = None,
) -> AsyncIterator[RedisCounters]:
    """Return the counters of one node; `clocks` replaces the clock of the server."""
    counters = RedisCounters(
        parse_redis_url(url),
        node_id=name,
        when_down=when_down,
        spent=spent or nothing_spent,
        clock=clocks.wall if clocks is not None else None,
        beat_s=beat_s,
        max_scopes=max_scopes,
        patience=patience or patient_stores(),
    )
    try:
        await counters.start()
        yield counters
    finally:
        await counters.aclose()


async def nothing_spent(scope: str) -> Mapping[BudgetPeriod, int]:
    """Return no sums, as a new database does."""
    return {}
