"""Write and read usage in SQLite: single requests, and their sums by day.

There are two tables of sums: by day, key and model, and by day and model for all keys together,
which is small even when there are many keys. Both are written in the transaction of the rows.

A row that no column can hold (a number beyond 64 bits, text that is not valid) must not keep the
others out for ever: then each row is written by itself, and those that fail are left out. Sums stop
at MAX_SUM instead of becoming floating-point numbers, as SQLite's do when they overflow.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from itertools import islice

from server.store.row_values import (
    DAY_SUMS,
    EPOCH,
    MAX_SUM,
    USAGE_COLUMNS,
    Values,
    counter_values,
    midnight,
    usable,
    usage_row,
    usage_values,
)
from server.store.rows import (
    DAY_MARKS,
    Batch,
    Percentile,
    UsageDay,
    UsageMark,
    UsagePage,
    UsageRow,
)
from server.store.sqlite.sqlite_rows import marks
from server.store.sqlite.sqlite_thread import transaction
from server.store.usage_queries import (
    NO_FILTERS,
    Filters,
    PercentileQuery,
    RankingQuery,
    RowsQuery,
    SumsQuery,
)
from workers.units import DAY_S

HALF_BITS = 32
"""Where sums are split that could overflow: each half is added up by itself."""
SMALL_PAGE = 1_001
"""Groups up to which looking up their rows one by one is faster than sorting all rows."""
MAX_IDS = 500
"""Values in one IN (...); SQLite before 3.32 takes 999 parameters in a statement."""

BATCHES_KEPT_S = DAY_S

DATA_ERRORS = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    TypeError,
    ValueError,
)
"""What Python and SQLite raise for a value that a column cannot hold. UnicodeError is a
ValueError; a type that cannot be bound is a ProgrammingError since Python 3.11."""


def _add_sums(table: str, columns: Sequence[str]) -> str:
    names = (*columns, *DAY_SUMS)
    return (
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks(len(names))})"
        f" ON CONFLICT ({', '.join(columns)}) DO UPDATE SET "
        # An integer that overflows becomes REAL; min() then takes the integer
        # (https://www.sqlite.org/lang_expr.html, "Operators").
        + ", ".join(f"{name} = min({name} + excluded.{name}, {MAX_SUM})" for name in DAY_SUMS)
    )


ADD_USAGE = f"INSERT INTO usage ({USAGE_COLUMNS}) VALUES ({marks(len(UsageRow.__struct_fields__))})"
ADD_BATCH = "INSERT INTO batches (id, recorded_at) VALUES (?, ?) ON CONFLICT DO NOTHING"
FORGET_BATCHES = (
    "DELETE FROM batches WHERE id IN"
    " (SELECT id FROM batches WHERE recorded_at < ? ORDER BY recorded_at LIMIT 10)"
)
ADD_DAY = _add_sums("usage_daily", DAY_MARKS)
ADD_MODEL_DAY = _add_sums("usage_daily_models", ("day", "model"))
PUT_COUNTER = (
    "INSERT INTO counters (scope, kind, value, period, updated_at) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (scope, kind) DO UPDATE SET"
    " value = excluded.value, period = excluded.period, updated_at = excluded.updated_at"
)
PUT_LAST_USE = "UPDATE keys SET last_used_at = max(ifnull(last_used_at, 0), ?) WHERE id = ?"


# Writing


def record(db: sqlite3.Connection, batch: Batch) -> list[str]:
    """Write a batch in one transaction; return what could not be stored and was left out.

    Requests are named by their ids. A batch that was written before is left alone. Raises the
    errors of a database that cannot be written; nothing was changed then.
    """
    try:
        with transaction(db):
            if not _is_new(db, batch):
                return []
            _record_rows(db, batch.rows)
            db.executemany(PUT_COUNTER, map(counter_values, batch.counters))
            db.executemany(PUT_LAST_USE, [(at, key) for key, at in batch.last_used.items()])
        return []
    except DATA_ERRORS:
        with transaction(db):
            _is_new(db, batch)
            return _record_singly(db, batch)


def _is_new(db: sqlite3.Connection, batch: Batch) -> bool:
    """Note the id of a batch and return whether it was unknown; forget some that are old."""
    now = int(time.time())
    db.execute(FORGET_BATCHES, (now - BATCHES_KEPT_S,))
    return db.execute(ADD_BATCH, (batch.id, now)).rowcount == 1


def _record_rows(db: sqlite3.Connection, rows: Sequence[UsageRow]) -> None:
    values: list[Values] = []
    days: dict[tuple[int, str, str], list[int]] = {}
    for sent in rows:
        row, amounts = usable(sent)
        values.append(usage_values(row))
        _add(days.setdefault((int(row.at // DAY_S), row.key_id, row.model), []), amounts)
    models: dict[tuple[int, str], list[int]] = {}
    for (day, _, model), sums in days.items():
        _add(models.setdefault((day, model), []), sums)
    db.executemany(ADD_USAGE, values)
    db.executemany(
        ADD_DAY, [(_day(day), key_id, model, *sums) for (day, key_id, model), sums in days.items()]
    )
    db.executemany(
        ADD_MODEL_DAY, [(_day(day), model, *sums) for (day, model), sums in models.items()]
    )


def _add(sums: list[int], amounts: Sequence[int]) -> None:
    if not sums:
        sums[:] = [0] * len(amounts)
    for place, amount in enumerate(amounts):
        sums[place] += amount


def _record_singly(db: sqlite3.Connection, batch: Batch) -> list[str]:
    """Write each row of a batch by itself, and return the names of those that cannot be stored."""
    writes: list[tuple[str, Callable[[], object]]] = [
        *((f"request {row.request_id}", partial(_record_rows, db, (row,))) for row in batch.rows),
        *(
            (f"{row.kind} of {row.scope}", partial(db.execute, PUT_COUNTER, counter_values(row)))
            for row in batch.counters
        ),
        *(
            (f"last use of {key_id}", partial(db.execute, PUT_LAST_USE, (at, key_id)))
            for key_id, at in batch.last_used.items()
        ),
    ]
    return [name for name, write in writes if not _stored(db, write)]


def _stored(db: sqlite3.Connection, write: Callable[[], object]) -> bool:
    """Return whether a write inside the open transaction succeeded; undo a part of it."""
    db.execute("SAVEPOINT one")
    try:
        write()
    except DATA_ERRORS:
        db.execute("ROLLBACK TO one")
        return False
    finally:
        with suppress(sqlite3.Error):  # a failed disk may have ended the whole transaction
            db.execute("RELEASE one")
    return True


# Reading sums


def read_sums(
    db: sqlite3.Connection, query: SumsQuery, narrowed: Filters = NO_FILTERS
) -> list[UsageDay]:
    """Read sums of a span of days; `narrowed` are more conditions than those of the query."""
    columns = [mark for mark in DAY_MARKS if mark in query.groups]
    filters = {**query.filters, **narrowed}
    by_key = "key_id" in columns or filters.get("key_id") is not None
    where, values = _where({"day >=": query.first_day, "day <=": query.last_day}, filters)
    if query.after is not None:
        where += f" AND ({', '.join(columns)}) > ({marks(len(columns))})"
        values = (*values, *query.after)
    shown = [mark if mark in columns else "''" for mark in DAY_MARKS]
    limit = query.limit
    table = "usage_daily" if by_key else "usage_daily_models"
    if columns[:1] == ["key_id"] and limit is not None and limit <= SMALL_PAGE:
        table += " INDEXED BY usage_daily_key"  # so that a page reads no more than its own keys
    rest = f" FROM {table}{where}"
    if columns:
        rest += f" GROUP BY {', '.join(columns)} ORDER BY {', '.join(columns)}"
    rest += f" LIMIT {limit}" if limit is not None else ""
    sums = ", ".join(f"sum({name})" for name in DAY_SUMS)
    try:
        rows = db.execute(f"SELECT {', '.join(shown)}, {sums}{rest}", values).fetchall()
    except sqlite3.OperationalError as error:
        if "integer overflow" not in str(error):
            raise
        return _read_halves(db, shown, rest, values)
    # Without groups there is one row, of NULLs where there is nothing to add up.
    return [UsageDay(*row) for row in rows if row[-1] is not None]


def read_ranking(db: sqlite3.Connection, query: RankingQuery) -> list[UsageDay]:
    """Read the groups whose sums of the fields `by` are the largest, the largest first.

    Their order is found first, from an index alone; then all sums of the few that are asked for.
    """
    group, span = query.group, (query.first_day, query.last_day)
    by_key = group == "key_id" or query.key_id is not None
    table = "usage_daily" if by_key else "usage_daily_models"
    if group == "key_id" and query.key_id is None and _is_most(db, span):
        # The order of the index saves a sort, which is worth reading the days outside of the span.
        table += " INDEXED BY usage_daily_key"
    where, values = _where({"day >=": span[0], "day <=": span[1]}, query.filters)
    # total() and not sum(): it does not overflow, and the order of the largest sums may be inexact.
    value = " + ".join(f"total({name})" for name in query.by)
    rows = db.execute(
        f"SELECT {group} FROM {table}{where} GROUP BY {group} ORDER BY {value} DESC, {group}"
        f" LIMIT {query.limit}",
        values,
    ).fetchall()
    found: dict[str, UsageDay] = {}
    for piece in pieces([row[0] for row in rows]):
        for sums in read_sums(db, query.sums, {group: piece}):
            found[getattr(sums, group)] = sums
    return [found[row[0]] for row in rows]


def _is_most(db: sqlite3.Connection, span: tuple[str, str]) -> bool:
    """Return whether a span has at least half of the days on record."""
    (days, inside) = db.execute(
        "SELECT count(*), ifnull(sum(day BETWEEN ? AND ?), 0)"
        " FROM (SELECT DISTINCT day FROM usage_daily_models)",
        span,
    ).fetchone()
    return bool(2 * inside >= days)


def _read_halves(
    db: sqlite3.Connection, shown: Sequence[str], rest: str, values: Values
) -> list[UsageDay]:
    """Read sums beyond 64 bits: the upper and the lower half of each number by itself."""
    halves = ", ".join(
        f"sum({name} >> {HALF_BITS}), sum({name} & {2**HALF_BITS - 1})" for name in DAY_SUMS
    )
    days = []
    for row in db.execute(f"SELECT {', '.join(shown)}, {halves}{rest}", values):
        numbers = iter(row[len(shown) :])
        whole = [(high << HALF_BITS) + low for high, low in zip(numbers, numbers, strict=True)]
        days.append(UsageDay(*row[: len(shown)], *whole))
    return days


# Reading requests


def read_page(db: sqlite3.Connection, query: RowsQuery) -> UsagePage:
    """Read single requests by time, newest first."""
    before, limit = query.before, query.limit
    where, values = _where({}, query.filters)
    if query.status not in (None, "finished"):
        # In these words, so that SQLite may use the indexes of the requests that did not finish
        # (https://www.sqlite.org/partialindex.html, section 3).
        where += " AND status <> 'finished'"
    if before is not None:
        where += f"{' AND' if where else ' WHERE'} at <= ? AND (at < ? OR seq < ?)"
        values = (*values, before.at, before.at, before.number)
    rows = db.execute(
        f"SELECT {USAGE_COLUMNS}, at, seq FROM usage{where} ORDER BY at DESC, seq DESC LIMIT ?",
        (*values, limit + 1),  # one more tells whether there is a next page
    ).fetchall()
    page = rows[:limit]
    return UsagePage(
        [usage_row(row[:-2]) for row in page],
        UsageMark(*page[-1][-2:]) if len(rows) > limit else None,
    )


def read_percentile(db: sqlite3.Connection, query: PercentileQuery) -> Percentile:
    """Compute a percentile of the TTFT over the requests of a span of days."""
    first, end = midnight(query.first_day), midnight(query.last_day) + DAY_S
    where, values = _where({"at >=": first, "at <": end, "ttft_ms >=": 0}, query.filters)
    (count,) = db.execute(f"SELECT count(*) FROM usage{where}", values).fetchone()
    rank = max(-(-count * query.percent // 100), 1)  # nearest rank: rounded up, from 1
    found = db.execute(
        f"SELECT ttft_ms FROM usage{where} ORDER BY ttft_ms LIMIT 1 OFFSET ?", (*values, rank - 1)
    ).fetchone()
    return Percentile(found[0] if found else None, count)


def read_times(db: sqlite3.Connection, request_ids: Collection[str]) -> dict[str, float]:
    """Read the time of the newest row of each request that has one, by its id."""
    times: dict[str, float] = {}
    for piece in pieces(request_ids):
        where = f"request_id IN ({marks(len(piece))})"
        times.update(
            db.execute(f"SELECT request_id, max(at) FROM usage WHERE {where} GROUP BY 1", piece)
        )
    return times


def pieces(values: Iterable[str]) -> list[Sequence[str]]:
    """Split values into pieces that fit into one IN (...)."""
    rest = iter(values)
    return list(iter(lambda: list(islice(rest, MAX_IDS)), []))


def _day(number: int) -> str:
    return (EPOCH + timedelta(days=number)).isoformat()


def _where(
    conditions: Mapping[str, str | float],
    filters: Filters,
) -> tuple[str, Values]:
    clauses, values = [f"{condition} ?" for condition in conditions], [*conditions.values()]
    for column, wanted in filters.items():
        if isinstance(wanted, str):
            clauses.append(f"{column} = ?")
            values.append(wanted)
        elif wanted is not None:
            clauses.append(f"{column} IN ({marks(len(wanted))})")
            values.extend(wanted)
    return (f" WHERE {' AND '.join(clauses)}" if clauses else ""), tuple(values)
