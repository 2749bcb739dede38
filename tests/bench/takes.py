"""Measure counters: `python tests/bench/takes.py` prints the wait for a take and CPU per request.

Each request is a take and a settle of a key with all limits. The same requests run on counters in
memory and in each server at hand, one after the other, at several numbers of parallel requests.
"server" is the CPU time of Redis itself, which may be another machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

sys.path[0] = str(Path(__file__).resolve().parents[1])
sys.path.insert(1, str(Path(__file__).resolve().parents[2]))

from support.servers.counter_nodes import node  # noqa: E402
from support.servers.redis_server import KINDS, RedisServer  # noqa: E402

from server.accounting.counters import Counters  # noqa: E402
from server.accounting.memory_counters import MemoryCounters  # noqa: E402
from server.store.key import Limits  # noqa: E402

LIMITS = Limits(
    requests_per_minute=1_000_000,
    tokens_per_minute=1_000_000_000,
    concurrent_requests=1_000_000,
    budget_microusd=1_000_000_000_000,
)
KEYS = 100

Cpu = Callable[[], Awaitable[float]]


async def measure(name: str, counters: Counters, requests: int, parallel: int, cpu: Cpu) -> str:
    """Run requests and return a line of the table."""
    waits: list[float] = []
    numbers = iter(range(requests))

    async def client() -> None:
        for number in numbers:
            began = time.perf_counter()
            taken = await counters.take(f"key_{number % KEYS}", LIMITS, 100, 10)
            waits.append(time.perf_counter() - began)
            counters.settle(taken, 90, 9)
            await asyncio.sleep(0)

    began, server_began = time.process_time(), await cpu()
    await asyncio.gather(*(client() for _ in range(parallel)))
    await counters.standing("key_0", LIMITS)
    own, server = time.process_time() - began, await cpu() - server_began
    waits.sort()
    p50, p99 = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
    cells = (p50 * 1e6, p99 * 1e6, own / requests * 1e6, server / requests * 1e6)
    return f"{name:8} {parallel:8} " + " ".join(f"{cell:10.1f}" for cell in cells)


async def nothing() -> float:
    """Return no CPU time: counters in memory have no server."""
    return 0.0


async def compare(requests: int, parallels: list[int]) -> None:
    """Print the table."""
    print(f"{'':8} parallel     p50 µs     p99 µs  CPU µs/rq  server µs")
    for parallel in parallels:
        print(await measure("memory", MemoryCounters(), requests, parallel, nothing))
        for kind in KINDS:
            with tempfile.TemporaryDirectory() as path:
                async with RedisServer(Path(path), kind) as server, node(server.url) as counters:
                    for number in range(KEYS):
                        counters.give_back(await counters.take(f"key_{number}", LIMITS))
                    line = await measure(kind, counters, requests, parallel, server.cpu_s)
                    print(line)


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--parallel", type=int, nargs="+", default=[1, 16, 200])
    options = parser.parse_args()
    uvloop.run(compare(options.requests, options.parallel))


if __name__ == "__main__":
    main()
