"""Any sequence of takes and their ends has the same result in Redis as in memory."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fakes.clocks import Clocks
from support.servers.counter_nodes import node
from support.servers.redis_server import RedisServer

from server.accounting.counters import GuestLimits, Shared, Standing, Taken
from server.accounting.limits import Meter
from server.accounting.memory_counters import MemoryCounters
from server.accounting.redis_counters.redis_counters import RedisCounters
from server.store.key import Limits
from workers.errors import GatewayError

LIMITS: tuple[Limits, ...] = (
    Limits(),
    Limits(requests_per_minute=1),
    Limits(requests_per_minute=7, tokens_per_minute=100),
    Limits(requests_per_minute=3, tokens_per_minute=37, concurrent_requests=2),
    Limits(tokens_per_minute=900, budget_microusd=100, budget_period="day"),
    Limits(budget_microusd=60, budget_period="week", concurrent_requests=3),
    Limits(budget_microusd=90, budget_period="month", requests_per_minute=6),
    Limits(budget_microusd=150, budget_period="total"),
    Limits(tokens_per_minute=123_456_789, requests_per_minute=123_457),
)
GUEST = GuestLimits(requests_per_minute=3, requests_per_day=11, concurrent_requests=2)
TOGETHER = Shared("guests", GuestLimits(requests_per_minute=4, requests_per_day=19))
LEASE_MS = 29_000
"""Leases that the nodes do not renew last longer than this."""


class Take(NamedTuple):
    """Ask for one request; `guest` chooses an address, or a key with `limits`."""

    on: int
    limits: int
    tokens: int
    cost: int
    guest: bool


class End(NamedTuple):
    """End one of the leases that were granted, also one that has ended."""

    which: int
    back: bool
    tokens: int
    cost: int


class Pass(NamedTuple):
    """Move the clocks."""

    milliseconds: int


STEPS = st.lists(
    st.one_of(
        st.builds(
            Take,
            st.integers(0, 1),
            st.integers(0, len(LIMITS) - 1),
            st.sampled_from((0, 1, 10, 37, 60, 101)),
            st.sampled_from((0, 1, 20, 55, 100)),
            st.sampled_from((False, False, True)),
        ),
        st.builds(
            End,
            st.integers(0, 30),
            st.booleans(),
            st.sampled_from((0, 5, 37, 500)),
            st.sampled_from((0, 1, 30, 70)),
        ),
        st.builds(Pass, st.sampled_from((1, 250, 999, 8_571, 12_000, 61_000, 4 * 3_600_000))),
    ),
    max_size=40,
)


class Both:
    """The same steps on counters in memory and on two nodes of one Redis."""

    def __init__(
        self, clocks: Clocks, memory: MemoryCounters, nodes: list[RedisCounters], name: str
    ) -> None:
        self._clocks = clocks
        self._memory = memory
        self._nodes = itertools.cycle(nodes)
        self._all_nodes = nodes
        self._name = name
        self._pairs: list[tuple[Taken, Taken, RedisCounters]] = []
        self._oldest_ms = 0

    async def apply(self, step: Take | End | Pass) -> None:
        """Do one step on both, and compare what it gives."""
        if isinstance(step, Take):
            await self._take(step)
        elif isinstance(step, End):
            if self._pairs:
                self._end(self._pairs[step.which % len(self._pairs)], step)
        else:
            if self._oldest_ms + step.milliseconds > LEASE_MS:
                for pair in self._pairs:
                    self._end(pair, End(0, back=False, tokens=3, cost=2))
                await self._arrive()
                self._oldest_ms = -step.milliseconds
            self._oldest_ms += step.milliseconds
            self._clocks.pass_s(step.milliseconds / 1000)

    async def _take(self, step: Take) -> None:
        scope = f"guest:{self._name}.{step.on}" if step.guest else f"key_{self._name}_{step.on}"
        limits: Limits = GUEST if step.guest else LIMITS[step.limits]
        shared = Shared(f"guest:all-{self._name}", TOGETHER.limits) if step.guest else None
        use = (0, 0) if step.guest else (step.tokens, step.cost)
        there = next(self._nodes)
        await self._arrive()
        one, other = await asyncio.gather(
            self._memory.take(scope, limits, *use, shared),
            there.take(scope, limits, *use, shared),
            return_exceptions=True,
        )
        if isinstance(one, Taken) and isinstance(other, Taken):
            assert alike(one.standing, other.standing)
            assert (one.tokens, one.cost_microusd) == (other.tokens, other.cost_microusd)
            self._pairs.append((one, other, there))
        else:
            assert isinstance(one, GatewayError) and isinstance(other, GatewayError), (one, other)
            assert type(one) is type(other)
            assert worded(one) == worded(other)
            assert one.headers().keys() == other.headers().keys()
            assert one.retry_after_s == pytest.approx(other.retry_after_s, abs=0.002)
        assert alike(
            await self._memory.standing(scope, limits), await there.standing(scope, limits)
        )

    def _end(self, pair: tuple[Taken, Taken, RedisCounters], step: End) -> None:
        one, other, there = pair
        if step.back:
            self._memory.give_back(one)
            there.give_back(other)
        else:
            self._memory.settle(one, step.tokens, step.cost)
            there.settle(other, step.tokens, step.cost)

    async def _arrive(self) -> None:
        """Wait until the reports of both nodes were carried out: each connection keeps order."""
        for each in self._all_nodes:
            await each.standing("key_none", Limits())


def worded(error: GatewayError) -> str:
    """Return the message without its duration, whose last digit is a rounding."""
    return re.sub(r"Try again in \S+", "Try again in ...", error.message)


def alike(one: Standing, other: Standing) -> bool:
    """Compare two standings but for rounding of times."""
    same = (one.concurrent_limit, one.running) == (other.concurrent_limit, other.running)
    for mine, theirs in (
        (one.requests, other.requests),
        (one.requests_day, other.requests_day),
        (one.tokens, other.tokens),
    ):
        same = same and near(mine, theirs)
    if one.budget is None or other.budget is None:
        return same and one.budget is other.budget
    spent = (one.budget.spent_microusd, one.budget.reserved_microusd)
    return (
        same
        and spent == (other.budget.spent_microusd, other.budget.reserved_microusd)
        and one.budget.reset_s == pytest.approx(other.budget.reset_s, abs=0.002)
    )


def near(one: Meter | None, other: Meter | None) -> bool:
    """Compare two meters but for rounding of times."""
    if one is None or other is None:
        return one is other
    return one[:2] == other[:2] and one.reset_s == pytest.approx(other.reset_s, abs=0.002)


class Ground(NamedTuple):
    """A loop and a server for all examples."""

    runner: asyncio.Runner
    server: RedisServer
    names: Iterator[int]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    path: Path = tmp_path_factory.mktemp("redis")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        server = RedisServer(path)
        runner.run(server.start())
        yield Ground(runner, server, itertools.count())
        runner.run(server.kill())


@settings(max_examples=60)
@given(steps=STEPS)
def test_redis_admits_what_memory_admits(ground: Ground, steps: list[Take | End | Pass]) -> None:
    ground.runner.run(both_agree(ground.server.url, str(next(ground.names)), steps))


async def both_agree(url: str, name: str, steps: list[Take | End | Pass]) -> None:
    """Apply steps to both."""
    clocks = Clocks()
    memory = MemoryCounters(clock=clocks.now, wall=clocks.wall)
    async with node(url, "a", clocks=clocks) as first, node(url, "b", clocks=clocks) as second:
        both = Both(clocks, memory, [first, second], name)
        for step in steps:
            await both.apply(step)
