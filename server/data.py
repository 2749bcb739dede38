"""Own the data of a gateway: its directory, store and counters, the key export, and old usage.

One process does: the only one of a gateway that runs in one, else the keeper, which the serving
processes ask (`server/nodes`).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from server.accounting.counters import Counters, UnsavedCounters
from server.accounting.memory_counters import MemoryCounters
from server.accounting.notes.late_costs import find_late_costs
from server.accounting.notes.left_notes import Charge, LeftNotes
from server.accounting.notes.note_files import RequestNote
from server.accounting.redis_counters.open_redis import open_redis_counters
from server.accounting.usage_sums import spent_by_period
from server.config.loading import Config
from server.history.chat_history import ChatHistory
from server.history.history_retention import HistoryRetention
from server.history.sqlite_history import SqliteHistory
from server.history.step_history import StepHistory
from server.identity.wrong_keys import WrongKeyLimit
from server.keys.export import open_key_ring
from server.keys.key_ring import KeyRing
from server.store.data_directory import DataDirectory
from server.store.key import BudgetPeriod
from server.store.patience import StorePatience
from server.store.postgres.postgres_opening import open_postgres_store
from server.store.retention import Retention
from server.store.sqlite.sqlite_store import SqliteStore
from server.store.store import Store
from server.store.usage_queries import SumsQuery

if TYPE_CHECKING:
    from server.accounting.redis_counters.redis_counters import RedisCounters
    from server.store.postgres.postgres_store import PostgresStore

log = logging.getLogger("roxy")

SPOOL = "spool"
"""The directory, in the data directory, for usage that waits for the database."""
ALWAYS = ("0001-01-01", "9999-12-31")


class GatewayData(NamedTuple):
    """The data as a process of the gateway uses them.

    `unsaved`: counters that the ledger of this process saves; None: another process saves them, or
    Redis has them.
    """

    directory: DataDirectory
    store: Store
    history: ChatHistory
    keys: KeyRing
    counters: Counters
    unsaved: UnsavedCounters | None
    wrong_keys: WrongKeyLimit
    """Counts the wrong keys of API requests."""
    wrong_sign_ins: WrongKeyLimit
    """Counts the wrong keys of the sign-in form."""
    left: LeftNotes | None = None
    """Books what killed processes leave; None: another process does."""


@contextlib.asynccontextmanager
async def open_data(
    config: Config,
    directory: DataDirectory,
    clock: Callable[[], float],
    patience: StorePatience | None = None,
) -> AsyncIterator[GatewayData]:
    """Open everything in a locked directory; `clock` measures limits. Raises StoreFailure."""
    async with contextlib.AsyncExitStack() as stack:
        patience = patience or StorePatience()
        store = await _open_store(stack, config, directory, patience)
        history = await _open_history(stack, store, patience)
        keys = await stack.enter_async_context(open_key_ring(store, directory.export))
        left = LeftNotes(directory.path, store)
        counters, unsaved = await _open_counters(stack, config, store, clock, left, patience)
        old = HistoryRetention(history, store, config.history.retention_days)
        stack.push_async_callback(old.aclose)
        stack.push_async_callback(Retention(store, config.usage.retention_days).aclose)
        stack.push_async_callback(left.aclose)
        yield GatewayData(
            directory=directory,
            store=store,
            history=history,
            keys=keys,
            counters=counters,
            unsaved=unsaved,
            wrong_keys=WrongKeyLimit(),
            wrong_sign_ins=WrongKeyLimit(),
            left=left,
        )


async def _open_store(
    stack: contextlib.AsyncExitStack,
    config: Config,
    directory: DataDirectory,
    patience: StorePatience,
) -> SqliteStore | PostgresStore:
    """Open the database of ROXY_DATABASE_URL, or SQLite in the data directory."""
    if config.database_url:
        spool = directory.path / SPOOL
        return await stack.enter_async_context(
            open_postgres_store(config.database_url, spool=spool, patience=patience)
        )
    file = SqliteStore(directory.database, patience_s=patience.sqlite_s)
    return await stack.enter_async_context(file)


async def _open_history(
    stack: contextlib.AsyncExitStack, store: SqliteStore | PostgresStore, patience: StorePatience
) -> StepHistory:
    """Open the chat history in the database of the store."""
    if isinstance(store, SqliteStore):
        history = SqliteHistory(store.path, patience_s=patience.sqlite_s)
        return await stack.enter_async_context(history)
    from server.history.postgres_history import PostgresHistory

    return PostgresHistory(store)


async def _open_counters(
    stack: contextlib.AsyncExitStack,
    config: Config,
    store: Store,
    clock: Callable[[], float],
    left: LeftNotes,
    patience: StorePatience,
) -> tuple[Counters, UnsavedCounters | None]:
    """Open the counters of ROXY_REDIS_URL, or counters in memory, saved by the ledger.

    What killed processes have left is booked, and counted.
    """
    if config.redis_url:
        shared = await stack.enter_async_context(
            open_redis_counters(
                config.redis_url,
                node_id=config.server.node_name,
                when_down=config.limits.when_store_is_down,
                spent=partial(_spent, store),
                patience=patience,
            )
        )
        settle = _settle_left(shared)
        for files in await left.book_all(settle):
            left.book_later(files, settle)
        return shared, None
    if config.database_url:
        log.warning(
            "each node counts limits by itself: set ROXY_REDIS_URL before a second node uses the"
            " database"
        )
    if isinstance(store, SqliteStore):
        counters = MemoryCounters(
            clock=clock, find=store.find_counters, find_late=partial(find_late_costs, store)
        )
        waiting = await left.book_all()
    else:
        counters = MemoryCounters(clock=clock)
        counters.restore(await store.load_counters())
        waiting = await left.book_all(_charge_left(counters))
    for files in waiting:
        left.book_later(files, _charge_left(counters))
    return counters, counters


def _settle_left(counters: RedisCounters) -> Charge:
    """Return what settles in Redis what a killed process had taken."""

    def settle(note: RequestNote) -> None:
        if note.taken is not None:
            ago_s = max(time.time() - note.row.at, 0.0)
            cost_microusd = note.row.cost_microusd or 0
            counters.settle_left(note.taken, note.tokens, cost_microusd, ago_s)

    return settle


def _charge_left(counters: MemoryCounters) -> Charge:
    """Return what charges a budget in memory for a request that a killed process has left."""

    def charge(note: RequestNote) -> None:
        if note.taken is not None:
            counters.charge_late(note.taken.scope, note.row.cost_microusd or 0, note.row.at)

    return charge


async def _spent(store: Store, scope: str) -> Mapping[BudgetPeriod, int]:
    """Return what a key has spent in the current periods, as the database knows it."""
    days = await store.usage_by(SumsQuery(*ALWAYS, ("day",), key_id=scope))
    return spent_by_period(days, datetime.fromtimestamp(time.time(), UTC).date())
