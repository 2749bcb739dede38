"""Keep all data in a PostgreSQL database that several nodes share.

Calls on the way of a request and changes of keys fail after `patience_s`, and at once while the
database is known to be away. Usage is never refused for that: what cannot be saved waits in the
spool, a directory of this node alone, and is saved once when the database works again.

Up to 2 connections for each of look-ups, changes, usage and the owner's reads, one for the registry
of nodes, and one that listens for notifications.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import asyncpg

from server.store.key import Key
from server.store.migrate import Migration
from server.store.patience import StorePatience
from server.store.postgres.change_watch import ChangeWatch
from server.store.postgres.connector import Connector
from server.store.postgres.database_state import DatabaseState
from server.store.postgres.export_lease import ExportLease
from server.store.postgres.postgres_connections import READ, READ_SUMS, Connections, write
from server.store.postgres.postgres_errors import start_failure
from server.store.postgres.postgres_invitations import (
    END_INVITATION,
    LIST_INVITATIONS,
    insert_invitations,
    read_invitation,
)
from server.store.postgres.postgres_keys import (
    ADD_SESSION,
    FIND_BY_DIGEST,
    PREFIXES,
    PUT_META,
    PUT_META_IF_ABSENT,
    SELECT_KEYS,
    SELECT_META,
    SELECT_SESSIONS,
    SHARED_NAMES,
    change_sessions,
    insert_keys,
    key_conditions,
    key_of_record,
    list_statement,
    next_keys,
    note_change,
    plain_text,
    session_of_record,
    session_values,
    update_key,
)
from server.store.postgres.postgres_schema import migrate_database, open_at_start
from server.store.postgres.usage.postgres_usage import (
    COUNTERS_AFTER,
    DROP_COUNTERS,
    PRUNE,
    PRUNE_ROWS,
    counter_of_record,
    daily_sums,
    largest_sums,
    page_of_usage,
    ttft_of_rank,
)
from server.store.postgres.usage.usage_spool import UsageSpool
from server.store.postgres.usage.usage_writer import UsageWriter
from server.store.row_values import USAGE_COLUMNS, midnight, usage_row
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
from server.store.store import OWNER_META, READ_LIMIT_S
from server.store.usage_queries import (
    ALL_ROWS,
    PercentileQuery,
    RankingQuery,
    RowsQuery,
    SumsQuery,
)
from workers.errors import StoreUnavailable

if TYPE_CHECKING:
    from server.store.postgres.connector import Connection

log = logging.getLogger("roxy.store")

Result = TypeVar("Result")

PATIENCE_S = StorePatience().postgres_s
POLL_SHARE = 0.55
"""The part of the patience after which a look at the database counts as unanswered."""
NEXT_HOST_SHARE = 1 / 6
"""The part after which the next host of several is asked; a look has time for three of them."""
RECORD_S = 2.0
"""The longest write of usage, for which no request waits."""
BULK_S = 600.0
CLOSE_S = 1.0
KIND_SIZE = 2


class PostgresStore:
    """A `Store` in a PostgreSQL database; an async context manager. Entering raises StoreFailure.

    `spool` is for usage that waits while the database is away; None: then nothing is recorded.
    """

    def __init__(
        self,
        url: str,
        spool: UsageSpool | Path | None,
        *,
        patience_s: float = PATIENCE_S,
        read_limit_s: float = READ_LIMIT_S,
        migrations: Sequence[Migration] | None = None,
    ) -> None:
        self._connector = Connector(url, next_host_s=patience_s * NEXT_HOST_SHARE)
        self.patience_s = patience_s
        self.state = DatabaseState(self._connector.address)
        """Whether the database can be used, for others with connections to it."""
        some = partial(Connections, self._connector, self.state, size=KIND_SIZE)
        self._lookups = some(limit_s=patience_s, reads=True)
        self._writes = some(limit_s=patience_s)
        self._usage = some(limit_s=max(patience_s, RECORD_S))
        self._reads = some(limit_s=read_limit_s, reads=True)
        self.lease_connections = Connections(
            self._connector, self.state, size=1, limit_s=patience_s
        )
        """For the registry of nodes, whose rows are in this database."""
        self._all = [self._lookups, self._writes, self._usage, self._reads, self.lease_connections]
        files = UsageSpool(spool) if isinstance(spool, Path) else spool
        self._usage_writer = UsageWriter(self._usage, self.state, files)
        self._watch = ChangeWatch(
            self._connector,
            self.state,
            self._all,
            poll_limit_s=patience_s * POLL_SHARE,
            probe_write=self._probe_write,
        )
        self._migrations = migrations
        self._export_lease = ExportLease(self._writes, self.state)

    async def __aenter__(self) -> Self:
        await self._prepare()
        try:
            await self._watch.start()
            await self._usage_writer.start()
        except (StoreUnavailable, OSError) as error:
            await self._close()
            raise start_failure(self._connector.address, error.__cause__ or error) from error
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._close()

    async def _prepare(self) -> None:
        """Look at the database for the first time and migrate it."""
        connection = await open_at_start(self._connector)
        try:
            await migrate_database(self._connector, connection, self._migrations)
        finally:
            connection.terminate()

    async def _close(self) -> None:
        await self._usage_writer.aclose()
        await self._watch.aclose()
        await self._export_lease.end()
        for each in self._all:
            await each.aclose(CLOSE_S)
        await self._connector.aclose()

    @property
    def trouble(self) -> str | None:
        """Return why the database cannot be used, for health checks; None: it can."""
        return self.state.trouble

    @property
    def shared(self) -> bool:
        """Return True: other nodes write to the same database."""
        return True

    @property
    def address(self) -> str:
        """Return the host, port and name of the database."""
        return self._connector.address

    @property
    def pooled(self) -> bool:
        """Return whether a pooler stands in between, so that changes are found by polls alone."""
        return self._connector.pooled

    def more_connections(self, *, size: int, limit_s: float, reads: bool = False) -> Connections:
        """Return further connections, which are cut while the database is away, and close with it.

        `limit_s` is the longest call.
        """
        more = Connections(self._connector, self.state, size=size, limit_s=limit_s, reads=reads)
        self._all.append(more)
        return more

    def on_foreign_change(self, listener: Callable[[StoreChanges], None]) -> None:
        """Call `listener` with what other nodes change from now on."""
        self._watch.listen(listener)

    async def holds_export(self) -> bool:
        """Return whether this node is the one that writes the export now; it asks the database.

        The right expires after `export_lease.LEASE_S`, so ask again before each write.
        """
        return await self._export_lease.take()

    # Keys and named values

    async def load_keys(self) -> list[Key]:
        """Read every key. Raises StoreFailure when one cannot be read."""
        return await self._read_keys(SELECT_KEYS, limit_s=BULK_S)

    async def key_prefixes(self) -> bytes:
        """Read the first 8 bytes of every digest, those of secrets in their grace included."""
        rows = await self._reads.run(lambda db: db.fetch(PREFIXES), begin=READ, limit_s=BULK_S)
        return b"".join(row[0] or b"" for row in rows)

    async def find_key(self, key_id: str) -> Key | None:
        """Find a key by its id."""
        return await self._look_up(f"{SELECT_KEYS} WHERE k.id = $1", plain_text(key_id))

    async def find_key_by_digest(self, digest: bytes) -> Key | None:
        """Find the key with this digest, or with a secret in its grace that has it."""
        return await self._look_up(FIND_BY_DIGEST, digest)

    async def list_keys(self, query: KeyQuery) -> list[Key]:
        """Read the keys of a query by their creation."""
        statement, values = list_statement(query)
        begin = READ_SUMS if query.order == "spent" else READ
        rows = await self._reads.run(lambda db: db.fetch(statement, *values), begin=begin)
        return [key_of_record(row, self._connector.address) for row in rows]

    async def count_keys(self, query: KeyQuery | None = None) -> int:
        """Count the keys of a query, of all its pages."""
        where, values = key_conditions(query or KeyQuery())
        rows = await self._read(f"SELECT count(*) FROM keys k WHERE {where}", *values)
        return int(rows[0][0])

    async def find_keys(self, key_ids: Sequence[str]) -> list[Key]:
        """Read the keys with these ids, in any order; unknown ids are left out."""
        ids = [plain_text(key_id) for key_id in key_ids]
        return await self._read_keys(f"{SELECT_KEYS} WHERE k.id = ANY($1)", ids) if ids else []

    async def shared_names(self, names: Sequence[str]) -> set[str]:
        """Return those of the names that several keys have."""
        rows = await self._read(SHARED_NAMES, [plain_text(name) for name in names])
        return {row[0] for row in rows}

    async def replace_key(self, key: Key) -> bool:
        """Replace the key of the version before; False: it has another version, or is revoked."""

        async def replace(db: Connection) -> tuple[bool, list[int]]:
            numbers = await update_key(db, key)
            return numbers is not None, numbers or []

        try:
            return await self._change(replace)
        except StoreUnavailable:
            # The connection may have broken after the commit and before its answer.
            if await self._is_stored(key):
                return True
            raise

    async def add_keys(self, keys: Iterable[Key]) -> tuple[int, int]:
        """Insert the keys whose id and digest are unknown, all or none; see the protocol."""
        rest = iter(keys)
        first = await next_keys(rest)

        async def add(db: Connection) -> tuple[tuple[int, int], list[int]]:
            added, known, numbers = await insert_keys(db, chain(first, rest))
            return (added, known), numbers

        # A request waits for a key that is made, but only a command for an import.
        single = len(first) == 1
        try:
            return await self._change(add, limit_s=None if single else BULK_S)
        except StoreUnavailable:
            if single and await self._is_stored(first[0]):
                return 1, 0
            raise

    async def load_meta(self, name: str) -> bytes | None:
        """Read a named value; None: it is not set."""
        return await self._lookups.run(lambda db: db.fetchval(SELECT_META, name))

    async def put_meta(self, name: str, value: bytes) -> None:
        """Write a named value; durable on return."""

        async def put(db: Connection) -> tuple[None, list[int]]:
            await db.execute(PUT_META, name, value)
            changes = [("owner", b"")] if name == OWNER_META else []
            return None, await note_change(db, changes)

        await self._change(put)

    async def put_meta_if_absent(self, name: str, value: bytes) -> bytes:
        """Write a named value unless it is set; return what is stored afterwards."""

        async def put(db: Connection) -> tuple[bytes, list[int]]:
            done = await db.execute(PUT_META_IF_ABSENT, name, value)
            changes = [("owner", b"")] if name == OWNER_META and done == "INSERT 0 1" else []
            # A statement of its own sees what another transaction has just committed.
            stored: bytes = await db.fetchval(SELECT_META, name)
            return stored, await note_change(db, changes)

        return await self._change(put)

    # Sessions

    async def load_sessions(self) -> list[SessionRow]:
        """Read every session."""
        return [session_of_record(row) for row in await self._read(SELECT_SESSIONS)]

    async def find_session(self, digest: bytes) -> SessionRow | None:
        """Find a session that any node has begun and none has ended."""
        statement = f"{SELECT_SESSIONS} WHERE sha256 = $1"
        row = await self._lookups.run(lambda db: db.fetchrow(statement, digest))
        return session_of_record(row) if row is not None else None

    async def put_session(self, session: SessionRow) -> None:
        """Insert a session; durable on return."""
        await self._execute(ADD_SESSION, *session_values(session))

    async def note_sessions(self, seen: Mapping[bytes, int], ended: Collection[bytes]) -> None:
        """Write when sessions were last seen, and delete those that have ended, by digest."""

        async def note(db: Connection) -> tuple[None, list[int]]:
            return None, await change_sessions(db, seen, ended)

        await self._change(note)

    # Invitations

    async def add_invitations(self, invitations: Sequence[InvitationRow]) -> None:
        """Insert invitations, all or none, and delete old ones; durable on return."""
        await write(self._writes, self.state, partial(insert_invitations, rows=invitations))

    async def list_invitations(self) -> list[InvitationRow]:
        """Read the invitations, the newest first."""
        return [InvitationRow(*row.values()) for row in await self._read(LIST_INVITATIONS)]

    async def find_invitation(self, mark: bytes | str) -> InvitationRow | None:
        """Find an invitation by its digest (bytes) or its id; None: there is none."""
        return await self._lookups.run(lambda db: read_invitation(db, mark))

    async def end_invitation(
        self, invitation_id: str, ending: Literal["used", "revoked"], at: int
    ) -> bool:
        """Note how an invitation ends; see the protocol."""
        values = (ending, at, plain_text(invitation_id))
        return await self._execute(END_INVITATION, *values) == "UPDATE 1"

    # Counters and usage

    async def load_counters(self) -> list[CounterRow]:
        """Read every counter, in pieces: each read has a time limit."""
        rows: list[asyncpg.Record] = []
        last = ("", "")
        while found := await self._read(COUNTERS_AFTER, *last):
            rows += found
            last = (found[-1]["scope"], found[-1]["kind"])
        return [counter_of_record(row) for row in rows]

    async def drop_counters(self, before: float) -> int:
        """Delete counters not written since `before`, except keys' budgets; return how many."""
        return _count(await self._execute(DROP_COUNTERS, before, limit_s=READ_LIMIT_S))

    async def record(self, batch: Batch) -> None:
        """Write usage rows, their daily sums, counters and last uses, once for each batch id.

        While that is not possible the batch waits in the spool. Raises StoreUnavailable when the
        spool is full. What no column can hold is left out and logged.
        """
        await self._usage_writer.record(batch)

    async def usage_by(self, query: SumsQuery) -> list[UsageDay]:
        """Read sums over days."""
        return await self._reads.run(partial(daily_sums, query=query), begin=READ_SUMS)

    async def usage_ranking(self, query: RankingQuery) -> list[UsageDay]:
        """Read the groups whose sums are the largest, the largest first."""
        return await self._reads.run(partial(largest_sums, query=query), begin=READ_SUMS)

    async def usage_rows(self, query: RowsQuery = ALL_ROWS) -> UsagePage:
        """Read single requests, newest first."""
        return await self._reads.run(partial(page_of_usage, query=query), begin=READ)

    async def ttft_percentile(self, query: PercentileQuery) -> Percentile:
        """Compute a percentile of the TTFT in milliseconds over the usage rows still kept."""
        return await self._reads.run(partial(ttft_of_rank, query=query), begin=READ)

    async def find_usage_row(self, request_id: str) -> UsageRow | None:
        """Find one request by its id, the newest if there are several; None: there is none."""
        rows = await self._read(
            f"SELECT {USAGE_COLUMNS} FROM usage WHERE request_id = $1 ORDER BY seq DESC LIMIT 1",
            plain_text(request_id),
        )
        return usage_row(tuple(rows[0])) if rows else None

    async def usage_times(self, request_ids: Collection[str]) -> dict[str, float]:
        """Return the time of the newest row of each request that has one, by its id.

        Raises StoreUnavailable while usage waits in the spool.
        """
        if self._usage_writer.is_waiting:
            raise StoreUnavailable("Usage waits for the database.")
        rows = await self._read(
            "SELECT request_id, max(at) FROM usage WHERE request_id = ANY($1) GROUP BY 1",
            list(map(plain_text, request_ids)),
        )
        return {row[0]: row[1] for row in rows}

    async def prune(self, before_day: str) -> int:
        """Delete usage rows older than a UTC day; daily sums stay. Return how many were deleted."""
        before, deleted = midnight(before_day), 0
        while True:
            done = _count(await self._execute(PRUNE, before, limit_s=READ_LIMIT_S))
            deleted += done
            if done < PRUNE_ROWS:
                return deleted

    async def check_writable(self) -> None:
        """Write a small value to test whether writing works."""
        await self._execute(PUT_META, "written_at", str(int(time.time())).encode())

    # Calls

    async def _look_up(self, statement: str, value: str | bytes) -> Key | None:
        row = await self._lookups.run(lambda db: db.fetchrow(statement, value))
        return None if row is None else key_of_record(row, self._connector.address)

    async def _read(
        self, statement: str, *values: Any, limit_s: float | None = None
    ) -> list[asyncpg.Record]:
        return await self._reads.run(
            lambda db: db.fetch(statement, *values), begin=READ, limit_s=limit_s
        )

    async def _read_keys(
        self, statement: str, *values: Any, limit_s: float | None = None
    ) -> list[Key]:
        rows = await self._read(statement, *values, limit_s=limit_s)
        return [key_of_record(row, self._connector.address) for row in rows]

    async def _execute(self, statement: str, *values: Any, limit_s: float | None = None) -> str:
        return await write(
            self._writes, self.state, lambda db: db.execute(statement, *values), limit_s=limit_s
        )

    async def _change(
        self,
        work: Callable[[Connection], Awaitable[tuple[Result, list[int]]]],
        *,
        limit_s: float | None = None,
    ) -> Result:
        """Run a transaction whose changes other nodes read; `work` returns their numbers."""
        numbers: list[int] = []

        async def changing(db: Connection) -> Result:
            result, noted = await work(db)
            numbers.extend(noted)
            self._watch.expect(noted)
            return result

        try:
            return await write(self._writes, self.state, changing, limit_s=limit_s)
        except BaseException:
            self._watch.forget(numbers)
            raise

    async def _is_stored(self, key: Key) -> bool:
        """Return whether exactly this state of a key is stored; False if that cannot be read."""
        try:
            stored = await self.find_key(key.id)
        except StoreUnavailable:
            return False
        return stored is not None and (stored.version, stored.digest, stored.status) == (
            key.version,
            key.digest,
            key.status,
        )

    async def _probe_write(self) -> None:
        with contextlib.suppress(StoreUnavailable):
            await self.check_writable()


def _count(done: str) -> int:
    """Return how many rows a statement has changed, from its tag: "DELETE 5"."""
    return int(done.rpartition(" ")[2])
