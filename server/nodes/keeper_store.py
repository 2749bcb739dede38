"""The store of the keeper, as a child uses it; see `server.store.store.Store`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal

from msgspec import structs

from server.nodes import store_calls as calls
from server.nodes.link import Link
from server.nodes.procedure import Service
from server.store.key import Key
from server.store.row_values import usable
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


class KeeperStore:
    """Pass every call on to the keeper, and its changes to the listeners.

    `service` answers the keeper: a change is acknowledged once all listeners know it. When the
    keeper has ended, every call raises Draining.
    """

    shared = True

    def __init__(self, link: Link, service: Service) -> None:
        self._link = link
        self._listeners: list[Callable[[StoreChanges], None]] = []
        self.trouble: str | None = None
        service.answer_at_once(calls.CHANGED, self._note)

    def on_foreign_change(self, listener: Callable[[StoreChanges], None]) -> None:
        """Call `listener` with what other processes have changed."""
        self._listeners.append(listener)

    def _note(self, changes: StoreChanges) -> None:
        for listener in self._listeners:
            listener(changes)

    # Keys

    async def holds_export(self) -> bool:
        """Return False: the keeper writes the export."""
        return False

    async def load_keys(self) -> list[Key]:
        """Read every key."""
        return await self._link.call(calls.LOAD_KEYS, None)

    async def key_prefixes(self) -> bytes:
        """Read the first 8 bytes of every digest."""
        return await self._link.call(calls.KEY_PREFIXES, None)

    async def find_key(self, key_id: str) -> Key | None:
        """Find a key by its id."""
        return await self._link.call(calls.FIND_KEY, key_id)

    async def find_key_by_digest(self, digest: bytes) -> Key | None:
        """Find a key by its current or previous digest."""
        return await self._link.call(calls.FIND_KEY_BY_DIGEST, digest)

    async def list_keys(self, query: KeyQuery) -> list[Key]:
        """Read the keys of a query."""
        return await self._link.call(calls.LIST_KEYS, query)

    async def count_keys(self, query: KeyQuery | None = None) -> int:
        """Count the keys of a query."""
        return await self._link.call(calls.COUNT_KEYS, query)

    async def find_keys(self, key_ids: Sequence[str]) -> list[Key]:
        """Read the keys with these ids."""
        return await self._link.call(calls.FIND_KEYS, list(key_ids))

    async def shared_names(self, names: Sequence[str]) -> set[str]:
        """Return those of the names that several keys have."""
        return await self._link.call(calls.SHARED_NAMES, list(names))

    async def replace_key(self, key: Key) -> bool:
        """Replace a key's state before `key.version`; every child knows it on return."""
        return await self._link.call(calls.REPLACE_KEY, key)

    async def add_keys(self, keys: Iterable[Key]) -> tuple[int, int]:
        """Insert the keys whose id and digest are unknown; every child knows them on return."""
        return await self._link.call(calls.ADD_KEYS, list(keys))

    # Named values and sessions

    async def load_meta(self, name: str) -> bytes | None:
        """Read a named value."""
        return await self._link.call(calls.LOAD_META, name)

    async def put_meta(self, name: str, value: bytes) -> None:
        """Write a named value."""
        await self._link.call(calls.PUT_META, calls.NamedValue(name, value))

    async def put_meta_if_absent(self, name: str, value: bytes) -> bytes:
        """Write a named value unless it is set, and return the one that is set now."""
        return await self._link.call(calls.PUT_META_IF_ABSENT, calls.NamedValue(name, value))

    async def load_sessions(self) -> list[SessionRow]:
        """Read every session."""
        return await self._link.call(calls.LOAD_SESSIONS, None)

    async def find_session(self, digest: bytes) -> SessionRow | None:
        """Find a session by its digest."""
        return await self._link.call(calls.FIND_SESSION, digest)

    async def put_session(self, session: SessionRow) -> None:
        """Insert a session."""
        await self._link.call(calls.PUT_SESSION, session)

    async def note_sessions(self, seen: Mapping[bytes, int], ended: Collection[bytes]) -> None:
        """Write when sessions were last seen, and delete those that have ended."""
        notes = calls.SessionNotes(dict(seen), list(ended))
        await self._link.call(calls.NOTE_SESSIONS, notes)

    # Invitations

    async def add_invitations(self, invitations: Sequence[InvitationRow]) -> None:
        """Insert invitations, all or none."""
        await self._link.call(calls.ADD_INVITATIONS, list(invitations))

    async def list_invitations(self) -> list[InvitationRow]:
        """Read the invitations, the newest first."""
        return await self._link.call(calls.LIST_INVITATIONS, None)

    async def find_invitation(self, mark: bytes | str) -> InvitationRow | None:
        """Find an invitation by its digest (bytes) or its id."""
        sent = (
            calls.InvitationMark(mark)
            if isinstance(mark, bytes)
            else calls.InvitationMark(None, mark)
        )
        return await self._link.call(calls.FIND_INVITATION, sent)

    async def end_invitation(
        self, invitation_id: str, ending: Literal["used", "revoked"], at: int
    ) -> bool:
        """Note how an invitation ends."""
        end = calls.InvitationEnd(invitation_id, ending, at)
        return await self._link.call(calls.END_INVITATION, end)

    # Counters and usage

    async def load_counters(self) -> list[CounterRow]:
        """Read every counter."""
        return await self._link.call(calls.LOAD_COUNTERS, None)

    async def drop_counters(self, before: float) -> int:
        """Delete counters not written since `before`, except budgets."""
        return await self._link.call(calls.DROP_COUNTERS, before)

    async def record(self, batch: Batch) -> None:
        """Write usage rows, their daily sums and last uses, once per batch id."""
        try:
            await self._link.call(calls.RECORD, batch)
        except OverflowError:
            # MessagePack has no numbers from 2**64 on, which an upstream may send.
            rows = [usable(row)[0] for row in batch.rows]
            await self._link.call(calls.RECORD, structs.replace(batch, rows=rows))

    async def usage_by(self, query: SumsQuery) -> list[UsageDay]:
        """Read sums over days."""
        return await self._link.call(calls.USAGE_BY, query)

    async def usage_ranking(self, query: RankingQuery) -> list[UsageDay]:
        """Read the groups whose sums are the largest, the largest first."""
        return await self._link.call(calls.USAGE_RANKING, query)

    async def usage_rows(self, query: RowsQuery = ALL_ROWS) -> UsagePage:
        """Read single requests, newest first."""
        return await self._link.call(calls.USAGE_ROWS, query)

    async def ttft_percentile(self, query: PercentileQuery) -> Percentile:
        """Compute a percentile of the TTFT in milliseconds over the usage rows still kept."""
        return await self._link.call(calls.TTFT_PERCENTILE, query)

    async def find_usage_row(self, request_id: str) -> UsageRow | None:
        """Find one request by its id."""
        return await self._link.call(calls.FIND_USAGE_ROW, request_id)

    async def usage_times(self, request_ids: Collection[str]) -> dict[str, float]:
        """Return the times of requests that have a row."""
        return await self._link.call(calls.USAGE_TIMES, list(request_ids))

    async def prune(self, before_day: str) -> int:
        """Delete usage rows older than a UTC day."""
        return await self._link.call(calls.PRUNE, before_day)

    async def check_writable(self) -> None:
        """Write a small value to test whether writing works."""
        await self._link.call(calls.CHECK_WRITABLE, None)
