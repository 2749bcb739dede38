"""Rows that no column can hold: they are left out and logged, and the rest of a batch is kept."""

from __future__ import annotations

from typing import Any

import pytest
from support.builders.rows import NOON, a_key, a_row

from server.store.rows import DAY_MARKS, Batch, CounterRow
from server.store.store import Store
from server.store.usage_queries import SumsQuery

# A keeper's child cannot send such rows at all: its link has tests of its own.
pytestmark = pytest.mark.parametrize("backend", ["sqlite", "postgres"], indirect=True)

POISON: dict[str, Any] = {
    "a time that is infinite": a_row(1, at=float("inf")),
    "a time that is no number": a_row(1, at=float("nan")),
    "a time after the last year": a_row(1, at=1e300),
    "text that is not valid": a_row(1, model="half a pair: \ud800"),
    "a request id that is not valid": a_row(1, request_id="req_\udfff"),
    "a value of a wrong type": a_row(1, deployment=["no text"]),
    "no value where one must be": a_row(1, model=None),
    "a number that is text": a_row(1, cost_microusd="12"),
}


@pytest.mark.parametrize("what", POISON)
async def test_a_row_that_cannot_be_stored_keeps_no_other_out(
    store: Store, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = [a_row(number) for number in range(2, 6)]
    counters = [CounterRow("key_1", "budget_total", 7, "", NOON)]
    await store.add_keys([a_key()])
    batch = Batch([*good[:2], POISON[what], *good[2:]], counters, {a_key().id: 300})
    await store.record(batch)
    kept = [row.request_id for row in (await store.usage_rows()).rows]
    assert kept == ["req_5", "req_4", "req_3", "req_2"]
    for groups in (DAY_MARKS, ("day", "model")):
        (day,) = await store.usage_by(SumsQuery("2026-11-22", "2026-11-22", groups))
        assert (day.requests, day.cost_microusd) == (4, 200)
    assert await store.load_counters() == counters
    assert (await store.load_keys())[0].last_used_at == 300
    (line,) = [one for one in caplog.messages if "left out" in one]
    assert "1 rows could not be stored" in line and "request req_" in line


@pytest.mark.parametrize("value", [2**63, 10**30, -(2**70)])
async def test_a_counter_that_is_too_large_is_kept_as_the_largest(store: Store, value: int) -> None:
    await store.record(Batch([a_row()], [CounterRow("key_1", "budget_total", value, "", NOON)]))
    (counter,) = await store.load_counters()
    assert counter.value == (2**63 - 1 if value > 0 else -(2**63 - 1))
    assert len((await store.usage_rows()).rows) == 1


async def test_counters_and_last_uses_that_cannot_be_stored_are_left_out(
    store: Store,
) -> None:
    bad: Any = [
        CounterRow("key_1", "requests", {}, "", NOON),  # type: ignore[arg-type]
        CounterRow("key_\ud800", "requests", 1, "", NOON),
        CounterRow("key_2", "requests", float("nan"), "", NOON),
        CounterRow("key_3", "requests", 1, "", NOON),
    ]
    await store.add_keys([a_key(1), a_key(2)])
    last_used = {a_key(1).id: 2**70, a_key(2).id: 300}
    await store.record(Batch([a_row()], bad, last_used))
    assert [row.scope for row in await store.load_counters()] == ["key_3"]
    used = {key.id: key.last_used_at for key in await store.load_keys()}
    assert used == {a_key(1).id: None, a_key(2).id: 300}
    assert len((await store.usage_rows()).rows) == 1
