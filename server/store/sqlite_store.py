"""Keep all data in one SQLite file.

Each call is one transaction in the database's thread. Key changes are synced to the disk before
they return (synchronous FULL), usage is not (NORMAL): a killed process loses no committed usage, a
power failure may lose that of the last moments, and neither damages the file.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from types import TracebackType

import msgspec
from msgspec import structs

from server.store.key import Key
from server.store.migrate import Migration
from server.store.rows import (
    Batch,
    CounterRow,
    Percentile,
    SessionRow,
    UsageDay,
    UsagePage,
    UsageRow,
)
from server.store.sqlite_file import PATIENCE_S, open_database
from server.store.sqlite_rows import (
    KEY_COLUMNS,
    Values,
    key_of,
    key_values,
    usable,
    usage_row,
    usage_values,
)
from server.store.sqlite_thread import SqliteThread, transaction
from server.store.store import StoreFailure
from workers.units import DAY_S

PRUNE_ROWS = 2000
"""Rows deleted in one call: about 10 ms, so that key changes in between do not wait for long."""

EPOCH = date(1970, 1, 1)

USAGE_COLUMNS = ", ".join(UsageRow.__struct_fields__)
DAY_COLUMNS = ", ".join(UsageDay.__struct_fields__)
DAY_SUMS = UsageDay.__struct_fields__[3:]


def _marks(columns: str) -> str:
    return ", ".join("?" * (columns.count(",") + 1))


LOAD_KEYS = f"SELECT {KEY_COLUMNS} FROM keys"
PUT_KEY = (
    f"INSERT INTO keys ({KEY_COLUMNS}) VALUES ({_marks(KEY_COLUMNS)})"
    " ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(
        f"{name} = excluded.{name}"
        for name in KEY_COLUMNS.split(", ")
        if name not in ("id", "created_at", "last_used_at")
    )
    # `record` may have written a later last use since the caller read the key.
    + ", last_used_at = nullif(max(ifnull(last_used_at, 0), ifnull(excluded.last_used_at, 0)), 0)"
)
PUT_META = (
    "INSERT INTO meta (name, value) VALUES (?, ?)"
    " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
SESSION_COLUMNS = "sha256, principal, credential_sha256, created_at, seen_at"
# Digests, not secrets: whoever reads the file cannot sign in with them.
ADD_SESSION = f"INSERT INTO sessions ({SESSION_COLUMNS}) VALUES ({_marks(SESSION_COLUMNS)})"
# max(): a repeated write must not set the time back.
SEEN_SESSION = "UPDATE sessions SET seen_at = max(seen_at, ?) WHERE sha256 = ?"
END_SESSION = "DELETE FROM sessions WHERE sha256 = ?"
ADD_USAGE = f"INSERT INTO usage ({USAGE_COLUMNS}) VALUES ({_marks(USAGE_COLUMNS)})"
ADD_DAY = (
    f"INSERT INTO usage_daily ({DAY_COLUMNS}) VALUES ({_marks(DAY_COLUMNS)})"
    " ON CONFLICT (day, key_id, model) DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in DAY_SUMS)
)
PUT_COUNTER = (
    "INSERT INTO counters (scope, kind, value, period, updated_at) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (scope, kind) DO UPDATE SET"
    " value = excluded.value, period = excluded.period, updated_at = excluded.updated_at"
)
PUT_LAST_USE = "UPDATE keys SET last_used_at = max(ifnull(last_used_at, 0), ?) WHERE id = ?"
PRUNE = (
    "DELETE FROM usage WHERE seq IN"
    f" (SELECT seq FROM usage WHERE at < ? ORDER BY at LIMIT {PRUNE_ROWS})"
)


class SqliteStore:
    """A `Store` in one file; an async context manager. Entering raises StoreFailure.

    `patience_s` is how long a call waits to start, locks of other programs included.
    """

    def __init__(
        self,
        path: Path,
        *,
        patience_s: float = PATIENCE_S,
        migrations: Sequence[Migration] | None = None,
    ) -> None:
        self.path = path
        self._db = SqliteThread(path, partial(open_database, path, migrations), patience_s)

    async def __aenter__(self) -> SqliteStore:
        await self._db.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._db.close()

    @property
    def trouble(self) -> str | None:
        """Return the current error, for health checks; None: the last write succeeded."""
        return self._db.trouble

    # Keys and named values

    async def load_keys(self) -> list[Key]:
        """Read every key. Raises StoreFailure when one cannot be read."""
        rows = await self._read(LOAD_KEYS)
        try:
            return [key_of(row) for row in rows]
        except msgspec.MsgspecError as error:
            raise StoreFailure(
                f"{self.path} holds a key that cannot be read ({error}): restore a backup in its"
                " place."
            ) from error

    async def put_keys(self, keys: Sequence[Key]) -> None:
        """Insert or update keys, all or none; durable on return."""
        values = [key_values(key) for key in keys]

        def put(db: sqlite3.Connection) -> None:
            with transaction(db, durable=True):
                db.executemany(PUT_KEY, values)

        await self._db.run(put)

    async def load_meta(self, name: str) -> bytes | None:
        """Read a named value; None: it is not set."""
        rows = await self._read("SELECT value FROM meta WHERE name = ?", (name,))
        return bytes(rows[0][0]) if rows else None

    async def put_meta(self, name: str, value: bytes) -> None:
        """Write a named value; durable on return."""
        await self._write(PUT_META, (name, value), durable=True)

    # Sessions

    async def load_sessions(self) -> list[SessionRow]:
        """Read every session."""
        rows = await self._read(f"SELECT {SESSION_COLUMNS} FROM sessions")
        return [SessionRow(*row) for row in rows]

    async def put_session(self, session: SessionRow) -> None:
        """Insert a session; durable on return."""
        await self._write(ADD_SESSION, structs.astuple(session), durable=True)

    async def note_sessions(self, seen: Mapping[bytes, int], ended: Collection[bytes]) -> None:
        """Write when sessions were last seen, and delete those that have ended, by digest."""
        last_seen = [(at, digest) for digest, at in seen.items()]
        gone = [(digest,) for digest in ended]

        def note(db: sqlite3.Connection) -> None:
            with transaction(db, durable=bool(gone)):
                db.executemany(SEEN_SESSION, last_seen)
                db.executemany(END_SESSION, gone)

        await self._db.run(note)

    # Counters and usage

    async def load_counters(self) -> list[CounterRow]:
        """Read every counter."""
        rows = await self._read("SELECT scope, kind, value, period, updated_at FROM counters")
        return [CounterRow(*row) for row in rows]

    async def drop_counters(self, before: float) -> int:
        """Delete counters not written since `before`, except keys' budgets; return how many."""
        # A total or monthly budget still counts when its key has not been used for weeks. Guests
        # have none, but older versions saved sums of theirs.
        statement = (
            "DELETE FROM counters WHERE updated_at < ?"
            " AND (kind NOT LIKE 'budget%' OR scope LIKE 'guest:%')"
        )
        return await self._write(statement, (before,))

    async def record(self, batch: Batch) -> None:
        """Write usage rows, their daily sums, counters and last uses, all or none."""
        await self._db.run(partial(_record, batch=batch))

    async def usage_by(
        self, first_day: str, last_day: str, *, key_id: str | None = None, model: str | None = None
    ) -> list[UsageDay]:
        """Read daily sums, both days included, ordered by day, key and model."""
        where, values = _where({"day >=": first_day, "day <=": last_day}, key_id, model)
        rows = await self._read(
            f"SELECT {DAY_COLUMNS} FROM usage_daily{where} ORDER BY day, key_id, model", values
        )
        return [UsageDay(*row) for row in rows]

    async def usage_rows(
        self,
        *,
        key_id: str | None = None,
        model: str | None = None,
        status: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> UsagePage:
        """Read single requests, newest first."""
        where, values = _where({"seq <": before, "status =": status}, key_id, model)
        rows = await self._read(
            f"SELECT {USAGE_COLUMNS}, seq FROM usage{where} ORDER BY seq DESC LIMIT ?",
            (*values, limit + 1),  # one more tells whether there is a next page
        )
        page = rows[:limit]
        return UsagePage(
            [usage_row(row[:-1]) for row in page], page[-1][-1] if len(rows) > limit else None
        )

    async def ttft_percentile(
        self,
        percent: int,
        first_day: str,
        last_day: str,
        *,
        key_id: str | None = None,
        model: str | None = None,
    ) -> Percentile:
        """Compute a percentile of the TTFT in milliseconds over the usage rows still kept."""
        span = {"at >=": _midnight(first_day), "at <": _midnight(last_day) + DAY_S}
        where, values = _where({**span, "ttft_ms >=": 0}, key_id, model)

        def read(db: sqlite3.Connection) -> Percentile:
            (count,) = db.execute(f"SELECT count(*) FROM usage{where}", values).fetchone()
            rank = max(-(-count * percent // 100), 1)  # nearest rank: rounded up, from 1
            found = db.execute(
                f"SELECT ttft_ms FROM usage{where} ORDER BY ttft_ms LIMIT 1 OFFSET ?",
                (*values, rank - 1),
            ).fetchone()
            return Percentile(found[0] if found else None, count)

        return await self._db.run(read, reads=True)

    async def find_usage_row(self, request_id: str) -> UsageRow | None:
        """Find one request by its id, the newest if there are several; None: there is none."""
        rows = await self._read(
            f"SELECT {USAGE_COLUMNS} FROM usage WHERE request_id = ? ORDER BY seq DESC LIMIT 1",
            (request_id,),
        )
        return usage_row(rows[0]) if rows else None

    async def prune(self, before_day: str) -> int:
        """Delete usage rows older than a UTC day; daily sums stay. Return how many were deleted."""
        before = _midnight(before_day)
        deleted = 0
        while True:
            batch = await self._write(PRUNE, (before,))
            deleted += batch
            if batch < PRUNE_ROWS:
                return deleted

    async def check_writable(self) -> None:
        """Write a small value to test whether writing works."""
        await self._write(PUT_META, ("written_at", str(int(time.time())).encode()))

    # The thread

    async def _read(self, statement: str, values: Values = ()) -> list[Values]:
        return await self._db.run(lambda db: db.execute(statement, values).fetchall(), reads=True)

    async def _write(self, statement: str, values: Values, *, durable: bool = False) -> int:
        def write(db: sqlite3.Connection) -> int:
            with transaction(db, durable=durable):
                return db.execute(statement, values).rowcount

        return await self._db.run(write)


def _record(db: sqlite3.Connection, batch: Batch) -> None:
    rows: list[Values] = []
    days: dict[tuple[int, str, str], list[int]] = {}
    for sent in batch.rows:
        row, amounts = usable(sent)
        rows.append(usage_values(row))
        sums = days.setdefault((int(row.at // DAY_S), row.key_id, row.model), [0] * len(DAY_SUMS))
        for place, amount in enumerate(amounts):
            sums[place] += amount
    with transaction(db):
        db.executemany(ADD_USAGE, rows)
        db.executemany(
            ADD_DAY,
            [(_day(day), key_id, model, *sums) for (day, key_id, model), sums in days.items()],
        )
        db.executemany(PUT_COUNTER, [structs.astuple(row) for row in batch.counters])
        db.executemany(PUT_LAST_USE, [(at, key_id) for key_id, at in batch.last_used.items()])


def _midnight(day: str) -> float:
    """Return the Unix time at which a UTC day begins."""
    return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()


def _day(number: int) -> str:
    return (EPOCH + timedelta(days=number)).isoformat()


def _where(
    conditions: Mapping[str, str | float | None], key_id: str | None, model: str | None
) -> tuple[str, Values]:
    stated = {
        condition: value
        for condition, value in {**conditions, "key_id =": key_id, "model =": model}.items()
        if value is not None
    }
    clause = " AND ".join(f"{condition} ?" for condition in stated)
    return (f" WHERE {clause}" if clause else ""), tuple(stated.values())
