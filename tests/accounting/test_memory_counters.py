"""Counters in memory: saved and restored, and bounded by what they must keep."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable

import pytest
from support.fakes.clocks import NOON, Clocks

from server.accounting.counters import GuestLimits, Standing, Taken
from server.accounting.memory_counters import MemoryCounters
from server.store.key import Limits
from server.store.rows import CounterRow
from workers.errors import BudgetExceeded, GatewayError, RateLimited
from workers.units import DAY_S

KEY = "key_a"

Make = Callable[[], MemoryCounters]


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def make(clocks: Clocks) -> Make:
    """Make counters; every call is a new process."""
    return lambda: MemoryCounters(clock=clocks.now, wall=clocks.wall)


@pytest.fixture
def counters(make: Make) -> MemoryCounters:
    return make()


async def admitted(takes: Iterable[Coroutine[None, None, Taken]]) -> list[Taken]:
    """Run takes in parallel and give those that were let in."""
    ends = await asyncio.gather(*takes, return_exceptions=True)
    assert all(isinstance(end, Taken | GatewayError) for end in ends)
    return [end for end in ends if isinstance(end, Taken)]


async def restarted(make: Make, old: MemoryCounters) -> MemoryCounters:
    """Save everything and go on in a new process."""
    rows = old.take_unsaved()
    new = make()
    new.restore(rows)
    return new


def requests(counters: MemoryCounters, limits: Limits, scope: str = KEY) -> int:
    """Return how many requests are left."""
    meter = counters.known_standing(scope, limits).requests
    assert meter is not None
    return meter.remaining


# Clocks


@pytest.mark.parametrize("jump_s", [-3600, 3600, -400 * DAY_S, 400 * DAY_S])
async def test_a_jump_of_the_wall_clock_does_not_touch_the_buckets(
    counters: MemoryCounters, clocks: Clocks, jump_s: float
) -> None:
    limits = Limits(requests_per_minute=2)
    await counters.take(KEY, limits)
    await counters.take(KEY, limits)
    clocks.set_wall(NOON + jump_s)
    with pytest.raises(RateLimited) as refusal:
        await counters.take(KEY, limits)
    assert refusal.value.retry_after_s == pytest.approx(30)


# Restarts


async def test_a_restart_neither_refills_nor_locks(
    make: Make, counters: MemoryCounters, clocks: Clocks
) -> None:
    limits = Limits(requests_per_minute=6, tokens_per_minute=600, budget_microusd=100)
    for _ in range(6):
        counters.settle(await counters.take(KEY, limits, 10, 10), 100, 10)
    before = counters.known_standing(KEY, limits)
    after = await restarted(make, counters)
    assert _near(after.known_standing(KEY, limits), before)
    clocks.pass_s(20)
    assert requests(after, limits) == 2
    with pytest.raises(BudgetExceeded):
        await after.take(KEY, limits, 10, 41)


async def test_time_that_passed_while_nothing_ran_counts(
    make: Make, counters: MemoryCounters, clocks: Clocks
) -> None:
    limits = Limits(requests_per_minute=6)
    for _ in range(6):
        await counters.take(KEY, limits)
    rows = counters.take_unsaved()
    clocks.pass_s(30)
    after = make()
    after.restore(rows)
    assert requests(after, limits) == 3
    clocks.pass_s(60)
    after = make()
    after.restore(rows)
    assert requests(after, limits) == 6


async def test_a_clock_set_back_over_a_restart_locks_for_one_window_at_most(
    make: Make, counters: MemoryCounters, clocks: Clocks
) -> None:
    limits = Limits(requests_per_minute=3, tokens_per_minute=30, budget_microusd=9)
    for taken in await admitted(counters.take(KEY, limits, 1, 3) for _ in range(3)):
        counters.settle(taken, 5_000, 3)
    clocks.set_wall(NOON - 90 * DAY_S)
    after = await restarted(make, counters)
    with pytest.raises(RateLimited):
        await after.take(KEY, limits, 1, 0)
    clocks.pass_s(60)
    counters_now = after.known_standing(KEY, limits)
    assert counters_now.tokens is not None
    assert counters_now.tokens.remaining == 30
    with pytest.raises(BudgetExceeded):
        await after.take(KEY, limits, 1, 1)
    clocks.pass_s(31 * DAY_S)
    await after.take(KEY, limits, 1, 9)


async def test_the_listener_hears_of_the_first_unsaved_change_only(
    counters: MemoryCounters,
) -> None:
    heard: list[int] = []
    counters.on_unsaved(lambda: heard.append(1))
    limits = Limits(requests_per_minute=6)
    taken = await counters.take(KEY, limits)
    counters.settle(taken, 1, 1)
    assert len(heard) == 1
    counters.take_unsaved()
    await counters.take(KEY, limits)
    assert len(heard) == 2


async def test_rows_nobody_understands_are_no_obstacle(
    make: Make, counters: MemoryCounters
) -> None:
    limits = Limits(requests_per_minute=6)
    await counters.take(KEY, limits)
    rows = counters.take_unsaved()
    strange = [type(row)(KEY, "leap_years", 1e99, "?", row.updated_at) for row in rows]
    strange += [type(row)(KEY, "budget_month", 5, "junk", row.updated_at) for row in rows]
    after = make()
    after.restore([*strange, *rows])
    assert requests(after, limits) == 5


# Memory only


@pytest.mark.parametrize("cost_microusd", [0, 5])
async def test_guests_are_forgotten_once_they_hold_nothing(
    clocks: Clocks, cost_microusd: int
) -> None:
    counters = MemoryCounters(clock=clocks.now, wall=clocks.wall)
    limits = GuestLimits(requests_per_minute=10, requests_per_day=100)
    for number in range(5_000):
        taken = await counters.take(f"guest:{number}", limits)
        counters.settle(taken, 10, cost_microusd)
        clocks.pass_s(10)
    assert len(counters) < 200  # one request of a hundred a day is drained after 864 s
    assert not [row for row in counters.take_unsaved() if row.kind.startswith("budget")]


async def test_sums_that_older_versions_saved_for_guests_are_not_restored(clocks: Clocks) -> None:
    counters = MemoryCounters(clock=clocks.now, wall=clocks.wall)
    counters.restore([CounterRow("guest:192.0.2.1", "budget_total", 5, "", clocks.wall())])
    assert len(counters) == 0


async def test_past_the_cap_full_guests_go_first_and_running_ones_stay(clocks: Clocks) -> None:
    counters = MemoryCounters(clock=clocks.now, wall=clocks.wall, max_scopes=10)
    limits = GuestLimits(requests_per_minute=1, requests_per_day=100, concurrent_requests=9)
    running = await counters.take("guest:running", limits)
    for number in range(100):
        counters.settle(await counters.take(f"guest:{number}", limits), 0, 0)
        assert len(counters) <= 10
    assert counters.known_standing("guest:running", limits).running == 1
    assert requests(counters, limits, "guest:99") == 0
    assert requests(counters, limits, "guest:0") == 1
    counters.settle(running, 0, 0)


async def test_restored_counts_are_not_forgotten_before_they_are_used(clocks: Clocks) -> None:
    limits = GuestLimits(requests_per_minute=1, requests_per_day=100)
    first = MemoryCounters(clock=clocks.now, wall=clocks.wall)
    await first.take("guest:old", limits)
    second = MemoryCounters(clock=clocks.now, wall=clocks.wall)
    second.restore(first.take_unsaved())
    for number in range(10):
        await second.take(f"guest:{number}", limits)
    with pytest.raises(RateLimited):
        await second.take("guest:old", limits)


async def test_asking_for_the_standing_of_strangers_keeps_nothing(clocks: Clocks) -> None:
    counters = MemoryCounters(clock=clocks.now, wall=clocks.wall)
    for number in range(1_000):
        counters.known_standing(f"guest:{number}", GuestLimits(requests_per_minute=5))
    assert len(counters) == 0


def _near(one: Standing, other: Standing) -> bool:
    """Compare but for float noise."""
    return one.headers() == other.headers() and one.budget == other.budget
