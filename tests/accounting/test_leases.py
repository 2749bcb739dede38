"""What a take gives and what ends it, once: leases."""

from __future__ import annotations

from support.fakes.clocks import Clocks

from server.accounting.memory_counters import MemoryCounters
from server.store.key import Limits

KEY = "key_a"


async def test_a_lease_that_is_settled_twice_counts_once() -> None:
    clocks = Clocks()
    counters = MemoryCounters(clock=clocks.now, wall=clocks.wall)
    limits = Limits(
        requests_per_minute=10, tokens_per_minute=1000, budget_microusd=1000, concurrent_requests=3
    )
    first = await counters.take(KEY, limits, 100, 200)
    second = await counters.take(KEY, limits, 100, 200)
    counters.settle(first, 30, 50)
    once = await counters.standing(KEY, limits)
    counters.settle(first, 30, 50)
    counters.give_back(first)
    assert await counters.standing(KEY, limits) == once
    counters.give_back(second)
    twice = await counters.standing(KEY, limits)
    counters.give_back(second)
    counters.settle(second, 30, 50)
    assert await counters.standing(KEY, limits) == twice
    assert twice.budget is not None
    assert (twice.running, twice.budget.spent_microusd, twice.budget.reserved_microusd) == (
        0,
        50,
        0,
    )
    assert once.requests is not None
    assert twice.requests is not None
    assert (once.requests.remaining, twice.requests.remaining) == (8, 9)


async def test_leases_of_all_processes_have_ids_of_their_own() -> None:
    processes = (MemoryCounters(), MemoryCounters())
    taken = [await counters.take(KEY, Limits()) for counters in processes for _ in range(50)]
    assert len({one.lease for one in taken}) == 100


async def test_a_take_tells_what_remains_after_it() -> None:
    clocks = Clocks()
    counters = MemoryCounters(clock=clocks.now, wall=clocks.wall)
    limits = Limits(requests_per_minute=10, tokens_per_minute=1000, budget_microusd=1000)
    await counters.take(KEY, limits, 100, 200)
    taken = await counters.take(KEY, limits, 100, 200)
    assert taken.standing == await counters.standing(KEY, limits)
    assert taken.standing == counters.known_standing(KEY, limits)
    assert taken.standing.headers()["x-ratelimit-remaining-requests"] == "8"
    assert taken.standing.budget is not None
    assert taken.standing.budget.reserved_microusd == 400
