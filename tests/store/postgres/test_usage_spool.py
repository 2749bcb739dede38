"""The files in which usage waits while PostgreSQL is away."""

from __future__ import annotations

from pathlib import Path

import msgspec
from support.builders.rows import NOON, a_row

from server.store.postgres.usage.usage_spool import UsageSpool
from server.store.rows import Batch, CounterRow
from workers.run.job import Attempt

BATCH = Batch(
    rows=[a_row(1, attempts=(Attempt("a@b", 1, 2, "answered"),)), a_row(2, deployment=None)],
    counters=[CounterRow("key_1", "budget_month", 9_007_199_254_740_993, "2026-11", NOON)],
    last_used={"key_1": 7},
)


async def test_rows_come_back_from_the_spool_as_they_were(tmp_path: Path) -> None:
    spool = UsageSpool(tmp_path / "spool", file_bytes=100)
    batches = [BATCH, Batch(rows=[a_row(3)]), Batch(last_used={"key_2": 1})]
    for batch in batches:
        await spool.put(batch)
    again = UsageSpool(tmp_path / "spool")
    await again.find()
    found: list[Batch] = []
    assert again.size_bytes == spool.size_bytes > 0
    while (piece := await again.oldest()) is not None:
        found += piece.batches
        await again.drop(piece)
    assert msgspec.json.encode(found) == msgspec.json.encode(batches)
    assert not again and again.size_bytes == 0 and not list((tmp_path / "spool").iterdir())


async def test_a_damaged_line_is_left_out_and_the_others_are_saved(tmp_path: Path) -> None:
    spool = UsageSpool(tmp_path / "spool")
    for number in (1, 2, 3):
        await spool.put(Batch(rows=[a_row(number, cost_microusd=50)]))
    (file,) = (tmp_path / "spool").iterdir()
    file.write_bytes(file.read_bytes().replace(b'"cost_microusd":50', b'"cost_microusd":51', 1))
    piece = await spool.oldest()
    assert piece is not None
    assert [row.request_id for batch in piece.batches for row in batch.rows] == ["req_2", "req_3"]


async def test_what_is_put_while_older_usage_is_saved_is_not_deleted_with_it(
    tmp_path: Path,
) -> None:
    spool = UsageSpool(tmp_path / "spool")
    await spool.put(Batch(rows=[a_row(1)]))
    piece = await spool.oldest()
    await spool.put(Batch(rows=[a_row(2)]))
    assert piece is not None
    await spool.drop(piece)
    left = await spool.oldest()
    assert left is not None
    assert [row.request_id for batch in left.batches for row in batch.rows] == ["req_2"]
    await spool.drop(left)
    assert await spool.oldest() is None and not spool


async def test_what_no_column_could_hold_is_left_out_of_the_spool(tmp_path: Path) -> None:
    spool = UsageSpool(tmp_path / "spool")
    poison = [a_row(1, at=float("nan")), a_row(2), a_row(3, model="\ud800")]
    await spool.put(Batch(rows=poison, counters=[CounterRow("a", "b", 2**70, "", NOON)]))
    piece = await spool.oldest()
    assert piece is not None
    (batch,) = piece.batches
    assert list(batch.rows) == [a_row(2)]
    assert batch.counters[0].value == 2**63 - 1
