"""Measure how models have answered in the last hour: TTFT and failures, in memory.

The ledger reports every settled request; a ring per model keeps the newest. Failures caused by the
client or by limits are not counted, since they say nothing about the model.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from server.store.rows import UsageRow
from workers.units import HOUR_S

WINDOW_S = HOUR_S
KEPT_REQUESTS = 512
"""Requests kept per model."""
NEWEST_REQUESTS = 20
"""The newest of them, which decide whether a model is failing now."""
FEWEST_FAILURES = 3
TOO_MANY = 429
SERVER_ERROR = 500
BROKEN = ("cut", "timed_out")


class Answered(NamedTuple):
    """One request: when it was settled, its TTFT (streams only) and whether it succeeded."""

    at: float
    ttft_ms: int | None
    ok: bool


class Health(msgspec.Struct, frozen=True):
    """The last hour of a model. `ttft_ms` is the median; None: not measured."""

    requests: int
    failures: int
    ttft_ms: int | None
    failing: bool
    """Whether at least half of the newest requests have failed."""


class ModelHealth:
    """The last hour of every model that was requested."""

    def __init__(self, *, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._rings: dict[str, deque[Answered]] = {}

    def note(self, row: UsageRow) -> None:
        """Record a settled request, if it says something about its model."""
        ok = row.status == "finished"
        if not ok and not is_failure(row):
            return
        ring = self._rings.get(row.model)
        if ring is None:
            ring = self._rings[row.model] = deque(maxlen=KEPT_REQUESTS)
        ring.append(Answered(row.at, row.ttft_ms if row.stream else None, ok))

    def find(self, model_id: str) -> Health | None:
        """Return the last hour of a model; None: nothing was measured."""
        since = self._wall() - WINDOW_S
        seen = [one for one in self._rings.get(model_id, ()) if one.at > since]
        if not seen:
            return None
        times = sorted(one.ttft_ms for one in seen if one.ttft_ms is not None)
        newest = seen[-NEWEST_REQUESTS:]
        failed = sum(not one.ok for one in newest)
        return Health(
            requests=len(seen),
            failures=sum(not one.ok for one in seen),
            ttft_ms=times[(len(times) - 1) // 2] if times else None,
            failing=failed >= FEWEST_FAILURES and failed * 2 >= len(newest),
        )


def is_failure(row: UsageRow) -> bool:
    """Return whether the upstream failed, not the request."""
    if row.status == "failed":
        return row.http_status == TOO_MANY or row.http_status >= SERVER_ERROR
    return row.status in BROKEN
