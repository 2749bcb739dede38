"""Write and read the files of one process about its requests: the running and the ended ones.

The file of the running requests is replaced as a whole. To the file of the ended ones, pieces are
appended: a length, a checksum and a list of notes each; a piece that a kill has cut is left out. No
file is synced to the disk, so both outlast a killed process, but perhaps not a power failure.
"""

from __future__ import annotations

import contextlib
import logging
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct, structs

from server.accounting.counters import UNLIMITED, Taken
from server.store.private_file import PRIVATE_FILE
from server.store.rows import UsageRow

log = logging.getLogger("roxy.ledger")

RUNNING, ENDED, SUFFIX = "running-", "ended-", ".notes"
"""What is before and after the name of a process in the names of its files."""
PART, UNREADABLE = ".part", ".unreadable"
"""How a file ends while it is written, and once nothing could read it."""
NUMBER_BYTES = 4
"""The size of a length and of a checksum."""


class RequestNote(Struct, frozen=True):
    """The row of one request, what it has taken, and its tokens.

    Of a running request, the row is what it would be if the request were cut now.
    """

    row: UsageRow
    taken: Taken | None
    tokens: int


NOTES = msgspec.msgpack.Decoder(list[RequestNote])


class NoteFiles(NamedTuple):
    """The files of one process."""

    running: Path
    ended: Path

    def write_running(self, notes: Sequence[RequestNote]) -> None:
        """Replace the notes of running requests. Raises OSError."""
        _replace(self.running, msgspec.msgpack.encode(notes))

    def write_ended(self, notes: Sequence[RequestNote]) -> int:
        """Replace the notes of ended requests; return the size of the file. Raises OSError."""
        piece = _encode(notes)
        _replace(self.ended, piece)
        return len(piece)

    def append_ended(self, notes: Sequence[RequestNote], size: int) -> int:
        """Append notes of ended requests to a file of `size` bytes; return its new size.

        Raises OSError; the file is as it was then.
        """
        piece = _encode(notes)
        flags = os.O_WRONLY | os.O_CLOEXEC | (0 if size else os.O_CREAT)
        descriptor = os.open(self.ended, flags, PRIVATE_FILE)
        try:
            os.ftruncate(descriptor, size)
            with open(descriptor, "wb", buffering=0, closefd=False) as out:
                out.seek(size)
                rest = memoryview(piece)
                while rest:  # a nearly full disk may take a part only
                    rest = rest[out.write(rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
            raise
        finally:
            os.close(descriptor)
        return size + len(piece)

    def exist(self) -> bool:
        """Return whether the process has left a note."""
        return self.running.exists() or self.ended.exists()

    def read(self) -> list[RequestNote]:
        """Read what a process has left: ended requests in their order, then the running ones."""
        return [*_read(self.ended, _decode_pieces), *_read(self.running, NOTES.decode)]

    def remove(self) -> None:
        """Delete both files."""
        # A kill in between leaves the ended ones: their rows are exact.
        self.running.unlink(missing_ok=True)
        self.ended.unlink(missing_ok=True)


def note_files(directory: Path, process: str) -> NoteFiles:
    """Return where a process of a gateway notes its requests."""
    return NoteFiles(
        directory / f"{RUNNING}{process}{SUFFIX}", directory / f"{ENDED}{process}{SUFFIX}"
    )


def left_files(directory: Path) -> list[NoteFiles]:
    """Return the files of every process that has left some; call it before any process writes."""
    processes: set[str] = set()
    for prefix in (RUNNING, ENDED):
        for part in directory.glob(f"{prefix}*{PART}"):
            part.unlink(missing_ok=True)  # the process was killed while it wrote
        for path in directory.glob(f"{prefix}*{SUFFIX}"):
            if path.is_file():
                processes.add(path.name[len(prefix) : -len(SUFFIX)])
    return [note_files(directory, process) for process in sorted(processes)]


def plain_note(note: RequestNote) -> RequestNote:
    """Return what is kept of a note: not what was left of the limits after the take."""
    if note.taken is None:
        return note
    return structs.replace(note, taken=structs.replace(note.taken, standing=UNLIMITED))


def _replace(path: Path, data: bytes) -> None:
    """Replace a file in one step, without waiting for the disk."""
    part = path.with_suffix(PART)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    part.replace(path)


def _encode(notes: Sequence[RequestNote]) -> bytes:
    text = msgspec.msgpack.encode([plain_note(note) for note in notes])
    numbers = (len(text), zlib.crc32(text))
    return b"".join(number.to_bytes(NUMBER_BYTES, "big") for number in numbers) + text


def _decode_pieces(data: bytes) -> list[RequestNote]:
    return [note for piece in _pieces(data) for note in NOTES.decode(piece)]


def _pieces(data: bytes) -> Iterator[bytes]:
    start = 0
    while start + 2 * NUMBER_BYTES <= len(data):
        size = int.from_bytes(data[start : start + NUMBER_BYTES], "big")
        start += NUMBER_BYTES
        checksum = int.from_bytes(data[start : start + NUMBER_BYTES], "big")
        start += NUMBER_BYTES
        piece = data[start : start + size]
        start += size
        if len(piece) == size and zlib.crc32(piece) == checksum:
            yield piece
        else:
            log.warning("a note of ended requests was cut by a kill and is left out")
            return


def _read(path: Path, decode: Callable[[bytes], list[RequestNote]]) -> list[RequestNote]:
    """Read a file; one that cannot be read is put aside."""
    try:
        return decode(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, msgspec.MsgspecError) as error:
        log.error("%s cannot be read, so its requests are not booked: %s", path, error)
        with contextlib.suppress(OSError):
            path.replace(path.with_suffix(UNREADABLE))
        return []
