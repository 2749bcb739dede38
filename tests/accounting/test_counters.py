"""The contract of every counters backend: exact, all or nothing, and clear refusals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from pathlib import Path

import pytest
from support.fakes.clocks import NOON, Clocks
from support.servers.counter_nodes import Make, makers

from server.accounting.counters import Counters, GuestLimits, Shared, Taken
from server.store.key import Limits
from workers.errors import BudgetExceeded, GatewayError, RateLimited
from workers.units import DAY_S

KEY = "key_a"


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture(params=["memory", "keeper", "redis", "valkey"])
async def make(
    request: pytest.FixtureRequest, clocks: Clocks, tmp_path: Path
) -> AsyncIterator[Make]:
    """Make counters of a backend; every call is a new process."""
    async with makers(request.param, clocks, tmp_path) as make:
        yield make


@pytest.fixture
async def counters(make: Make) -> Counters:
    return await make()


async def admitted(takes: Iterable[Coroutine[None, None, Taken]]) -> list[Taken]:
    """Run takes in parallel and give those that were let in."""
    ends = await asyncio.gather(*takes, return_exceptions=True)
    assert all(isinstance(end, Taken | GatewayError) for end in ends)
    return [end for end in ends if isinstance(end, Taken)]


async def requests(counters: Counters, limits: Limits, scope: str = KEY) -> int:
    """Return how many requests are left."""
    meter = (await counters.standing(scope, limits)).requests
    assert meter is not None
    return meter.remaining


async def spent(counters: Counters, limits: Limits) -> tuple[int, int]:
    """Return the money spent and reserved."""
    budget = (await counters.standing(KEY, limits)).budget
    assert budget is not None
    return budget.spent_microusd, budget.reserved_microusd


# Leases


async def test_a_lease_that_is_settled_twice_counts_once(counters: Counters) -> None:
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
    assert (twice.running, await spent(counters, limits)) == (0, (50, 0))
    assert once.requests is not None
    assert twice.requests is not None
    assert (once.requests.remaining, twice.requests.remaining) == (8, 9)


async def test_leases_of_all_processes_have_ids_of_their_own(make: Make) -> None:
    both = (await make(), await make())
    taken = [await counters.take(KEY, Limits()) for counters in both for _ in range(50)]
    assert len({one.lease for one in taken}) == 100


async def test_a_take_tells_what_remains_after_it(counters: Counters) -> None:
    limits = Limits(requests_per_minute=10, tokens_per_minute=1000, budget_microusd=1000)
    await counters.take(KEY, limits, 100, 200)
    taken = await counters.take(KEY, limits, 100, 200)
    assert taken.standing == await counters.standing(KEY, limits)
    assert taken.standing == await counters.standing(KEY, limits)
    assert taken.standing.headers()["x-ratelimit-remaining-requests"] == "8"
    assert taken.standing.budget is not None
    assert taken.standing.budget.reserved_microusd == 400


# Exactness


@pytest.mark.parametrize("limit", [1, 7, 60, 199])
async def test_parallel_takes_are_admitted_up_to_exactly_the_limit(
    counters: Counters, limit: int
) -> None:
    limits = Limits(requests_per_minute=limit)
    got = await admitted(counters.take(KEY, limits) for _ in range(200))
    assert len(got) == limit


async def test_parallel_takes_share_tokens_exactly(counters: Counters) -> None:
    limits = Limits(tokens_per_minute=1_000)
    got = await admitted(counters.take(KEY, limits, tokens=30) for _ in range(200))
    assert len(got) == 33


async def test_parallel_takes_never_overspend_a_budget(counters: Counters) -> None:
    limits = Limits(budget_microusd=1_000)
    got = await admitted(counters.take(KEY, limits, cost_microusd=30) for _ in range(200))
    assert len(got) == 33
    for taken in got:
        counters.settle(taken, 1, 30)
    assert await spent(counters, limits) == (990, 0)


async def test_only_so_many_run_at_once(counters: Counters) -> None:
    limits = Limits(concurrent_requests=3)
    got = await admitted(counters.take(KEY, limits) for _ in range(200))
    assert len(got) == 3
    counters.settle(got[0], 0, 0)
    counters.give_back(got[1])
    assert len(await admitted(counters.take(KEY, limits) for _ in range(200))) == 2


async def test_scopes_do_not_touch_each_other(counters: Counters) -> None:
    limits = Limits(requests_per_minute=1)
    await counters.take("key_a", limits)
    await counters.take("key_b", limits)
    assert await requests(counters, limits, "key_c") == 1


async def test_no_limits_admit_everything(counters: Counters) -> None:
    assert len(await admitted(counters.take(KEY, Limits(), 10**9, 0) for _ in range(200))) == 200
    assert (await counters.standing(KEY, Limits())).headers() == {}


# All or nothing


@pytest.mark.parametrize(
    "limits",
    [
        Limits(requests_per_minute=5, tokens_per_minute=100),
        Limits(requests_per_minute=5, budget_microusd=100, budget_period="day"),
        Limits(requests_per_minute=5, concurrent_requests=1),
        Limits(tokens_per_minute=1_000, requests_per_minute=1),
        Limits(tokens_per_minute=1_000, budget_microusd=100, requests_per_minute=5),
    ],
)
async def test_a_refused_take_takes_nothing(counters: Counters, limits: Limits) -> None:
    await counters.take(KEY, limits, tokens=60, cost_microusd=60)
    before = await counters.standing(KEY, limits)
    with pytest.raises(GatewayError):
        await counters.take(KEY, limits, tokens=60, cost_microusd=60)
    assert await counters.standing(KEY, limits) == before


async def test_a_guest_is_counted_alone_and_with_all_others_in_one_step(
    counters: Counters,
) -> None:
    guest = GuestLimits(requests_per_minute=3, requests_per_day=10, concurrent_requests=10)
    together = Shared("guests", GuestLimits(requests_per_minute=5, requests_per_day=100))
    takes = [counters.take(f"guest:10.0.0.{n % 4}", guest, shared=together) for n in range(200)]
    got = await admitted(takes)
    assert len(got) == 5
    assert max(sum(t.scope == f"guest:10.0.0.{n}" for t in got) for n in range(4)) <= 3
    left = await counters.standing("guest:10.0.0.0", guest)
    with pytest.raises(RateLimited, match="by all guests together: 5 per minute") as refusal:
        await counters.take("guest:10.0.0.9", guest, shared=together)
    assert refusal.value.retry_after_s == pytest.approx(12)
    assert await requests(counters, guest, "guest:10.0.0.9") == 3
    assert await counters.standing("guest:10.0.0.0", guest) == left
    for taken in got:
        counters.give_back(taken)
    assert await requests(counters, together.limits, "guests") == 5


# Refusals tell the truth


async def test_a_refused_request_is_told_when_one_is_free(
    counters: Counters, clocks: Clocks
) -> None:
    limits = Limits(requests_per_minute=6)
    for _ in range(6):
        counters.settle(await counters.take(KEY, limits), 0, 0)
    clocks.pass_s(4)
    with pytest.raises(RateLimited, match=r"6 per minute\. Try again in 6s") as refusal:
        await counters.take(KEY, limits)
    assert refusal.value.type == "requests"
    assert refusal.value.headers()["Retry-After"] == "6"
    clocks.pass_s(refusal.value.retry_after_s or 0)
    await counters.take(KEY, limits)
    with pytest.raises(RateLimited):
        await counters.take(KEY, limits)


async def test_the_longest_wait_is_the_one_that_is_told(counters: Counters) -> None:
    limits = GuestLimits(requests_per_minute=2, requests_per_day=2)
    for _ in range(2):
        await counters.take("guest:1.2.3.4", limits)
    with pytest.raises(RateLimited, match="2 per day") as refusal:
        await counters.take("guest:1.2.3.4", limits)
    assert refusal.value.retry_after_s == pytest.approx(DAY_S / 2)
    assert refusal.value.headers()["X-Should-Retry"] == "false"


async def test_a_request_larger_than_the_token_limit_is_not_told_to_wait(
    counters: Counters,
) -> None:
    limits = Limits(tokens_per_minute=100)
    with pytest.raises(RateLimited, match="can never fit") as refusal:
        await counters.take(KEY, limits, tokens=101)
    assert refusal.value.type == "tokens"
    assert refusal.value.headers() == {"X-Should-Retry": "false"}
    await counters.take(KEY, limits, tokens=100)


async def test_a_concurrency_refusal_asks_for_about_a_second(counters: Counters) -> None:
    limits = Limits(concurrent_requests=1)
    await counters.take(KEY, limits)
    with pytest.raises(RateLimited, match="the limit is 1") as refusal:
        await counters.take(KEY, limits)
    assert refusal.value.limit == "concurrency"
    assert refusal.value.headers() == {"Retry-After": "1", "Retry-After-Ms": "1000"}


async def test_a_budget_refusal_says_how_the_budget_stands(
    counters: Counters, clocks: Clocks
) -> None:
    limits = Limits(budget_microusd=5_000_000, budget_period="day")
    counters.settle(await counters.take(KEY, limits, 0, 3_500_000), 0, 3_234_567)
    await counters.take(KEY, limits, 0, 1_000_000)
    with pytest.raises(BudgetExceeded) as refusal:
        await counters.take(KEY, limits, 0, 1_800_000)
    message = refusal.value.message
    assert "daily budget" in message
    assert "$3.234567 spent, $1.00 reserved by running requests, $5.00 limit" in message
    assert "up to $1.80" in message
    assert "lower max_tokens" in message
    assert refusal.value.retry_after_s == 12 * 3600
    assert refusal.value.headers()["X-Should-Retry"] == "false"


async def test_money_that_is_only_reserved_is_a_short_wait(counters: Counters) -> None:
    limits = Limits(budget_microusd=5_000_000, budget_period="day")
    counters.settle(await counters.take(KEY, limits, 0, 3_000_000), 0, 1_000_000)
    running = await counters.take(KEY, limits, 0, 2_500_000)
    with pytest.raises(
        RateLimited, match=r"Running requests of this key have reserved \$2\.50"
    ) as refusal:
        await counters.take(KEY, limits, 0, 4_000_000)
    assert (refusal.value.limit, refusal.value.type) == ("budget", "rate_limit_error")
    assert refusal.value.headers() == {"Retry-After": "1", "Retry-After-Ms": "1000"}
    with pytest.raises(BudgetExceeded):
        await counters.take(KEY, limits, 0, 4_000_001)
    counters.give_back(running)
    await counters.take(KEY, limits, 0, 4_000_000)


async def test_a_longer_wait_is_told_before_that_for_reserved_money(
    counters: Counters,
) -> None:
    limits = Limits(requests_per_minute=1, budget_microusd=10)
    await counters.take(KEY, limits, 0, 10)
    with pytest.raises(RateLimited, match="1 per minute") as refusal:
        await counters.take(KEY, limits, 0, 10)
    assert refusal.value.retry_after_s == 60.0


async def test_a_request_that_may_cost_more_than_the_whole_budget_never_fits(
    counters: Counters,
) -> None:
    limits = Limits(budget_microusd=20_000, budget_period="month")
    await counters.take(KEY, limits, 0, 15_000)
    with pytest.raises(BudgetExceeded, match="can never fit") as refusal:
        await counters.take(KEY, limits, 0, 20_001)
    assert "up to $0.020001" in refusal.value.message
    assert "whole monthly budget of $0.02" in refusal.value.message
    assert "lower max_tokens" in refusal.value.message
    assert refusal.value.headers() == {"X-Should-Retry": "false"}


async def test_a_budget_for_ever_has_no_time_to_wait_for(counters: Counters) -> None:
    limits = Limits(budget_microusd=10, budget_period="total")
    counters.settle(await counters.take(KEY, limits, 0, 10), 0, 10)
    with pytest.raises(BudgetExceeded) as refusal:
        await counters.take(KEY, limits, 0, 1)
    assert refusal.value.headers() == {"X-Should-Retry": "false"}


async def test_what_costs_nothing_is_never_over_budget(counters: Counters) -> None:
    limits = Limits(budget_microusd=10)
    counters.settle(await counters.take(KEY, limits, 0, 10), 0, 50)
    await counters.take(KEY, limits, 0, 0)


# Settling


async def test_settling_puts_true_use_in_the_place_of_the_estimate(
    counters: Counters,
) -> None:
    limits = Limits(
        requests_per_minute=10, tokens_per_minute=100, concurrent_requests=2, budget_microusd=90
    )
    taken = await counters.take(KEY, limits, tokens=60, cost_microusd=80)
    assert await spent(counters, limits) == (0, 80)
    counters.settle(taken, 25, 30)
    standing = await counters.standing(KEY, limits)
    assert standing.tokens is not None
    assert standing.tokens.remaining == 75
    assert standing.running == 0
    assert await spent(counters, limits) == (30, 0)
    assert await requests(counters, limits) == 9


async def test_using_more_than_estimated_is_a_debt_that_is_worked_off(
    counters: Counters, clocks: Clocks
) -> None:
    limits = Limits(tokens_per_minute=100)
    counters.settle(await counters.take(KEY, limits, tokens=10), 250, 0)
    assert (await counters.standing(KEY, limits)).headers() == {
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "2m30s",
    }
    with pytest.raises(RateLimited) as refusal:
        await counters.take(KEY, limits, tokens=10)
    assert refusal.value.retry_after_s == pytest.approx(96)
    clocks.pass_s(96)
    await counters.take(KEY, limits, tokens=10)


async def test_giving_back_leaves_everything_as_if_never_asked(counters: Counters) -> None:
    limits = GuestLimits(
        requests_per_minute=5,
        requests_per_day=5,
        tokens_per_minute=50,
        concurrent_requests=5,
        budget_microusd=50,
    )
    before = await counters.standing(KEY, limits)
    counters.give_back(await counters.take(KEY, limits, 50, 50))
    assert await counters.standing(KEY, limits) == before


# Changed limits


async def test_limits_may_change_between_taking_and_settling(counters: Counters) -> None:
    old = Limits(requests_per_minute=10, tokens_per_minute=100, budget_microusd=100)
    new = Limits(requests_per_minute=4, tokens_per_minute=1_000, concurrent_requests=1)
    first = await counters.take(KEY, old, 40, 40)
    with pytest.raises(RateLimited, match="concurrent"):
        await counters.take(KEY, new, 40)
    counters.settle(first, 30, 30)
    second = await counters.take(KEY, new, 40)
    counters.settle(second, 40, 7)
    standing = await counters.standing(KEY, new)
    assert await requests(counters, new) == 2
    assert standing.tokens is not None
    assert standing.tokens.remaining == 930
    counters.give_back(await counters.take(KEY, old, 0, 60))
    assert await spent(counters, old) == (37, 0)


async def test_a_limit_that_came_or_went_in_between_is_left_alone(counters: Counters) -> None:
    limited = Limits(tokens_per_minute=100)
    for before, after in ((Limits(), limited), (limited, Limits())):
        taken = await counters.take(KEY, before, 40)
        counters.give_back(await counters.take(KEY, after, 0))
        counters.settle(taken, 30, 0)
        taken = await counters.take(KEY, before, 40)
        counters.give_back(await counters.take(KEY, after, 0))
        counters.give_back(taken)
    assert (await counters.standing(KEY, limited)).running == 0


async def test_asking_with_other_limits_changes_nothing(counters: Counters) -> None:
    wide, narrow = Limits(requests_per_minute=10), Limits(requests_per_minute=2)
    for _ in range(5):
        await counters.take(KEY, wide)
    assert await requests(counters, narrow) == 0
    assert await requests(counters, wide) == 5


async def test_a_new_budget_counts_what_was_spent_before_it(counters: Counters) -> None:
    counters.settle(await counters.take(KEY, Limits(), 0, 0), 10, 70)
    limits = Limits(budget_microusd=100, budget_period="week")
    counters.give_back(await counters.take(KEY, limits, 0, 30))
    with pytest.raises(BudgetExceeded):
        await counters.take(KEY, limits, 0, 31)


async def test_a_debt_takes_as_long_to_drain_under_a_lower_limit(counters: Counters) -> None:
    counters.settle(await counters.take(KEY, Limits(tokens_per_minute=100), 10), 250, 0)
    with pytest.raises(RateLimited) as refusal:
        await counters.take(KEY, Limits(tokens_per_minute=50), 10)
    assert refusal.value.retry_after_s == pytest.approx((125 + 10 - 50) / 50 * 60)


# Periods


async def test_a_budget_begins_again_with_its_period_and_only_then(
    counters: Counters, clocks: Clocks
) -> None:
    day = Limits(budget_microusd=10, budget_period="day")
    week = Limits(budget_microusd=10, budget_period="week")
    month = Limits(budget_microusd=10, budget_period="month")
    counters.settle(await counters.take(KEY, day, 0, 10), 0, 10)
    clocks.pass_s(12 * 3600 - 0.25)  # Sunday, a moment before midnight
    with pytest.raises(BudgetExceeded) as refusal:
        await counters.take(KEY, day, 0, 1)
    assert refusal.value.retry_after_s == 0.25
    clocks.pass_s(0.25)
    for limits in (day, week):
        counters.give_back(await counters.take(KEY, limits, 0, 10))
    with pytest.raises(BudgetExceeded):
        await counters.take(KEY, month, 0, 1)


async def test_a_request_over_midnight_is_reserved_today_and_spent_tomorrow(
    counters: Counters, clocks: Clocks
) -> None:
    limits = Limits(budget_microusd=10, budget_period="day")
    clocks.set_wall(NOON + DAY_S / 2 - 5)
    taken = await counters.take(KEY, limits, 0, 8)
    clocks.pass_s(10)
    assert await spent(counters, limits) == (0, 8)
    counters.settle(taken, 0, 6)
    assert await spent(counters, limits) == (6, 0)


# Headers


async def test_the_request_limit_that_ends_first_is_the_one_in_the_headers(
    counters: Counters,
) -> None:
    limits = GuestLimits(requests_per_minute=10, requests_per_day=10)
    assert (await counters.standing(KEY, limits)).headers()["x-ratelimit-reset-requests"] == "0s"
    for _ in range(2):
        await counters.take(KEY, limits)
    headers = (await counters.standing(KEY, limits)).headers()
    assert headers["x-ratelimit-remaining-requests"] == "8"
    assert headers["x-ratelimit-reset-requests"] == "12s"
    tight = GuestLimits(requests_per_minute=10, requests_per_day=5)
    await counters.take("guest:t", tight)
    headers = (await counters.standing("guest:t", tight)).headers()
    assert headers["x-ratelimit-limit-requests"] == "5"
    assert headers["x-ratelimit-reset-requests"] == "4h48m0s"
