"""Money and counts survive saves, restarts, midnight and a crowd of other scopes."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from support.fakes.clocks import NOON, Clocks

from server.accounting.counters import GuestLimits
from server.accounting.memory_counters import MemoryCounters
from server.store.key import BudgetPeriod, Limits
from server.store.rows import CounterRow
from workers.errors import BudgetExceeded, RateLimited, StoreUnavailable
from workers.units import DAY_S

KEY = "key_a"
EVER = Limits(budget_microusd=100, budget_period="total")
GUEST = GuestLimits(requests_per_minute=1, requests_per_day=100)
MAX_SCOPES = 10
MIDNIGHT_S = 12 * 3600


class Table:
    """The saved rows by scope and kind, as the store keeps them, and one process after another."""

    def __init__(self, clocks: Clocks, *, is_read_whole: bool) -> None:
        self._clocks = clocks
        self.is_read_whole = is_read_whole
        self._rows: dict[tuple[str, str], CounterRow] = {}

    def start(self) -> MemoryCounters:
        """Return the counters of a new process."""
        counters = MemoryCounters(
            clock=self._clocks.now,
            wall=self._clocks.wall,
            max_scopes=MAX_SCOPES,
            find=(lambda _: ()) if self.is_read_whole else self._find,
        )
        if self.is_read_whole:
            counters.restore(self._rows.values())
        return counters

    def _find(self, scope: str) -> list[CounterRow]:
        return [row for row in self._rows.values() if row.scope == scope]

    def save(self, counters: MemoryCounters) -> None:
        """Write what is not saved yet."""
        self._rows |= {(row.scope, row.kind): row for row in counters.take_unsaved()}


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture(params=[True, False], ids=["read at the start", "found when used"])
def table(clocks: Clocks, request: pytest.FixtureRequest) -> Table:
    return Table(clocks, is_read_whole=request.param)


async def spend(counters: MemoryCounters, cost_microusd: int, scope: str = KEY) -> None:
    """Have one request of a key cost so much."""
    counters.settle(await counters.take(scope, EVER, 0, cost_microusd), 0, cost_microusd)


def spent(counters: MemoryCounters, limits: Limits = EVER, scope: str = KEY) -> int:
    """Return the money that is spent of a budget."""
    budget = counters.known_standing(scope, limits).budget
    assert budget is not None
    return budget.spent_microusd


async def crowd(counters: MemoryCounters, names: Iterable[object]) -> None:
    """Have one request of each guest."""
    for name in names:
        counters.settle(await counters.take(f"guest:{name}", GUEST), 0, 0)


async def test_what_a_request_spends_after_a_save_is_in_the_next_one(table: Table) -> None:
    counters = table.start()
    taken = await counters.take(KEY, EVER, 0, 30)
    table.save(counters)
    counters.settle(taken, 0, 25)
    table.save(counters)
    assert spent(table.start()) == 25


async def test_what_is_given_back_after_a_save_is_in_the_next_one(table: Table) -> None:
    limits = Limits(requests_per_minute=1)
    counters = table.start()
    taken = await counters.take(KEY, limits)
    table.save(counters)
    counters.give_back(taken)
    table.save(counters)
    await table.start().take(KEY, limits)


async def test_every_changed_scope_is_saved(table: Table) -> None:
    counters = table.start()
    keys = [f"key_{number}" for number in range(8)]
    for key in keys:
        await spend(counters, 7, key)
    table.save(counters)
    after = table.start()
    assert [spent(after, scope=key) for key in keys] == [7] * 8


async def test_a_budget_that_was_not_used_for_a_month_is_restored(
    table: Table, clocks: Clocks
) -> None:
    counters = table.start()
    await spend(counters, 40)
    table.save(counters)
    clocks.pass_s(40 * DAY_S)
    assert spent(table.start()) == 40


@pytest.mark.parametrize(
    ("period", "left"), [("day", 0), ("week", 0), ("month", 40), ("total", 40)]
)
async def test_a_restart_after_midnight_forgets_only_periods_that_are_over(
    table: Table, clocks: Clocks, period: BudgetPeriod, left: int
) -> None:
    counters = table.start()
    await spend(counters, 40)
    table.save(counters)
    clocks.pass_s(MIDNIGHT_S)  # from Sunday to Monday
    limits = Limits(budget_microusd=100, budget_period=period)
    assert spent(table.start(), limits) == left


@pytest.mark.parametrize("period", ["day", "week"])
async def test_money_spent_after_midnight_counts_though_nothing_looked_at_the_budget_since(
    table: Table, clocks: Clocks, period: BudgetPeriod
) -> None:
    limits = Limits(budget_microusd=10, budget_period=period)
    counters = table.start()
    counters.settle(await counters.take(KEY, limits, 0, 3), 0, 3)
    taken = await counters.take(KEY, limits, 0, 7)
    clocks.pass_s(MIDNIGHT_S)
    counters.settle(taken, 0, 7)
    table.save(counters)
    assert spent(counters, limits) == 7
    assert spent(table.start(), limits) == 7


async def test_the_first_request_after_midnight_is_judged_by_the_new_day(
    table: Table, clocks: Clocks
) -> None:
    limits = Limits(budget_microusd=10, budget_period="day")
    counters = table.start()
    counters.settle(await counters.take(KEY, limits, 0, 10), 0, 10)
    clocks.pass_s(MIDNIGHT_S)
    await counters.take(KEY, limits, 0, 10)


async def test_after_midnight_a_budget_is_shown_as_that_of_the_new_day(
    table: Table, clocks: Clocks
) -> None:
    limits = Limits(budget_microusd=10, budget_period="day")
    counters = table.start()
    counters.settle(await counters.take(KEY, limits, 0, 10), 0, 10)
    clocks.pass_s(MIDNIGHT_S)
    budget = (await counters.standing(KEY, limits)).budget
    assert budget is not None
    assert (budget.spent_microusd, budget.reset_s) == (0, DAY_S)


async def test_a_crowd_of_guests_makes_no_spent_money_forgotten(table: Table) -> None:
    counters = table.start()
    await spend(counters, 90)
    await crowd(counters, range(20 * MAX_SCOPES))
    assert spent(counters) == 90
    with pytest.raises(BudgetExceeded):
        await counters.take(KEY, EVER, 0, 11)


async def test_a_key_without_limits_is_not_forgotten_once_it_has_spent(
    table: Table, clocks: Clocks
) -> None:
    counters = table.start()
    counters.settle(await counters.take(KEY, Limits()), 0, 60)
    clocks.pass_s(DAY_S)
    await crowd(counters, range(3))
    assert spent(counters) == 60


async def test_a_crowd_of_guests_makes_no_restored_money_forgotten(table: Table) -> None:
    counters = table.start()
    await spend(counters, 90)
    table.save(counters)
    after = table.start()
    await crowd(after, range(20 * MAX_SCOPES))
    assert spent(after) == 90


async def test_restored_guests_are_forgotten_once_their_limits_are_free(
    table: Table, clocks: Clocks
) -> None:
    counters = table.start()
    await crowd(counters, range(8))
    table.save(counters)
    after = table.start()
    assert len(after) == (8 if table.is_read_whole else 0)
    clocks.pass_s(2 * DAY_S)
    await crowd(after, "abcdefgh")
    assert len(after) <= 8


async def test_a_restored_guest_that_is_full_stays_refused(table: Table) -> None:
    counters = table.start()
    await crowd(counters, ["full"])
    table.save(counters)
    after = table.start()
    await crowd(after, range(3))
    with pytest.raises(RateLimited):
        await after.take("guest:full", GUEST)


async def test_after_the_clock_was_set_back_the_wait_for_a_budget_is_one_period_at_most(
    table: Table, clocks: Clocks
) -> None:
    limits = Limits(budget_microusd=10, budget_period="day")
    counters = table.start()
    counters.settle(await counters.take(KEY, limits, 0, 10), 0, 10)
    clocks.set_wall(NOON - 30 * DAY_S)
    clocks.pass_s(3600)
    with pytest.raises(BudgetExceeded) as refusal:
        await counters.take(KEY, limits, 0, 1)
    assert refusal.value.retry_after_s == DAY_S - 3600
    clocks.pass_s(refusal.value.retry_after_s)
    counters.settle(await counters.take(KEY, limits, 0, 10), 0, 10)
    clocks.set_wall(NOON - 60 * DAY_S)  # the money of the second period lasts as long again
    with pytest.raises(BudgetExceeded) as refusal:
        await counters.take(KEY, limits, 0, 1)
    assert refusal.value.retry_after_s == DAY_S


async def test_without_its_saved_rows_a_scope_is_not_admitted(clocks: Clocks) -> None:
    def fail(_scope: str) -> list[CounterRow]:
        raise StoreUnavailable

    counters = MemoryCounters(clock=clocks.now, wall=clocks.wall, find=fail)
    with pytest.raises(StoreUnavailable):
        await counters.take(KEY, EVER)
    with pytest.raises(StoreUnavailable):
        await counters.standing(KEY, EVER)
    assert counters.known_standing(KEY, EVER).budget is None
    assert len(counters) == 0
