"""What is forgotten, and what is not."""

from __future__ import annotations

import time

from support.front_door import Door

from server.store.retention import Retention
from server.store.rows import Batch, CounterRow, UsageRow

DAY_S = 86_400


def row(request_id: str, at: float) -> UsageRow:
    return UsageRow(
        request_id=request_id, at=at, key_id="owner", model="m", deployment=None, status="finished",
        http_status=200, prompt_tokens=1, completion_tokens=1, cached_tokens=None,
        cache_write_tokens=None, reasoning_tokens=None, estimated=False, cost_microusd=1,
        ttft_ms=None, duration_ms=1, queued_ms=0, stream=False,
    )  # fmt: skip


async def test_old_rows_and_full_counters_go_while_sums_and_budgets_stay(door: Door) -> None:
    store, now = door.gateway.services.store, time.time()
    old = now - 91 * DAY_S
    counters = [
        CounterRow("guest:192.0.2.1", "requests", 1.0, "", now - 3 * DAY_S),
        CounterRow("key_x", "budget_month", 5, "2026-01", now - 3 * DAY_S),
        CounterRow("key_y", "requests", 1.0, "", now),
    ]
    await store.record(Batch([row("old", old), row("new", now)], counters))
    retention = Retention(store, days=90)
    await retention.prune()
    await retention.aclose()
    assert [one.request_id for one in (await store.usage_rows()).rows] == ["new"]
    assert {one.scope for one in await store.load_counters()} == {"key_x", "key_y"}
    days = await store.usage_by("2000-01-01", "2999-01-01")
    assert sum(day.requests for day in days) == 2
