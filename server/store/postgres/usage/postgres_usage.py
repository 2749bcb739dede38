"""Write and read usage in PostgreSQL: single requests, and their sums by day.

A batch is one statement: its id, its rows, both tables of sums, counters and last uses. A batch
whose id is there adds nothing, so it may be sent again after a connection was lost, whether or not
it was committed. Every table is written in the order of its keys and the tables in the order of the
statement, so that two nodes never deadlock.

A row that no column can hold must not keep the others out for ever: then the batch is halved until
the rows that fail are alone, and these are left out.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg
import msgspec
from msgspec import structs

from server.store.postgres.postgres_errors import DATA_ERRORS
from server.store.postgres.postgres_keys import PUT_USES, plain_text
from server.store.row_values import (
    DAY_SUMS,
    EPOCH,
    MAX_SUM,
    USAGE_COLUMNS,
    counter_values,
    midnight,
    usable,
    usage_row,
    usage_values,
)
from server.store.rows import (
    DAY_MARKS,
    NOT_FAILED,
    Batch,
    CounterRow,
    Percentile,
    UsageDay,
    UsageMark,
    UsagePage,
    UsageRow,
)
from server.store.usage_queries import (
    NO_FILTERS,
    Filters,
    PercentileQuery,
    RankingQuery,
    RowsQuery,
    SumsQuery,
)
from workers.units import DAY_S

if TYPE_CHECKING:
    from server.store.postgres.connector import Connection


USAGE_TYPES = {
    "request_id": "text",
    "at": "float8",
    "key_id": "text",
    "model": "text",
    "deployment": "text",
    "status": "text",
    "http_status": "int8",
    "prompt_tokens": "int8",
    "completion_tokens": "int8",
    "cached_tokens": "int8",
    "cache_write_tokens": "int8",
    "reasoning_tokens": "int8",
    "estimated": "bool",
    "cost_microusd": "int8",
    "ttft_ms": "int8",
    "duration_ms": "int8",
    "queued_ms": "int8",
    "stream": "bool",
    "attempts": "text",
}
USED = "prompt_tokens IS NOT NULL OR completion_tokens IS NOT NULL"
TOKENS = "coalesce(prompt_tokens, 0) + coalesce(completion_tokens, 0)"
SUM_OF = {
    "requests": "count(*)",
    "failed": f"count(*) FILTER (WHERE status NOT IN {NOT_FAILED})",
    "prompt_tokens": "sum(prompt_tokens)",
    "completion_tokens": "sum(completion_tokens)",
    "cached_tokens": "sum(cached_tokens)",
    "reasoning_tokens": "sum(reasoning_tokens)",
    "estimated_requests": "count(*) FILTER (WHERE estimated)",
    "unpriced_requests": f"count(*) FILTER (WHERE cost_microusd IS NULL AND ({USED}))",
    "cost_microusd": "sum(cost_microusd)",
    "ttft_ms_sum": "sum(ttft_ms)",
    "ttft_count": "count(ttft_ms)",
    "duration_ms_sum": "sum(duration_ms)",
    "estimated_tokens": f"sum({TOKENS}) FILTER (WHERE estimated)",
    "estimated_cost_microusd": "sum(cost_microusd) FILTER (WHERE estimated)",
}
"""What the rows of a batch add to a day, by the columns of the sums."""
PRUNE_ROWS = 2000
"""Rows deleted in one call."""
PRUNE = (
    "DELETE FROM usage WHERE seq IN (SELECT seq FROM usage WHERE at < $1 ORDER BY at, seq"
    f" LIMIT {PRUNE_ROWS} FOR UPDATE SKIP LOCKED)"
)
COUNTERS_AFTER = (
    "SELECT scope, kind, value, period, updated_at FROM counters WHERE (scope, kind) > ($1, $2)"
    " ORDER BY scope, kind LIMIT 50000"
)
# A total or monthly budget still counts when its key has not been used for weeks. Guests have none.
DROP_COUNTERS = (
    "DELETE FROM counters WHERE updated_at < $1"
    " AND (kind NOT LIKE 'budget%' OR scope LIKE 'guest:%')"
)


def _add_sums(table: str, marks: Sequence[str]) -> str:
    sums = ", ".join(f"coalesce({SUM_OF[name]}, 0)::int8" for name in DAY_SUMS)
    adding = ", ".join(
        f"{name} = least(t.{name} + excluded.{name}, {MAX_SUM})" for name in DAY_SUMS
    )
    by = ", ".join(marks)
    return (
        f"INSERT INTO {table} AS t ({by}, {', '.join(DAY_SUMS)}) SELECT {by}, {sums} FROM sent"
        f" GROUP BY {by} ORDER BY {by} ON CONFLICT ({by}) DO UPDATE SET {adding}"
    )


_SENT = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(USAGE_TYPES.values(), 2))
_DAYS = len(USAGE_TYPES) + 2
_COUNTERS = [
    f"${_DAYS + place}::{kind}[]"
    for place, kind in enumerate(("text", "text", "numeric", "text", "float8"), 1)
]
_USES = PUT_USES.replace("$2", f"${_DAYS + 7}").replace("$1", f"${_DAYS + 6}")
RECORD = f"""
WITH fresh AS (INSERT INTO batches (id) VALUES ($1) ON CONFLICT DO NOTHING RETURNING id),
sent AS MATERIALIZED (
    SELECT r.* FROM fresh, unnest({_SENT}, ${_DAYS}::text[]) WITH ORDINALITY
        AS r ({USAGE_COLUMNS}, day, place)
),
added AS (
    INSERT INTO usage ({USAGE_COLUMNS}) SELECT {USAGE_COLUMNS} FROM sent ORDER BY place
),
days AS ({_add_sums("usage_daily", DAY_MARKS)}),
models AS ({_add_sums("usage_daily_models", ("day", "model"))}),
counted AS (
    INSERT INTO counters AS t (scope, kind, value, period, updated_at)
    SELECT c.* FROM fresh, unnest({", ".join(_COUNTERS)})
        AS c (scope, kind, value, period, updated_at) ORDER BY c.scope, c.kind
    ON CONFLICT (scope, kind) DO UPDATE SET
        value = excluded.value, period = excluded.period, updated_at = excluded.updated_at
    WHERE t.updated_at <= excluded.updated_at
),
used AS ({_USES.replace("JOIN keys k", "JOIN fresh ON true JOIN keys k")})
SELECT id FROM fresh
"""
"""Counters of an older moment, which have waited in files, replace no newer ones."""
FRESH_BATCH = "INSERT INTO batches (id) VALUES ($1) ON CONFLICT DO NOTHING RETURNING id"


@lru_cache(maxsize=64)
def day_of(number: int) -> str:
    """Return the UTC day of a number of days since 1970. Raises OverflowError."""
    return (EPOCH + timedelta(days=number)).isoformat()


class _Part(NamedTuple):
    """Some of a batch, to be written or left out together."""

    rows: Sequence[UsageRow]
    counters: Sequence[CounterRow]
    uses: Sequence[tuple[str, int]]

    def names(self) -> list[str]:
        """Return what the part consists of, for the log."""
        return [
            *(f"request {row.request_id}" for row in self.rows),
            *(f"{row.kind} of {row.scope}" for row in self.counters),
            *(f"last use of {key_id}" for key_id, _ in self.uses),
        ]

    def split(self) -> list[_Part]:
        """Return the kinds of things by themselves, or the halves of the only kind."""
        kinds = [
            part
            for part in (
                _Part(self.rows, (), ()),
                _Part((), self.counters, ()),
                _Part((), (), self.uses),
            )
            if any(part)
        ]
        if len(kinds) > 1:
            return kinds
        row, counter, use = (len(each) // 2 for each in self)
        return [
            _Part(self.rows[:row], self.counters[:counter], self.uses[:use]),
            _Part(self.rows[row:], self.counters[counter:], self.uses[use:]),
        ]

    def check_types(self) -> None:
        """Raise ValueError for a row that asyncpg would write in another form, such as a list."""
        for row in self.rows:
            try:
                msgspec.convert(structs.asdict(usable(row)[0]), UsageRow)
            except msgspec.ValidationError as error:
                raise ValueError(str(error)) from error


# Writing


def _whole(batch: Batch) -> _Part:
    # One row of a table cannot be written twice by one statement; the last one counts.
    counters = {(row.scope, row.kind): row for row in batch.counters}
    return _Part(batch.rows, tuple(counters.values()), tuple(batch.last_used.items()))


def _arguments(part: _Part) -> list[Any]:
    rows, days = [], []
    for sent in part.rows:
        row, _ = usable(sent)
        rows.append(usage_values(row))
        days.append(day_of(int(row.at // DAY_S)))
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(USAGE_TYPES)
    counters = [_counter_record(row) for row in part.counters]
    columns_of_counters = list(zip(*counters, strict=True)) if counters else [()] * 5
    uses = list(zip(*part.uses, strict=True)) if part.uses else [(), ()]
    return [*columns, days, *columns_of_counters, *uses]


def _counter_record(row: CounterRow) -> tuple[Any, ...]:
    scope, kind, value, period, updated_at = counter_values(row)
    if not isinstance(value, int | float) or math.isnan(value):
        raise ValueError(f"{kind} of {scope!a} is no number")
    # repr() has every digit that a float needs; Decimal(float) would have some fifty.
    return scope, kind, Decimal(repr(value)), period, updated_at


async def record_batch(db: Connection, batch: Batch) -> None:
    """Write a batch whose id is not there yet, in one statement that commits by itself.

    Raises one of DATA_ERRORS when a value cannot be stored; nothing was changed then.
    """
    await db.fetchval(RECORD, batch.id or secrets.token_hex(16), *_arguments(_whole(batch)))


async def record_in_parts(db: Connection, batch: Batch) -> list[str]:
    """Write what can be stored, inside a transaction; return the names of what was left out."""
    own = batch.id or secrets.token_hex(16)
    if await db.fetchval(FRESH_BATCH, own) is None:
        return []
    left_out: list[str] = []
    parts = [_whole(batch)]
    while parts:
        part = parts.pop()
        await db.execute("SAVEPOINT part")
        try:
            part.check_types()
            await db.fetchval(RECORD, f"{own}/{secrets.token_hex(8)}", *_arguments(part))
            await db.execute("RELEASE part")
        except DATA_ERRORS:
            await db.execute("ROLLBACK TO part")
            names = part.names()
            if len(names) > 1:
                parts += reversed(part.split())
            else:
                left_out += names
    return left_out


def counter_of_record(row: asyncpg.Record) -> CounterRow:
    """Return the counter of a row; whole numbers stay whole."""
    value: Decimal = row["value"]
    number = int(value) if value.is_finite() and value.as_tuple().exponent == 0 else float(value)
    return CounterRow(row["scope"], row["kind"], number, row["period"], row["updated_at"])


# Reading


class _Where:
    """Conditions of a statement and their values."""

    def __init__(self, filters: Filters) -> None:
        self.clauses: list[str] = []
        self.values: list[Any] = []
        for column, wanted in filters.items():
            if isinstance(wanted, str):
                self.add(f"{column} = {{}}", plain_text(wanted))
            elif wanted is not None:
                self.add(f"{column} = ANY({{}})", [plain_text(one) for one in wanted])

    def add(self, clause: str, *values: Any) -> None:
        """Add a clause; each `{}` stands for the place of a value."""
        first = len(self.values) + 1
        self.values += values
        self.clauses.append(clause.format(*(f"${first + n}" for n in range(len(values)))))

    def __str__(self) -> str:
        return f" WHERE {' AND '.join(self.clauses)}" if self.clauses else ""


async def daily_sums(
    db: Connection, query: SumsQuery, narrowed: Filters = NO_FILTERS
) -> list[UsageDay]:
    """Read sums of a span of days, inside a transaction.

    `narrowed` are more conditions than those of the query.
    """
    columns = [mark for mark in DAY_MARKS if mark in query.groups]
    filters = {**query.filters, **narrowed}
    by_key = "key_id" in columns or filters.get("key_id") is not None
    where = _Where(filters)
    where.add("day BETWEEN {} AND {}", query.first_day, query.last_day)
    if query.after is not None:
        places = ", ".join(["{}"] * len(columns))
        where.add(f"({', '.join(columns)}) > ({places})", *map(plain_text, query.after))
    shown = [mark if mark in columns else f"'' AS {mark}" for mark in DAY_MARKS]
    rest = f" FROM {'usage_daily' if by_key else 'usage_daily_models'}{where}"
    if columns:
        rest += f" GROUP BY {', '.join(columns)} ORDER BY {', '.join(columns)}"
    rest += f" LIMIT {query.limit}" if query.limit is not None else ""

    # The sum of a bigint is a numeric, which asyncpg decodes slowly: used only where needed.
    def statement(kind: str) -> str:
        sums = ", ".join(f"sum({name})::{kind} AS {name}" for name in DAY_SUMS)
        return f"SELECT {', '.join(shown)}, {sums}{rest}"

    await db.execute("SAVEPOINT sums")
    try:
        rows = await db.fetch(statement("int8"), *where.values)
    except asyncpg.NumericValueOutOfRangeError:
        await db.execute("ROLLBACK TO sums")
        rows = await db.fetch(statement("numeric"), *where.values)
    # Without groups there is one row, of NULLs where there is nothing to add up.
    return [
        UsageDay(*row[: len(DAY_MARKS)], *map(int, row[len(DAY_MARKS) :]))
        for row in map(tuple, rows)
        if row[-1] is not None
    ]


async def largest_sums(db: Connection, query: RankingQuery) -> list[UsageDay]:
    """Read the groups whose sums of the fields `by` are the largest, the largest first."""
    group = query.group
    by_key = group == "key_id" or query.key_id is not None
    where = _Where(query.filters)
    where.add("day BETWEEN {} AND {}", query.first_day, query.last_day)
    value = " + ".join(f"sum({name})" for name in query.by)
    rows = await db.fetch(
        f"SELECT {group} FROM {'usage_daily' if by_key else 'usage_daily_models'}{where}"
        f" GROUP BY {group} ORDER BY {value} DESC, {group} LIMIT {query.limit}",
        *where.values,
    )
    order = [row[0] for row in rows]
    if not order:
        return []
    found = {
        getattr(sums, group): sums for sums in await daily_sums(db, query.sums, {group: order})
    }
    return [found[one] for one in order]


async def page_of_usage(db: Connection, query: RowsQuery) -> UsagePage:
    """Read single requests by time, newest first."""
    before, limit = query.before, query.limit
    where = _Where(query.filters)
    if query.status not in (None, "finished"):
        where.add("status <> 'finished'")  # in these words, so that the partial index can be used
    if before is not None:
        where.add("(at, seq) < ({}, {})", before.at, before.number)
    rows = await db.fetch(
        f"SELECT {USAGE_COLUMNS}, seq FROM usage{where} ORDER BY at DESC, seq DESC"
        f" LIMIT {limit + 1}",  # one more tells whether there is a next page
        *where.values,
    )
    page = rows[:limit]
    last = UsageMark(page[-1]["at"], page[-1]["seq"]) if len(rows) > limit else None
    return UsagePage([usage_row(tuple(row)[:-1]) for row in page], last)


async def ttft_of_rank(db: Connection, query: PercentileQuery) -> Percentile:
    """Compute a percentile of the TTFT over the requests of a span of days."""
    where = _Where(query.filters)
    first, end = midnight(query.first_day), midnight(query.last_day) + DAY_S
    where.add("at >= {} AND at < {}", first, end)
    where.add("ttft_ms >= 0")
    count = await db.fetchval(f"SELECT count(*) FROM usage{where}", *where.values)
    # Nearest rank, as in SQLite: rounded up, from 1. percentile_disc() would take a fraction.
    rank = max(-(-count * query.percent // 100), 1)
    found = await db.fetchval(
        f"SELECT ttft_ms FROM usage{where} ORDER BY ttft_ms LIMIT 1 OFFSET {rank - 1}",
        *where.values,
    )
    return Percentile(found, count)
