"""The rows that a store keeps and the answers it gives: usage, sessions and limit counters.

The key has a module of its own, `server/store/key.py`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from msgspec import Struct, field

from server.store.key import Key
from workers.run.job import Attempt

NOT_FAILED = ("finished", "cancelled")
"""Endings that do not count as failures of the gateway or its upstreams."""


class UsageRow(Struct, frozen=True):
    """One request. `at` is in Unix seconds, money in micro-dollars; None: unknown.

    `key_id` is "owner", "guest" or a key's id, `status` the job's ending. `attempts` lists the
    deployments that were tried; None: there were no failed ones.
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
        """Return the completion tokens per second after the first one; None: unknown.

        Estimated tokens are those that are charged, which may be more than were written.
        """
        if self.estimated or self.ttft_ms is None or not self.completion_tokens:
            return None
        if self.duration_ms <= self.ttft_ms:
            return None
        return round(self.completion_tokens * 1000 / (self.duration_ms - self.ttft_ms), 1)


class SessionRow(Struct, frozen=True):
    """A browser that has signed in; times are in Unix seconds.

    `digest` is the SHA-256 of the session's id, `principal` "owner" or a key's id, `credential` the
    SHA-256 of the key that was entered: the session ends when that key is no longer accepted.
    """

    digest: bytes
    principal: str
    credential: bytes
    created_at: int
    seen_at: int


class InvitationRow(Struct, frozen=True):
    """A link that signs a person in once, as the holder of a key; times are in Unix seconds.

    `digest` is the SHA-256 of the token in the link. `gives_key`: the person gets a new secret of
    the key. `ending` None: it was neither used nor revoked, but may have expired.
    """

    id: str
    digest: bytes
    key_id: str
    created_at: int
    expires_at: int
    gives_key: bool
    ending: Literal["used", "revoked"] | None = None
    ended_at: int | None = None


class UsageDay(Struct, frozen=True):
    """The sums of one UTC day ("2026-11-22"), key and model.

    `failed` counts the endings outside NOT_FAILED, `unpriced_requests` the requests that used
    tokens of unknown price. The mean TTFT is `ttft_ms_sum / ttft_count`. Tokens and cost include
    those of requests whose usage was estimated, which are summed once more in `estimated_tokens`
    (in and out) and `estimated_cost_microusd`. A mark that rows are not grouped by is "".
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
    estimated_tokens: int = 0
    estimated_cost_microusd: int = 0

    @property
    def mean_ttft_ms(self) -> int | None:
        """Return the mean TTFT, or None when nothing was answered."""
        return round(self.ttft_ms_sum / self.ttft_count) if self.ttft_count else None

    @property
    def mean_duration_ms(self) -> int | None:
        """Return the mean duration, or None when there were no requests."""
        return round(self.duration_ms_sum / self.requests) if self.requests else None


DAY_MARKS = UsageDay.__struct_fields__[:3]
"""The fields that daily sums can be grouped by."""


class CounterRow(Struct, frozen=True):
    """The state of one limit of one scope; `updated_at` is wall-clock time.

    `kind` names the limit; those that begin with "budget" are money and are never dropped.
    """

    scope: str
    kind: str
    value: int | float
    period: str
    updated_at: float


class Batch(Struct, frozen=True):
    """What the ledger writes in one transaction; `last_used` maps key ids to Unix seconds.

    `id` is unique over processes and nodes: a batch that is sent again is written once.
    """

    rows: Sequence[UsageRow] = ()
    counters: Sequence[CounterRow] = ()
    last_used: Mapping[str, int] = {}
    id: str = field(default_factory=lambda: secrets.token_hex(8))


KeyOrder = Literal["created", "name", "used", "spent"]
"""What a list of keys is sorted by; equal ones by their ids."""


class KeyQuery(Struct, frozen=True):
    """Which keys to list: those whose name, note, redacted secret or id contains `search`.

    `name` lists the keys with exactly this name. `revoked` None lists both kinds. `spent` is the
    cost since the UTC day `since`; a key that was never used counts as used at 0. `after` is the id
    of the last key of the page before, in the order of creation; `offset` the number of keys to
    skip.
    """

    search: str = ""
    name: str = ""
    revoked: bool | None = None
    order: KeyOrder = "created"
    since: str = ""
    descending: bool = False
    after: str | None = None
    offset: int = 0
    limit: int | None = None

    @property
    def searched(self) -> Sequence[str]:
        """Return the texts of which one must occur; a shortened secret may be typed with dots.

        Databases ignore the case of ASCII letters, so texts with others are tried in each case.
        """
        text = self.search.replace("...", "…")
        cases = (text,) if text.isascii() else (text, text.lower(), text.upper(), text.title())
        return tuple(dict.fromkeys(cases))


class UsageMark(NamedTuple):
    """The place of a row among all usage rows, which are ordered by time, then by number."""

    at: float
    number: int


class UsagePage(Struct, frozen=True):
    """Some rows, newest first; `before` is the argument for the next page, None: it is the last."""

    rows: Sequence[UsageRow]
    before: UsageMark | None


class StoreChanges(Struct, frozen=True):
    """What others have changed in the store: keys as they are now, the digests of ended sessions.

    `owner` is the digest of a new owner key, b"" if it is the same. `all`: changes may have been
    missed, so everything in memory must be compared with the store.
    """

    keys: Sequence[Key] = ()
    sessions: Sequence[bytes] = ()
    owner: bytes = b""
    all: bool = False


class Percentile(Struct, frozen=True):
    """The value that a percentage of requests does not exceed, and the number of requests.

    The value is None when there were no requests.
    """

    value: int | None
    requests: int
