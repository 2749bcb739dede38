"""Measure how models have answered in the last hour: TTFT, speed and failures, in memory.

The ledger reports every settled request; a ring per model and one per deployment keep the newest.
Failures caused by the client or by limits are not counted, since they say nothing about the model.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

import msgspec

from server.store.rows import UsageRow
from workers.units import HOUR_S

WINDOW_S = HOUR_S
KEPT_REQUESTS = 512
"""Requests kept per model, and per deployment."""
NEWEST_REQUESTS = 20
"""The newest of them, which decide whether a model is failing now."""
NOW_S = 300.0
"""How old they may be. A model that is shown as failing is avoided, so no success may come."""
MIN_FAILURES = 3
TOO_MANY = 429
SERVER_ERROR = 500
BROKEN = ("cut", "timed_out")

Number = TypeVar("Number", int, float)


class Answered(NamedTuple):
    """One request: when it was settled, its TTFT and speed (streams only), whether it succeeded.

    `key_id` is whose it was: a key, "owner" or "guest".
    """

    at: float
    ttft_ms: int | None
    tokens_per_s: float | None
    ok: bool
    key_id: str


class Health(msgspec.Struct, frozen=True):
    """The last hour of a model or a deployment; `ttft_ms` and `tokens_per_s` are medians.

    None: not measured.
    """

    requests: int
    failures: int
    ttft_ms: int | None
    failing: bool
    """Whether at least half of the newest requests, of the last five minutes, have failed, and not
    those of one key alone while others are answered."""
    tokens_per_s: float | None = None


class ModelHealth:
    """The last hour of every model that was requested, and of every deployment that was asked."""

    def __init__(self, *, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._models: dict[str, deque[Answered]] = {}
        self._deployments: dict[str, deque[Answered]] = {}

    def note(self, row: UsageRow) -> None:
        """Record a settled request, if it says something about its model."""
        ok = row.status == "finished"
        if not ok and not is_failure(row):
            return
        ttft_ms, speed = (row.ttft_ms, row.tokens_per_s) if row.stream else (None, None)
        answered = Answered(row.at, ttft_ms, speed, ok, row.key_id)
        _ring(self._models, row.model).append(answered)
        if row.deployment is not None:
            _ring(self._deployments, row.deployment).append(answered)

    def find(self, model_id: str) -> Health | None:
        """Return the last hour of a model; None: nothing was measured."""
        return self._summed(self._models.get(model_id, ()))

    def find_deployment(self, deployment_id: str) -> Health | None:
        """Return the last hour of a deployment; None: nothing was measured."""
        return self._summed(self._deployments.get(deployment_id, ()))

    def _summed(self, ring: Iterable[Answered]) -> Health | None:
        now = self._wall()
        seen = [one for one in ring if one.at > now - WINDOW_S]
        if not seen:
            return None
        newest = [one for one in seen[-NEWEST_REQUESTS:] if one.at > now - NOW_S]
        failed = _failures(newest)
        return Health(
            requests=len(seen),
            failures=sum(not one.ok for one in seen),
            ttft_ms=_median([one.ttft_ms for one in seen if one.ttft_ms is not None]),
            failing=failed >= MIN_FAILURES and failed * 2 >= len(newest),
            tokens_per_s=_median(
                [one.tokens_per_s for one in seen if one.ok and one.tokens_per_s is not None]
            ),
        )


def _ring(rings: dict[str, deque[Answered]], name: str) -> deque[Answered]:
    ring = rings.get(name)
    if ring is None:
        ring = rings[name] = deque(maxlen=KEPT_REQUESTS)
    return ring


def _failures(newest: Iterable[Answered]) -> int:
    """Count the failures; 0 if all are of one key and others are answered: it may provoke them."""
    seen = list(newest)
    failed = [one.key_id for one in seen if not one.ok]
    others_are_answered = any(one.ok and one.key_id not in failed for one in seen)
    return 0 if len(set(failed)) == 1 and others_are_answered else len(failed)


def _median(values: list[Number]) -> Number | None:
    """Return the lower median, or None of no values."""
    return sorted(values)[(len(values) - 1) // 2] if values else None


def is_failure(row: UsageRow) -> bool:
    """Return whether the upstream failed, not the request."""
    if row.status == "failed":
        return row.http_status == TOO_MANY or row.http_status >= SERVER_ERROR
    return row.status in BROKEN
