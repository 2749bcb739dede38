"""The statements about keys, sessions and invitations in SQLite, and rows from and to objects."""

from __future__ import annotations

import re

import msgspec
from msgspec import structs

from server.store.key import Key, Limits
from server.store.row_values import INVITATION_COLUMNS, MODELS, Values
from server.store.rows import (
    InvitationRow,
    KeyOrder,
    KeyQuery,
)
from server.store.store import INVITATIONS_LISTED, PREFIX_BYTES


def marks(count: int) -> str:
    """Return the placeholders of so many values."""
    return ", ".join("?" * count)


KEY_COLUMNS = (
    "id, name, redacted, sha256, created_at, last_used_at, expires_at, status, models,"
    " requests_per_minute, tokens_per_minute, concurrent_requests, budget_microusd, budget_period,"
    " weight, previous_sha256, previous_until, version,"
    " note"
)
LOAD_KEYS = f"SELECT {KEY_COLUMNS} FROM keys"
SEARCHED = ("name", "note", "redacted", "id")
"""The columns that a search looks into."""
SORTS: dict[KeyOrder, str] = {
    "created": "created_at",
    "name": "name COLLATE NOCASE",
    "used": "ifnull(last_used_at, 0)",
    "spent": "ifnull(spent, 0)",
}
FIND_COUNTERS = "SELECT scope, kind, value, period, updated_at FROM counters"
FIND_COSTS = (
    "SELECT day, sum(cost_microusd) FROM usage_daily"
    " WHERE key_id = ? AND day >= ? AND cost_microusd > 0 GROUP BY day"
)
PIECE = 50_000
"""Rows of a table that one statement reads at most: each has a time limit."""
PRUNE_ROWS = 2000
"""Rows deleted in one call: about 20 ms, so that key changes in between do not wait for long."""
KEY_COUNT = KEY_COLUMNS.count(",") + 1
# As one text: SQLite makes it without Python's lock, four times as fast as a row for each key.
KEY_PREFIXES = (
    f"SELECT group_concat(hex(substr(sha256, 1, {PREFIX_BYTES})), '') FROM keys"
    f" UNION ALL SELECT group_concat(hex(substr(previous_sha256, 1, {PREFIX_BYTES})), '')"
    " FROM keys WHERE previous_sha256 IS NOT NULL"
)
REPLACE_KEY = (
    "UPDATE keys SET "
    + ", ".join(
        # `record` may have written a later last use since the caller read the key.
        "last_used_at = nullif(max(ifnull(last_used_at, 0), ifnull(?, 0)), 0)"
        if name == "last_used_at"
        else f"{name} = ?"
        for name in KEY_COLUMNS.split(", ")
    )
    + " WHERE id = ? AND version = ? AND status <> 'revoked'"
)
ADD_KEY = f"INSERT INTO keys ({KEY_COLUMNS}) VALUES ({marks(KEY_COUNT)}) ON CONFLICT DO NOTHING"
FIND_META = "SELECT value FROM meta WHERE name = ?"
ADD_META = "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING"
PUT_META = (
    "INSERT INTO meta (name, value) VALUES (?, ?)"
    " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
SESSION_COLUMNS = "sha256, principal, credential_sha256, created_at, seen_at"
# Digests, not secrets: whoever reads the file cannot sign in with them.
ADD_SESSION = f"INSERT INTO sessions ({SESSION_COLUMNS}) VALUES ({marks(5)})"
# max(): a repeated write must not set the time back.
SEEN_SESSION = "UPDATE sessions SET seen_at = max(seen_at, ?) WHERE sha256 = ?"
END_SESSION = "DELETE FROM sessions WHERE sha256 = ?"
ADD_INVITATION = f"INSERT INTO invitations ({INVITATION_COLUMNS}) VALUES ({marks(8)})"
FIND_INVITATION = f"SELECT {INVITATION_COLUMNS} FROM invitations WHERE sha256 = ?"
INVITATION_OF_ID = f"SELECT {INVITATION_COLUMNS} FROM invitations WHERE id = ?"
LIST_INVITATIONS = (
    f"SELECT {INVITATION_COLUMNS} FROM invitations"
    f" ORDER BY created_at DESC, id DESC LIMIT {INVITATIONS_LISTED}"
)
END_INVITATION = (
    "UPDATE invitations SET ending = ?, ended_at = ?"
    " WHERE id = ? AND ending IS NULL AND expires_at > ?"
)
PRUNE = (
    "DELETE FROM usage WHERE seq IN"
    f" (SELECT seq FROM usage WHERE at < ? ORDER BY at LIMIT {PRUNE_ROWS})"
)
WILDCARDS = re.compile("(?=[%_!])")
"""The places where LIKE needs its escape character."""


def key_values(key: Key) -> Values:
    """Return the values of a key in the order of KEY_COLUMNS."""
    models = None if key.models is None else msgspec.json.encode(key.models).decode()
    return (
        key.id,
        key.name,
        key.redacted,
        key.digest,
        key.created_at,
        key.last_used_at,
        key.expires_at,
        key.status,
        models,
        *structs.astuple(key.limits),
        key.weight,
        key.previous_digest,
        key.previous_until,
        key.version,
        key.note,
    )


def key_of(row: Values) -> Key:
    """Return the key of a row of KEY_COLUMNS. Raises MsgspecError for unreadable models."""
    models, limits, rest = row[8], row[9:14], row[14:]
    allowed = None if models is None else MODELS.decode(models)
    # The columns have the order of the fields of Key, with the limits spread out.
    fields: Values = (*row[:8], allowed, Limits(*limits), *rest)
    return Key(*fields)


def invitation_of(row: Values) -> InvitationRow:
    """Return the invitation of a row of INVITATION_COLUMNS."""
    fields: Values = (*row[:5], bool(row[5]), *row[6:])  # SQLite has no booleans
    return InvitationRow(*fields)


def key_conditions(query: KeyQuery) -> tuple[str, Values]:
    """Return the conditions of a query and their values."""
    # The status is written out, so that SQLite can use the index of the revoked keys.
    where = {None: "1", True: "status = 'revoked'", False: "status <> 'revoked'"}[query.revoked]
    named: Values = (query.name,) if query.name else ()
    where += " AND name = ?" if query.name else ""
    if not query.search:
        return where, named
    patterns = [f"%{WILDCARDS.sub('!', word)}%" for word in query.searched]
    one = " OR ".join(f"{column} LIKE ? ESCAPE '!'" for column in SEARCHED)
    tests = " OR ".join([one] * len(patterns))
    matching = tuple(each for pattern in patterns for each in [pattern] * len(SEARCHED))
    return f"{where} AND ({tests})", (*named, *matching)


def list_statement(query: KeyQuery) -> tuple[str, Values]:
    """Return the statement that reads a page of keys, and its values.

    In the order of creation it reads whole keys, in any other order their ids.
    """
    where, values = key_conditions(query)
    way = " DESC" if query.descending else ""
    order = f"{SORTS[query.order]}{way}, id{way}"
    limit = -1 if query.limit is None else query.limit
    if query.order == "spent":
        # The sums are looked up in the order of the index, so that it is read from end to end, and
        # of a key no more than the days that count. Joining the sums of all keys takes twice as
        # long, and reads every day on record (tests/bench/spend.py).
        spent = (
            "(SELECT sum(cost_microusd) FROM usage_daily INDEXED BY usage_daily_key"
            " WHERE key_id = k.id AND day >= ?)"
        )
        sorted_keys = f"SELECT id FROM keys WHERE {where} ORDER BY id LIMIT -1"
        statement = (
            f"SELECT id FROM (SELECT id, {spent} AS spent FROM ({sorted_keys}) AS k)"
            f" ORDER BY {order} LIMIT ? OFFSET ?"
        )
        return statement, (query.since, *values, limit, query.offset)
    if query.after is not None:
        where += f" AND (created_at, id) {'<' if query.descending else '>'}"
        where += " (SELECT created_at, id FROM keys WHERE id = ?)"
        values = (*values, query.after)
    # The inner statement reads an index alone, however many keys are skipped or searched.
    inner = f"SELECT id FROM keys WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?"
    values = (*values, limit, query.offset)
    if query.order != "created":
        return inner, values
    return f"{LOAD_KEYS} WHERE id IN ({inner}) ORDER BY {order}", values
