"""Hold all keys in memory for look-ups, and make every change to them.

    key, secret = await ring.create(NewKey(name="ci", limits=Limits(requests_per_minute=60)))
    ring.find(secret, time.time())      # the key, or None: no I/O, about a microsecond
    await ring.revoke(key.id)           # refused from now on

A change is written to the store (durably), then to memory, then passed to the listeners, all before
its method returns. A secret exists only in the results of `create` and `rotate`.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from msgspec import structs

from server.keys.secret import (
    PREFIX,
    SECRET_LENGTH,
    digest_of,
    make_key_id,
    make_secret,
    redact,
)
from server.store.key import Key, KeyChanges, NewKey, current_status
from server.store.store import Store
from workers.errors import Conflict, NotFound

log = logging.getLogger("roxy.keys")

OWNER_META = "owner_sha256"


class Imported(NamedTuple):
    """The result of an import: ids that were added, and known ids that were not changed."""

    added: tuple[str, ...]
    kept: tuple[str, ...]


class KeyRing:
    """All keys, in memory. `aclose` waits for changes under way."""

    def __init__(self, store: Store, *, wall: Callable[[], float] = time.time) -> None:
        self._store = store
        self._wall = wall
        self._keys: dict[str, Key] = {}
        self._current: dict[bytes, Key] = {}
        self._previous: dict[bytes, Key] = {}
        self._owner = b""
        self._last_used: dict[str, int] = {}
        self._touched: dict[str, int] = {}
        self._listeners: list[Callable[[Key], None]] = []
        self._change_lock = asyncio.Lock()
        self._changes: set[asyncio.Task[Sequence[Key]]] = set()

    async def load(self) -> None:
        """Read all keys and the owner key from the store, once, at start."""
        for key in await self._store.load_keys():
            self._index(key)
        self._owner = await self._store.load_meta(OWNER_META) or b""

    async def aclose(self) -> None:
        """Wait until changes under way are in the store and in memory."""
        if self._changes:
            await asyncio.wait(self._changes)

    def on_change(self, listener: Callable[[Key], None]) -> None:
        """Call `listener` with each created or changed key, before the change returns."""
        self._listeners.append(listener)

    # Looking up

    def find(self, secret: str, now: float) -> Key | None:
        """Return the active key of a secret; None if it is unknown, expired, disabled or revoked.

        `now` is in Unix seconds. Only memory is read, so guessed keys cause no I/O.
        """
        if len(secret) != SECRET_LENGTH or not secret.startswith(PREFIX):
            return None
        return self.find_digest(digest_of(secret), now)

    def find_digest(self, digest: bytes, now: float) -> Key | None:
        """Return the active key of a secret's digest, as `find` does."""
        key = self._current.get(digest)
        if key is None:
            key = self._previous.get(digest)
            if key is None or (key.previous_until or 0) <= now:
                return None
        return key if current_status(key.status, key.expires_at, now) == "active" else None

    def is_owner(self, secret: str) -> bool:
        """Return whether this is the owner key."""
        return self.is_owner_digest(digest_of(secret))

    def is_owner_digest(self, digest: bytes) -> bool:
        """Return whether this is the digest of the current owner key, in constant time."""
        return hmac.compare_digest(digest, self._owner)

    @property
    def has_owner(self) -> bool:
        """Return whether an owner key is stored, as it is from the end of the first start on."""
        return self._owner != b""

    def get(self, key_id: str) -> Key:
        """Return the key with this id, whatever its status. Raises NotFound."""
        key = self._keys.get(key_id)
        if key is None:
            raise NotFound("No such key. GET /api/v1/keys lists the keys.")
        used = self._last_used.get(key_id)
        return key if used is None else structs.replace(key, last_used_at=used)

    def list(self) -> tuple[Key, ...]:
        """Return all keys, revoked ones too, oldest first."""
        keys = sorted(self._keys.values(), key=lambda key: (key.created_at, key.id))
        return tuple(self.get(key.id) for key in keys)

    def names(self) -> dict[str, str]:
        """Return every key's name by its id."""
        return {key.id: key.name for key in self._keys.values()}

    def touch(self, key_id: str, now: float) -> None:
        """Record that a key was used; `take_touched` passes it on to the store."""
        self._last_used[key_id] = self._touched[key_id] = int(now)

    def take_touched(self) -> Mapping[str, int]:
        """Return the last uses since the previous call, for the ledger to write."""
        touched, self._touched = self._touched, {}
        return touched

    # Changing

    async def create(self, new: NewKey) -> tuple[Key, str]:
        """Create a key; the secret is returned here and kept nowhere."""
        secret = make_secret()
        key = Key(
            id=make_key_id(),
            name=new.name,
            redacted=redact(secret),
            digest=digest_of(secret),
            created_at=int(self._wall()),
            expires_at=new.expires_at,
            models=new.models,
            limits=new.limits,
            weight=new.weight,
        )
        return await self._change(lambda: key), secret

    async def change(self, key_id: str, changes: KeyChanges) -> Key:
        """Change a key. Raises NotFound, and Conflict for a revoked one."""
        return await self._change(lambda: changes.apply(self._usable(key_id)))

    async def revoke(self, key_id: str) -> Key:
        """Refuse a key permanently; revoking it twice is no error. Raises NotFound."""
        return await self._change(
            lambda: structs.replace(
                self.get(key_id), status="revoked", previous_digest=None, previous_until=None
            )
        )

    async def rotate(self, key_id: str, grace_s: int = 0) -> tuple[Key, str]:
        """Replace the secret of a key; the old one is accepted for another `grace_s` seconds.

        A secret from before that, still in its own grace period, ends now.
        """
        secret = make_secret()

        def rotated() -> Key:
            key = self._usable(key_id)
            return structs.replace(
                key,
                digest=digest_of(secret),
                redacted=redact(secret),
                previous_digest=key.digest if grace_s > 0 else None,
                previous_until=int(self._wall()) + grace_s if grace_s > 0 else None,
            )

        return await self._change(rotated), secret

    async def import_keys(self, keys: Sequence[Key]) -> Imported:
        """Add the keys whose id is unknown, all or none; known ones are not changed.

        The store takes precedence, so that an old export cannot restore a revoked key.
        """

        def unknown() -> Sequence[Key]:
            digests = {key.digest for key in self._keys.values()}
            return [k for k in keys if k.id not in self._keys and k.digest not in digests]

        added = {key.id for key in await self._write(unknown)}
        return Imported(
            tuple(key.id for key in keys if key.id in added),
            tuple(key.id for key in keys if key.id not in added),
        )

    async def set_owner(self, secret: str | None) -> str | None:
        """Store the owner key at start; None keeps the stored one, or makes one when there is none.

        Return the secret that was made, to be printed once, else None. Whether a chosen one is
        strong enough is checked where it is read (`server/config/owner_key.py`).
        """
        made = None
        if secret is None:
            if self._owner:
                return None
            secret = made = make_secret()
        digest = digest_of(secret)
        if digest != self._owner:
            await self._store.put_meta(OWNER_META, digest)
            self._owner = digest
        return made

    # Inside

    def _usable(self, key_id: str) -> Key:
        key = self.get(key_id)
        if key.status == "revoked":
            raise Conflict("This key is revoked permanently. Create a new key instead.")
        return key

    async def _change(self, make: Callable[[], Key]) -> Key:
        (key,) = await self._write(lambda: (make(),))
        return key

    async def _write(self, make: Callable[[], Sequence[Key]]) -> Sequence[Key]:
        # A task of its own: when the client disconnects, its handler is cancelled, and a change in
        # the store but not in memory would leave a revoked key in use.
        task = asyncio.create_task(self._commit(make))
        self._changes.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[Sequence[Key]]) -> None:
        self._changes.discard(task)
        if not task.cancelled():
            task.exception()  # a cancelled caller does not retrieve it, and asyncio would warn

    async def _commit(self, make: Callable[[], Sequence[Key]]) -> Sequence[Key]:
        async with self._change_lock:
            keys = make()  # inside the lock, so that it sees every earlier change
            if keys:
                await self._store.put_keys(keys)
            for key in keys:
                self._index(key)
            for key in keys:
                self._notify(key)
        return keys

    def _index(self, key: Key) -> None:
        old = self._keys.get(key.id)
        if old is not None:
            self._current.pop(old.digest, None)
            self._previous.pop(old.previous_digest or b"", None)
        self._keys[key.id] = key
        if key.status == "active":
            self._current[key.digest] = key
            if key.previous_digest is not None:
                self._previous[key.previous_digest] = key

    def _notify(self, key: Key) -> None:
        for listener in self._listeners:
            try:
                listener(key)
            except Exception:  # the change is made; the other listeners must still be called
                log.exception("a listener failed for the change of key %s", key.id)
