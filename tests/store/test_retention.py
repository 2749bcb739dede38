"""What is forgotten, and what is not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support.front_door import Door
from support.waiting import PATIENCE_S, eventually

from server.store.retention import Retention
from server.store.rows import Batch, CounterRow, UsageRow
from server.store.sqlite.sqlite_store import SqliteStore
from server.store.store import Store
from server.store.usage_queries import SumsQuery
from workers.errors import StoreUnavailable

DAY_S = 86_400


def row(request_id: str, at: float) -> UsageRow:
    return UsageRow(
        request_id=request_id, at=at, key_id="owner", model="m", deployment=None, status="finished",
        http_status=200, prompt_tokens=1, completion_tokens=1, cached_tokens=None,
        cache_write_tokens=None, reasoning_tokens=None, estimated=False, cost_microusd=1,
        ttft_ms=None, duration_ms=1, queued_ms=0, stream=False,
    )  # fmt: skip


def busy(now: float) -> list[UsageRow]:
    """Return the rows of three days, so that the newest counts as certain."""
    return [row("new", now), *(row(f"day {n}", now - n * DAY_S) for n in (1, 2))]


async def kept(store: Store) -> set[str]:
    """Return the ids of the requests on record."""
    return {one.request_id for one in (await store.usage_rows()).rows}


async def prune(store: Store, wall: float) -> None:
    """Prune once, with a clock that stands at `wall`."""
    retention = Retention(store, days=90, wall=lambda: wall)
    await retention.prune()
    await retention.aclose()


async def test_old_rows_and_full_counters_go_while_sums_and_budgets_stay(door: Door) -> None:
    store, now = door.gateway.services.store, time.time()
    old = now - 91 * DAY_S
    counters = [
        CounterRow("guest:192.0.2.1", "requests", 1.0, "", now - 3 * DAY_S),
        CounterRow("key_x", "budget_month", 5, "2026-01", now - 3 * DAY_S),
        CounterRow("key_y", "requests", 1.0, "", now),
    ]
    oldest = row("the first day that is kept", now - 90 * DAY_S)
    await store.record(Batch([row("old", old), oldest, *busy(now)], counters))
    await prune(store, now)
    assert await kept(store) == {"new", "day 1", "day 2", oldest.request_id}
    assert {one.scope for one in await store.load_counters()} == {"key_x", "key_y"}
    days = await store.usage_by(SumsQuery("2000-01-01", "2999-01-01"))
    assert sum(day.requests for day in days) == 5


async def test_a_clock_that_is_far_ahead_deletes_nothing_that_is_not_old(door: Door) -> None:
    store, now = door.gateway.services.store, time.time()
    await store.record(Batch([row("old", now - 91 * DAY_S), *busy(now)]))
    await prune(store, now + 10_000 * DAY_S)
    assert await kept(store) == {"new", "day 1", "day 2"}


async def test_requests_recorded_by_a_clock_that_was_far_ahead_delete_nothing(door: Door) -> None:
    store, now = door.gateway.services.store, time.time()
    ahead = now + 10_000 * DAY_S
    rows = [row("ahead", ahead), row("the next day", ahead + DAY_S)]
    await store.record(Batch([row("old", now - 91 * DAY_S), *busy(now), *rows]))
    everything = {"new", "day 1", "day 2", "ahead", "the next day"}
    for wall in (ahead, ahead + 2 * DAY_S, now):
        await prune(store, wall)
        assert await kept(store) == everything
    await store.record(Batch([row("it was right", ahead + 2 * DAY_S)]))
    await prune(store, ahead + 2 * DAY_S)
    assert await kept(store) == {"ahead", "the next day", "it was right"}


async def test_a_gateway_that_was_hardly_used_deletes_nothing_it_is_not_sure_of(
    door: Door,
) -> None:
    store, now = door.gateway.services.store, time.time()
    await prune(store, now)
    await store.record(Batch([row("old", now - 1000 * DAY_S), row("new", now)]))
    await prune(store, now)
    assert await kept(store) == {"old", "new"}


async def test_an_unexpected_error_does_not_end_the_task(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="roxy.retention")
    store, now = door.gateway.services.store, time.time()
    await store.record(Batch([row("old", now - 91 * DAY_S), *busy(now)]))
    clock = iter([None])

    def wall() -> float:
        if next(clock, now) is None:
            raise ArithmeticError("scripted")
        return now

    retention = Retention(store, days=90, wall=wall, first_after_s=0.0, every_s=0.01)
    await eventually(lambda: "deleted 1 usage rows" in caplog.text)
    await retention.aclose()
    assert "ArithmeticError: scripted" in caplog.text


class AwayStore(SqliteStore):
    """A store whose database is away until the test says otherwise."""

    away = True
    refused = 0

    @property
    def trouble(self) -> str | None:
        """Return why it cannot be used."""
        return "it does not answer" if self.away else super().trouble

    async def prune(self, before_day: str) -> int:
        """Delete old rows, or refuse."""
        if self.away:
            self.refused += 1
            raise StoreUnavailable
        return await super().prune(before_day)


async def test_while_the_store_is_away_pruning_is_tried_again_without_a_line_of_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="roxy.retention")
    async with AwayStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        now = time.time()
        await store.record(Batch([row("old", now - 91 * DAY_S), *busy(now)]))
        retention = Retention(store, days=90, first_after_s=0.01, every_s=10 * DAY_S)
        await eventually(lambda: store.refused > 1)
        assert caplog.messages == []
        store.away = False
        await eventually(lambda: "deleted 1 usage rows" in caplog.text)
        await retention.aclose()
