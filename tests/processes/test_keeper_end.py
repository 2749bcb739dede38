"""A keeper and its children in one process: what one changes, and what is left of one that ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.builders.rows import a_key
from support.servers.keeper_link import ChildEnd, KeeperEnd
from support.waiting import PATIENCE_S, eventually, soon

from server.accounting.counters import Shared, Taken
from server.accounting.memory_counters import MemoryCounters
from server.nodes.counter_calls import Troubles
from server.store.key import Limits
from server.store.rows import SessionRow, StoreChanges
from server.store.sqlite.sqlite_store import SqliteStore
from server.store.store import OWNER_META
from workers.errors import RateLimited

LIMITS = Limits(requests_per_minute=2, concurrent_requests=2)


class SlowCounters(MemoryCounters):
    """Counters that wait for a gate before they take, as remote ones do."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: 0.0)
        self.gate = asyncio.Event()

    async def take(
        self,
        scope: str,
        limits: Limits,
        tokens: int = 0,
        cost_microusd: int = 0,
        shared: Shared | None = None,
    ) -> Taken:
        """Take once the gate is open."""
        await self.gate.wait()
        return await super().take(scope, limits, tokens, cost_microusd, shared)


class Family:
    """A keeper's end, its counters, and two children; `noted` is what each was sent."""

    def __init__(self, keeper: KeeperEnd, counters: MemoryCounters) -> None:
        self.keeper = keeper
        self.counters = counters
        self.noted: dict[ChildEnd, list[StoreChanges]] = {}

    def add(self, child: ChildEnd) -> ChildEnd:
        """Listen to what a child is sent."""
        self.noted[child] = []
        child.store.on_foreign_change(self.noted[child].append)
        return child


@pytest.fixture
async def family(tmp_path: Path) -> AsyncIterator[Family]:
    counters = MemoryCounters(clock=lambda: 0.0)
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        yield Family(KeeperEnd(store, counters), counters)


async def test_what_one_child_changes_is_known_to_all_others_before_it_is_answered(
    family: Family,
) -> None:
    async with family.keeper.child() as first, family.keeper.child() as second:
        family.add(first)
        family.add(second)
        key = a_key(1)
        await first.store.add_keys([key])
        assert family.noted[second][-1].keys == [key]
        changed = a_key(1, name="changed", version=2)
        assert await first.store.replace_key(changed)
        assert family.noted[second][-1].keys == [changed]
        assert not await first.store.replace_key(a_key(1, name="late", version=2))
        await first.store.put_session(SessionRow(b"d" * 32, "owner", b"c" * 32, 1, 1))
        await first.store.note_sessions({}, [b"d" * 32])
        assert family.noted[second][-1].sessions == [b"d" * 32]
        await first.store.put_meta(OWNER_META, b"o" * 32)
        assert family.noted[second][-1].owner == b"o" * 32
        assert len(family.noted[second]) == 4 and family.noted[first] == []
        assert len(family.keeper.changes) == 4


async def test_keys_that_were_partly_known_make_all_compare_with_the_store(
    family: Family,
) -> None:
    async with family.keeper.child() as first, family.keeper.child() as second:
        family.add(second)
        await first.store.add_keys([a_key(1)])
        assert await first.store.add_keys([a_key(1, version=9), a_key(2)]) == (1, 1)
        assert family.noted[second][-1].all and not family.noted[second][-1].keys
        assert await first.store.add_keys([a_key(1)]) == (0, 1)
        assert len(family.noted[second]) == 2


async def test_a_child_that_does_not_answer_holds_a_change_up_only_for_a_while(
    family: Family, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = KeeperEnd(family.keeper.store, family.counters, acknowledged_s=0.1)
    async with keeper.child() as first, keeper.hung_child():
        await soon(first.store.add_keys([a_key(1)]))
        assert "1 processes have not acknowledged a change" in caplog.text


async def test_a_child_that_has_ended_holds_no_change_up(
    family: Family, caplog: pytest.LogCaptureFixture
) -> None:
    async with family.keeper.child() as first:
        async with family.keeper.child():
            pass
        await soon(first.store.add_keys([a_key(1)]))
        assert not caplog.records


async def test_what_a_child_had_taken_is_settled_with_nothing_when_it_ends(
    family: Family,
) -> None:
    async with family.keeper.child() as first, family.keeper.child() as second:
        await first.counters.take("key_1", LIMITS)
        await first.counters.take("key_1", LIMITS)
        with pytest.raises(RateLimited):
            await second.counters.take("key_1", LIMITS)
        known = second.counters.known_standing("key_1", LIMITS)
        assert known is not None and known.running == 2
        await first.link.aclose()
        await eventually(lambda: family.counters.known_standing("key_1", LIMITS).running == 0)
        meter = family.counters.known_standing("key_1", LIMITS).requests
        assert meter is not None and meter.remaining == 0  # the request stays counted


async def test_a_take_whose_request_was_cancelled_is_given_back(tmp_path: Path) -> None:
    counters = SlowCounters()
    async with (
        SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store,
        KeeperEnd(store, counters).child() as child,
    ):
        taking = asyncio.create_task(child.counters.take("key_1", LIMITS))
        await child.store.check_writable()
        taking.cancel()
        counters.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await taking
        # Of two requests a minute the first was taken, and has come back.
        await child.counters.take("key_1", LIMITS)
        await eventually(lambda: counters.known_standing("key_1", LIMITS).running == 1)
        meter = counters.known_standing("key_1", LIMITS).requests
        assert meter is not None and meter.remaining == 1


async def test_a_take_that_ends_after_its_child_is_settled_at_once(tmp_path: Path) -> None:
    counters = SlowCounters()
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        keeper = KeeperEnd(store, counters)
        async with keeper.child() as child:
            taking = asyncio.create_task(child.counters.take("key_1", LIMITS))
            await child.store.check_writable()
            child.link.close()
            with contextlib.suppress(Exception):
                await soon(taking)
            counters.gate.set()
        standing = counters.known_standing("key_1", LIMITS)
        assert standing.running == 0
        assert standing.requests is not None and standing.requests.remaining == 1


async def test_a_wrong_key_counts_in_all_children_and_in_those_that_start_later(
    family: Family,
) -> None:
    async with family.keeper.child() as first, family.keeper.child() as second:
        for _ in range(5):
            first.wrong_keys.add("192.0.2.1")
            second.wrong_keys.add("192.0.2.1")
            second.wrong_sign_ins.add("192.0.2.2")
        await first.store.check_writable()
        await second.store.check_writable()
        async with family.keeper.child() as third:
            for child in (first, second, third):
                await child.store.check_writable()
                with pytest.raises(RateLimited):
                    child.wrong_keys.check("192.0.2.1")
                child.wrong_keys.check("192.0.2.2")


async def test_troubles_of_the_keeper_are_known_to_all_children(family: Family) -> None:
    async with family.keeper.child() as first:
        family.keeper.announcements.announce_troubles(Troubles("disk full", None))
        await first.store.check_writable()
        assert (first.store.trouble, first.counters.trouble) == ("disk full", None)
        async with family.keeper.child() as later:
            await later.store.check_writable()
            assert later.store.trouble == "disk full"
        family.keeper.announcements.announce_troubles(Troubles(None, None))
        await first.store.check_writable()
        assert first.store.trouble is None
