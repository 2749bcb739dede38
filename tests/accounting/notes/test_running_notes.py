"""What a process notes for the time after a kill: its running requests and its unsaved rows."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.builders.rows import a_row
from support.waiting import PATIENCE_S, eventually, soon

from server.accounting.admission import Lease
from server.accounting.counters import Taken
from server.accounting.notes.note_files import NoteFiles, RequestNote, note_files
from server.accounting.notes.running_notes import MAX_STALE, RunningNotes
from server.identity.authentication import OWNER
from workers.catalog.catalog import Model
from workers.request.chat_request import parse_chat
from workers.run.job import Outcome

REQUEST = parse_chat(b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}')
MODEL = Model("m", "M")


def lease_of(number: int) -> Lease:
    return Lease(OWNER, MODEL, f"req_{number}", REQUEST)


def note_of(number: int) -> RequestNote:
    return RequestNote(a_row(number), Taken("key_1", lease=f"lease-{number}"), 5)


def noting(files: NoteFiles, *, every_s: float = 0.001) -> RunningNotes:
    """Return notes that note every running request as the same row."""
    return RunningNotes(files, lambda _lease, _outcome: note_of(1), every_s=every_s)


def rows_in(files: NoteFiles) -> list[str]:
    return [note.row.request_id for note in files.read()]


async def begin_and_end(notes: RunningNotes, numbers: Sequence[int]) -> None:
    """Have requests begin and end at once."""
    for number in numbers:
        lease = lease_of(number)
        notes.add(lease, lambda: Outcome("cut"))
        notes.end(lease, note_of(number))


@pytest.fixture
def files(tmp_path: Path) -> NoteFiles:
    return note_files(tmp_path, "one")


async def test_the_file_is_there_while_a_request_runs_and_is_private(files: NoteFiles) -> None:
    notes, lease = noting(files), lease_of(1)
    notes.add(lease, lambda: Outcome("cut"))
    await eventually(files.read)
    assert files.read() == [note_of(1)]
    assert files.running.stat().st_mode & 0o777 == 0o600
    notes.end(lease, None)
    await eventually(lambda: not files.exist())
    notes.add(lease, lambda: Outcome("cut"))
    await eventually(files.exist)
    notes.end(lease, None)
    await notes.aclose()
    assert not files.exist()


async def test_an_ended_request_stays_noted_until_its_row_is_saved(files: NoteFiles) -> None:
    notes, lease = noting(files), lease_of(2)
    notes.add(lease, lambda: Outcome("cut"))
    await eventually(files.running.exists)
    notes.end(lease, note_of(2))
    await eventually(lambda: not files.running.exists())
    assert files.read() == [note_of(2)]
    assert files.ended.stat().st_mode & 0o777 == 0o600
    await begin_and_end(notes, [3, 4])
    await eventually(lambda: rows_in(files) == ["req_2", "req_3", "req_4"])
    notes.keep(1)
    await begin_and_end(notes, [5])
    await eventually(lambda: rows_in(files)[-1] == "req_5")
    notes.keep(0)
    await eventually(lambda: not files.exist())
    await notes.aclose()


async def test_rows_are_appended_and_the_file_is_written_anew_when_most_are_saved(
    files: NoteFiles,
) -> None:
    notes = noting(files)
    await begin_and_end(notes, range(MAX_STALE))
    await eventually(lambda: len(rows_in(files)) == MAX_STALE)
    kept = files.ended.stat().st_ino
    notes.keep(1)
    await begin_and_end(notes, [5000])
    await eventually(lambda: rows_in(files)[-1] == "req_5000")
    assert files.ended.stat().st_ino == kept
    await begin_and_end(notes, range(6000, 6500))
    await eventually(lambda: rows_in(files)[-1] == "req_6499")
    notes.keep(3)
    await eventually(lambda: rows_in(files) == ["req_6497", "req_6498", "req_6499"])
    await notes.aclose()


async def test_what_is_not_saved_at_the_end_stays(files: NoteFiles) -> None:
    notes = noting(files, every_s=PATIENCE_S)
    await begin_and_end(notes, [1, 2, 3])
    notes.keep(2)
    assert await notes.aclose()
    assert rows_in(files) == ["req_2", "req_3"]


async def test_a_piece_that_a_kill_has_cut_hides_none_before_it(files: NoteFiles) -> None:
    size = files.append_ended([note_of(1), note_of(2)], 0)
    whole = files.append_ended([note_of(3)], size)
    data = files.ended.read_bytes()
    for end in (whole - 1, size + 9, size + 3, size):
        files.ended.write_bytes(data[:end])
        assert rows_in(files) == ["req_1", "req_2"]
    files.ended.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert rows_in(files) == ["req_1", "req_2"]
    files.append_ended([note_of(4)], size)  # over what was left of a failed attempt
    assert rows_in(files) == ["req_1", "req_2", "req_4"]


async def test_a_file_that_cannot_be_written_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    files, lease = note_files(tmp_path / "file", "one"), lease_of(1)
    notes = noting(files)
    notes.add(lease, lambda: Outcome("cut"))
    await eventually(lambda: "requests cannot be noted" in caplog.text)
    notes.end(lease, note_of(1))
    assert not await notes.aclose()


async def test_requests_that_begin_while_the_file_is_written_begin_no_second_writing(
    files: NoteFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def write(_path: Path, _data: bytes) -> None:
        begun.set()
        ended.wait(PATIENCE_S)

    monkeypatch.setattr("server.accounting.notes.note_files._replace", write)
    notes = noting(files)
    notes.add(lease_of(1), lambda: Outcome("cut"))
    await eventually(begun.is_set)
    for number in range(2, 5):
        notes.add(lease_of(number), lambda: Outcome("cut"))
        await asyncio.sleep(0.01)  # ten times the pause between two writings
    names = [task.get_name() for task in asyncio.all_tasks()]
    ended.set()
    await soon(notes.aclose())
    assert names.count("running notes") == 1
