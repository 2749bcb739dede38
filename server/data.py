"""Own the data of a gateway: its directory, store and counters, the key export, and old usage.

One process does: the only one of a gateway that runs in one, else the keeper, which the serving
processes ask (`server/nodes`).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import NamedTuple

from server.accounting.counters import Counters, UnsavedCounters
from server.accounting.memory_counters import MemoryCounters
from server.config.loading import Config
from server.identity.wrong_keys import WrongKeyLimit
from server.keys.export import open_key_ring
from server.keys.key_ring import KeyRing
from server.store.data_directory import DataDirectory
from server.store.retention import Retention
from server.store.sqlite_store import SqliteStore
from server.store.store import Store


class GatewayData(NamedTuple):
    """The data as a process of the gateway uses them.

    `unsaved`: counters that the ledger of this process saves; None: another process does, or a
    store of their own.
    """

    directory: DataDirectory
    store: Store
    keys: KeyRing
    counters: Counters
    unsaved: UnsavedCounters | None
    wrong_keys: WrongKeyLimit
    """Counts the wrong keys of API requests."""
    wrong_sign_ins: WrongKeyLimit
    """Counts the wrong keys of the sign-in form."""


@contextlib.asynccontextmanager
async def open_data(
    config: Config,
    environ: Mapping[str, str],
    directory: DataDirectory,
    clock: Callable[[], float],
) -> AsyncIterator[GatewayData]:
    """Open everything in a locked directory; `clock` measures limits. Raises StoreFailure."""
    async with contextlib.AsyncExitStack() as stack:
        store = await _open_store(stack, environ, directory)
        keys = await stack.enter_async_context(open_key_ring(store, directory.export))
        counters, unsaved = await _open_counters(stack, environ, store, clock)
        stack.push_async_callback(Retention(store, config.usage.retention_days).aclose)
        yield GatewayData(
            directory, store, keys, counters, unsaved, WrongKeyLimit(), WrongKeyLimit()
        )


async def _open_store(
    stack: contextlib.AsyncExitStack, _environ: Mapping[str, str], directory: DataDirectory
) -> Store:
    """Open the store that the environment names: SQLite in the data directory."""
    return await stack.enter_async_context(SqliteStore(directory.database))


async def _open_counters(
    _stack: contextlib.AsyncExitStack,
    _environ: Mapping[str, str],
    store: Store,
    clock: Callable[[], float],
) -> tuple[Counters, UnsavedCounters | None]:
    """Open the counters that the environment names: in memory, saved by the ledger."""
    counters = MemoryCounters(clock=clock)
    counters.restore(await store.load_counters())
    return counters, counters
