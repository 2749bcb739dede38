"""Notes of running requests: they are booked once, whatever the process has managed to write."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from msgspec import structs
from support.builders.rows import a_row
from support.waiting import PATIENCE_S, eventually, soon

from server.accounting.admission import Lease
from server.accounting.counters import Taken
from server.accounting.memory_counters import MemoryCounters
from server.accounting.running_notes import (
    RunningNote,
    RunningNotes,
    notes_path,
    read_notes,
    settle_left,
)
from server.identity.authentication import OWNER
from server.store.key import Limits
from server.store.rows import Batch, UsageRow
from server.store.sqlite.sqlite_store import SqliteStore
from workers.catalog.catalog import Model
from workers.request.chat_request import parse_chat
from workers.run.job import Outcome

BUDGET = Limits(budget_microusd=1_000_000)
REQUEST = parse_chat(b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}')


def row_of(number: int, key_id: str = "key_0000000000000001", **fields: object) -> UsageRow:
    return structs.replace(
        a_row(number, at=time.time(), key_id=key_id, cost_microusd=700), status="cut", **fields
    )


def leave(path: Path, row: UsageRow) -> None:
    """Leave the notes of a killed process, which was answering one request."""
    path.write_bytes(msgspec.msgpack.encode([RunningNote(row, Taken(row.key_id, lease="1"), 5)]))


def noting(path: Path, row: UsageRow) -> tuple[RunningNotes, Lease]:
    """Return notes that note one request as this row."""
    taken = Taken(row.key_id, lease="lease-1")
    notes = RunningNotes(path, lambda _lease, _outcome: RunningNote(row, taken, 5), every_s=0.001)
    lease = Lease(OWNER, Model("m", "M"), row.request_id, REQUEST)
    notes.add(lease, lambda: Outcome("cut"))
    return notes, lease


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(tmp_path / "roxy.db") as opened:
        yield opened


async def booked(store: SqliteStore) -> list[str]:
    return [row.request_id for row in (await store.usage_rows()).rows]


async def spent(counters: MemoryCounters, row: UsageRow) -> int:
    budget = (await counters.standing(row.key_id, BUDGET)).budget
    assert budget is not None
    return budget.spent_microusd


async def test_the_file_is_there_while_a_request_runs_and_is_private(tmp_path: Path) -> None:
    path = notes_path(tmp_path, "one")
    row = row_of(1)
    notes, lease = noting(path, row)
    await eventually(lambda: read_notes(path))
    assert read_notes(path)[0].row == row
    assert path.stat().st_mode & 0o777 == 0o600
    notes.remove(lease)
    await eventually(lambda: not path.exists())
    notes.add(lease, lambda: Outcome("cut"))
    await eventually(path.exists)
    await notes.aclose()
    assert not path.exists()


async def test_what_is_left_is_booked_and_charged_once(tmp_path: Path, store: SqliteStore) -> None:
    path = notes_path(tmp_path, "one")
    row = row_of(1)
    counters = MemoryCounters()
    for _ in range(2):  # the second time as if the process was killed before the file was removed
        leave(path, row)
        await settle_left(tmp_path, store, counters.charge_left, counters)
        assert not path.exists()
        assert await booked(store) == [row.request_id]
        assert await spent(counters, row) == 700
    again = MemoryCounters()
    again.restore(await store.load_counters())
    assert await spent(again, row) == 700


async def test_a_request_that_got_its_row_after_the_last_note_is_not_booked_again(
    tmp_path: Path, store: SqliteStore
) -> None:
    path = notes_path(tmp_path, "one")
    row = row_of(1)
    leave(path, row)
    await store.record(Batch([structs.replace(row, at=row.at + 0.3, status="finished")]))
    counters = MemoryCounters()
    await settle_left(tmp_path, store, counters.charge_left, counters)
    assert [one.status for one in (await store.usage_rows()).rows] == ["finished"]
    assert await spent(counters, row) == 0


async def test_an_older_request_with_the_same_id_hides_none(
    tmp_path: Path, store: SqliteStore
) -> None:
    path = notes_path(tmp_path, "one")
    row = row_of(1)
    leave(path, row)
    await store.record(Batch([structs.replace(row, at=row.at - 3600)]))
    await settle_left(tmp_path, store, MemoryCounters().charge_left, None)
    assert len(await booked(store)) == 2


async def test_rows_that_could_not_be_written_wait_for_the_next_start(
    tmp_path: Path, store: SqliteStore
) -> None:
    notes = RunningNotes(notes_path(tmp_path, "one"), lambda *_: None)
    row, guest = row_of(1), row_of(2, key_id="guest")
    await notes.aclose([row, guest])
    counters = MemoryCounters()
    await settle_left(tmp_path, store, counters.charge_left, counters)
    assert sorted(await booked(store)) == sorted([row.request_id, guest.request_id])
    assert await spent(counters, row) == 700
    assert {one.scope for one in await store.load_counters()} == {row.key_id}


async def test_a_file_that_cannot_be_read_or_written_stops_nothing(
    tmp_path: Path, store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    path = notes_path(tmp_path, "one")
    path.write_bytes(b"half a fi")
    await settle_left(tmp_path, store, MemoryCounters().charge_left, None)
    assert "cannot be read, so its requests are not booked" in caplog.text
    assert not path.exists()
    assert path.with_suffix(".unreadable").read_bytes() == b"half a fi"
    (tmp_path / "running-dir.notes").mkdir()
    (tmp_path / "running-one.part").touch()
    await settle_left(tmp_path, store, MemoryCounters().charge_left, None)
    assert not (tmp_path / "running-one.part").exists()
    (tmp_path / "file").touch()
    notes, lease = noting(tmp_path / "file" / "one.notes", row_of(1))
    await eventually(lambda: "running requests cannot be noted" in caplog.text)
    notes.remove(lease)
    await notes.aclose()


async def test_requests_that_begin_while_the_file_is_written_begin_no_second_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def write(_path: Path, _data: bytes) -> None:
        begun.set()
        ended.wait(PATIENCE_S)

    monkeypatch.setattr("server.accounting.running_notes._write", write)
    notes, lease = noting(tmp_path / "one.notes", row_of(1))
    await eventually(begun.is_set)
    for number in range(2, 5):
        notes.add(Lease(OWNER, lease.model, f"req_{number}", REQUEST), lambda: Outcome("cut"))
        await asyncio.sleep(0.01)  # ten times the pause between two writings
    names = [task.get_name() for task in asyncio.all_tasks()]
    ended.set()
    await soon(notes.aclose())
    assert names.count("running notes") == 1
