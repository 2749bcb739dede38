"""The protocol of a store: keys, sessions, named values, limit counters and usage.

There are two kinds of errors. `StoreFailure`: the gateway cannot start. `StoreUnavailable` of
`workers/errors.py`: a call failed while the gateway runs (locked, full, read-only, damaged).
Nothing was changed then, the call can be repeated, and the store recovers by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal, Protocol

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
    ALL_ROWS,
    PercentileQuery,
    RankingQuery,
    RowsQuery,
    SumsQuery,
)
from workers.units import DAY_S

OWNER_META = "owner_sha256"
"""The named value with the hash of the owner key; its changes are announced to other processes."""
KEYS_STATE_META = "keys_state"
"""The named value that every change of a key replaces by another, in the same transaction."""

PREFIX_BYTES = 8
"""How much of a digest tells that it belongs to no key."""
READ_LIMIT_S = 5.0
"""The longest read of the owner; a longer one would keep the other reads waiting."""
INVITATIONS_LISTED = 1000
INVITATIONS_KEPT_S = 30 * DAY_S
"""How long an invitation is listed after it has expired."""

UNREADABLE = "The gateway cannot read its database at the moment. Try again shortly."
TOO_SLOW = (
    "Reading this from the database takes too long. Ask for a shorter span of days, or for one key"
    " or model."
)
"""What is said when a read fails, and when it takes too long."""


class StoreFailure(Exception):
    """The gateway cannot start; the message is one line: what is wrong, where, and what to do."""


class Store(Protocol):
    """Keep all data. A method that fails raises StoreUnavailable and has changed nothing.

    Other processes may write to the same data; their changes are reported to the listeners.
    """

    @property
    def shared(self) -> bool:
        """Whether other processes write to the same data, too."""

    @property
    def trouble(self) -> str | None:
        """The current error in words, for health checks; None: the last write succeeded."""

    async def holds_export(self) -> bool:
        """Return whether this process writes the export of the keys, and not one on another node.

        The right expires after half a minute, so ask again before each write.
        """

    def on_foreign_change(self, listener: Callable[[StoreChanges], None]) -> None:
        """Call `listener` with what other processes have changed."""

    async def load_keys(self) -> list[Key]:
        """Read every key."""

    async def key_prefixes(self) -> bytes:
        """Read the first PREFIX_BYTES of every digest, of previous ones too, one after another."""

    async def find_key(self, key_id: str) -> Key | None:
        """Find a key by its id; None: there is none."""

    async def find_key_by_digest(self, digest: bytes) -> Key | None:
        """Find the key whose current or previous digest this is; None: there is none."""

    async def list_keys(self, query: KeyQuery) -> list[Key]:
        """Read the keys of a query, by `created_at` and id."""

    async def count_keys(self, query: KeyQuery | None = None) -> int:
        """Count the keys of a query, whatever its limit; None: all keys."""

    async def find_keys(self, key_ids: Sequence[str]) -> list[Key]:
        """Read the keys with these ids, in any order; unknown ids are left out."""

    async def shared_names(self, names: Sequence[str]) -> set[str]:
        """Return those of the names that several keys have."""

    async def replace_key(self, key: Key) -> bool:
        """Replace the state of a key before `key.version`; durable on return.

        False, and nothing is changed, if the key has another version than the one before, because
        someone else has changed it, or if it is revoked, which is permanent.
        """

    async def add_keys(self, keys: Iterable[Key]) -> tuple[int, int]:
        """Insert the keys whose id and digest are unknown, all or none; durable on return.

        Return how many were added, and how many were known and not changed. `keys` is consumed in
        the store's own thread; an error that it raises is passed on, and then nothing was added.
        """

    async def load_meta(self, name: str) -> bytes | None:
        """Read a named value; None: it is not set."""

    async def put_meta(self, name: str, value: bytes) -> None:
        """Write a named value; durable on return."""

    async def put_meta_if_absent(self, name: str, value: bytes) -> bytes:
        """Write a named value unless it is set, and return the one that is set now; durable."""

    async def load_sessions(self) -> list[SessionRow]:
        """Read every session."""

    async def find_session(self, digest: bytes) -> SessionRow | None:
        """Find a session by its digest; None: there is none."""

    async def put_session(self, session: SessionRow) -> None:
        """Insert a session; durable on return."""

    async def note_sessions(self, seen: Mapping[bytes, int], ended: Collection[bytes]) -> None:
        """Write when sessions were last seen, and delete those that have ended, by digest."""

    async def add_invitations(self, invitations: Sequence[InvitationRow]) -> None:
        """Insert invitations, all or none, and delete old ones; durable on return."""

    async def list_invitations(self) -> list[InvitationRow]:
        """Read the invitations, the newest first, up to INVITATIONS_LISTED."""

    async def find_invitation(self, mark: bytes | str) -> InvitationRow | None:
        """Find an invitation by its digest (bytes) or its id; None: there is none."""

    async def end_invitation(
        self, invitation_id: str, ending: Literal["used", "revoked"], at: int
    ) -> bool:
        """Note how an invitation ends; durable on return.

        False, and nothing is changed, if it has ended before or has expired: of several callers at
        the same time, one alone gets True.
        """

    async def load_counters(self) -> list[CounterRow]:
        """Read every counter."""

    async def drop_counters(self, before: float) -> int:
        """Delete counters not written since `before`, except budgets; return how many."""

    async def record(self, batch: Batch) -> None:
        """Write usage rows, their daily sums, counters and last uses, all or none.

        A batch whose id was written in the last day is not written again. Rows that cannot be
        stored whatever happens are left out and logged; the rest is written.
        """

    async def usage_by(self, query: SumsQuery) -> list[UsageDay]:
        """Read sums over days."""

    async def usage_ranking(self, query: RankingQuery) -> list[UsageDay]:
        """Read the groups whose sums are the largest, the largest first."""

    async def usage_rows(self, query: RowsQuery = ALL_ROWS) -> UsagePage:
        """Read single requests, newest first."""

    async def ttft_percentile(self, query: PercentileQuery) -> Percentile:
        """Compute a percentile of the TTFT in milliseconds over the usage rows still kept.

        It reads all rows of the span, so its time grows with them.
        """

    async def find_usage_row(self, request_id: str) -> UsageRow | None:
        """Find one request by its id, the newest if there are several; None: there is none."""

    async def usage_times(self, request_ids: Collection[str]) -> dict[str, float]:
        """Return the time of the newest row of each request that has one, by its id.

        Raises StoreUnavailable while rows that were recorded are not in the database yet.
        """

    async def prune(self, before_day: str) -> int:
        """Delete usage rows older than a UTC day; daily sums stay. Return how many were deleted."""

    async def check_writable(self) -> None:
        """Write a small value to test whether writing works."""
