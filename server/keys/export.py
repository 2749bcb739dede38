"""Keep `api-keys.json`, the readable copy of all keys, equal to the database.

It holds hashes, never a secret. It is written after a key change, in steps in a thread, and
replaced at the end, so it is complete at any moment. The database takes precedence: at start the
file is rewritten where it differs. Keys that only the file has are imported when the database is
empty; otherwise a copy of the file is kept.

Changes during a write share the next one. It begins at once with up to AT_ONCE_KEYS keys, else
after RESTS times the duration of the last: some minutes later with 1,000,000 keys. With more than
AT_CLOSE_KEYS keys a stop does not wait for a write: the next start sees that the file is behind.
The store says whether it is: it holds the name of the state that was written, and the size and time
of the file. Only a file that is not as it was left is read, before the start goes on if it is small
or there are no keys.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from shutil import copyfileobj

import msgspec

from server.keys.export_file import (
    WHOLE_BYTES,
    DamagedExport,
    encode_keys,
    export_end,
    export_start,
    iterate_export,
)
from server.keys.key_ring import KeyRing
from server.store.key import Key
from server.store.private_file import replacing
from server.store.rows import KeyQuery
from server.store.store import KEYS_STATE_META, Store, StoreFailure
from workers.errors import StoreUnavailable

log = logging.getLogger("roxy.export")

EXPORT_META = "keys_export"
"""The named value with the state that the file has, and the file's marks."""
HOLDER_EVERY_S = 10.0
"""How often nodes with one database look which of them writes the export."""
RETRY_S = 1.0
STEP_KEYS = 250
"""Keys in one step: 2 ms of work in a thread, which hold up the event loop no longer than that."""
RESTS = 4
"""How much longer than a write the rest after it is, and a step's rest than the step."""
STEP_RESTS = 3
AT_ONCE_KEYS = 1_000
AT_CLOSE_KEYS = 20_000


async def encode_in_steps(ring: KeyRing, exported_at: int) -> AsyncIterator[bytes]:
    """Encode all keys as the file's content, a piece at a time, off the event loop."""
    yield export_start(exported_at)
    last: Key | None = None
    while True:
        query = KeyQuery(after=last.id if last is not None else None, limit=STEP_KEYS)
        keys = await ring.store.list_keys(query)
        if keys:
            yield await asyncio.to_thread(encode_keys, keys, first=last is None)
            last = keys[-1]
        if len(keys) < STEP_KEYS:
            break
    yield export_end(empty=last is None)


@asynccontextmanager
async def open_key_ring(store: Store, export: Path) -> AsyncIterator[KeyRing]:
    """Load the keys and keep their export up to date; leaving finishes both. Raises StoreFailure.

    Keys that only the export has are taken from it when the store is new.
    """
    keys = KeyRing(store)
    await keys.load()
    try:
        async with KeyExport(export, keys):
            yield keys
    finally:
        await keys.aclose()


class KeyExport:
    """Keep the file equal to the key ring. An async context manager; leaving writes what is due.

    Entering reconciles the two. Raises StoreFailure when the file is damaged and the only source of
    keys. `whole_bytes` is the size from which a file is compared after the start, `at_close_keys`
    the number of keys from which leaving does not wait for a write, `rests` how much longer than a
    write the rest after it is.
    """

    def __init__(
        self,
        path: Path,
        ring: KeyRing,
        *,
        whole_bytes: int = WHOLE_BYTES,
        at_close_keys: int = AT_CLOSE_KEYS,
        rests: int = RESTS,
    ) -> None:
        self.path = path
        self._ring = ring
        self._whole_bytes = whole_bytes
        self._at_close_keys = at_close_keys
        self._rests = rests
        self._due = False
        self._held = not ring.store.shared
        self._unread = False
        self._count = 0
        self._woken = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> KeyExport:
        self._ring.on_change(lambda _: self._mark_due())
        self._ring.on_import(self._mark_due)
        try:
            await self._prepare()
        except OSError as error:
            raise StoreFailure(
                f"{self.path} cannot be updated ({error.strerror}): check that its directory is"
                " writable and its disk is not full."
            ) from error
        # One task writes, so that an older state can never replace a newer one.
        self._task = asyncio.create_task(self._keep_writing(), name="key export")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._closing.set()
        self._woken.set()
        if self._task is not None:
            await self._task

    def _mark_due(self) -> None:
        self._due = True
        self._woken.set()

    # At start

    async def _prepare(self) -> None:
        """Find out whether the file must be written; compare it with the store if need be."""
        marks = await asyncio.to_thread(_clean_up, self.path)
        if marks is None:
            self._mark_due()
        elif await self._is_true(marks):
            return
        elif await self._ring.store.count_keys() and marks[0] > self._whole_bytes:
            self._unread = True  # it is compared after the start
            self._mark_due()
        elif await self._differs():
            self._mark_due()
        else:
            await self._note_state(await self._state())

    async def _state(self) -> bytes:
        return await self._ring.store.load_meta(KEYS_STATE_META) or b""

    async def _is_true(self, marks: tuple[int, int]) -> bool:
        """Return whether the file is as it was left, and the keys are as they were then."""
        noted = await self._ring.store.load_meta(EXPORT_META)
        return noted == msgspec.json.encode((*marks, (await self._state()).hex()))

    async def _note_state(self, state: bytes) -> None:
        marks = await asyncio.to_thread(_marks_of, self.path)
        if marks is not None:
            noted = msgspec.json.encode((*marks, state.hex()))
            await self._ring.store.put_meta(EXPORT_META, noted)

    async def _differs(self) -> bool:
        """Reconcile the keys and the file; return whether the file must be written."""
        count = await self._ring.store.count_keys()
        keys = iterate_export(self.path, self._whole_bytes)
        try:
            if not count:
                imported = await self._ring.import_keys(keys)
                log.info("imported %d keys from %s", imported.added, self.path)
                return False
            found, unknown, differ = await self._compare(keys)
        except DamagedExport as error:
            if not count and not self._ring.owner.has_owner:
                raise StoreFailure(
                    f"{error} It is the only source of keys: repair it, or move it away to start"
                    " without keys."
                ) from error
            log.warning("%s It is written again from the database.", error)
            await self._keep_copy()
            return True
        if unknown:
            aside = await self._keep_copy()
            log.warning(
                "%s has %d keys that are not in the database; a copy was kept. To import them, run"
                " roxy keys import %s",
                self.path,
                unknown,
                aside,
            )
        return differ or found != count

    async def _compare(self, keys: Iterator[Key]) -> tuple[int, int, bool]:
        """Return how many keys the file has, how many are unknown, and whether any differs."""
        found = unknown = 0
        differ = False
        while piece := await asyncio.to_thread(lambda: list(islice(keys, STEP_KEYS))):
            known = {key.id: key for key in await self._ring.store.find_keys([k.id for k in piece])}
            found += len(piece)
            unknown += sum(key.id not in known for key in piece)
            differ |= any(
                key.id not in known or _as_written(key) != _as_written(known[key.id])
                for key in piece
            )
        return found, unknown, differ

    async def _keep_copy(self) -> Path:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        aside = self.path.with_name(f"{self.path.stem}.kept-{stamp}.json")
        await asyncio.to_thread(_copy, self.path, aside)
        return aside

    # Afterwards

    async def _keep_writing(self) -> None:
        """Write after each change; after a failure, retry every RETRY_S."""
        failed, rest_s = False, 0.0
        while True:
            if failed:
                await _wait(self._closing, RETRY_S)
            else:
                await self._wait_for_work()
                if rest_s:
                    await _wait(self._closing, rest_s)
            self._woken.clear()
            closing = self._closing.is_set()
            if self._due and await self._holds():
                self._due = False  # before the write, so that a change during it is due again
                began = time.monotonic()
                failed = not await self._write(again=failed)
                rest_s = (
                    (time.monotonic() - began) * self._rests if self._count > AT_ONCE_KEYS else 0.0
                )
                self._due |= failed
            if closing:
                return

    async def _wait_for_work(self) -> None:
        """Wait for a change of a key, and where nodes share the keys, look who writes the file."""
        while not self._woken.is_set():
            if not self._ring.store.shared:
                await self._woken.wait()
                return
            await _wait(self._woken, HOLDER_EVERY_S)
            await self._holds()

    async def _holds(self) -> bool:
        """Return whether this node writes the file; a node that has just become it has to."""
        held = self._held
        try:
            self._held = await self._ring.store.holds_export()
        except StoreUnavailable:
            self._held = False
        if self._held and not held:
            self._mark_due()
        return self._held

    async def _write(self, *, again: bool) -> bool:
        try:
            if self._unread:
                self._unread = False
                if not await self._differs():
                    await self._note_state(await self._state())
                    return True
            state = await self._state()
            await self._write_in_steps()
            await self._note_state(state)
        except _LeftToNextStart:
            log.info("%s is behind the database; the next start writes it", self.path)
        except (OSError, StoreUnavailable) as error:
            if not again:  # the store itself logs why it is away
                reason = error.strerror if isinstance(error, OSError) else "the database is away"
                log.error("%s cannot be written (%s); retrying", self.path, reason)
            return False
        except Exception:
            if not again:
                log.exception("%s cannot be written; retrying", self.path)
            return False
        if again:
            log.warning("%s can be written again", self.path)
        return True

    async def _write_in_steps(self) -> None:
        """Write the file; rest after each step, so that requests have the processor."""
        self._count = await self._ring.store.count_keys()
        step_rests = STEP_RESTS if self._count > AT_ONCE_KEYS else 0
        # Both ends of the block wait for the disk, so they run in threads too.
        new = replacing(self.path)
        file = await asyncio.to_thread(new.__enter__)
        try:
            began = time.monotonic()
            async for piece in encode_in_steps(self._ring, int(time.time())):
                await asyncio.to_thread(file.write, piece)
                if self._closing.is_set():
                    if self._count > self._at_close_keys:
                        raise _LeftToNextStart
                elif step_rests:
                    await _wait(self._closing, (time.monotonic() - began) * step_rests)
                began = time.monotonic()
        except BaseException as error:
            with suppress(type(error)):
                await asyncio.to_thread(new.__exit__, type(error), error, error.__traceback__)
            raise
        await asyncio.to_thread(new.__exit__, None, None, None)


class _LeftToNextStart(Exception):
    """A stop does not wait until a large file is written."""


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), timeout_s)


def _clean_up(path: Path) -> tuple[int, int] | None:
    """Delete the partial files of killed processes; return the marks of the file, if any."""
    for leftover in path.parent.glob(f"{path.name}.*.part"):
        leftover.unlink(missing_ok=True)
    return _marks_of(path)


def _marks_of(path: Path) -> tuple[int, int] | None:
    """Return the size and the time of a file, by which a change of it is noticed."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns


def _copy(path: Path, target: Path) -> None:
    with path.open("rb") as source, replacing(target) as copy:
        copyfileobj(source, copy)


def _as_written(key: Key) -> Key:
    """Return a key without what causes no export: its last use, and its version."""
    return msgspec.structs.replace(key, last_used_at=None, version=1)
