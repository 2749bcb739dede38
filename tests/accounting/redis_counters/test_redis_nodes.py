"""Several nodes on one Redis or Valkey: exact limits, expiring leases, and data that are lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import pytest
from support.fakes.clocks import NOON, Clocks
from support.network.ports import free_port
from support.patience import be_patient, lose_patience, patient_stores
from support.servers.counter_nodes import node
from support.servers.partition import Partition
from support.servers.redis_server import KINDS, RedisServer
from support.waiting import PATIENCE_S, eventually, soon

from server.accounting.counters import Counters, GuestLimits, Shared, Standing, Taken
from server.accounting.redis_counters.redis_counters import RedisCounters
from server.store.key import BudgetPeriod, Limits
from workers.errors import (
    BudgetExceeded,
    GatewayError,
    LimitsUnavailable,
    RateLimited,
    StoreUnavailable,
)
from workers.units import DAY_S

KEY = "key_a"
IN_A_CLUSTER = ("--cluster-enabled", "yes", "--cluster-port")
LEASE_S = 30

Join = Callable[..., Awaitable[RedisCounters]]


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture(params=KINDS)
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with RedisServer(tmp_path, request.param) as server:
        yield server


@pytest.fixture
async def join(server: RedisServer) -> AsyncIterator[Join]:
    """Return a function that adds a node."""
    async with contextlib.AsyncExitStack() as stack:

        async def join(**options: object) -> RedisCounters:
            return await stack.enter_async_context(node(server.url, **options))  # type: ignore[arg-type]

        yield join


async def admitted(
    nodes: list[RedisCounters], count: int, limits: Limits, tokens: int = 0, cost: int = 0
) -> int:
    """Run takes in parallel, spread over the nodes, and return how many were admitted."""
    takes = [nodes[n % len(nodes)].take(KEY, limits, tokens, cost) for n in range(count)]
    ends = await asyncio.gather(*takes, return_exceptions=True)
    assert all(isinstance(end, Taken | GatewayError) for end in ends), ends
    return sum(isinstance(end, Taken) for end in ends)


async def settled(counters: Counters, *others: Counters) -> Standing:
    """Return the standing once every settlement that was sent before is counted.

    Commands of one connection are carried out in order, so asking each node is enough.
    """
    for each in others:
        await each.standing(KEY, Limits())
    return await counters.standing(KEY, EVERY)


EVERY = GuestLimits(
    requests_per_minute=100,
    requests_per_day=1_000,
    tokens_per_minute=10_000,
    concurrent_requests=50,
    budget_microusd=1_000_000,
)


# Exactness


@pytest.mark.parametrize(
    ("limits", "use", "most"),
    [
        (Limits(requests_per_minute=37), {}, 37),
        (GuestLimits(requests_per_day=41), {}, 41),
        (Limits(tokens_per_minute=1_000), {"tokens": 30}, 33),
        (Limits(concurrent_requests=5), {}, 5),
        (Limits(budget_microusd=1_000), {"cost": 30}, 33),
        (EVERY, {"tokens": 99, "cost": 40_000}, 25),
    ],
)
async def test_four_nodes_admit_exactly_the_limit_together(
    join: Join, limits: Limits, use: dict[str, int], most: int
) -> None:
    # On the server's own clock: a minute's limit must not drain meanwhile, so it is long.
    clocks = Clocks()
    nodes = [await join(name=name, clocks=clocks) for name in "abcd"]
    assert await admitted(nodes, 200, limits, **use) == most
    assert await admitted(nodes, 200, limits, **use) == 0


async def test_guests_of_all_nodes_count_together_in_one_step(join: Join) -> None:
    clocks = Clocks()
    nodes = [await join(name=name, clocks=clocks) for name in "abcd"]
    guest = GuestLimits(requests_per_minute=7, concurrent_requests=100)
    together = Shared("guests", GuestLimits(requests_per_minute=20))
    takes = [nodes[n % 4].take(f"guest:10.0.0.{n % 5}", guest, shared=together) for n in range(200)]
    ends = await asyncio.gather(*takes, return_exceptions=True)
    taken = [end for end in ends if isinstance(end, Taken)]
    assert len(taken) == 20
    assert max(sum(one.scope.endswith(f".{n}") for one in taken) for n in range(5)) <= 7


async def test_a_cluster_of_one_shard_keeps_each_scope_in_one_slot(tmp_path: Path) -> None:
    async with RedisServer(tmp_path, "redis", *IN_A_CLUSTER, str(free_port())) as server:
        assert await server.ask("CLUSTER", "ADDSLOTSRANGE", "0", "16383") == b"OK"
        while b"cluster_state:ok" not in await server.ask("CLUSTER", "INFO"):
            await asyncio.sleep(0.01)
        async with node(server.url, "a") as counters:
            together = Shared("guests", GuestLimits(requests_per_day=2))
            guest = GuestLimits(requests_per_day=5)
            for n in range(2):
                taken = await counters.take(f"guest:10.0.0.{n}", guest, shared=together)
                counters.settle(taken, 0, 0)
            with pytest.raises(RateLimited, match="all guests together"):
                await counters.take("guest:10.0.0.9", guest, shared=together)
            await counters.take(KEY, EVERY, 5, 5)


# Clocks and leases


async def test_nodes_whose_clocks_are_an_hour_apart_count_alike(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [await join(name=name) for name in "ab"]
    limits = GuestLimits(requests_per_day=2, budget_microusd=10, budget_period="day")
    standings = []
    for counters, ahead_s in ((nodes[0], 0.0), (nodes[1], 3_600.0)):
        clock = time.time
        monkeypatch.setattr(time, "time", lambda now=clock, by=ahead_s: now() + by)
        counters.settle(await counters.take(KEY, limits, 0, 5), 0, 5)
        standings.append(await counters.standing(KEY, limits))
        monkeypatch.undo()
    for counters in nodes:
        with pytest.raises(BudgetExceeded, match=r"\$0\.00001 spent"):
            await counters.take(KEY, limits, 0, 1)
        with pytest.raises(RateLimited, match="2 per day"):
            await counters.take(KEY, limits)
    resets = [each.budget.reset_s for each in standings if each.budget is not None]
    assert resets == [pytest.approx(resets[0], abs=PATIENCE_S)] * 2


@pytest.mark.parametrize("back_s", [1, 3600, 40 * DAY_S])
async def test_a_clock_of_the_server_set_back_neither_refills_nor_locks(
    join: Join, clocks: Clocks, back_s: float
) -> None:
    counters = await join(clocks=clocks)
    limits = Limits(requests_per_minute=2)
    for _ in range(2):
        counters.settle(await counters.take(KEY, limits), 0, 0)
    clocks.set_wall(NOON - back_s)
    with pytest.raises(RateLimited) as refusal:
        await counters.take(KEY, limits)
    assert refusal.value.retry_after_s == pytest.approx(30)
    clocks.pass_s(30)
    await counters.take(KEY, limits)


async def test_a_clock_set_back_holds_no_place_of_a_dead_node_for_longer(
    join: Join, clocks: Clocks
) -> None:
    dead, other = await join(name="dead", clocks=clocks), await join(name="b", clocks=clocks)
    limits = Limits(concurrent_requests=1)
    await dead.take(KEY, limits)
    clocks.set_wall(NOON - 3_600)
    with pytest.raises(RateLimited):
        await other.take(KEY, limits)
    clocks.pass_s(LEASE_S + 1)
    await other.take(KEY, limits)


async def test_a_budget_continues_when_the_clock_goes_back_over_midnight(
    join: Join, clocks: Clocks
) -> None:
    counters = await join(clocks=clocks)
    limits = Limits(budget_microusd=10, budget_period="day")
    clocks.set_wall(NOON + DAY_S / 2 + 5)
    counters.settle(await counters.take(KEY, limits, 0, 10), 0, 10)
    clocks.set_wall(NOON + DAY_S / 2 - 5)
    with pytest.raises(BudgetExceeded):
        await counters.take(KEY, limits, 0, 1)
    clocks.set_wall(NOON + 3 * DAY_S / 2 + 5)
    await counters.take(KEY, limits, 0, 10)


async def test_a_clock_that_was_far_ahead_locks_no_budget(join: Join, clocks: Clocks) -> None:
    async def spent(scope: str) -> Mapping[BudgetPeriod, int]:
        return {"day": 4} if scope == KEY else {}

    counters = await join(clocks=clocks, spent=spent)
    limits = Limits(budget_microusd=10, budget_period="day")
    clocks.set_wall(NOON + 4_000 * DAY_S)
    counters.settle(await counters.take(KEY, limits, 0, 6), 0, 6)
    clocks.set_wall(NOON)
    taken = await counters.take(KEY, limits, 0, 1)
    assert taken.standing.budget is not None
    assert taken.standing.budget.spent_microusd == 4


async def test_places_and_reserves_of_a_dead_node_come_back_after_a_lease(
    join: Join, clocks: Clocks
) -> None:
    dead, other = await join(name="dead", clocks=clocks), await join(name="b", clocks=clocks)
    limits = GuestLimits(
        requests_per_day=10, tokens_per_minute=100, concurrent_requests=2, budget_microusd=100
    )
    for _ in range(2):
        await dead.take(KEY, limits, 50, 50)
    clocks.pass_s(LEASE_S - 1)
    with pytest.raises(RateLimited, match=r"concurrent|tokens"):
        await other.take(KEY, limits, 90, 90)
    clocks.pass_s(2)
    await other.take(KEY, limits, 100, 100)
    standing = await other.standing(KEY, limits)
    assert standing.running == 1
    assert standing.requests_day is not None
    assert standing.requests_day.remaining == 10 - 3


@pytest.mark.parametrize(
    ("away_s", "spent_today"), [(5, 30), (LEASE_S + 1, 30), (DAY_S / 2 + 5, 0)]
)
async def test_what_a_dead_node_has_used_is_settled_once_by_its_next_start(
    join: Join, clocks: Clocks, away_s: float, spent_today: int
) -> None:
    dead, other = await join(name="dead", clocks=clocks), await join(name="b", clocks=clocks)
    limits = Limits(budget_microusd=1_000, budget_period="day", tokens_per_minute=1_000)
    ended, running = await dead.take(KEY, limits, 50, 50), await dead.take(KEY, limits, 50, 50)
    dead.settle(ended, 20, 20)
    await settled(other, dead)
    clocks.pass_s(away_s)
    for _ in range(2):
        other.settle_left(running, 10, 10, away_s)
        other.settle_left(ended, 20, 20, away_s)
    standing = await other.standing(KEY, limits)
    assert standing.budget is not None
    assert (standing.budget.spent_microusd, standing.budget.reserved_microusd) == (spent_today, 0)
    ever = Limits(budget_microusd=1_000, budget_period="total", tokens_per_minute=1_000)
    standing = await other.standing(KEY, ever)
    assert standing.running == 0
    assert standing.budget is not None
    assert standing.budget.spent_microusd == 30


async def test_a_node_that_lives_keeps_its_leases(
    join: Join, server: RedisServer, clocks: Clocks
) -> None:
    counters = await join(clocks=clocks, beat_s=0.01)
    limits = Limits(concurrent_requests=1)
    taken = await counters.take(KEY, limits)
    for _ in range(4):
        clocks.pass_s(LEASE_S - 1)
        await renewed(server, clocks.wall() + LEASE_S)
        with pytest.raises(RateLimited, match="concurrent"):
            await counters.take(KEY, limits)
    counters.settle(taken, 0, 0)
    await counters.take(KEY, limits)


async def renewed(server: RedisServer, until: float) -> None:
    """Wait until the only lease of the key lasts until then."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            _, expires = await server.ask("ZRANGE", "roxy:{key_a}:running", "0", "-1", "WITHSCORES")
            if float(expires) >= until * 1_000_000:
                return


async def test_each_lease_expires_at_its_own_time(join: Join, clocks: Clocks) -> None:
    dead, other = await join(name="dead", clocks=clocks), await join(name="b", clocks=clocks)
    for _ in range(3):
        await dead.take(KEY, Limits())
        clocks.pass_s(5)
    left = []
    for _ in range(4):
        left.append((await other.standing(KEY, Limits())).running)
        clocks.pass_s(5 if len(left) > 1 else LEASE_S - 14)
    assert left == [3, 2, 1, 0]


async def test_more_scopes_than_are_remembered_lose_no_lease(join: Join) -> None:
    counters, other = await join(max_scopes=2), await join(name="b")
    scopes = [f"key_{n}" for n in range(9)]
    taken = await asyncio.gather(*(counters.take(scope, EVERY, 5, 5) for scope in scopes))
    for one in taken:
        counters.settle(one, 5, 5)
    await counters.standing(KEY, EVERY)
    for scope in scopes:
        standing = await other.standing(scope, EVERY)
        assert standing.budget is not None
        assert (standing.running, standing.budget.spent_microusd) == (0, 5)


async def test_nothing_stays_in_redis_for_ever(join: Join, server: RedisServer) -> None:
    counters = await join()
    guest = GuestLimits(requests_per_minute=5, requests_per_day=20)
    together = Shared("guests", guest)
    for scope, limits, shared in ((KEY, EVERY, None), ("guest:192.0.2.1", guest, together)):
        counters.settle(await counters.take(scope, limits, 5, 5, shared), 5, 5)
        await counters.take(scope, limits, 5, 5, shared)
    await counters.standing(KEY, EVERY)
    keys = await server.ask("KEYS", "*")
    assert len(keys) == 7
    lasts_ms = [await server.ask("PTTL", key.decode()) for key in keys]
    assert all(0 < each <= 41 * DAY_S * 1_000 for each in lasts_ms), (keys, lasts_ms)


async def test_usage_that_comes_after_its_lease_expired_is_charged_once(
    join: Join, clocks: Clocks
) -> None:
    slow, other = await join(name="slow", clocks=clocks), await join(name="b", clocks=clocks)
    taken = await slow.take(KEY, EVERY, 500, 300)
    clocks.pass_s(LEASE_S + 1)
    before = await other.standing(KEY, EVERY)
    assert (before.running, before.tokens.remaining if before.tokens else 0) == (0, 10_000)
    for _ in range(2):
        slow.settle(taken, 700, 250)
    after = await settled(other, slow)
    assert after.budget is not None and after.tokens is not None
    assert (after.budget.spent_microusd, after.budget.reserved_microusd) == (250, 0)
    assert after.tokens.remaining == 9_300
    assert after.running == 0


# Seeding


async def test_a_budget_begins_with_what_the_database_knows(join: Join) -> None:
    asked: list[str] = []

    async def spent(scope: str) -> Mapping[BudgetPeriod, int]:
        asked.append(scope)
        return {"day": 60, "week": 70, "month": 80, "total": 90}

    nodes = [await join(name=name, spent=spent) for name in "ab"]
    for period, left in (("day", 40), ("week", 30), ("month", 20), ("total", 10)):
        limits = Limits(budget_microusd=100, budget_period=period)  # type: ignore[arg-type]
        with pytest.raises(BudgetExceeded):
            await nodes[0].take(KEY, limits, 0, left + 1)
        nodes[1].give_back(await nodes[1].take(KEY, limits, 0, left))
    assert asked == [KEY]


async def test_many_requests_of_a_new_budget_ask_the_database_once(join: Join) -> None:
    asked: list[str] = []

    async def spent(scope: str) -> Mapping[BudgetPeriod, int]:
        asked.append(scope)
        await asyncio.sleep(0)
        return {"month": 900}

    counters = await join(spent=spent)
    limits = Limits(budget_microusd=1_000)
    assert await admitted([counters], 200, limits, cost=30) == 3
    assert len(asked) == 1


async def test_a_budget_whose_sums_cannot_be_read_is_refused(join: Join) -> None:
    async def spent(scope: str) -> Mapping[BudgetPeriod, int]:
        raise LimitsUnavailable(f"no sums of {scope}")

    counters = await join(spent=spent)
    with pytest.raises(LimitsUnavailable) as refusal:
        await counters.take(KEY, Limits(budget_microusd=1_000), 0, 1)
    assert refusal.value.headers()["Retry-After"] == "1"
    await counters.take(KEY, Limits(requests_per_minute=1))


async def test_levels_of_limits_that_were_lifted_do_not_come_back_with_a_budget(
    join: Join, clocks: Clocks
) -> None:
    first, second = await join(name="a", clocks=clocks), await join(name="b", clocks=clocks)
    await first.take(KEY, Limits(tokens_per_minute=100), 40)
    await second.take(KEY, Limits())
    taken = await first.take(KEY, Limits(tokens_per_minute=100, budget_microusd=10), 5)
    assert taken.standing.tokens is not None
    assert taken.standing.tokens.remaining == 95


async def test_what_was_settled_before_the_sums_were_read_is_not_added_to_them(
    join: Join, server: RedisServer, clocks: Clocks
) -> None:
    sums: dict[BudgetPeriod, int] = {}

    async def spent(scope: str) -> Mapping[BudgetPeriod, int]:
        return sums if scope == KEY else {}

    limits = Limits(budget_microusd=1_000)
    patience = patient_stores()
    async with (
        Partition(server.port) as wire,
        node(wire.url, "a", clocks=clocks, patience=patience) as cut_off,
    ):
        other = await join(name="b", clocks=clocks, spent=spent)
        early, late = [await cut_off.take(KEY, limits, 0, 100) for _ in range(2)]
        wire.drop()
        cut_off.settle(early, 1, 30)
        await server.ask("FLUSHALL")
        clocks.pass_s(5)
        sums["month"] = 30  # its usage row was written meanwhile
        await other.take(KEY, limits, 0, 1)
        clocks.pass_s(5)
        lose_patience(patience)
        cut_off.settle(late, 1, 50)
        await eventually(lambda: cut_off.trouble)
        be_patient(patience)
        wire.heal()
        await eventually(lambda: cut_off.trouble is None)
        await cut_off.standing(KEY, limits)
        standing = await other.standing(KEY, limits)
        assert standing.budget is not None
        assert standing.budget.spent_microusd == 30 + 50


@pytest.mark.parametrize("loss", ["FLUSHALL", "restart"])
async def test_lost_data_give_nobody_a_new_budget_or_a_full_bucket(
    join: Join, server: RedisServer, clocks: Clocks, loss: str
) -> None:
    sums: dict[BudgetPeriod, int] = {}

    async def spent(scope: str) -> Mapping[BudgetPeriod, int]:
        return sums if scope == KEY else {}

    nodes = [await join(name=name, clocks=clocks, spent=spent) for name in "ab"]
    limits = Limits(
        requests_per_minute=10, tokens_per_minute=1_000, budget_microusd=100, concurrent_requests=6
    )
    held = [await nodes[n % 2].take(KEY, limits, 100, 10) for n in range(6)]
    nodes[0].settle(held[0], 100, 10)
    nodes[1].settle(held[1], 100, 10)
    sums.update(dict.fromkeys(("day", "week", "month", "total"), 20))
    await settled(nodes[0], nodes[1])
    if loss == "FLUSHALL":
        await server.ask("FLUSHALL")
    else:
        await server.kill()
        await server.start()
        await eventually(lambda: all(each.trouble is None for each in nodes))
    for each in nodes:
        with pytest.raises((BudgetExceeded, RateLimited)):
            await each.take(KEY, limits, 0, 61)
    standing = await nodes[1].standing(KEY, limits)
    assert standing.budget is not None
    assert (standing.budget.spent_microusd, standing.budget.reserved_microusd) == (20, 40)
    assert standing.running == 4
    assert standing.requests is not None and standing.requests.remaining == 4
    for n in range(2, 6):
        nodes[n % 2].settle(held[n], 100, 10)
    after = await settled(nodes[0], nodes[1])
    assert after.running == 0
    assert after.budget is not None
    assert after.budget.spent_microusd == 60


async def test_restarted_with_its_data_redis_knows_every_lease(tmp_path: Path) -> None:
    async with RedisServer(tmp_path, "redis", keeps=True) as server, node(server.url) as counters:
        taken = await counters.take(KEY, EVERY, 500, 300)
        await server.kill()
        await server.start()
        await eventually(lambda: counters.trouble is None)
        standing = await counters.standing(KEY, EVERY)
        assert standing.running == 1
        counters.settle(taken, 400, 200)
        after = await settled(counters)
        assert after.budget is not None
        assert (after.running, after.budget.spent_microusd) == (0, 200)


async def test_scripts_that_the_server_forgot_are_sent_again(
    join: Join, server: RedisServer
) -> None:
    counters, other = await join(), await join(name="b")
    await server.ask("SCRIPT", "FLUSH")
    assert await admitted([counters], 20, Limits(concurrent_requests=5)) == 5
    assert (await other.standing(KEY, Limits())).running == 5


# Nodes


async def test_nodes_know_each_other_and_one_that_leaves_is_gone(join: Join) -> None:
    first = await join(name="a", beat_s=0.05)
    assert first.nodes == ("a",)
    second = await join(name="b", beat_s=0.05)
    await eventually(lambda: first.nodes == ("a", "b") == second.nodes)
    await second.aclose()
    await eventually(lambda: first.nodes == ("a",))


@pytest.mark.parametrize("loses", [("FLUSHALL",), ("DEL", "roxy:{nodes}")])
async def test_nodes_that_redis_has_forgotten_still_have_their_share(
    join: Join, server: RedisServer, loses: tuple[str, ...]
) -> None:
    patience = patient_stores()
    nodes = [await join(name=name, patience=patience) for name in "ab"]
    limits = Limits(concurrent_requests=8)
    for forgets in (("PING",), loses):
        await server.ask(*forgets)
        # Both connect again, one after the other: the first is alone in a Redis that forgot.
        await server.ask("CLIENT", "KILL", "TYPE", "normal")
        await eventually(lambda: all(each.trouble is not None for each in nodes))
        await eventually(lambda: all(each.trouble is None for each in nodes))
    lose_patience(patience)
    server.hang()
    try:
        assert await admitted(nodes, 40, limits) == 8
    finally:
        server.go_on()


async def test_a_key_without_a_budget_needs_no_database_when_redis_has_lost_its_data(
    join: Join, server: RedisServer
) -> None:
    async def spent(_scope: str) -> Mapping[BudgetPeriod, int]:
        raise StoreUnavailable

    counters = await join(spent=spent)
    limits = Limits(requests_per_minute=10, concurrent_requests=10)
    assert await admitted([counters], 4, limits) == 4
    await server.ask("FLUSHALL")
    # What was taken before the loss is not forgotten, and no more than the limit is admitted.
    assert await admitted([counters], 40, limits) == 6
    with pytest.raises(LimitsUnavailable):
        await counters.take("key_b", Limits(budget_microusd=100), 0, 1)


async def test_a_database_that_hangs_holds_no_request_for_long(join: Join) -> None:
    never = asyncio.Event()
    asked: list[str] = []

    async def spent(scope: str) -> Mapping[BudgetPeriod, int]:
        asked.append(scope)
        await never.wait()
        return {"month": 5}

    counters = await join(spent=spent, patience=patient_stores(sums_s=0.2))
    limits = Limits(budget_microusd=10)
    standing = await soon(counters.standing(KEY, limits))
    assert standing.budget is not None and standing.budget.spent_microusd == 0
    with pytest.raises(LimitsUnavailable):
        await soon(counters.take(KEY, limits, 0, 1))
    assert asked == [KEY]
    never.set()
    async with asyncio.timeout(PATIENCE_S):
        while isinstance(await asked_again(counters, limits), LimitsUnavailable):
            await asyncio.sleep(0.005)
    assert isinstance(await asked_again(counters, limits), BudgetExceeded)


async def asked_again(counters: RedisCounters, limits: Limits) -> GatewayError | Taken:
    """Return how a request ends that the month's budget cannot pay."""
    try:
        return await counters.take(KEY, limits, 0, 6)
    except GatewayError as error:
        return error
