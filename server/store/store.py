"""What is kept: keys, small facts, limit counters and usage, behind one protocol.

Two kinds of trouble. `StoreFailure`: the gateway cannot start, in one line that says what to do.
`workers.errors.StoreUnavailable`: a call failed while running (locked, full, read-only, damaged);
nothing was changed, the caller may try again, and the store heals by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from server.store.key import Key
from workers.run.job import Attempt

NOT_FAILED = ("finished", "cancelled")
"""Endings that are no failure of the gateway or its upstreams."""


class StoreFailure(Exception):
    """The gateway cannot start. The message is one line: what is wrong, where, what to do."""


class UsageRow(Struct, frozen=True):
    """One request. `at` is in Unix seconds; None: not known. Money is in micro-dollars.

    `key_id` is "owner", "guest" or a key's id, `status` how the request ended, `attempts` what was
    tried for it, None: one deployment that answered, or none.
    """

    request_id: str
    at: float
    key_id: str
    model: str
    deployment: str | None
    status: str
    http_status: int
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    estimated: bool
    cost_microusd: int | None
    ttft_ms: int | None
    duration_ms: int
    queued_ms: int
    stream: bool
    attempts: tuple[Attempt, ...] | None = None

    @property
    def tokens_per_s(self) -> float | None:
        """Give how fast the answer was written once it had begun; None: not known."""
        if self.ttft_ms is None or self.duration_ms <= self.ttft_ms or not self.completion_tokens:
            return None
        return round(self.completion_tokens * 1000 / (self.duration_ms - self.ttft_ms), 1)


class SessionRow(Struct, frozen=True):
    """A browser that has signed in; times are in Unix seconds.

    `digest` is the SHA-256 of the session's id, `principal` "owner" or a key's id, `credential` the
    SHA-256 of the key that was given: the session is worth what that key is worth.
    """

    digest: bytes
    principal: str
    credential: bytes
    created_at: int
    seen_at: int


class UsageDay(Struct, frozen=True):
    """The sums of one UTC day ("2026-11-22"), key and model.

    `failed` counts the endings outside NOT_FAILED, `unpriced_requests` the requests that used
    tokens whose price is unknown. TTFT's mean is `ttft_ms_sum / ttft_count`.
    """

    day: str
    key_id: str
    model: str
    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated_requests: int = 0
    unpriced_requests: int = 0
    cost_microusd: int = 0
    ttft_ms_sum: int = 0
    ttft_count: int = 0
    duration_ms_sum: int = 0

    @property
    def mean_ttft_ms(self) -> int | None:
        """Return the mean TTFT, or None when nothing was answered."""
        return round(self.ttft_ms_sum / self.ttft_count) if self.ttft_count else None

    @property
    def mean_duration_ms(self) -> int | None:
        """Return the mean duration, or None when there were no requests."""
        return round(self.duration_ms_sum / self.requests) if self.requests else None


class CounterRow(Struct, frozen=True):
    """The state of one limit of one scope; `updated_at` is wall-clock time.

    `kind` names the limit; what begins with "budget" is money and never dropped.
    """

    scope: str
    kind: str
    value: float
    period: str
    updated_at: float


class Batch(Struct, frozen=True):
    """What is written behind in one transaction; `last_used` maps key ids to Unix seconds."""

    rows: Sequence[UsageRow] = ()
    counters: Sequence[CounterRow] = ()
    last_used: Mapping[str, int] = {}


class UsagePage(Struct, frozen=True):
    """Some rows, newest first; pass `before` on to read the next older ones, None: no more."""

    rows: Sequence[UsageRow]
    before: int | None


class Percentile(Struct, frozen=True):
    """A value that so many of 100 requests stayed within; `requests` is how many were asked.

    None: there were none.
    """

    value: int | None
    requests: int


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
