"""What is kept: keys, small facts, limit counters and usage, behind one protocol.

Two kinds of trouble. `StoreFailure`: the gateway cannot start, in one line that says what to do.
`workers.errors.StoreUnavailable`: a call failed while running (locked, full, read-only, damaged);
nothing was changed, the caller may try again, and the store heals by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from server.store.key import Key
from server.store.rows import (
    Batch,
    CounterRow,
    Percentile,
    SessionRow,
    UsageDay,
    UsagePage,
    UsageRow,
)


class StoreFailure(Exception):
    """The gateway cannot start. The message is one line: what is wrong, where, what to do."""


class Store(Protocol):
    """Keeps everything. Every method raises StoreUnavailable, and then nothing was changed."""

    async def load_keys(self) -> list[Key]:
        """Read every key."""

    async def put_key(self, key: Key) -> None:
        """Insert or update a key; durable on return."""

    async def put_keys(self, keys: Sequence[Key]) -> None:
        """Insert or update keys, all or none; durable on return."""

    async def load_meta(self, name: str) -> bytes | None:
        """Read a small named fact."""

    async def put_meta(self, name: str, value: bytes) -> None:
        """Write a small named fact; durable on return."""

    async def load_sessions(self) -> list[SessionRow]:
        """Read every session."""

    async def put_session(self, session: SessionRow) -> None:
        """Insert a session; durable on return."""

    async def note_sessions(self, seen: Mapping[bytes, int], ended: Collection[bytes]) -> None:
        """Write when sessions were last seen, and delete those that have ended, by digest."""

    async def load_counters(self) -> list[CounterRow]:
        """Read every counter."""

    async def drop_counters(self, before: float) -> int:
        """Forget counters not written since `before` (Unix seconds), but no budgets."""

    async def record(self, batch: Batch) -> None:
        """Write usage rows, their daily sums, counters and last uses, all or none."""

    async def usage_by(
        self, first_day: str, last_day: str, *, key_id: str | None = None, model: str | None = None
    ) -> list[UsageDay]:
        """Read daily sums, both days included, ordered by day, key and model."""

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

    async def ttft_percentile(
        self,
        percent: int,
        first_day: str,
        last_day: str,
        *,
        key_id: str | None = None,
        model: str | None = None,
    ) -> Percentile:
        """Give a percentile of the TTFT in milliseconds, of the single requests still on record.

        Both days are included. It reads every one of them: ask for days with not too many.
        """

    async def find_usage_row(self, request_id: str) -> UsageRow | None:
        """Find one request; of several with this id the newest."""

    async def prune(self, before_day: str) -> int:
        """Delete usage rows older than a UTC day; daily sums stay. Gives how many went."""

    async def check_writable(self) -> None:
        """Write a little, to know whether writing works."""
