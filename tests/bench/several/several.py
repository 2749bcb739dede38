"""Measure what several serving processes cost: one beside two and their keeper, in one sitting.

    python tests/bench/several/run_several.py

Whoever is measured runs on one CPU, the upstream and the load on another, so that the CPU time of a
request can be compared; requests per second then show the cost, not the gain of more cores. A
second table gives the latency of `Counters.take`, in this process and through a keeper.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop
from bench.contenders import Contender, Tools, build, roxy, upstream
from bench.processes import cpu_ns, pick_cpus, raise_file_limit
from bench.scenarios import Run, closed, measure

from server.accounting.counters import Counters
from server.accounting.memory_counters import MemoryCounters
from server.history.sqlite_history import SqliteHistory
from server.nodes.announcements import Announcements
from server.nodes.child_data import ChildData
from server.nodes.child_service import ChildService, KeeperData
from server.nodes.link import open_link
from server.nodes.procedure import Service
from server.store.key import Limits
from server.store.sqlite.sqlite_store import SqliteStore

ROUNDS = 3
SECONDS = 3.0
TAKES = 5_000
AT_ONCE = 64
KEEPER = "keeper"


def main(argv: Sequence[str]) -> None:
    """Print both tables; `keeper FD` is the other end of the second one."""
    if argv[:1] == [KEEPER]:
        uvloop.run(_keep(int(argv[1])))
        return
    raise_file_limit()
    gateway_cpu, load_cpu = pick_cpus()
    with tempfile.TemporaryDirectory(prefix="roxy-bench-") as directory:
        tools = build(Path(directory), gateway_cpu, load_cpu)
        os.sched_setaffinity(0, {load_cpu})
        _requests(tools)
        os.sched_setaffinity(0, {gateway_cpu})
        uvloop.run(_takes(load_cpu))


def _requests(tools: Tools) -> None:
    print(f"{'':10}{'start s':>9}{'req/s':>9}{'us CPU/req':>12}{'keeper':>9}")
    scenario = closed("json", "json", SECONDS, quick=False, conns=64)
    with contextlib.ExitStack() as stack:
        direct = stack.enter_context(upstream(tools))
        gateways = [
            stack.enter_context(roxy(tools, direct.port, starts=2, processes=processes))
            for processes in (1, 2)
        ]
        for number in range(ROUNDS):
            for gateway in gateways if number % 2 else reversed(gateways):
                keeper = [gateway.pid] if gateway.pid and len(gateway.pids) > 1 else []
                before, whole = cpu_ns(keeper), gateway.cpu_ns()
                measured = measure(scenario, gateway, direct, tools)[-1]
                share = (cpu_ns(keeper) - before) / (gateway.cpu_ns() - whole)
                _print(gateway, measured, share)


def _print(gateway: Contender, measured: Run, keeper_share: float) -> None:
    load, cpu_us = measured.load, measured.cpu_us or 0.0
    print(
        f"{gateway.name:10}{min(gateway.start_s):9.2f}{load.issued / load.seconds:9.0f}"
        f"{cpu_us / load.issued:12.0f}{keeper_share:9.0%}",
        flush=True,
    )


async def _takes(keeper_cpu: int) -> None:
    print(f"\n{'take':10}{'p50 us':>9}{'p99 us':>9}{f'us each of {AT_ONCE}':>16}")
    await _time("memory", MemoryCounters())
    near, far = socket.socketpair()
    with far:
        process = subprocess.Popen(  # noqa: ASYNC220 - nothing is measured yet
            [sys.executable, __file__, KEEPER, str(far.fileno())],
            pass_fds=(far.fileno(),),
            env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sys.path))},
        )
    os.sched_setaffinity(process.pid, {keeper_cpu})
    service = Service()
    link = await open_link(near, service)
    await _time("keeper", ChildData(link, service).counters)
    await link.aclose()
    process.wait()


async def _time(name: str, counters: Counters) -> None:
    """Take and settle one after another, then many at once."""
    limits = Limits(requests_per_minute=10**9, concurrent_requests=10**6)
    taken_us = []
    for _ in range(TAKES):
        began = time.perf_counter_ns()
        taken = await counters.take("key_bench", limits)
        taken_us.append((time.perf_counter_ns() - began) / 1000)
        counters.settle(taken, 0, 0)
    taken_us.sort()
    began = time.perf_counter_ns()
    for _ in range(TAKES // AT_ONCE):
        several = await asyncio.gather(
            *(counters.take("key_bench", limits) for _ in range(AT_ONCE))
        )
        for taken in several:
            counters.settle(taken, 0, 0)
    each = (time.perf_counter_ns() - began) / 1000 / (TAKES // AT_ONCE * AT_ONCE)
    p50, p99 = taken_us[len(taken_us) // 2], taken_us[len(taken_us) * 99 // 100]
    print(f"{name:10}{p50:9.0f}{p99:9.0f}{each:16.1f}", flush=True)


async def _keep(descriptor: int) -> None:
    """Answer with counters in memory until the other end has ended."""
    with tempfile.TemporaryDirectory() as directory:
        async with SqliteStore(Path(directory) / "roxy.db") as store:
            history = SqliteHistory(store.path)
            announcements = Announcements(lambda _: None)
            data = KeeperData(store, history, MemoryCounters(), announcements, {})
            service = Service()
            served = ChildService(data, service)
            link = await open_link(socket.socket(fileno=descriptor), service)
            served.connect(link)
            await link.closed()


if __name__ == "__main__":
    main(sys.argv[1:])
