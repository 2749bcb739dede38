"""Declare the calls of a child to the store of its keeper; see `server.store.store.Store`.

The fields of a struct with the arguments of a method have the names of its parameters.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from server.nodes.procedure import Procedure, procedure
from server.store.key import Key
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
from server.store.usage_queries import (
    PercentileQuery,
    RankingQuery,
    RowsQuery,
    SumsQuery,
)


class NamedValue(Struct, array_like=True):
    """A named value of the store."""

    name: str
    value: bytes


class SessionNotes(Struct, array_like=True):
    """When sessions were last seen, and those that have ended."""

    seen: dict[bytes, int]
    ended: list[bytes]


class InvitationMark(Struct, array_like=True):
    """The argument of `find_invitation`; msgspec has no union of bytes and text."""

    digest: bytes | None
    invitation_id: str = ""


class InvitationEnd(Struct, array_like=True):
    """The arguments of `end_invitation`."""

    invitation_id: str
    ending: Literal["used", "revoked"]
    at: int


LOAD_KEYS: Procedure[None, list[Key]] = procedure("load_keys", None, list[Key])
KEY_PREFIXES: Procedure[None, bytes] = procedure("key_prefixes", None, bytes)
FIND_KEY: Procedure[str, Key | None] = procedure("find_key", str, Key | None)
FIND_KEY_BY_DIGEST: Procedure[bytes, Key | None] = procedure(
    "find_key_by_digest", bytes, Key | None
)
LIST_KEYS: Procedure[KeyQuery, list[Key]] = procedure("list_keys", KeyQuery, list[Key])
COUNT_KEYS: Procedure[KeyQuery | None, int] = procedure("count_keys", KeyQuery | None, int)
FIND_KEYS: Procedure[list[str], list[Key]] = procedure("find_keys", list[str], list[Key])
SHARED_NAMES: Procedure[list[str], set[str]] = procedure("shared_names", list[str], set[str])
REPLACE_KEY: Procedure[Key, bool] = procedure("replace_key", Key, bool)
ADD_KEYS: Procedure[list[Key], tuple[int, int]] = procedure("add_keys", list[Key], tuple[int, int])
LOAD_META: Procedure[str, bytes | None] = procedure("load_meta", str, bytes | None)
PUT_META: Procedure[NamedValue, None] = procedure("put_meta", NamedValue)
PUT_META_IF_ABSENT: Procedure[NamedValue, bytes] = procedure(
    "put_meta_if_absent", NamedValue, bytes
)
LOAD_SESSIONS: Procedure[None, list[SessionRow]] = procedure(
    "load_sessions", None, list[SessionRow]
)
FIND_SESSION: Procedure[bytes, SessionRow | None] = procedure(
    "find_session", bytes, SessionRow | None
)
PUT_SESSION: Procedure[SessionRow, None] = procedure("put_session", SessionRow)
NOTE_SESSIONS: Procedure[SessionNotes, None] = procedure("note_sessions", SessionNotes)
ADD_INVITATIONS: Procedure[list[InvitationRow], None] = procedure(
    "add_invitations", list[InvitationRow]
)
LIST_INVITATIONS: Procedure[None, list[InvitationRow]] = procedure(
    "list_invitations", None, list[InvitationRow]
)
FIND_INVITATION: Procedure[InvitationMark, InvitationRow | None] = procedure(
    "find_invitation", InvitationMark, InvitationRow | None
)
END_INVITATION: Procedure[InvitationEnd, bool] = procedure("end_invitation", InvitationEnd, bool)
LOAD_COUNTERS: Procedure[None, list[CounterRow]] = procedure(
    "load_counters", None, list[CounterRow]
)
DROP_COUNTERS: Procedure[float, int] = procedure("drop_counters", float, int)
RECORD: Procedure[Batch, None] = procedure("record", Batch)
USAGE_BY: Procedure[SumsQuery, list[UsageDay]] = procedure("usage_by", SumsQuery, list[UsageDay])
USAGE_RANKING: Procedure[RankingQuery, list[UsageDay]] = procedure(
    "usage_ranking", RankingQuery, list[UsageDay]
)
USAGE_ROWS: Procedure[RowsQuery, UsagePage] = procedure("usage_rows", RowsQuery, UsagePage)
TTFT_PERCENTILE: Procedure[PercentileQuery, Percentile] = procedure(
    "ttft_percentile", PercentileQuery, Percentile
)
FIND_USAGE_ROW: Procedure[str, UsageRow | None] = procedure("find_usage_row", str, UsageRow | None)
USAGE_TIMES: Procedure[list[str], dict[str, float]] = procedure(
    "usage_times", list[str], dict[str, float]
)
PRUNE: Procedure[str, int] = procedure("prune", str, int)
CHECK_WRITABLE: Procedure[None, None] = procedure("check_writable", None)

CHANGED: Procedure[StoreChanges, None] = procedure("changed", StoreChanges)
"""A call of the keeper: what others have changed. The answer says that it is in use."""
