"""Keep all data in one SQLite file.

Each write is one transaction in the database's thread. Key changes are synced to the disk before
they return (synchronous FULL), usage is not (NORMAL): a killed process loses no committed usage, a
power failure may lose that of the last moments, and neither damages the file.

The owner's pages read on a second connection with a thread of its own, so that writes never wait
for them; each read sees what was committed when it began (https://www.sqlite.org/wal.html). A third
connection finds single keys on the caller's thread.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, Self

import msgspec
from msgspec import structs

from server.store.key import Key
from server.store.migrate import Migration
from server.store.row_values import USAGE_COLUMNS, LeftOut, Values, midnight, usage_row
from server.store.rows import (
    Batch,
    CounterRow,
    InvitationRow,
    KeyQuery,
    Percentile,
    SessionRow,
    StoreChanges,
    UsageDay,
    UsagePage,
    UsageRow,
)
from server.store.sqlite.sqlite_file import PATIENCE_S, connect, open_database
from server.store.sqlite.sqlite_rows import (
    ADD_INVITATION,
    ADD_KEY,
    ADD_META,
    ADD_SESSION,
    END_INVITATION,
    END_SESSION,
    FIND_COSTS,
    FIND_COUNTERS,
    FIND_INVITATION,
    FIND_META,
    INVITATION_OF_ID,
    KEY_PREFIXES,
    LIST_INVITATIONS,
    LOAD_KEYS,
    PIECE,
    PRUNE,
    PRUNE_ROWS,
    PUT_META,
    REPLACE_KEY,
    SEEN_SESSION,
    SESSION_COLUMNS,
    invitation_of,
    key_conditions,
    key_of,
    key_values,
    list_statement,
    marks,
)
from server.store.sqlite.sqlite_thread import SqliteThread, transaction
from server.store.sqlite.sqlite_usage import (
    pieces,
    read_page,
    read_percentile,
    read_ranking,
    read_sums,
    read_times,
    record,
)
from server.store.store import (
    INVITATIONS_KEPT_S,
    KEYS_STATE_META,
    READ_LIMIT_S,
    UNREADABLE,
    StoreFailure,
)
from server.store.usage_queries import (
    ALL_ROWS,
    PercentileQuery,
    RankingQuery,
    RowsQuery,
    SumsQuery,
)
from workers.errors import StoreUnavailable
from workers.units import KIB

log = logging.getLogger("roxy.store")

READ_CACHE_BYTES = 16_384 * KIB
LOOKUP_PATIENCE_S = 0.05
"""Reads wait for a lock only while another program recovers the file; the event loop waits here."""


class SqliteStore:
    """A `Store` in one file; an async context manager. Entering raises StoreFailure.

    `patience_s` is how long a call waits to start, locks of other programs included, and
    `read_limit_s` how long a read of the owner may take.
    """

    def __init__(
        self,
        path: Path,
        *,
        patience_s: float = PATIENCE_S,
        read_limit_s: float = READ_LIMIT_S,
        migrations: Sequence[Migration] | None = None,
    ) -> None:
        self.path = path
        self._db = SqliteThread(path, partial(open_database, path, migrations), patience_s)
        self._reads = SqliteThread(
            path, self._open_for_reads, max(patience_s, READ_LIMIT_S), limit_s=read_limit_s
        )
        self._lookup: sqlite3.Connection | None = None
        self._left_out = LeftOut()

    async def __aenter__(self) -> Self:
        await self._db.start()
        try:
            await self._reads.start()
            self._lookup = connect(self.path, "ro", patience_s=LOOKUP_PATIENCE_S)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._close()

    async def _close(self) -> None:
        if self._lookup is not None:
            self._lookup.close()
            self._lookup = None
        try:
            await self._reads.close()
        finally:
            # Last: only a connection that may write can delete the -wal when it closes.
            await self._db.close()

    def _open_for_reads(self) -> sqlite3.Connection:
        db = connect(self.path, "ro")
        db.execute(f"PRAGMA cache_size = -{READ_CACHE_BYTES // KIB}")
        return db

    @property
    def shared(self) -> bool:
        """Return False: the file is locked against other gateways."""
        return False

    async def holds_export(self) -> bool:
        """Return True: no other node has this file."""
        return True

    def on_foreign_change(self, _listener: Callable[[StoreChanges], None]) -> None:
        """Ignore the listener: no other process writes to the file."""

    @property
    def trouble(self) -> str | None:
        """Return the current error, for health checks; None: the last write succeeded."""
        return self._db.trouble

    # Keys and named values

    async def load_keys(self) -> list[Key]:
        """Read every key. Raises StoreFailure when one cannot be read."""
        rows = await self._db.run(lambda db: db.execute(LOAD_KEYS).fetchall(), reads=True)
        return [self._key(row) for row in rows]

    async def key_prefixes(self) -> bytes:
        """Read the first 8 bytes of every digest, those of secrets in their grace included."""
        return await self._db.run(_read_prefixes, reads=True)

    async def find_key(self, key_id: str) -> Key | None:
        """Find a key by its id, on the caller's thread: some microseconds."""
        return self._look_up(f"{LOAD_KEYS} WHERE id = ?", key_id)

    async def find_key_by_digest(self, digest: bytes) -> Key | None:
        """Find the key with this digest, or with a secret in its grace that has it."""
        return self._look_up(f"{LOAD_KEYS} WHERE sha256 = ?", digest) or self._look_up(
            f"{LOAD_KEYS} WHERE previous_sha256 = ?", digest
        )

    async def list_keys(self, query: KeyQuery) -> list[Key]:
        """Read the keys of a query in its order."""
        statement, values = list_statement(query)
        if query.order == "created":
            return [self._key(row) for row in await self._read(statement, values)]
        ids = [row[0] for row in await self._read(statement, values)]
        found = {key.id: key for key in await self.find_keys(ids)}
        return [found[key_id] for key_id in ids if key_id in found]

    async def count_keys(self, query: KeyQuery | None = None) -> int:
        """Count the keys of a query, of all its pages."""
        where, values = key_conditions(query or KeyQuery())
        statement = f"SELECT count(*) FROM keys WHERE {where}"
        return int((await self._read(statement, values))[0][0])

    async def find_keys(self, key_ids: Sequence[str]) -> list[Key]:
        """Read the keys with these ids, in any order; unknown ids are left out."""
        return [
            self._key(row)
            for piece in pieces(key_ids)
            for row in await self._read(
                f"{LOAD_KEYS} WHERE id IN ({marks(len(piece))})", tuple(piece)
            )
        ]

    async def shared_names(self, names: Sequence[str]) -> set[str]:
        """Return those of the names that several keys have."""
        return {
            row[0]
            for piece in pieces(names)
            for row in await self._read(
                f"SELECT name FROM keys WHERE name IN ({marks(len(piece))})"
                " GROUP BY name HAVING count(*) > 1",
                tuple(piece),
            )
        }

    async def replace_key(self, key: Key) -> bool:
        """Replace the state of a key before its version; see the protocol."""
        values = (*key_values(key), key.id, key.version - 1)

        def replace(db: sqlite3.Connection) -> bool:
            with transaction(db, durable=True):
                replaced = db.execute(REPLACE_KEY, values).rowcount == 1
                if replaced:
                    _mark_keys_changed(db)
            return replaced

        return await self._db.run(replace)

    async def add_keys(self, keys: Iterable[Key]) -> tuple[int, int]:
        """Insert the keys whose id and digest are unknown, all or none; see the protocol."""

        def add(db: sqlite3.Connection) -> tuple[int, int]:
            added = given = 0
            with transaction(db, durable=True):
                for key in keys:
                    added += db.execute(ADD_KEY, key_values(key)).rowcount
                    given += 1
                _mark_keys_changed(db)
            return added, given - added

        return await self._db.run(add)

    async def load_meta(self, name: str) -> bytes | None:
        """Read a named value; None: it is not set."""
        rows = await self._db.run(lambda db: db.execute(FIND_META, (name,)).fetchall(), reads=True)
        return bytes(rows[0][0]) if rows else None

    async def put_meta(self, name: str, value: bytes) -> None:
        """Write a named value; durable on return."""
        await self._write(PUT_META, (name, value), durable=True)

    async def put_meta_if_absent(self, name: str, value: bytes) -> bytes:
        """Write a named value unless it is set, and return the one that is set now."""

        def put(db: sqlite3.Connection) -> bytes:
            with transaction(db, durable=True):
                db.execute(ADD_META, (name, value))
                return bytes(db.execute(FIND_META, (name,)).fetchone()[0])

        return await self._db.run(put)

    # Sessions

    async def load_sessions(self) -> list[SessionRow]:
        """Read every session."""
        rows = await self._read(f"SELECT {SESSION_COLUMNS} FROM sessions")
        return [SessionRow(*row) for row in rows]

    async def find_session(self, digest: bytes) -> SessionRow | None:
        """Find a session by its digest; None: there is none."""
        rows = await self._read(
            f"SELECT {SESSION_COLUMNS} FROM sessions WHERE sha256 = ?", (digest,)
        )
        return SessionRow(*rows[0]) if rows else None

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

    # Invitations

    async def add_invitations(self, invitations: Sequence[InvitationRow]) -> None:
        """Insert invitations, all or none, and delete old ones; durable on return."""
        rows = [structs.astuple(one) for one in invitations]
        before = max(one.created_at for one in invitations) - INVITATIONS_KEPT_S

        def add(db: sqlite3.Connection) -> None:
            with transaction(db, durable=True):
                db.execute("DELETE FROM invitations WHERE expires_at < ?", (before,))
                db.executemany(ADD_INVITATION, rows)

        await self._db.run(add)

    async def list_invitations(self) -> list[InvitationRow]:
        """Read the invitations, the newest first."""
        return [invitation_of(row) for row in await self._read(LIST_INVITATIONS)]

    async def find_invitation(self, mark: bytes | str) -> InvitationRow | None:
        """Find an invitation by its digest (bytes) or its id; None: there is none."""
        statement = FIND_INVITATION if isinstance(mark, bytes) else INVITATION_OF_ID
        rows = await self._read(statement, (mark,))
        return invitation_of(rows[0]) if rows else None

    async def end_invitation(
        self, invitation_id: str, ending: Literal["used", "revoked"], at: int
    ) -> bool:
        """Note how an invitation ends; see the protocol."""
        values = (ending, at, invitation_id, at)
        return await self._write(END_INVITATION, values, durable=True) == 1

    # Counters and usage

    async def load_counters(self) -> list[CounterRow]:
        """Read every counter, in pieces: each read has a time limit."""
        find = f"{FIND_COUNTERS} WHERE (scope, kind) > (?, ?) ORDER BY scope, kind LIMIT {PIECE}"
        rows: list[Values] = []
        while found := await self._read(find, rows[-1][:2] if rows else ("", "")):
            rows += found
        return [CounterRow(*row) for row in rows]

    def find_counters(self, scope: str) -> list[CounterRow]:
        """Read the counters of a scope, at once. Raises StoreUnavailable."""
        rows = self._look_up_all(f"{FIND_COUNTERS} WHERE scope = ?", scope)
        return [CounterRow(*row) for row in rows]

    def find_costs(self, key_id: str, since: str) -> list[tuple[str, int]]:
        """Read what a key has spent on each day since one, at once. Raises StoreUnavailable."""
        return [(row[0], row[1]) for row in self._look_up_all(FIND_COSTS, key_id, since)]

    async def drop_counters(self, before: float) -> int:
        """Delete counters not written since `before`, except keys' budgets; return how many."""
        # A total or monthly budget still counts when its key has not been used for weeks. Guests
        # have none, but older versions saved sums of theirs.
        find = (
            "SELECT scope, kind FROM counters WHERE updated_at < ?"
            " AND (kind NOT LIKE 'budget%' OR scope LIKE 'guest:%') AND (scope, kind) > (?, ?)"
            f" ORDER BY scope, kind LIMIT {PRUNE_ROWS}"
        )
        dropped, last = 0, ("", "")
        while found := await self._read(find, (before, *last)):
            dropped += await self._db.run(partial(_drop_counters, found=found, before=before))
            last = (found[-1][0], found[-1][1])
        return dropped

    async def record(self, batch: Batch) -> None:
        """Write usage rows, their daily sums, counters and last uses, all or none.

        What no column can hold is left out and logged.
        """
        self._left_out.note(await self._db.run(partial(record, batch=batch)))

    async def usage_by(self, query: SumsQuery) -> list[UsageDay]:
        """Read sums over days."""
        return await self._reads.run(partial(read_sums, query=query), reads=True)

    async def usage_ranking(self, query: RankingQuery) -> list[UsageDay]:
        """Read the groups whose sums are the largest, the largest first."""
        return await self._reads.run(partial(read_ranking, query=query), reads=True)

    async def usage_rows(self, query: RowsQuery = ALL_ROWS) -> UsagePage:
        """Read single requests, newest first."""
        return await self._reads.run(partial(read_page, query=query), reads=True)

    async def ttft_percentile(self, query: PercentileQuery) -> Percentile:
        """Compute a percentile of the TTFT in milliseconds over the usage rows still kept."""
        return await self._reads.run(partial(read_percentile, query=query), reads=True)

    async def find_usage_row(self, request_id: str) -> UsageRow | None:
        """Find one request by its id, the newest if there are several; None: there is none."""
        rows = await self._read(
            f"SELECT {USAGE_COLUMNS} FROM usage WHERE request_id = ? ORDER BY seq DESC LIMIT 1",
            (request_id,),
        )
        return usage_row(rows[0]) if rows else None

    async def usage_times(self, request_ids: Collection[str]) -> dict[str, float]:
        """Return the time of the newest row of each request that has one, by its id."""
        return await self._reads.run(partial(read_times, request_ids=request_ids), reads=True)

    async def prune(self, before_day: str) -> int:
        """Delete usage rows older than a UTC day; daily sums stay. Return how many were deleted."""
        before = midnight(before_day)
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
        def read(db: sqlite3.Connection) -> list[Values]:
            return db.execute(statement, values).fetchall()

        return await self._reads.run(read, reads=True)

    def _look_up(self, statement: str, value: str | bytes) -> Key | None:
        rows = self._look_up_all(statement, value)
        return self._key(rows[0]) if rows else None

    def _look_up_all(self, statement: str, *values: str | bytes) -> list[Values]:
        if self._lookup is None:
            raise StoreUnavailable(UNREADABLE)
        try:
            return self._lookup.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            log.warning("%s cannot be read: %s", self.path, error)
            raise StoreUnavailable(UNREADABLE) from error

    def _key(self, row: Values) -> Key:
        try:
            return key_of(row)
        except msgspec.MsgspecError as error:
            raise StoreFailure(
                f"{self.path} holds a key that cannot be read ({error}): restore a backup in its"
                " place."
            ) from error

    async def _write(self, statement: str, values: Values, *, durable: bool = False) -> int:
        def write(db: sqlite3.Connection) -> int:
            with transaction(db, durable=durable):
                return db.execute(statement, values).rowcount

        return await self._db.run(write)


def _read_prefixes(db: sqlite3.Connection) -> bytes:
    return b"".join([bytes.fromhex(row[0] or "") for row in db.execute(KEY_PREFIXES)])


def _mark_keys_changed(db: sqlite3.Connection) -> None:
    """Replace the name of the state of the keys, by which the export knows whether it is true."""
    db.execute(PUT_META, (KEYS_STATE_META, secrets.token_bytes(8)))


def _drop_counters(db: sqlite3.Connection, found: Sequence[Values], before: float) -> int:
    """Delete counters that a read has found, unless they were written since then."""
    values = [(scope, kind, before) for scope, kind in found]
    with transaction(db):
        statement = "DELETE FROM counters WHERE scope = ? AND kind = ? AND updated_at < ?"
        return db.executemany(statement, values).rowcount
