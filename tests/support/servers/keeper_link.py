"""A keeper and a child in one process: the store and the counters of the one, used by the other."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import cast

from support.waiting import PATIENCE_S

from server.accounting.counters import Counters
from server.accounting.memory_counters import MemoryCounters
from server.history.chat_history import ChatHistory
from server.nodes.announcements import Announcements
from server.nodes.child_data import ChildData
from server.nodes.child_service import ChildService, KeeperData
from server.nodes.link import Link, open_link
from server.nodes.procedure import Service
from server.store.rows import StoreChanges
from server.store.store import Store


class KeeperEnd:
    """The keeper's side: `changes` is what its own key ring was sent."""

    def __init__(
        self,
        store: Store,
        counters: Counters,
        history: ChatHistory | None = None,
        *,
        acknowledged_s: float = PATIENCE_S,
    ) -> None:
        self.changes: list[StoreChanges] = []
        self.announcements = Announcements(self.changes.append, acknowledged_s=acknowledged_s)
        self.store = store
        given = history if history is not None else cast("ChatHistory", _NoHistory())
        self._data = KeeperData(store, given, counters, self.announcements, {})

    @contextlib.asynccontextmanager
    async def child(self) -> AsyncIterator[ChildEnd]:
        """Connect a child; the block ends it."""
        near, far = socket.socketpair()
        answers, asks = Service(), Service()
        served = ChildService(self._data, answers)
        link = await open_link(near, answers)
        end = ChildEnd(await open_link(far, asks), asks)
        served.connect(link)
        try:
            yield end
        finally:
            await end.link.aclose()
            await link.aclose()
            await self.announcements.aclose()

    @contextlib.asynccontextmanager
    async def hung_child(self) -> AsyncIterator[None]:
        """Connect a child that reads nothing."""
        near, far = socket.socketpair()
        answers = Service()
        served = ChildService(self._data, answers)
        with far:
            link = await open_link(near, answers)
            served.connect(link)
            yield
        await link.aclose()


class _NoHistory:
    """A history that no test of this keeper uses."""

    def __getattr__(self, _name: str) -> None:
        return None


class ChildEnd(ChildData):
    """A child's side of the link."""

    def __init__(self, link: Link, service: Service) -> None:
        super().__init__(link, service)
        self.link = link


@contextlib.asynccontextmanager
async def kept_store(
    opened: Callable[[], AbstractAsyncContextManager[Store]],
) -> AsyncIterator[Store]:
    """Open a store in a keeper, and yield it as a child uses it."""
    async with opened() as store, KeeperEnd(store, MemoryCounters()).child() as child:
        yield child.store


@contextlib.asynccontextmanager
async def kept_counters(store: Store, counters: Counters) -> AsyncIterator[Counters]:
    """Yield the counters of a keeper as a child uses them."""
    async with KeeperEnd(store, counters).child() as child:
        yield child.counters


@contextlib.asynccontextmanager
async def kept_history(store: Store, history: ChatHistory) -> AsyncIterator[ChatHistory]:
    """Yield the chat history of a keeper as a child uses it."""
    async with KeeperEnd(store, MemoryCounters(), history).child() as child:
        yield child.history
