"""Write `api-keys.json`, the readable copy of all keys, and read it.

It holds hashes, never a secret. It is written in a thread after each key change (changes during a
write share the next one) and replaced in one step, so it is complete at any moment. The database
takes precedence: at start the file is rewritten where it differs. Keys that only the file has are
imported when the database is empty; otherwise a copy of the file is kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from server.keys.key_ring import KeyRing
from server.store.key import PUBLIC_FIELDS, Instant, Key, Limits, Status, Weight, public_fields
from server.store.private_file import write_private
from server.store.store import Store, StoreFailure

log = logging.getLogger("roxy.export")

RETRY_S = 1.0

Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class ExportedKey(Struct, frozen=True, forbid_unknown_fields=True):
    """A key as written in the file; `sha256` is the hash of its secret."""

    id: Annotated[str, Meta(pattern=r"^key_[0-9A-Za-z]{16}$")]
    name: Annotated[str, Meta(min_length=1, max_length=100)]
    redacted: Annotated[str, Meta(max_length=30)]
    sha256: Sha256
    created_at: Instant
    last_used_at: Instant | None
    expires_at: Instant | None
    status: Status
    models: tuple[str, ...] | None
    limits: Limits
    weight: Weight
    previous_sha256: Sha256 | None = None
    previous_until: Instant | None = None

    @classmethod
    def of(cls, key: Key) -> ExportedKey:
        """Convert a key for the file."""
        return cls(
            **public_fields(key),
            sha256=key.digest.hex(),
            previous_sha256=key.previous_digest.hex() if key.previous_digest else None,
            previous_until=key.previous_until,
        )

    def key(self) -> Key:
        """Convert back to a key."""
        return Key(
            **{name: getattr(self, name) for name in PUBLIC_FIELDS},
            digest=bytes.fromhex(self.sha256),
            previous_digest=bytes.fromhex(self.previous_sha256) if self.previous_sha256 else None,
            previous_until=self.previous_until,
        )


class Export(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file; `exported_at` is in Unix seconds."""

    version: Literal[1]
    exported_at: Instant
    keys: tuple[ExportedKey, ...]


class DamagedExport(StoreFailure):
    """The file is not a complete export."""


def encode_export(keys: Sequence[Key], exported_at: int) -> bytes:
    """Encode keys as the file's content, indented for people."""
    export = Export(1, exported_at, tuple(ExportedKey.of(key) for key in keys))
    return msgspec.json.format(msgspec.json.encode(export), indent=2) + b"\n"


def read_export(path: Path) -> list[Key]:
    """Read the keys of an export. Blocks on the disk. Raises DamagedExport and StoreFailure."""
    try:
        keys = [key.key() for key in msgspec.json.decode(path.read_bytes(), type=Export).keys]
    except OSError as error:
        raise StoreFailure(f"{path} cannot be read ({error.strerror}).") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        if _begins_otherwise(path):
            raise DamagedExport(f"{path} is not an export of keys.") from error
        raise DamagedExport(f"{path} is not a complete export of keys ({error}).") from error
    # Look-ups are by id and by hash; of two equal ones, one key could never be found.
    for what, distinct in (("id", {k.id for k in keys}), ("hash", {k.digest for k in keys})):
        if len(distinct) < len(keys):
            raise DamagedExport(f"{path} is damaged: two of its keys have the same {what}.")
    return keys


def _begins_otherwise(path: Path) -> bool:
    """Return whether a file has content, but not that of a JSON object."""
    with path.open("rb") as file:
        start = file.read(1000).lstrip()
    return start != b"" and not start.startswith(b"{")


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
    keys.
    """

    def __init__(self, path: Path, ring: KeyRing) -> None:
        self.path = path
        self._ring = ring
        self._due = False
        self._woken = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> KeyExport:
        self._ring.on_change(lambda _: self._mark_due())
        try:
            if await self._settle():
                self._mark_due()
        except OSError as error:
            raise StoreFailure(
                f"{self.path} cannot be updated ({error.strerror}): check that its directory is"
                " writable and its disk is not full."
            ) from error
        # One task writes, so that an older state can never replace a newer one.
        self._task = asyncio.create_task(self._keep_writing())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing = True
        self._woken.set()
        if self._task is not None:
            await self._task

    def _mark_due(self) -> None:
        self._due = True
        self._woken.set()

    async def _settle(self) -> bool:
        """Reconcile the ring and the file; return whether the file must be written."""
        known = {key.id: _without_use(key) for key in self._ring.list()}
        try:
            found = await asyncio.to_thread(_find_export, self.path)
        except DamagedExport as error:
            if not known and not self._ring.has_owner:
                raise StoreFailure(
                    f"{error} It is the only source of keys: repair it, or move it away to start"
                    " without keys."
                ) from error
            log.warning("%s It is written again from the database.", error)
            await self._keep_copy()
            return True
        if found is None:
            return True
        if found and not known:
            imported = await self._ring.import_keys(found)
            log.info("imported %d keys from %s", len(imported.added), self.path)
            return False
        unknown = sum(key.id not in known for key in found)
        if unknown:
            aside = await self._keep_copy()
            log.warning(
                "%s has %d keys that are not in the database; a copy was kept. To import them, run"
                " roxy keys import %s",
                self.path,
                unknown,
                aside,
            )
        return known != {key.id: _without_use(key) for key in found}

    async def _keep_copy(self) -> Path:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        aside = self.path.with_name(f"{self.path.stem}.kept-{stamp}.json")
        await asyncio.to_thread(_copy, self.path, aside)
        return aside

    async def _keep_writing(self) -> None:
        """Write after each change; after a failure, retry every RETRY_S."""
        failed = False
        while True:
            if not self._closing:
                await _wait(self._woken, RETRY_S if failed else None)
            self._woken.clear()
            closing = self._closing
            if self._due:
                self._due = False  # before the write, so that a change during it is due again
                failed = not await self._write(again=failed)
                self._due |= failed
            if closing:
                return

    async def _write(self, *, again: bool) -> bool:
        now = int(time.time())
        try:
            await asyncio.to_thread(_write_export, self.path, self._ring.list(), now)
        except OSError as error:
            if not again:
                log.error("%s cannot be written (%s); retrying", self.path, error.strerror)
            return False
        except Exception:
            if not again:
                log.exception("%s cannot be written; retrying", self.path)
            return False
        if again:
            log.warning("%s can be written again", self.path)
        return True


async def _wait(event: asyncio.Event, timeout_s: float | None) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), timeout_s)


def _find_export(path: Path) -> list[Key] | None:
    """Read the export if there is one, and delete the partial files of killed processes."""
    for leftover in path.parent.glob(f"{path.name}.*.part"):
        leftover.unlink(missing_ok=True)
    return read_export(path) if path.exists() else None


def _write_export(path: Path, keys: Sequence[Key], now: int) -> None:
    write_private(path, encode_export(keys, now))


def _copy(path: Path, target: Path) -> None:
    write_private(target, path.read_bytes())


def _without_use(key: Key) -> Key:
    """Return a key without its last use, which changes all the time and causes no export."""
    return msgspec.structs.replace(key, last_used_at=None)
