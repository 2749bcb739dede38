"""Measure what usage costs in SQLite and in PostgreSQL, and how soon an outage is over.

    python tests/bench/stores.py                   some 20 s; starts a PostgreSQL server of its own
    python tests/bench/stores.py --rows 500000

It prints, for each store: usage rows per second in group commits of 100 and of 2,000 rows, the
gateway's CPU per row (that of SQLite includes its thread; that of PostgreSQL's server is apart),
and the time of a key change and of looking up one key. Then, for a server that hangs, is killed, or
loses notifications: the slowest call, and the time until calls work again. Absolute figures depend
on the machine: compare those of one run.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.builders.rows import NOON, a_key, a_row  # noqa: E402
from support.servers.postgres_server import (  # noqa: E402
    PgBouncer,
    PostgresServer,
    with_children,
)

from server.store.postgres.postgres_store import PostgresStore  # noqa: E402
from server.store.rows import Batch  # noqa: E402
from server.store.sqlite.sqlite_store import SqliteStore  # noqa: E402
from server.store.store import Store  # noqa: E402
from workers.errors import StoreUnavailable  # noqa: E402

KEYS, MODELS = 50, 8
SIZES = (100, 2000)
CALLS = 300
TICKS_PER_S = 100


def batches(rows: int, size: int) -> list[Batch]:
    """Make usage of some keys and models."""
    return [
        Batch(
            rows=[
                a_row(first + n, at=NOON + n, key_id=f"key_{n % KEYS}", model=f"m/{n % MODELS}")
                for n in range(size)
            ],
            last_used={a_key(n).id: first for n in range(KEYS)},
        )
        for first in range(0, rows, size)
    ]


async def record(name: str, store: Store, rows: int, server: PostgresServer | None) -> None:
    """Write usage and print what it costs."""
    for size in SIZES:
        made = batches(rows, size)
        began, cpu, other = time.perf_counter(), time.process_time(), server_cpu(server)
        for batch in made:
            await store.record(batch)
        took = time.perf_counter() - began
        cpu_us = (time.process_time() - cpu) / rows * 1e6
        server_us = (server_cpu(server) - other) / rows * 1e6
        there = f", server {server_us:5.1f} us" if server else ""
        print(
            f"{name:10} {size:5} rows a commit: {rows / took:8.0f} rows/s, {cpu_us:5.1f} us{there}"
        )


def server_cpu(server: PostgresServer | None) -> float:
    """Return the CPU seconds of a server's processes that run."""
    if server is None:
        return 0.0
    ticks = 0
    for pid in with_children(server.pid):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_S


async def calls(name: str, store: Store) -> None:
    """Change and look up keys, and print how long that takes."""
    await store.add_keys(a_key(n) for n in range(KEYS))
    changes, reads = [], []
    for number in range(CALLS):
        began = time.perf_counter()
        await store.replace_key(a_key(number % KEYS, version=number // KEYS + 2))
        changes.append(time.perf_counter() - began)
        began = time.perf_counter()
        await store.find_key_by_digest(a_key(number % KEYS).digest)
        reads.append(time.perf_counter() - began)
    for what, times in (("change of a key", changes), ("look-up of a key", reads)):
        p50, p99 = (statistics.quantiles(times, n=100)[n] * 1e3 for n in (49, 98))
        print(f"{name:10} {what:16}: p50 {p50:6.2f} ms, p99 {p99:6.2f}")


async def outage(
    name: str,
    store: Store,
    begin: Callable[[], Awaitable[object]],
    end: Callable[[], Awaitable[object]],
) -> None:
    """Take the database away for two seconds; print the slowest call and the recovery."""
    waits: list[float] = []

    async def call() -> bool:
        began = time.perf_counter()
        try:
            await store.put_meta("bench", b"x")
        except StoreUnavailable:
            return False
        finally:
            waits.append(time.perf_counter() - began)
        return True

    await call()
    waits.clear()
    await begin()
    ends_at = time.perf_counter() + 2
    while time.perf_counter() < ends_at:
        await call()
        await asyncio.sleep(0.02)
    await end()
    back = time.perf_counter()
    while not await call():
        await asyncio.sleep(0.01)
    print(
        f"{name:10}: slowest call {max(waits):5.2f} s, works again after"
        f" {time.perf_counter() - back:5.2f} s"
    )


async def revocations(name: str, url: str, path: Path) -> None:
    """Print how long another node takes to hear of a change."""
    async with PostgresStore(url, path / "a") as one, PostgresStore(url, path / "b") as other:
        heard = asyncio.Event()
        other.on_foreign_change(lambda _: heard.set())
        await one.add_keys([a_key(10_000)])
        times = []
        for number in range(20):
            await asyncio.sleep(0.07 * (number % 5))
            heard.clear()
            began = time.perf_counter()
            await one.replace_key(a_key(10_000, version=number + 2))
            await heard.wait()
            times.append(time.perf_counter() - began)
        print(f"{name:10}: another node hears of a change within {max(times):5.3f} s")


async def main(rows: int) -> None:
    """Measure both stores, one after the other."""
    with tempfile.TemporaryDirectory() as name, PostgresServer.made({"fsync": "on"}) as server:
        path = Path(name)
        async with SqliteStore(path / "roxy.db") as sqlite:
            await record("SQLite", sqlite, rows, None)
            await calls("SQLite", sqlite)
        url = server.new_database()
        async with PostgresStore(url, path / "spool") as shared:
            await record("PostgreSQL", shared, rows, server)
            await calls("PostgreSQL", shared)
            off = asyncio.to_thread
            await outage("hung", shared, lambda: off(server.hang), lambda: off(server.go_on))
            await outage("killed", shared, lambda: off(server.kill), lambda: off(server.start))
        await revocations("direct", url, path)
        with PgBouncer.made(server) as bouncer:  # without LISTEN, as if notifications were lost
            await revocations("pgbouncer", bouncer.before(server.new_database()), path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=40_000, help="usage rows for each figure")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(parser.parse_args().rows))
