"""Redis away in every way it can be: what is admitted meanwhile, and that it is counted later."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from support.patience import be_patient, lose_patience, patient_stores
from support.servers.counter_nodes import node
from support.servers.partition import Partition
from support.servers.redis_server import RedisServer
from support.waiting import PATIENCE_S, eventually, soon

from server.accounting.counters import Counters, GuestLimits, Shared, Taken
from server.accounting.redis_counters.redis_counters import BEAT_S, RedisCounters
from server.store.key import Limits
from server.store.patience import StorePatience
from workers.errors import GatewayError, LimitsUnavailable, RateLimited

KEY = "key_a"
A_DAY = GuestLimits(requests_per_day=10)
"""Ten requests which do not come back while a test runs."""


class Place(NamedTuple):
    """A server, the wire to it, and two nodes behind that wire.

    The nodes find a server away that is slow only while a fault begins that makes it silent.
    """

    server: RedisServer
    wire: Partition
    nodes: tuple[RedisCounters, RedisCounters]
    patience: StorePatience


@contextlib.asynccontextmanager
async def placed(path: Path, when_down: str = "share", kind: str = "redis") -> AsyncIterator[Place]:
    """Return two nodes that know of each other."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(RedisServer(path, kind, keeps=True))
        wire = await stack.enter_async_context(Partition(server.port))
        options = {
            "when_down": when_down,
            "beat_s": 0.1,
            "patience": (patience := patient_stores()),
        }
        nodes = [
            await stack.enter_async_context(node(wire.url, name, **options))  # type: ignore[arg-type]
            for name in "ab"
        ]
        await eventually(lambda: all(len(each.nodes) == 2 for each in nodes))
        for each in nodes:
            each._beat_s = BEAT_S  # else a node that a busy machine holds up for 0.3 s is gone
        stack.callback(server.go_on)
        stack.callback(wire.heal)
        yield Place(server, wire, (nodes[0], nodes[1]), patience)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with placed(tmp_path) as place:
        yield place


async def _said(place: Place, *words: str) -> None:
    assert await place.server.ask(*words) == b"OK"


async def _nothing(place: Place) -> None:
    del place


async def _kill(place: Place) -> None:
    await place.server.kill()


async def _hang(place: Place) -> None:
    lose_patience(place.patience)
    place.server.hang()


async def _drop(place: Place) -> None:
    lose_patience(place.patience)
    place.wire.drop()


async def _mute(place: Place) -> None:
    lose_patience(place.patience)
    place.wire.swallow_replies = True


async def _start(place: Place) -> None:
    await place.server.start()


async def _go_on(place: Place) -> None:
    be_patient(place.patience)
    place.server.go_on()


async def _heal(place: Place) -> None:
    be_patient(place.patience)
    place.wire.heal()


async def _fill(place: Place) -> None:
    await _said(place, "CONFIG", "SET", "maxmemory", "1")


async def _free(place: Place) -> None:
    await _said(place, "CONFIG", "SET", "maxmemory", "0")


async def _demote(place: Place) -> None:
    await _said(place, "REPLICAOF", "127.0.0.1", "1")


async def _promote(place: Place) -> None:
    await _said(place, "REPLICAOF", "NO", "ONE")


async def _pause(place: Place) -> None:
    lose_patience(place.patience)
    await _said(place, "CLIENT", "PAUSE", "3600000", "WRITE")


async def _unpause(place: Place) -> None:
    be_patient(place.patience)
    await _said(place, "CLIENT", "UNPAUSE")


Act = Callable[[Place], Awaitable[None]]
FAULTS: dict[str, tuple[Act, Act]] = {
    "killed, later started with its data": (_kill, _start),
    "hung": (_hang, _go_on),
    "cut off by the network": (_drop, _heal),
    "heard, and its replies are lost": (_mute, _heal),
    "out of memory": (_fill, _free),
    "a replica that may not write": (_demote, _promote),
    "paused for writes": (_pause, _unpause),
}


async def away(place: Place) -> None:
    """Wait until both nodes know that Redis is away."""
    for each in place.nodes:
        await soon(_ignored(each.take("key_probe", Limits())))
    await eventually(lambda: all(each.trouble for each in place.nodes))


async def back(*nodes: RedisCounters) -> None:
    """Wait until Redis is back and everything that was kept is counted."""
    await eventually(lambda: all(each.trouble is None for each in nodes))
    for each in nodes:
        await each.standing(KEY, Limits())


async def _ignored(take: Awaitable[Taken]) -> None:
    with contextlib.suppress(GatewayError):
        await take


async def parallel(counters: Counters, count: int, limits: Limits, tokens: int = 0) -> list[Taken]:
    """Run takes in parallel; each must be answered by a take or a refusal."""
    takes = (counters.take(KEY, limits, tokens) for _ in range(count))
    ends = await soon(asyncio.gather(*takes, return_exceptions=True))
    assert all(isinstance(end, Taken | RateLimited) for end in ends), ends
    return [end for end in ends if isinstance(end, Taken)]


async def used_of_ten(counters: Counters) -> int:
    """Return how many of a day's ten requests are counted."""
    day = (await counters.standing(KEY, A_DAY)).requests_day
    assert day is not None
    return 10 - day.remaining


# Sharing


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_node_admits_its_share_and_all_of_it_is_counted_later(
    place: Place, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    breaks, heals = FAULTS[fault]
    first, second = place.nodes
    limits = Limits(requests_per_minute=40, tokens_per_minute=4_000)
    await breaks(place)
    # The first callers meet the fault, the others know of it.
    both = [await parallel(each, 100, limits, 10) for each in place.nodes]
    assert [len(taken) for taken in both] == [20, 20]
    assert first.trouble is not None and second.trouble is not None
    for each, taken in zip(place.nodes, both, strict=True):
        for one in taken[:15]:
            each.settle(one, 30, 0)
        for one in taken[15:]:
            each.give_back(one)
    await heals(place)
    await back(first, second)
    standing = await first.standing(KEY, limits)
    assert standing.running == 0
    assert standing.tokens is not None and standing.tokens.remaining >= 4_000 - 30 * 30
    assert standing.tokens.reset_s <= 30 * 30 / 4_000 * 60 + 0.001
    changes = [record for record in caplog.records if record.name == "roxy.limits"]
    for level, word in ((logging.ERROR, "is away"), (logging.WARNING, "is back")):
        found = [record for record in changes if word in record.getMessage()]
        assert [record.levelno for record in found] == [level, level], changes


@pytest.mark.parametrize("fault", FAULTS)
async def test_requests_of_that_time_are_charged_once_and_lost_takes_are_given_back(
    place: Place, fault: str
) -> None:
    breaks, heals = FAULTS[fault]
    counters, other = place.nodes
    before = await counters.take(KEY, A_DAY)
    await breaks(place)
    for _ in range(3):  # the first of them may be carried out, and its reply is lost
        counters.settle(await soon(counters.take(KEY, A_DAY)), 0, 0)
    counters.give_back(await counters.take(KEY, A_DAY))
    counters.settle(before, 0, 0)
    await heals(place)
    await back(counters, other)
    assert await used_of_ten(other) == 4
    assert (await other.standing(KEY, A_DAY)).running == 0


@pytest.mark.parametrize("fault", FAULTS)
async def test_money_that_was_spent_meanwhile_is_counted_once(place: Place, fault: str) -> None:
    breaks, heals = FAULTS[fault]
    counters, other = place.nodes
    limits = Limits(budget_microusd=1_000, concurrent_requests=10)
    taken = [await counters.take(KEY, limits, 0, 100) for _ in range(4)]
    counters.settle(taken[0], 1, 10)
    await breaks(place)
    counters.settle(taken[1], 1, 20)
    await soon(_ignored(counters.take(KEY, limits, 0, 100)))
    counters.settle(taken[2], 1, 30)
    counters.settle(taken[2], 1, 30)
    counters.give_back(taken[3])
    await heals(place)
    await back(counters, other)
    standing = await other.standing(KEY, limits)
    assert standing.budget is not None
    assert (standing.budget.spent_microusd, standing.budget.reserved_microusd) == (60, 0)
    assert standing.running == 0


async def test_what_runs_from_before_counts_for_the_share_of_concurrency(place: Place) -> None:
    counters, other = place.nodes
    limits = Limits(concurrent_requests=6)
    held = [await counters.take(KEY, limits) for _ in range(2)]
    await place.server.kill()
    meanwhile = await parallel(counters, 20, limits)
    assert len(meanwhile) == 1
    counters.settle(held[0], 0, 0)
    meanwhile += await parallel(counters, 20, limits)
    assert len(meanwhile) == 2
    await place.server.start()
    await back(counters, other)
    assert (await other.standing(KEY, limits)).running == 3
    assert len(await parallel(other, 20, limits)) == 3
    for one in (held[1], *meanwhile):
        counters.settle(one, 0, 0)
    await back(counters)
    assert (await other.standing(KEY, limits)).running == 3


async def test_a_share_that_was_used_before_is_not_used_again(place: Place) -> None:
    counters, _ = place.nodes
    limits = GuestLimits(requests_per_minute=None, tokens_per_minute=1_000_000)
    counters.settle(await counters.take(KEY, limits, 1_000_000), 1_000_000, 0)
    await place.server.kill()
    await away(place)
    with pytest.raises(RateLimited, match="tokens"):
        await counters.take(KEY, limits, 200_000)


async def test_a_request_too_large_for_any_share_waits_for_redis(place: Place) -> None:
    counters, _ = place.nodes
    limits = Limits(tokens_per_minute=1_000)
    await place.server.kill()
    await away(place)
    with pytest.raises(LimitsUnavailable):
        await counters.take(KEY, limits, 700)
    with pytest.raises(RateLimited, match="can never fit"):
        await counters.take(KEY, limits, 1_001)
    await counters.take(KEY, limits, 500)


# Modes

GUEST = GuestLimits(requests_per_minute=10)
ALL_GUESTS = Shared("guests", GuestLimits(requests_per_minute=60))
ASKED = {
    "no limits": (KEY, Limits(), 0, 0, None),
    "requests": (KEY, Limits(requests_per_minute=10), 0, 0, None),
    "tokens": (KEY, Limits(tokens_per_minute=100), 10, 0, None),
    "concurrency": (KEY, Limits(concurrent_requests=10), 0, 0, None),
    "a budget and a free model": (KEY, Limits(budget_microusd=100), 0, 0, None),
    "a budget": (KEY, Limits(budget_microusd=100), 0, 1, None),
    "a guest": ("guest:192.0.2.1", GUEST, 0, 0, ALL_GUESTS),
}
REFUSED = {
    "share": {"a budget", "a guest"},
    "refuse": set(ASKED) - {"no limits"},
    "allow": set(),
}


@pytest.mark.parametrize("when_down", REFUSED)
async def test_the_setting_decides_who_is_admitted_meanwhile(
    tmp_path: Path, when_down: str
) -> None:
    async with placed(tmp_path, when_down) as place:
        await place.server.kill()
        await away(place)
        refused = {}
        for what, (scope, limits, tokens, cost, shared) in ASKED.items():
            try:
                taken = await place.nodes[0].take(scope, limits, tokens, cost, shared)
                place.nodes[0].settle(taken, tokens, cost)
            except LimitsUnavailable as error:
                refused[what] = (error.status, error.code, error.headers()["Retry-After"])
        assert set(refused) == REFUSED[when_down]
        assert set(refused.values()) <= {(503, "limits_unavailable", "2")}
        await place.server.start()
        await back(*place.nodes)
        standing = await place.nodes[1].standing(KEY, Limits(budget_microusd=100))
        assert standing.budget is not None
        assert standing.budget.spent_microusd == (1 if when_down == "allow" else 0)


# Single requests


async def test_a_cancelled_request_gives_its_take_back_and_disturbs_no_other(place: Place) -> None:
    counters, other = place.nodes
    takes = [asyncio.create_task(counters.take(KEY, A_DAY)) for _ in range(8)]
    await asyncio.sleep(0)  # all of them have been sent, and no reply was read
    for take in takes[::2]:
        take.cancel()
    ends = await asyncio.gather(*takes, return_exceptions=True)
    assert [isinstance(end, asyncio.CancelledError) for end in ends] == [True, False] * 4
    await back(counters)
    assert await used_of_ten(other) == 4
    assert (await other.standing(KEY, A_DAY)).running == 4


async def test_a_take_that_arrives_after_it_was_given_back_takes_nothing(place: Place) -> None:
    counters, other = place.nodes
    await _hang(place)
    waiting = asyncio.create_task(counters.take(KEY, A_DAY))
    taken = await soon(_of(waiting))
    assert isinstance(taken, LimitsUnavailable | Taken)
    await _go_on(place)
    await back(counters, other)
    assert await used_of_ten(other) == (1 if isinstance(taken, Taken) else 0)


async def _of(task: asyncio.Task[Taken]) -> Taken | GatewayError:
    try:
        return await task
    except GatewayError as error:
        return error


async def test_a_take_that_the_network_delays_until_after_its_give_back_takes_nothing(
    place: Place,
) -> None:
    counters, other = place.nodes
    lose_patience(place.patience)
    place.wire.delay()
    taken = await soon(_of(asyncio.create_task(counters.take(KEY, A_DAY))))
    assert isinstance(taken, Taken)  # by the local share
    be_patient(place.patience)
    await back(counters)  # over a new connection, on which the give-back has arrived
    counters.give_back(taken)
    await back(counters, other)
    place.wire.deliver()
    for _ in range(20):
        assert await used_of_ten(other) == 0
        assert (await other.standing(KEY, A_DAY)).running == 0


async def test_an_end_that_is_sent_again_is_counted_once_in_data_that_did_not_know_it(
    place: Place,
) -> None:
    counters, other = place.nodes
    limits = Limits(budget_microusd=1_000)
    taken = await counters.take(KEY, limits, 0, 100)
    await place.server.ask("FLUSHALL")
    await _mute(place)
    counters.settle(taken, 1, 70)
    await eventually(lambda: counters.trouble)
    await _heal(place)
    await back(counters, other)
    standing = await other.standing(KEY, limits)
    assert standing.budget is not None
    assert (standing.budget.spent_microusd, standing.budget.reserved_microusd) == (70, 0)


async def test_a_second_time_away_begins_with_what_redis_said_in_between(place: Place) -> None:
    counters, other = place.nodes
    limits = Limits(tokens_per_minute=40_000_000)
    began = time.monotonic()
    for left in (20, 9):
        await place.server.kill()
        await away(place)
        taken = await parallel(counters, 30, limits, 1_000_000)
        # The second time 9.5 are left; one comes back to the share of 20 a minute every 3 s.
        assert left <= len(taken) <= left + 0.5 + (time.monotonic() - began) / 3
        for one in taken:
            counters.settle(one, 1_000_000, 0)
        await place.server.start()
        await back(counters, other)
        counters.settle(await counters.take(KEY, limits, 1_000_000), 1_000_000, 0)


@pytest.mark.parametrize("size_bytes", [1, 3, 17, 60])
async def test_a_connection_that_breaks_within_a_reply_loses_no_count(
    place: Place, size_bytes: int
) -> None:
    counters, other = place.nodes
    limits = Limits(requests_per_minute=1_000)
    place.wire.cut_replies_after(size_bytes)
    taken = await parallel(counters, 20, limits)
    assert len(taken) == 20
    for one in taken:
        counters.settle(one, 0, 0)
    place.wire.heal()
    await back(counters, other)
    standing = await other.standing(KEY, limits)
    assert standing.running == 0
    assert standing.requests is not None and standing.requests.remaining >= 980


async def test_what_is_not_acknowledged_is_sent_before_the_end(place: Place) -> None:
    counters, other = place.nodes
    limits = Limits(budget_microusd=1_000)
    counters.settle(await counters.take(KEY, limits, 0, 100), 1, 70)
    await counters.aclose()
    standing = await other.standing(KEY, limits)
    assert standing.budget is not None
    assert standing.budget.spent_microusd == 70


async def test_the_end_does_not_wait_for_a_server_that_is_away(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    counters, _ = place.nodes
    counters.settle(await counters.take(KEY, A_DAY), 1, 0)
    taken = await counters.take(KEY, A_DAY)
    await place.server.kill()
    counters.settle(taken, 1, 0)
    async with asyncio.timeout(PATIENCE_S):
        await counters.aclose()
    assert "could not be sent to Redis" in caplog.text


async def test_the_standing_is_what_was_known_last(place: Place) -> None:
    counters, _ = place.nodes
    assert counters.known_standing(KEY, A_DAY) is None
    for _ in range(3):
        counters.settle(await counters.take(KEY, A_DAY), 1, 0)
    known = counters.known_standing(KEY, A_DAY)
    assert known is not None and known.requests_day is not None
    assert known.requests_day.remaining == 7
    await place.server.kill()
    await away(place)
    standing = await counters.standing(KEY, A_DAY)
    assert standing.requests_day is not None and standing.requests_day.remaining == 7
    fresh = await counters.standing("key_other", A_DAY)
    assert fresh.requests_day is not None and fresh.requests_day.remaining == 10
