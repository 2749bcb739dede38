"""Keep `api-keys.json`, the readable copy of every key, and read it back.

It holds hashes, never a secret. It is rewritten in a thread after every key change (changes that
come meanwhile share one write) and replaced in one step, so it is whole at every instant. What
rules is the database: at start the file is made to agree with it, unless it knows keys that the
database does not; those are taken in when the database is empty, and kept aside otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from server.keys.key_ring import Imported, KeyRing
from server.store.key import PUBLIC_FIELDS, Instant, Key, Limits, Status, Weight, public_fields
from server.store.private_file import write_private
from server.store.store import StoreFailure

log = logging.getLogger("roxy.export")

RETRY_S = 1.0

Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class ExportedKey(Struct, frozen=True, forbid_unknown_fields=True):
    """A key as it stands in the file: `sha256` is the hash of its secret."""

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
        """Write a key down."""
        return cls(
            **public_fields(key),
            sha256=key.digest.hex(),
            previous_sha256=key.previous_digest.hex() if key.previous_digest else None,
            previous_until=key.previous_until,
        )

    def key(self) -> Key:
        """Give the key that was written down."""
        return Key(
            **{name: getattr(self, name) for name in PUBLIC_FIELDS},
            digest=bytes.fromhex(self.sha256),
            previous_digest=bytes.fromhex(self.previous_sha256) if self.previous_sha256 else None,
            previous_until=self.previous_until,
        )


class Export(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file; `exported_at` in Unix seconds."""

    version: Literal[1]
    exported_at: Instant
    keys: tuple[ExportedKey, ...]


class DamagedExport(StoreFailure):
    """The file is no export, or not a whole one."""


def encode_export(keys: Sequence[Key], exported_at: int) -> bytes:
    """Write keys down as the file's content, for people to read too."""
    export = Export(1, exported_at, tuple(ExportedKey.of(key) for key in keys))
    return msgspec.json.format(msgspec.json.encode(export), indent=2) + b"\n"


def read_export(path: Path) -> list[Key]:
    """Read an export's keys. Blocks on the disk. Raises DamagedExport, and StoreFailure."""
    try:
        keys = [key.key() for key in msgspec.json.decode(path.read_bytes(), type=Export).keys]
    except OSError as error:
        raise StoreFailure(f"{path} cannot be read ({error.strerror}).") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedExport(f"{path} is not a whole export of keys ({error}).") from error
    for what, distinct in (("id", {k.id for k in keys}), ("hash", {k.digest for k in keys})):
        if len(distinct) < len(keys):
            raise DamagedExport(f"{path} is damaged: two of its keys have the same {what}.")
    return keys


async def import_keys(ring: KeyRing, path: Path) -> Imported:
    """Add the keys of an export that are not known yet; those that are stay as they are."""
    return await ring.import_keys(await asyncio.to_thread(read_export, path))


class KeyExport:
    """Keeps the file in step with the ring; an async context manager, leaving writes what is due.

    Entering settles what an earlier run left. Raises StoreFailure when the file is the only source
    of keys and damaged. `exported_at` is the time of the last export in Unix seconds, for people.
    """

    def __init__(self, path: Path, ring: KeyRing) -> None:
        self.path = path
        self.exported_at: int | None = None
        self._ring = ring
        self._due = False
        self._woken = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> KeyExport:
        self._ring.on_change(lambda _: self._note())
        try:
            if await self._settle():
                self._note()
        except OSError as error:
            raise StoreFailure(
                f"{self.path} cannot be brought up to date ({error.strerror}): see that its"
                " directory can be written and its disk has room."
            ) from error
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

    def _note(self) -> None:
        self._due = True
        self._woken.set()

    async def _settle(self) -> bool:
        """Make the ring and the file agree; tells whether the file must be written."""
        known = {key.id: _lasting(key) for key in self._ring.list()}
        try:
            found = await asyncio.to_thread(_find_export, self.path)
        except DamagedExport as error:
            if not known and not self._ring.has_owner:
                raise StoreFailure(
                    f"{error} It is the only place with keys: repair it, or move it away to start"
                    " without any."
                ) from error
            log.warning("%s It is written anew from the database.", error)
            await self._keep_aside()
            return True
        if found is None:
            return True
        if found and not known:
            imported = await self._ring.import_keys(found)
            log.info("took %d keys over from %s", len(imported.added), self.path)
            return False
        strangers = sum(key.id not in known for key in found)
        if strangers:
            aside = await self._keep_aside()
            log.warning(
                "%s names %d keys that the database does not have; it was kept: to take them in,"
                " roxy keys import %s",
                self.path,
                strangers,
                aside,
            )
        self.exported_at = int((await asyncio.to_thread(self.path.stat)).st_mtime)
        return known != {key.id: _lasting(key) for key in found}

    async def _keep_aside(self) -> Path:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        aside = self.path.with_name(f"{self.path.stem}.kept-{stamp}.json")
        await asyncio.to_thread(_copy, self.path, aside)
        return aside

    async def _keep_writing(self) -> None:
        """Write whenever something changed; after a failure, every second until it works."""
        failed = False
        while True:
            if not self._closing:
                await _wait(self._woken, RETRY_S if failed else None)
            self._woken.clear()
            closing = self._closing
            if self._due:
                self._due = False  # before the write: what changes meanwhile is due again
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
                log.error("%s cannot be written (%s); trying on", self.path, error.strerror)
            return False
        if again:
            log.warning("%s is written again", self.path)
        self.exported_at = now
        return True


async def _wait(event: asyncio.Event, timeout_s: float | None) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), timeout_s)


def _find_export(path: Path) -> list[Key] | None:
    """Read the export if there is one, and sweep up what a killed writer left beside it."""
    for leftover in path.parent.glob(f"{path.name}.*.part"):
        leftover.unlink(missing_ok=True)
    return read_export(path) if path.exists() else None


def _write_export(path: Path, keys: Sequence[Key], now: int) -> None:
    write_private(path, encode_export(keys, now))


def _copy(path: Path, target: Path) -> None:
    write_private(target, path.read_bytes())


def _lasting(key: Key) -> Key:
    """Give a key without what changes all the time: no export is due for that."""
    return msgspec.structs.replace(key, last_used_at=None)
