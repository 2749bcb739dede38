"""Book the requests of processes that were killed, once, from what they have noted.

    left = LeftNotes(directory, store)
    await left.book_all()                  # at the start
    left.book_later(files, charge)         # of a child that was killed
    await left.aclose()

A request is booked unless the store has a row with its id from after it began. Ended requests come
before running ones, because what has just ended may still be noted as running.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from server.accounting.notes.note_files import NoteFiles, RequestNote, left_files
from server.store.rows import Batch
from workers.errors import StoreUnavailable

if TYPE_CHECKING:
    from server.store.store import Store

log = logging.getLogger("roxy.ledger")

Charge = Callable[[RequestNote], None]
"""Counts for the limits what a request has used that was not counted yet."""
KEY_PREFIX = "key_"
"""How the ids of keys begin; usage rows of others say "owner" or "guest"."""
MAX_BATCH_ROWS = 5_000
FIRST_RETRY_S = 0.25
MAX_RETRY_S = 5.0


class LeftNotes:
    """Books what is left in a directory; what fails is tried again until `aclose`."""

    def __init__(self, directory: Path, store: Store) -> None:
        self._directory = directory
        self._store = store
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()

    async def book_all(self, charge: Charge | None = None) -> list[NoteFiles]:
        """Book what every process has left; return the files that must be tried again.

        `charge` None: budgets are corrected by the rows when they are first used.
        """
        failed = []
        for files in await asyncio.to_thread(left_files, self._directory):
            try:
                await self._book(files, charge)
            except StoreUnavailable as error:
                log.warning("requests that an ended process has left wait to be booked: %s", error)
                failed.append(files)
        return failed

    def book_later(
        self,
        files: NoteFiles,
        charge: Charge | None = None,
        after: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Book what a process has left, in a task; `charge` None: it was charged for already.

        `after` waits until everything is written that the process has sent before its end.
        """
        work = self._book_until_done(files, charge, after)
        task = asyncio.get_running_loop().create_task(work, name=f"notes of {files.running.stem}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Try once more what has failed; what fails again waits for the next start."""
        self._closing.set()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _book_until_done(
        self,
        files: NoteFiles,
        charge: Charge | None,
        after: Callable[[], Awaitable[None]] | None,
    ) -> None:
        if after is not None:
            await after()
        retry_s = FIRST_RETRY_S
        while True:
            closing = self._closing.is_set()
            try:
                await self._book(files, charge)
                return
            except StoreUnavailable as error:
                if closing:
                    log.warning("%s waits for the next start: %s", files.running.name, error)
                    return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), retry_s)
            retry_s = min(retry_s * 2, MAX_RETRY_S)

    async def _book(self, files: NoteFiles, charge: Charge | None) -> None:
        """Write and charge what is missing, and remove the files.

        Raises StoreUnavailable; the files are left, and a part of them is booked.
        """
        notes = await asyncio.to_thread(files.read)
        times = await self._store.usage_times({note.row.request_id for note in notes})
        due = list(_missing(notes, times))
        for start in range(0, len(due), MAX_BATCH_ROWS):
            some = due[start : start + MAX_BATCH_ROWS]
            await self._store.record(Batch([note.row for note in some], last_used=_last_used(some)))
            if charge is not None:
                for note in some:
                    charge(note)
        if due:
            log.warning("%d requests that an ended process has left are booked", len(due))
        await asyncio.to_thread(files.remove)


def _missing(notes: Iterable[RequestNote], known: Mapping[str, float]) -> Iterator[RequestNote]:
    """Find the notes without a row; `known` are the times of the newest rows by request id."""
    times = dict(known)
    for note in notes:
        row = note.row
        begun_at = row.at - row.duration_ms / 1000
        if times.get(row.request_id, -math.inf) < begun_at:
            times[row.request_id] = row.at
            yield note


def _last_used(notes: Iterable[RequestNote]) -> dict[str, int]:
    rows = [note.row for note in notes]
    return {row.key_id: int(row.at) for row in rows if row.key_id.startswith(KEY_PREFIX)}
