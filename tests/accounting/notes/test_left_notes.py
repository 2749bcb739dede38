"""What killed processes have left is booked once, whatever they have managed to write."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from msgspec import structs
from support.builders.rows import a_row
from support.fakes.stores import FlakyStore
from support.waiting import PATIENCE_S, eventually

from server.accounting.counters import Taken
from server.accounting.notes.left_notes import LeftNotes
from server.accounting.notes.note_files import RequestNote, note_files
from server.store.rows import Batch, UsageRow
from server.store.sqlite.sqlite_store import SqliteStore
from server.store.store import Store
from server.store.usage_queries import SumsQuery
from workers.errors import StoreUnavailable

KEY = "key_0000000000000001"


def row_of(number: int, key_id: str = KEY, status: str = "cut") -> UsageRow:
    row = a_row(number, at=time.time(), key_id=key_id, cost_microusd=700)
    return structs.replace(row, status=status)


def note_of(row: UsageRow) -> RequestNote:
    return RequestNote(row, Taken(row.key_id, lease=f"lease of {row.request_id}"), 5)


def leave(directory: Path, row: UsageRow) -> None:
    """Leave the notes of a killed process, which was answering one request."""
    note_files(directory, "one").write_running([note_of(row)])


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as opened:
        yield opened


async def booked(store: Store) -> list[tuple[str, str]]:
    rows = (await store.usage_rows()).rows
    return sorted((row.request_id, row.status) for row in rows)


async def test_what_is_left_is_booked_once(tmp_path: Path, store: SqliteStore) -> None:
    row = row_of(1)
    for _ in range(2):  # the second time as if killed before the file was removed
        leave(tmp_path, row)
        left = LeftNotes(tmp_path, store)
        assert not await left.book_all()
        assert not note_files(tmp_path, "one").exist()
        assert await booked(store) == [("req_1", "cut")]


async def test_a_request_that_got_its_row_after_the_last_note_is_not_booked_again(
    tmp_path: Path, store: SqliteStore
) -> None:
    row = row_of(1)
    leave(tmp_path, row)
    await store.record(Batch([structs.replace(row, at=row.at + 0.3, status="finished")]))
    await LeftNotes(tmp_path, store).book_all()
    assert await booked(store) == [("req_1", "finished")]


async def test_a_request_that_has_ended_is_booked_as_it_ended_though_it_is_noted_as_running(
    tmp_path: Path, store: SqliteStore
) -> None:
    row = row_of(1)
    leave(tmp_path, row)
    ended = structs.replace(row, at=row.at + 0.3, status="finished")
    note_files(tmp_path, "one").append_ended([note_of(ended)], 0)
    await LeftNotes(tmp_path, store).book_all()
    assert await booked(store) == [("req_1", "finished")]


async def test_an_older_request_with_the_same_id_hides_none(
    tmp_path: Path, store: SqliteStore
) -> None:
    row = row_of(1)
    leave(tmp_path, row)
    older = structs.replace(row, at=row.at - 3600)
    await store.record(Batch([older]))
    note_files(tmp_path, "one").append_ended([note_of(structs.replace(older, at=row.at - 60))], 0)
    await LeftNotes(tmp_path, store).book_all()
    assert len(await booked(store)) == 3


async def test_thousands_of_unsaved_rows_are_booked_but_those_that_were_saved(
    tmp_path: Path, store: SqliteStore
) -> None:
    rows = [row_of(number, status="finished") for number in range(7_000)]
    note_files(tmp_path, "one").append_ended([note_of(row) for row in rows], 0)
    await store.record(Batch(rows[:600]))
    await LeftNotes(tmp_path, store).book_all()
    (day,) = await store.usage_by(SumsQuery("0001-01-01", "9999-12-31", ()))
    assert (day.requests, day.cost_microusd) == (7_000, 7_000 * 700)


class AwayStore(FlakyStore):
    """A store whose writes may fail, and whose reads do not."""

    async def usage_times(self, ids: set[str]) -> dict[str, float]:
        """Read from the real store."""
        return await self._store.usage_times(ids)


async def test_what_cannot_be_booked_waits_and_is_charged_once_when_it_is(
    tmp_path: Path, store: SqliteStore
) -> None:
    row, charged = row_of(1), list[RequestNote]()
    away = AwayStore(store)
    away.fail(StoreUnavailable("the disk is full"), times=2)
    leave(tmp_path, row)
    left = LeftNotes(tmp_path, away)  # type: ignore[arg-type]
    (files,) = await left.book_all()
    assert files.exist()
    left.book_later(files, charged.append)
    await eventually(lambda: not files.exist())
    assert charged == [note_of(row)]
    assert await booked(store) == [("req_1", "cut")]
    await left.aclose()


async def test_what_still_cannot_be_booked_at_the_end_waits_for_the_next_start(
    tmp_path: Path, store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    away = AwayStore(store)
    away.fail(StoreUnavailable("the disk is full"), times=1_000)
    leave(tmp_path, row_of(1))
    left = LeftNotes(tmp_path, away)  # type: ignore[arg-type]
    left.book_later(note_files(tmp_path, "one"))
    await away.saw(1)
    await left.aclose()
    assert "waits for the next start" in caplog.text
    assert note_files(tmp_path, "one").exist()


async def test_a_file_that_cannot_be_read_stops_nothing(
    tmp_path: Path, store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    path = note_files(tmp_path, "one").running
    path.write_bytes(b"half a fi")
    (tmp_path / "running-dir.notes").mkdir()
    (tmp_path / "running-one.part").touch()
    await LeftNotes(tmp_path, store).book_all()
    assert "cannot be read, so its requests are not booked" in caplog.text
    assert not path.exists()
    assert path.with_suffix(".unreadable").read_bytes() == b"half a fi"
    assert not (tmp_path / "running-one.part").exists()
    path.write_bytes(msgspec.msgpack.encode([note_of(row_of(2))]))  # as older versions wrote it
    await LeftNotes(tmp_path, store).book_all()
    assert await booked(store) == [("req_2", "cut")]
