"""The keys in memory: what requests are checked against, and the only way to change a key.

    key, secret = await ring.create(NewKey(name="ci", limits=Limits(requests_per_minute=60)))
    ring.find(secret, time.time())      # the key, or None: no I/O, about a microsecond
    await ring.revoke(key.id)           # refused from now on

The store is written first (durably), then the view changes, then listeners are told, all before
the caller has its answer. A secret exists in the answer to `create` and `rotate` and nowhere else.
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
from server.store.key import Key, KeyChanges, NewKey
from server.store.store import Store, StoreFailure
from workers.errors import Conflict, NotFound

log = logging.getLogger("roxy.keys")

OWNER_META = "owner_sha256"
OWNER_MIN_LENGTH = 16


class OwnerKeyRefused(StoreFailure):
    """The owner key that was chosen is too weak, or no client could send it."""


class Imported(NamedTuple):
    """What an import did: ids that were added, ids that were already there and left alone."""

    added: tuple[str, ...]
    kept: tuple[str, ...]


class KeyRing:
    """Every key in memory, changed only through here. `aclose` waits for changes under way."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._keys: dict[str, Key] = {}
        self._current: dict[bytes, Key] = {}
        self._previous: dict[bytes, Key] = {}
        self._owner = b""
        self._last_used: dict[str, int] = {}
        self._touched: dict[str, int] = {}
        self._listeners: list[Callable[[Key], None]] = []
        self._turn = asyncio.Lock()
        self._changes: set[asyncio.Task[Sequence[Key]]] = set()

    async def load(self) -> None:
        """Read everything from the store, once, at start."""
        for key in await self._store.load_keys():
            self._show(key)
        self._owner = await self._store.load_meta(OWNER_META) or b""

    async def aclose(self) -> None:
        """Wait until changes under way are in the store and the view."""
        if self._changes:
            await asyncio.wait(self._changes)

    def on_change(self, listener: Callable[[Key], None]) -> None:
        """Call `listener` with each key created or changed, before the change is answered."""
        self._listeners.append(listener)

    # Looking up

    def find(self, secret: str, now: float) -> Key | None:
        """Find the active key of a secret; unknown, expired, disabled and revoked all give None.

        `now` is in Unix seconds. Nothing but memory is asked, so that guesses cost nothing.
        """
        if len(secret) != SECRET_LENGTH or not secret.startswith(PREFIX):
            return None
        return self.find_digest(digest_of(secret), now)

    def find_digest(self, digest: bytes, now: float) -> Key | None:
        """Find the active key that a secret's digest opens at this moment, as `find` does."""
        key = self._current.get(digest)
        if key is None:
            key = self._previous.get(digest)
            if key is None or (key.previous_until or 0) <= now:
                return None
        if key.expires_at is not None and key.expires_at <= now:
            return None
        return key

    def is_owner(self, secret: str) -> bool:
        """Tell whether this is the owner's key, in the same time for every wrong one."""
        return self.is_owner_digest(digest_of(secret))

    def is_owner_digest(self, digest: bytes) -> bool:
        """Tell whether this is the digest of the owner's key as it is now."""
        return hmac.compare_digest(digest, self._owner)

    @property
    def has_owner(self) -> bool:
        """Tell whether an owner key is stored: the mark of a first start that was completed."""
        return self._owner != b""

    def get(self, key_id: str) -> Key:
        """Give the key with this id, whatever its status. Raises NotFound."""
        key = self._keys.get(key_id)
        if key is None:
            raise NotFound("No such key. GET /api/v1/keys lists the keys.")
        used = self._last_used.get(key_id)
        return key if used is None else structs.replace(key, last_used_at=used)

    def list(self) -> tuple[Key, ...]:
        """Give every key, revoked ones too, oldest first."""
        keys = sorted(self._keys.values(), key=lambda key: (key.created_at, key.id))
        return tuple(self.get(key.id) for key in keys)

    def names(self) -> dict[str, str]:
        """Return every key's name by its id."""
        return {key.id: key.name for key in self._keys.values()}

    def touch(self, key_id: str, now: float) -> None:
        """Note that a key was used; reaches the store with `take_touched`."""
        self._last_used[key_id] = self._touched[key_id] = int(now)

    def take_touched(self) -> Mapping[str, int]:
        """Give the keys used since the last call, for the ledger to write behind."""
        touched, self._touched = self._touched, {}
        return touched

    # Changing

    async def create(self, new: NewKey) -> tuple[Key, str]:
        """Make a key and its secret, which is shown once and never again."""
        secret = make_secret()
        key = Key(
            id=make_key_id(),
            name=new.name,
            redacted=redact(secret),
            digest=digest_of(secret),
            created_at=int(self._clock()),
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
        """Refuse a key from now on, for good; revoking twice is no error. Raises NotFound."""
        return await self._change(
            lambda: structs.replace(
                self.get(key_id), status="revoked", previous_digest=None, previous_until=None
            )
        )

    async def rotate(self, key_id: str, grace_s: int = 0) -> tuple[Key, str]:
        """Give a key a new secret; the old one stays good for `grace_s` seconds.

        An even older secret that was still in its own grace ends now.
        """
        secret = make_secret()

        def rotated() -> Key:
            key = self._usable(key_id)
            return structs.replace(
                key,
                digest=digest_of(secret),
                redacted=redact(secret),
                previous_digest=key.digest if grace_s > 0 else None,
                previous_until=int(self._clock()) + grace_s if grace_s > 0 else None,
            )

        return await self._change(rotated), secret

    async def import_keys(self, keys: Sequence[Key]) -> Imported:
        """Add the keys whose id is unknown, all or none; known ones stay as they are.

        An old export must not bring a revoked key back, so the store wins.
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
        """Settle the owner key at start: `secret` replaces the stored one, None keeps it.

        Gives a secret only when there was none at all and one was made: print it once.
        Raises OwnerKeyRefused for a secret that is too weak to use.
        """
        made = None
        if secret is None:
            if self._owner:
                return None
            secret = made = make_secret()
        _check_owner(secret)
        digest = digest_of(secret)
        if digest != self._owner:
            await self._store.put_meta(OWNER_META, digest)
            self._owner = digest
        return made

    # Inside

    def _usable(self, key_id: str) -> Key:
        key = self.get(key_id)
        if key.status == "revoked":
            raise Conflict("This key is revoked, for good. Create a new key instead.")
        return key

    async def _change(self, make: Callable[[], Key]) -> Key:
        (key,) = await self._write(lambda: (make(),))
        return key

    async def _write(self, make: Callable[[], Sequence[Key]]) -> Sequence[Key]:
        # A client that leaves must not part the store from the view: the change has its own task.
        task = asyncio.create_task(self._commit(make))
        self._changes.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[Sequence[Key]]) -> None:
        self._changes.discard(task)
        if not task.cancelled():
            task.exception()  # its caller may have left; then nobody else would look

    async def _commit(self, make: Callable[[], Sequence[Key]]) -> Sequence[Key]:
        async with self._turn:
            keys = make()  # in turn, so that it sees every earlier change
            if keys:
                await self._store.put_keys(keys)
            for key in keys:
                self._show(key)
            for key in keys:
                self._tell(key)
        return keys

    def _show(self, key: Key) -> None:
        old = self._keys.get(key.id)
        if old is not None:
            self._current.pop(old.digest, None)
            self._previous.pop(old.previous_digest or b"", None)
        self._keys[key.id] = key
        if key.status == "active":
            self._current[key.digest] = key
            if key.previous_digest is not None:
                self._previous[key.previous_digest] = key

    def _tell(self, key: Key) -> None:
        for listener in self._listeners:
            try:
                listener(key)
            except Exception:  # the change is done, and every listener must hear of it
                log.exception("a listener failed on the change of %s", key.id)


def _check_owner(secret: str) -> None:
    if len(secret) < OWNER_MIN_LENGTH:
        raise OwnerKeyRefused(
            f"ROXY_ADMIN_API_KEY has fewer than {OWNER_MIN_LENGTH} characters: choose a longer one,"
            " or leave it unset and one is made for you."
        )
    if not all("!" <= character <= "~" for character in secret):
        raise OwnerKeyRefused(
            "ROXY_ADMIN_API_KEY contains a space or a character outside ASCII, which no client can"
            " send: choose another one."
        )
