"""Files that keep usage while the database is away, until it is saved there.

    spool = UsageSpool(Path("data/spool"), cap_bytes=256 * MIB)
    await spool.put(batch)                  # raises StoreUnavailable when it is full
    while (piece := await spool.oldest()) is not None:
        ...                                 # save its batches
        await spool.drop(piece)

Batches are appended to files of some megabytes: a line of JSON each, with its checksum. What was
appended outlives a killed process, not a power failure. A line that a kill has cut is left out. A
file is deleted when all its batches are saved; after a kill in between they are saved again, which
changes nothing because each batch has an id.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct, structs

from server.store.private_file import PRIVATE_DIRECTORY, PRIVATE_FILE
from server.store.row_values import counter_values
from server.store.rows import Batch, CounterRow, UsageRow
from workers.errors import StoreUnavailable
from workers.units import MIB

log = logging.getLogger("roxy.store")

SPOOL_BYTES = 256 * MIB
"""About half a million requests."""
FILE_BYTES = 2 * MIB
FILE_NAME = re.compile(r"usage-(\d{8})\.spool")


class Piece(NamedTuple):
    """One file of the spool and the batches in it."""

    path: Path
    batches: Sequence[Batch]
    size_bytes: int


class _Counter(Struct, frozen=True, array_like=True):
    """A counter as it is written: `CounterRow` would read whole numbers as floats."""

    scope: str
    kind: str
    value: int | float
    period: str
    updated_at: float


class _Line(Struct, frozen=True):
    id: str
    rows: tuple[UsageRow, ...] = ()
    counters: tuple[_Counter, ...] = ()
    last_used: dict[str, int] = {}


LINES = msgspec.json.Decoder(_Line)


class UsageSpool:
    """The files of one directory, which one process uses at a time."""

    def __init__(
        self, path: Path, *, cap_bytes: int = SPOOL_BYTES, file_bytes: int = FILE_BYTES
    ) -> None:
        self.path = path
        self.size_bytes = 0
        self._cap_bytes = cap_bytes
        self._file_bytes = file_bytes
        self._files: list[Path] = []
        self._next = 1
        self._open: Path | None = None
        self._open_bytes = 0
        self._lock = asyncio.Lock()

    def __bool__(self) -> bool:
        """Return whether anything waits."""
        return bool(self._files)

    async def find(self) -> None:
        """Find what an earlier process has left. Raises OSError."""
        found = await asyncio.to_thread(_list_files, self.path)
        self._files = [path for path, _ in found]
        self.size_bytes = sum(size for _, size in found)
        # Never appended to: the last line may be cut.
        self._next = int(_number_of(self._files[-1])) + 1 if self._files else 1

    async def put(self, batch: Batch) -> None:
        """Append a batch. Raises StoreUnavailable when the spool or the disk is full."""
        line = await asyncio.to_thread(_encode, batch)
        async with self._lock:
            if self.size_bytes + len(line) > self._cap_bytes:
                raise StoreUnavailable
            if self._open is None or self._open_bytes >= self._file_bytes:
                self._open = self.path / f"usage-{self._next:08}.spool"
                self._open_bytes = 0
                self._next += 1
                self._files.append(self._open)
            try:
                await asyncio.to_thread(_append, self._open, line)
            except OSError as error:
                self._open = None  # a part of the line may be there; nothing is appended to it
                log.warning("%s cannot be written: %s", self.path, error.strerror)
                raise StoreUnavailable from error
            self._open_bytes += len(line)
            self.size_bytes += len(line)

    async def oldest(self) -> Piece | None:
        """Return the oldest file with its batches; None: nothing waits."""
        async with self._lock:
            if not self._files:
                return None
            path = self._files[0]
            if path == self._open:
                self._open = None  # what comes from now on goes into another file
            return await asyncio.to_thread(_read, path)

    async def drop(self, piece: Piece) -> None:
        """Delete a file whose batches are saved."""
        async with self._lock:
            await asyncio.to_thread(piece.path.unlink, missing_ok=True)
            self._files.remove(piece.path)
            self.size_bytes = max(self.size_bytes - piece.size_bytes, 0) if self._files else 0


def _list_files(path: Path) -> list[tuple[Path, int]]:
    with contextlib.suppress(FileNotFoundError):
        return sorted(
            (file, file.stat().st_size) for file in path.iterdir() if FILE_NAME.fullmatch(file.name)
        )
    return []


def _number_of(path: Path) -> str:
    found = FILE_NAME.fullmatch(path.name)
    return found[1] if found else "0"


def _append(path: Path, line: bytes) -> None:
    path.parent.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        with open(file, "wb", buffering=0, closefd=False) as out:
            rest = memoryview(line)
            while rest:  # a nearly full disk may take a part only
                rest = rest[out.write(rest) :]
    finally:
        os.close(file)


def _read(path: Path) -> Piece:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = b""
    return Piece(path, tuple(_decode(path, data)), len(data))


def _decode(path: Path, data: bytes) -> Iterator[Batch]:
    damaged = 0
    for line in data.splitlines():
        checksum, _, text = line.partition(b" ")
        try:
            if int(checksum, 16) != zlib.crc32(text):
                raise ValueError("another checksum")
            sent = LINES.decode(text)
        except (ValueError, msgspec.MsgspecError):
            damaged += 1
            continue
        counters = [CounterRow(*structs.astuple(one)) for one in sent.counters]
        yield Batch(id=sent.id, rows=sent.rows, counters=counters, last_used=sent.last_used)
    if damaged:
        log.warning("%s: %d batches of usage were cut or damaged and left out", path, damaged)


def _encode(batch: Batch) -> bytes:
    """Return the line of a batch; what JSON cannot hold, no column could hold either."""
    rows = tuple(filter(_is_plain, batch.rows))
    if len(rows) < len(batch.rows):
        log.error("%d rows could not be kept and were left out", len(batch.rows) - len(rows))
    counters = tuple(_Counter(*counter_values(row)) for row in batch.counters)
    line = _Line(batch.id, rows, tuple(filter(_is_plain, counters)), dict(batch.last_used))
    text = msgspec.json.encode(line)
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _is_plain(row: UsageRow | _Counter) -> bool:
    """Return whether a row comes back from JSON: NaN would become null, for example."""
    try:
        msgspec.json.decode(msgspec.json.encode(row), type=type(row))
    except (ValueError, msgspec.MsgspecError):  # UnicodeError is a ValueError
        return False
    return True
