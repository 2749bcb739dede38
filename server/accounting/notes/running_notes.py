"""Note what a process has not saved yet, so that little of it is lost when the process is killed.

While requests run or rows wait for the database, the process writes twice a second (`NOTE_EVERY_S`)
into two files (`NoteFiles`): for each running request that has reached an upstream, the usage row
that it would get if it were cut now; and the rows of ended requests that are not saved yet. Those
are appended, because there may be many while the database cannot be written; the file is written
anew when most of it is saved. Whoever finds the files when the process has ended books what is in
them (`left_notes.py`): the keeper for a child, the next start for everything else.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from server.accounting.notes.note_files import NoteFiles, RequestNote, plain_note

if TYPE_CHECKING:
    from server.accounting.admission import Lease
    from workers.run.job import Outcome

log = logging.getLogger("roxy.ledger")

NOTE_EVERY_S = 0.5
"""The most that is missing of an answer whose process was killed."""
MAX_STALE = 1_000
"""Notes of saved rows that stay in the file of ended requests, besides as many as are needed."""

MakeNote = Callable[["Lease", "Outcome"], RequestNote | None]


class RunningNotes:
    """The notes of one process; None as `files`: none are written.

    `make` returns the note of a running request, None where it has used nothing yet.
    """

    def __init__(
        self, files: NoteFiles | None, make: MakeNote, *, every_s: float = NOTE_EVERY_S
    ) -> None:
        self._files = files
        self._make = make
        self._every_s = every_s
        self._running: dict[Lease, Callable[[], Outcome]] = {}
        self._ended = _EndedNotes()
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self._is_written = False
        self._failed = False

    def add(self, lease: Lease, so_far: Callable[[], Outcome]) -> None:
        """Note a request until `end`; `so_far` returns its outcome if it were cut now."""
        self._running[lease] = so_far
        if self._timer is None:
            self._plan()

    def end(self, lease: Lease, ended: RequestNote | None) -> None:
        """Note a request as ended, until `keep` says that its row is saved; None: it has no row."""
        self._running.pop(lease, None)
        if ended is not None and self._files is not None:
            self._ended.notes.append(ended)
            if self._timer is None:
                self._plan()

    def keep(self, unsaved: int) -> None:
        """Keep the newest notes of ended requests, one for each row that is not saved yet."""
        self._ended.keep(unsaved)

    async def aclose(self) -> bool:
        """Remove the files, or leave what is not saved; return whether nothing is lost."""
        files, self._files = self._files, None
        if self._timer is not None:
            self._timer.cancel()
        if self._writing is not None:
            await self._writing
        if files is None:
            return False
        try:
            await self._write(files, ())
        except OSError as error:
            log.warning("%s cannot be written: %s", files.ended, error.strerror)
            return False
        return True

    def _plan(self) -> None:
        if self._writing is None and self._files is not None:  # else the writing plans at its end
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._every_s, self._begin)

    def _begin(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        if self._files is not None:
            self._writing = loop.create_task(self._note(self._files), name="running notes")

    async def _note(self, files: NoteFiles) -> None:
        """Write what is not saved; then plan the next time."""
        running = [
            plain_note(note)
            for lease, so_far in self._running.items()
            if (note := self._make(lease, so_far())) is not None
        ]
        try:
            await self._write(files, running)
            self._failed = False
        except OSError as error:
            if not self._failed:
                where = files.running.parent
                log.warning("requests cannot be noted in %s: %s", where, error.strerror)
            self._failed = True
        self._writing = None
        if self._running or self._is_written or self._ended.is_due:
            self._plan()

    async def _write(self, files: NoteFiles, running: Sequence[RequestNote]) -> None:
        """Bring both files up to date, in a thread. Raises OSError."""
        ended, was_written = self._ended.next_piece(), self._is_written
        self._is_written = bool(running)

        def write() -> int | None:
            # First the ended ones, which the other file may still have as running.
            size = ended.write(files) if ended is not None else None
            if running:
                files.write_running(running)
            elif was_written:
                files.running.unlink(missing_ok=True)
            return size

        try:
            size = await asyncio.to_thread(write)
        except OSError as error:
            self._is_written = was_written or bool(running)
            if ended is None or not ended.start or not isinstance(error, FileNotFoundError):
                raise
            self._ended.forget_file()
            await self._write(files, running)
            return
        if ended is not None and size is not None:
            self._ended.note_written(ended, size)


class _Piece(NamedTuple):
    """Notes to be written behind the first `start` bytes of the file; None: they replace it."""

    notes: Sequence[RequestNote]
    start: int | None
    next: int

    def write(self, files: NoteFiles) -> int:
        """Write them and return the size of the file. Raises OSError."""
        if not self.notes:
            files.ended.unlink(missing_ok=True)
            return 0
        if self.start is None:
            return files.write_ended(self.notes)
        return files.append_ended(self.notes, self.start)


class _EndedNotes:
    """The notes of ended requests that are not saved, the oldest first, and what of them is noted.

    The notes are numbered; `first` is the number of the oldest that is kept, `next` that of the
    oldest that is not in the file. The file has `in_file` notes, some of them of saved rows.
    """

    def __init__(self) -> None:
        self.notes: deque[RequestNote] = deque()
        self._first = self._next = 0
        self._in_file = self._size = 0

    @property
    def is_due(self) -> bool:
        """Whether there is anything to write or to remove."""
        return bool(self.notes) or self._in_file > 0

    def keep(self, unsaved: int) -> None:
        """Drop all but the newest notes."""
        saved = len(self.notes) - unsaved
        for _ in range(saved):
            self.notes.popleft()
        self._first += max(saved, 0)

    def next_piece(self) -> _Piece | None:
        """Return what is to be written now; None: nothing."""
        end = self._first + len(self.notes)
        new = list(islice(self.notes, max(self._next - self._first, 0), None))
        stale = self._in_file + len(new) - len(self.notes)
        if self._in_file and (not self.notes or stale > len(self.notes) + MAX_STALE):
            return _Piece(list(self.notes), None, end)
        return _Piece(new, self._size, end) if new else None

    def forget_file(self) -> None:
        """Note that the file is not there any more: another start has booked what was in it."""
        self._next = self._first
        self._in_file = self._size = 0

    def note_written(self, piece: _Piece, size: int) -> None:
        """Note that a piece is in the file, which has `size` bytes now."""
        self._in_file = len(piece.notes) + (0 if piece.start is None else self._in_file)
        self._size = size
        self._next = piece.next
