"""Measure the list of keys by what they spent, in SQLite and in PostgreSQL.

    python tests/bench/spend.py                    100,000 keys, 10 days of each: two minutes
    python tests/bench/spend.py --keys 20000 --days 30 --sqlite

It fills a database of its own and prints, for the first and the last page of the list by spend,
the time of a page and its ratio to the plainest statement with the same result, which adds up all
keys and joins the sums. Both take turns in one run: compare the ratios, not the times.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import uvloop
from msgspec import structs

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.builders.rows import a_key  # noqa: E402
from support.servers.postgres_server import PostgresServer  # noqa: E402

from server.store.key import Key  # noqa: E402
from server.store.postgres.postgres_store import PostgresStore  # noqa: E402
from server.store.rows import DAY_MARKS, KeyQuery, UsageDay  # noqa: E402
from server.store.sqlite.sqlite_store import SqliteStore  # noqa: E402
from server.store.store import Store  # noqa: E402

PAGE = 50
ROUNDS = 5
READ_LIMIT_S = 60.0
SUMS = len(UsageDay.__struct_fields__) - len(DAY_MARKS)
COST = UsageDay.__struct_fields__.index("cost_microusd")
PLAIN = (
    "SELECT k.id FROM keys k LEFT JOIN (SELECT key_id, sum(cost_microusd) AS spent FROM usage_daily"
    " WHERE day >= {} GROUP BY key_id) AS used ON used.key_id = k.id WHERE k.status <> 'revoked'"
    " ORDER BY coalesce(spent, 0) DESC, k.id DESC LIMIT {} OFFSET {}"
)


def made_keys(count: int) -> Iterator[Key]:
    """Make keys whose ids have no order, as in a gateway."""
    chance = random.Random(1)
    for number in range(count):
        key_id = f"key_{chance.getrandbits(64):016x}"
        yield structs.replace(a_key(number), id=key_id, name=f"shop {number}")


def made_days(keys: Sequence[Key], days: int) -> Iterator[tuple[Any, ...]]:
    """Make a sum for each key and day, of which a tenth lies before the last 30 days."""
    chance = random.Random(2)
    today = datetime.now(UTC).date()
    for back in range(days):
        day = (today - timedelta(days=back if back % 10 else back + 31)).isoformat()
        for key in keys:
            sums = [1] * SUMS
            sums[COST - len(DAY_MARKS)] = chance.randrange(100_000)
            yield (day, key.id, "bench/one", *sums)


async def fill_sqlite(path: Path, rows: Iterator[tuple[Any, ...]]) -> None:
    """Write the sums into the file."""
    names = UsageDay.__struct_fields__
    with closing(sqlite3.connect(path)) as db, db:
        db.executemany(
            f"INSERT INTO usage_daily ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
            rows,
        )


async def fill_postgres(url: str, rows: Iterator[tuple[Any, ...]]) -> None:
    """Copy the sums into the database."""
    db = await asyncpg.connect(url)
    await db.copy_records_to_table(
        "usage_daily", records=rows, columns=list(UsageDay.__struct_fields__), timeout=600
    )
    await db.execute("ANALYZE", timeout=600)
    await db.close()


async def timed(call: Callable[[], Awaitable[Sequence[str]]]) -> tuple[float, Sequence[str]]:
    """Return how long a call takes, and its result."""
    began = time.perf_counter()
    found = await call()
    return time.perf_counter() - began, found


async def compare(
    name: str,
    store: Store,
    keys: int,
    since: str,
    plain: Callable[[int], Awaitable[Sequence[str]]],
) -> bool:
    """Print times and ratios of two pages; return whether both statements agree."""
    right = True
    for offset in (0, keys - PAGE):
        query = KeyQuery(
            revoked=False, order="spent", since=since, descending=True, offset=offset, limit=PAGE
        )

        async def page(query: KeyQuery = query) -> Sequence[str]:
            return [key.id for key in await store.list_keys(query)]

        ours, plains = [], []
        for _ in range(ROUNDS):
            took, wanted = await timed(partial(plain, offset))
            plains.append(took)
            took, found = await timed(page)
            ours.append(took)
            right = right and list(wanted) == list(found)
        ratio = statistics.median(a / b for a, b in zip(ours, plains, strict=True))
        print(
            f"{name:10} keys {offset + 1:,} to {offset + PAGE:,}: {min(ours) * 1e3:5.0f} ms,"
            f" plain {min(plains) * 1e3:5.0f} ms, ratio {ratio:.2f}"
        )
    return right


async def in_sqlite(folder: Path, keys: Sequence[Key], days: int, since: str) -> bool:
    """Measure SQLite."""
    path = folder / "roxy.db"
    async with SqliteStore(path, read_limit_s=READ_LIMIT_S) as store:
        await store.add_keys(keys)
        await fill_sqlite(path, made_days(keys, days))
        with closing(sqlite3.connect(path, check_same_thread=False)) as db:
            db.execute("PRAGMA cache_size = -16384")

            async def plain(offset: int) -> Sequence[str]:
                statement = PLAIN.format("?", "?", "?")
                rows = await asyncio.to_thread(
                    lambda: db.execute(statement, (since, PAGE, offset)).fetchall()
                )
                return [row[0] for row in rows]

            return await compare("SQLite", store, len(keys), since, plain)


async def in_postgres(keys: Sequence[Key], days: int, since: str) -> bool:
    """Measure PostgreSQL, on a server of its own."""
    with PostgresServer.made() as server:
        url = server.new_database()
        async with PostgresStore(url, None, read_limit_s=READ_LIMIT_S) as store:
            await store.add_keys(keys)
            await fill_postgres(url, made_days(keys, days))
            db = await asyncpg.connect(url)

            async def plain(offset: int) -> Sequence[str]:
                rows = await db.fetch(PLAIN.format("$1", "$2", "$3"), since, PAGE, offset)
                return [row[0] for row in rows]

            right = await compare("PostgreSQL", store, len(keys), since, plain)
            await db.close()
            return right


async def main() -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--sqlite", action="store_true", help="SQLite alone")
    options = parser.parse_args()
    keys = list(made_keys(options.keys))
    since = (datetime.now(UTC).date() - timedelta(days=29)).isoformat()
    with tempfile.TemporaryDirectory(prefix="roxy-spend-") as folder:
        right = await in_sqlite(Path(folder), keys, options.days, since)
    if not options.sqlite:
        right = await in_postgres(keys, options.days, since) and right
    return 0 if right else 1


if __name__ == "__main__":
    raise SystemExit(uvloop.run(main()))
