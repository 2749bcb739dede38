"""After a kill, budgets are what the rows of usage say, in the period of each row."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from support.builders.rows import a_row
from support.fakes.clocks import NOON, Clocks
from support.waiting import PATIENCE_S

from server.accounting.memory_counters import MemoryCounters
from server.accounting.notes.late_costs import find_late_costs
from server.store.key import BudgetPeriod, Limits
from server.store.rows import Batch
from server.store.sqlite.sqlite_store import SqliteStore
from workers.units import DAY_S

KEY, OTHER = "key_a", "key_b"
PERIODS: tuple[BudgetPeriod, ...] = ("day", "week", "month", "total")


class Gateway:
    """A database, and the counters of one process after another. It begins on a Sunday at noon."""

    def __init__(self, store: SqliteStore) -> None:
        self.clocks = Clocks()
        self.store = store
        self.counters = self._new()

    def _new(self) -> MemoryCounters:
        return MemoryCounters(
            clock=self.clocks.now,
            wall=self.clocks.wall,
            find=self.store.find_counters,
            find_late=partial(find_late_costs, self.store),
        )

    async def spend(
        self, cost_microusd: int, key_id: str = KEY, *, row: bool = True, sums: bool = True
    ) -> None:
        """Have a request end, and save its row, its sums, or both."""
        taken = await self.counters.take(key_id, Limits())
        self.counters.settle(taken, 0, cost_microusd)
        made = a_row(1, at=self.clocks.wall(), key_id=key_id, cost_microusd=cost_microusd)
        counters = self.counters.take_unsaved()
        await self.store.record(Batch([made] if row else [], counters if sums else ()))

    def restart(self) -> None:
        """Kill the process and start the next one."""
        self.counters = self._new()

    def spent(self, key_id: str = KEY) -> Sequence[int]:
        """Return what a key has spent in the day, the week, the month and all time."""
        budgets = [
            self.counters.known_standing(
                key_id, Limits(budget_microusd=10**9, budget_period=period)
            ).budget
            for period in PERIODS
        ]
        return [budget.spent_microusd for budget in budgets if budget is not None]


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        yield Gateway(store)


async def test_budgets_that_agree_with_the_rows_stay(gateway: Gateway) -> None:
    await gateway.spend(5)
    gateway.clocks.pass_s(DAY_S)  # Monday
    await gateway.spend(7)
    await gateway.spend(0, OTHER)
    for _ in range(2):
        gateway.restart()
        assert gateway.spent() == [7, 7, 12, 12]
        assert gateway.spent(OTHER) == [0, 0, 0, 0]


async def test_rows_without_their_sums_are_added_and_sums_without_their_rows_taken_off(
    gateway: Gateway,
) -> None:
    await gateway.spend(5)
    await gateway.spend(5, OTHER)
    await gateway.spend(30, sums=False)
    await gateway.spend(40, OTHER, row=False)
    await gateway.spend(60, "key_new", sums=False)
    gateway.restart()
    for _ in range(2):
        assert gateway.spent() == [35, 35, 35, 35]
        assert gateway.spent(OTHER) == [5, 5, 5, 5]
        assert gateway.spent("key_new") == [60, 60, 60, 60]
    await gateway.spend(1)
    await gateway.spend(1, OTHER)
    for _ in range(2):
        assert gateway.spent() == [36, 36, 36, 36]
        assert gateway.spent(OTHER) == [6, 6, 6, 6]
        gateway.restart()


async def test_the_time_of_the_row_decides_and_not_that_of_the_start(gateway: Gateway) -> None:
    await gateway.spend(5)
    await gateway.spend(30, sums=False)
    gateway.clocks.pass_s(DAY_S)  # from Sunday to Monday, in the same month
    gateway.restart()
    assert gateway.spent() == [0, 0, 35, 35]
    await gateway.spend(1)
    gateway.restart()
    assert gateway.spent() == [1, 1, 36, 36]
    gateway.clocks.pass_s(40 * DAY_S)
    gateway.restart()
    assert gateway.spent() == [0, 0, 0, 36]


async def test_what_is_booked_late_counts_once_whether_its_key_was_used_before_or_not(
    gateway: Gateway,
) -> None:
    await gateway.spend(5)
    await gateway.spend(5, OTHER)
    gateway.restart()
    await gateway.spend(1)
    for key_id in (KEY, OTHER):
        row = a_row(2, at=NOON - 60, key_id=key_id, cost_microusd=30)
        await gateway.store.record(Batch([row]))
        gateway.counters.charge_late(key_id, 30, row.at)
    assert gateway.spent() == [36, 36, 36, 36]
    assert gateway.spent(OTHER) == [35, 35, 35, 35]
    gateway.counters.charge_late(KEY, 4, NOON - DAY_S)  # on Saturday
    assert gateway.spent() == [36, 40, 40, 40]


async def test_a_clock_that_was_set_back_loses_nothing(gateway: Gateway) -> None:
    await gateway.spend(30, sums=False)
    gateway.clocks.set_wall(NOON - 3600)
    gateway.restart()
    assert gateway.spent() == [30, 30, 30, 30]


async def test_guests_have_no_budgets(gateway: Gateway) -> None:
    rows = [a_row(1, at=NOON, key_id=name, cost_microusd=5) for name in ("guest:a", "guest")]
    await gateway.store.record(Batch(rows))
    assert gateway.spent("guest:a") == [0, 0, 0, 0]
