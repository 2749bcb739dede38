"""Keys, named values and sessions in PostgreSQL: the statements, and rows from and to objects.

What other nodes must read again is noted in the transaction that changes it (`note_change`). The
row of `change_count` is locked last and until the commit, so numbers are given in the order of the
commits, and two changes never deadlock.
"""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec
from msgspec import structs

from server.store.key import Key, Limits
from server.store.row_values import MODELS
from server.store.rows import KeyOrder, KeyQuery, SessionRow
from server.store.store import KEYS_STATE_META, PREFIX_BYTES, StoreFailure

if TYPE_CHECKING:
    from server.store.postgres.connector import Connection

CHANNEL = "roxy_changes"
IMPORT_KEYS = 500
"""Keys of an import in one statement."""
MAX_SINGLE_CHANGES = 50
"""New keys that other nodes read one by one; after more they read everything again."""
IMPORT_LOCK = 0x526F7880
"""The number of the advisory lock that imports take: two could wait for each other's keys."""

LIMIT_COLUMNS = Limits.__struct_fields__
COLUMNS = {
    "id": "text",
    "name": "text",
    "redacted": "text",
    "sha256": "bytea",
    "created_at": "int8",
    "expires_at": "int8",
    "status": "text",
    "models": "text",
    "requests_per_minute": "int8",
    "tokens_per_minute": "int8",
    "concurrent_requests": "int8",
    "budget_microusd": "int8",
    "budget_period": "text",
    "weight": "int8",
    "previous_sha256": "bytea",
    "previous_until": "int8",
    "version": "int8",
    "note": "text",
}
"""The columns of a key and their types; the last use is in a table of its own."""
NAMES = ", ".join(COLUMNS)
SELECT_KEYS = (
    f"SELECT {', '.join(f'k.{name}' for name in COLUMNS)}, u.last_used_at"
    " FROM keys k LEFT JOIN key_uses u ON u.key_id = k.id"
)
FIND_BY_DIGEST = (
    f"{SELECT_KEYS} WHERE k.sha256 = $1 OR k.previous_sha256 = $1"
    " ORDER BY k.sha256 = $1 DESC LIMIT 1"
)
PREFIXES = (
    f"SELECT string_agg(substring(sha256 FROM 1 FOR {PREFIX_BYTES}), ''::bytea) FROM keys"
    f" UNION ALL SELECT string_agg(substring(previous_sha256 FROM 1 FOR {PREFIX_BYTES}),"
    " ''::bytea) FROM keys WHERE previous_sha256 IS NOT NULL"
)
SORTS: dict[KeyOrder, str] = {
    "created": "k.created_at",
    "name": "lower(k.name)",
    "used": "coalesce(u.last_used_at, 0)",
    "spent": "coalesce(s.spent, 0)",
}
"""What keys are sorted by; with the collation "C", lower() changes ASCII letters only."""
SHARED_NAMES = "SELECT name FROM keys WHERE name = ANY($1) GROUP BY name HAVING count(*) > 1"
_ARRAYS = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(COLUMNS.values(), 1))
ADD_KEYS = (
    f"INSERT INTO keys ({NAMES}) SELECT * FROM unnest({_ARRAYS})"
    " ON CONFLICT DO NOTHING RETURNING id"
)
# Compare and set: the stored version must be the one before. A revoked key stays revoked whatever
# a node, whose view may be old, wants to write.
REPLACE_KEY = (
    "UPDATE keys SET "
    + ", ".join(
        f"{name} = ${place}"
        for place, name in enumerate(COLUMNS, 1)
        if name not in ("id", "created_at")
    )
    + f" WHERE id = $1 AND version = ${list(COLUMNS).index('version') + 1} - 1 AND created_at = $5"
    " AND status <> 'revoked'"
)
# Only for keys that exist; the later use counts, whichever node saw it.
PUT_USES = (
    "INSERT INTO key_uses (key_id, last_used_at)"
    " SELECT u.key_id, u.at FROM unnest($1::text[], $2::int8[]) AS u (key_id, at)"
    " JOIN keys k ON k.id = u.key_id ORDER BY u.key_id"
    " ON CONFLICT (key_id) DO UPDATE SET"
    " last_used_at = greatest(key_uses.last_used_at, excluded.last_used_at)"
)
PUT_META = (
    "INSERT INTO meta (name, value) VALUES ($1, $2)"
    " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
PUT_META_IF_ABSENT = "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING"
SELECT_META = "SELECT value FROM meta WHERE name = $1"
COUNT_CHANGE = "UPDATE change_count SET last = last + 1, token = $1 RETURNING last"
NOTE_CHANGE = "INSERT INTO changes (number, token, kind, id) VALUES ($1, $2, $3, $4)"

SESSION_COLUMNS = "sha256, principal, credential_sha256, created_at, seen_at"
SELECT_SESSIONS = f"SELECT {SESSION_COLUMNS} FROM sessions"
ADD_SESSION = f"INSERT INTO sessions ({SESSION_COLUMNS}) VALUES ($1, $2, $3, $4, $5)"
# The rows are locked in the order of their digests, so that two nodes never deadlock.
# greatest(): a repeated write must not set the time back.
SEEN_SESSIONS = (
    "WITH seen AS (SELECT * FROM unnest($1::bytea[], $2::int8[]) AS s (digest, at)), locked AS"
    " (SELECT sha256 FROM sessions WHERE sha256 = ANY($1) ORDER BY sha256 FOR NO KEY UPDATE)"
    " UPDATE sessions SET seen_at = greatest(seen_at, seen.at) FROM seen JOIN locked"
    " ON locked.sha256 = seen.digest WHERE sessions.sha256 = seen.digest"
)
END_SESSIONS = (
    "WITH locked AS (SELECT sha256 FROM sessions WHERE sha256 = ANY($1) ORDER BY sha256 FOR UPDATE)"
    " DELETE FROM sessions WHERE sha256 IN (SELECT sha256 FROM locked) RETURNING sha256"
)

Change = tuple[str, bytes]
"""The kind of a change (key, session, owner, all) and the id of what has changed."""


def values_of_key(key: Key) -> tuple[Any, ...]:
    """Return the values of a key in the order of COLUMNS."""
    return (
        key.id,
        key.name,
        key.redacted,
        key.digest,
        key.created_at,
        key.expires_at,
        key.status,
        None if key.models is None else msgspec.json.encode(key.models).decode(),
        *(getattr(key.limits, name) for name in LIMIT_COLUMNS),
        key.weight,
        key.previous_digest,
        key.previous_until,
        key.version,
        key.note,
    )


def key_of_record(row: asyncpg.Record, address: str) -> Key:
    """Return the key of a row of SELECT_KEYS. Raises StoreFailure for unreadable models."""
    try:
        models = None if row["models"] is None else MODELS.decode(row["models"])
    except msgspec.MsgspecError as error:
        raise StoreFailure(
            f"The database {address} holds a key that cannot be read ({error}): restore a backup."
        ) from error
    return Key(
        id=row["id"],
        name=row["name"],
        redacted=row["redacted"],
        digest=row["sha256"],
        created_at=row["created_at"],
        last_used_at=row["last_used_at"],
        expires_at=row["expires_at"],
        status=row["status"],
        models=models,
        limits=Limits(*(row[name] for name in LIMIT_COLUMNS)),
        weight=row["weight"],
        previous_digest=row["previous_sha256"],
        previous_until=row["previous_until"],
        version=row["version"],
        note=row["note"],
    )


def plain_text(text: str) -> str:
    """Return a text to search for without NUL, which PostgreSQL's text cannot hold."""
    return text.replace("\0", "\ufffd")


def key_conditions(query: KeyQuery) -> tuple[str, list[Any]]:
    """Return the conditions of a query and their values, which begin with $1."""
    clauses, values = ["true"], list[Any]()
    # The status is written out, so that the index of the revoked keys can be used.
    if query.revoked is not None:
        clauses.append(f"k.status {'=' if query.revoked else '<>'} 'revoked'")
    if query.name:
        values.append(plain_text(query.name))
        clauses.append(f"k.name = ${len(values)}")
    if query.search:
        # With the collation "C", ILIKE ignores the case of ASCII letters only, as LIKE in SQLite.
        values.append([f"%{_escaped(plain_text(word))}%" for word in query.searched])
        tests = " OR ".join(
            f"k.{name} ILIKE ANY (${len(values)}::text[])"
            for name in ("name", "note", "redacted", "id")
        )
        clauses.append(f"({tests})")
    return " AND ".join(clauses), values


def _escaped(text: str) -> str:
    """Escape the wildcards of LIKE with its default escape character: ANY takes no other."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def list_statement(query: KeyQuery) -> tuple[str, list[Any]]:
    """Return the statement that reads one page of keys, and its values."""
    where, values = key_conditions(query)
    way = " DESC" if query.descending else ""
    sort = SORTS[query.order]
    if query.after is not None:
        values.append(plain_text(query.after))
        where += (
            f" AND (k.created_at, k.id) {'<' if query.descending else '>'}"
            f" (SELECT created_at, id FROM keys WHERE id = ${len(values)})"
        )
    order = f"ORDER BY {sort}{way}, k.id{way}"
    part = f"LIMIT ${len(values) + 1} OFFSET ${len(values) + 2}"
    values += [query.limit, query.offset]
    if query.order != "spent":
        return f"{SELECT_KEYS} WHERE {where} {order} {part}", values
    values.append(query.since)
    # Only ids and sums are sorted: whole keys would not fit into memory where there are many.
    page = (
        f"SELECT k.id, {sort} AS spent FROM keys k LEFT JOIN (SELECT key_id, sum(cost_microusd)"
        f" AS spent FROM usage_daily WHERE day >= ${len(values)} GROUP BY key_id) AS s"
        f" ON s.key_id = k.id WHERE {where} {order} {part}"
    )
    statement = f"WITH s AS ({page}) {SELECT_KEYS} JOIN s ON s.id = k.id"
    return f"{statement} {order}", values


# Changes, inside a transaction


async def note_change(db: Connection, changes: Iterable[Change]) -> list[int]:
    """Note what has changed, for all nodes; return the numbers, which the commit makes known."""
    numbers = []
    for kind, changed in changes:
        token = uuid.uuid4()
        numbers.append(await db.fetchval(COUNT_CHANGE, token))
        await db.execute(NOTE_CHANGE, numbers[-1], token, kind, changed)
    if numbers:
        await db.execute("SELECT pg_notify($1, $2)", CHANNEL, str(numbers[-1]))
    return numbers


async def _mark_keys_changed(db: Connection) -> None:
    """Replace the name of the state of the keys, by which the export knows whether it is true."""
    await db.execute(PUT_META, KEYS_STATE_META, secrets.token_bytes(8))


async def update_key(db: Connection, key: Key) -> list[int] | None:
    """Replace a key of the version before; None: it has another version, or is revoked."""
    if await db.execute(REPLACE_KEY, *values_of_key(key)) != "UPDATE 1":
        return None
    if key.last_used_at is not None:
        await db.execute(PUT_USES, [key.id], [key.last_used_at])
    await _mark_keys_changed(db)
    return await note_change(db, [("key", key.id.encode())])


async def insert_keys(db: Connection, keys: Iterable[Key]) -> tuple[int, int, list[int]]:
    """Insert the keys whose id and digest are unknown; return how many, and how many were known."""
    new: set[str] = set()
    added = given = 0
    rest = iter(keys)
    await db.execute("SELECT pg_advisory_xact_lock($1)", IMPORT_LOCK)
    while piece := await next_keys(rest):
        given += len(piece)
        rows = await db.fetch(ADD_KEYS, *zip(*map(values_of_key, piece), strict=True))
        new = {row["id"] for row in rows}
        added += len(new)
        used = {key.id: key.last_used_at for key in piece if key.id in new and key.last_used_at}
        if used:
            await db.execute(PUT_USES, list(used), list(used.values()))
    await _mark_keys_changed(db)
    changes: list[Change] = [("all", b"")]
    if added <= MAX_SINGLE_CHANGES and given <= IMPORT_KEYS:  # then `new` has all of them
        changes = [("key", key_id.encode()) for key_id in sorted(new)]
    return added, given - added, await note_change(db, changes)


async def next_keys(keys: Iterator[Key]) -> list[Key]:
    """Return the next keys of an import, in a thread: it may read and decode a large file."""
    return await asyncio.to_thread(lambda: list(islice(keys, IMPORT_KEYS)))


async def change_sessions(
    db: Connection, seen: Mapping[bytes, int], ended: Collection[bytes]
) -> list[int]:
    """Write the last uses of sessions and delete those that have ended; return the changes."""
    if seen:
        await db.execute(SEEN_SESSIONS, list(seen), list(seen.values()))
    gone = await db.fetch(END_SESSIONS, list(ended)) if ended else []
    return await note_change(db, [("session", row["sha256"]) for row in gone])


def session_of_record(row: asyncpg.Record) -> SessionRow:
    """Return the session of a row of SELECT_SESSIONS."""
    return SessionRow(*row.values())


def session_values(session: SessionRow) -> Sequence[Any]:
    """Return the values of a session in the order of its columns."""
    return structs.astuple(session)
