"""Note what running requests have used so far, so that a killed process loses little of it.

A file of the process is replaced every `NOTE_EVERY_S` while requests run: for each request that has
reached an upstream, the usage row that it would get if it were cut now. Whoever finds the file when
the process has ended books those rows (`settle_notes`), as of any other cut answer: the keeper for
a child, the next start for everything else. The file is not synced to the disk, so it outlasts a
killed process, but perhaps not a power failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct, structs

from server.accounting.counters import UNLIMITED, Taken, UnsavedCounters
from server.store.private_file import PRIVATE_FILE
from server.store.rows import Batch, UsageRow
from workers.errors import StoreUnavailable

if TYPE_CHECKING:
    from server.accounting.admission import Lease
    from server.store.store import Store
    from workers.run.job import Outcome

log = logging.getLogger("roxy.ledger")

PREFIX, SUFFIX = "running-", ".notes"
"""What is before and after the name of a process in the name of its file."""
KEY_PREFIX = "key_"
"""How the ids of keys begin; usage rows of others say "owner" or "guest"."""
PART, UNREADABLE = ".part", ".unreadable"
"""How the file ends while it is written, and once nothing could read it."""
NOTE_EVERY_S = 0.5
"""The most that is missing of an answer whose process was killed."""


class RunningNote(Struct, frozen=True):
    """The row of one request as if it were cut now, what it has taken, and its tokens."""

    row: UsageRow
    taken: Taken | None
    tokens: int


NOTES = msgspec.msgpack.Decoder(list[RunningNote])

MakeNote = Callable[["Lease", "Outcome"], RunningNote | None]


class RunningNotes:
    """The notes of one process in a file; None as `path`: none are written.

    `make` returns the note of a request, None where it has used nothing yet.
    """

    def __init__(self, path: Path | None, make: MakeNote, *, every_s: float = NOTE_EVERY_S) -> None:
        self._path = path
        self._make = make
        self._every_s = every_s
        self._running: dict[Lease, Callable[[], Outcome]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self._is_written = False
        self._failed = False

    def add(self, lease: Lease, so_far: Callable[[], Outcome]) -> None:
        """Note a request until `remove`; `so_far` returns its outcome if it were cut now."""
        self._running[lease] = so_far
        is_writing = self._writing is not None and not self._writing.done()
        if self._timer is None and not is_writing and self._path is not None:
            self._plan()  # else the writing plans the next time when it ends

    def remove(self, lease: Lease) -> None:
        """Forget a request: the ledger has its row."""
        self._running.pop(lease, None)

    async def aclose(self, unsaved: Sequence[UsageRow] = ()) -> bool:
        """Remove the file, or leave `unsaved` in it, rows that could not be written.

        Return whether nothing is lost.
        """
        path, self._path = self._path, None
        if self._timer is not None:
            self._timer.cancel()
        if self._writing is not None:
            await self._writing
        if path is None:
            return not unsaved
        try:
            if unsaved:
                left = [RunningNote(row, _unsaved_take(row), 0) for row in unsaved]
                await asyncio.to_thread(_write, path, msgspec.msgpack.encode(left))
            elif self._is_written:
                await asyncio.to_thread(path.unlink, missing_ok=True)
        except OSError as error:
            log.warning("%s cannot be written: %s", path, error.strerror)
            return not unsaved
        return True

    def _plan(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._every_s, self._begin)

    def _begin(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        if self._path is not None:
            self._writing = loop.create_task(self._note(self._path), name="running notes")

    async def _note(self, path: Path) -> None:
        """Replace the file by what runs now, in a thread; then plan the next time."""
        notes = [
            note
            for lease, so_far in self._running.items()
            if (note := self._make(lease, so_far())) is not None
        ]
        try:
            if notes:
                self._is_written = True
                await asyncio.to_thread(_write, path, msgspec.msgpack.encode(notes))
            elif self._is_written:
                await asyncio.to_thread(path.unlink, missing_ok=True)
                self._is_written = False
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.warning("running requests cannot be noted in %s: %s", path, error.strerror)
            self._failed = True
        if self._path is not None and (self._running or self._is_written):
            self._plan()


def _write(path: Path, data: bytes) -> None:
    """Replace the file in one step, without waiting for the disk."""
    part = path.with_suffix(PART)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    part.replace(path)


def notes_path(directory: Path, process: str) -> Path:
    """Return where a process of a gateway notes its requests."""
    return directory / f"{PREFIX}{process}{SUFFIX}"


def read_notes(path: Path) -> list[RunningNote]:
    """Read the notes of a process that has ended; a file that cannot be read is put aside."""
    try:
        return NOTES.decode(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, msgspec.MsgspecError) as error:
        log.error("%s cannot be read, so its requests are not booked: %s", path, error)
        with contextlib.suppress(OSError):
            path.replace(path.with_suffix(UNREADABLE))
        return []


async def settle_left(
    directory: Path,
    store: Store,
    charge: Callable[[Taken, int, int], None],
    unsaved: UnsavedCounters | None,
) -> None:
    """Book what processes have left that were killed; call it at the start."""
    for path in _left_in(directory):
        await settle_notes(path, store, charge, unsaved)


def _left_in(directory: Path) -> list[Path]:
    for part in directory.glob(f"{PREFIX}*{PART}"):
        part.unlink(missing_ok=True)  # the process was killed while it wrote
    return sorted(path for path in directory.glob(f"{PREFIX}*{SUFFIX}") if path.is_file())


async def settle_notes(
    path: Path,
    store: Store,
    charge: Callable[[Taken, int, int], None] | None,
    unsaved: UnsavedCounters | None,
) -> None:
    """Book the requests of a process that was killed, once, and remove its notes.

    `charge` settles what a request has taken, with its tokens and money; None: that was done.
    """
    notes = await asyncio.to_thread(read_notes, path)
    try:
        due = [note for note in notes if not await _is_booked(store, note.row)]
        for note in due:
            if charge is not None and note.taken is not None:
                charge(note.taken, note.tokens, note.row.cost_microusd or 0)
        if due:
            counters = unsaved.take_unsaved() if unsaved is not None else ()
            await store.record(Batch([note.row for note in due], counters, _last_used(due)))
            log.warning("%d requests of a killed process are booked as cut", len(due))
    except StoreUnavailable as error:
        log.warning("%s waits for the next start: %s", path, error)
        return
    await asyncio.to_thread(path.unlink, missing_ok=True)


async def _is_booked(store: Store, row: UsageRow) -> bool:
    """Return whether the request has got its row after all: the last note may be older."""
    found = await store.find_usage_row(row.request_id)
    return found is not None and found.at >= row.at - row.duration_ms / 1000


def _unsaved_take(row: UsageRow) -> Taken | None:
    """Return whose budget a row counts for that could not be written: that is lost with it."""
    return Taken(row.key_id) if row.key_id.startswith(KEY_PREFIX) else None


def _last_used(notes: Iterable[RunningNote]) -> dict[str, int]:
    rows = [note.row for note in notes]
    return {row.key_id: int(row.at) for row in rows if row.key_id.startswith(KEY_PREFIX)}


def as_taken(taken: Taken | None) -> Taken | None:
    """Return what a note keeps of a take: not what was left after it."""
    return None if taken is None else structs.replace(taken, standing=UNLIMITED)
