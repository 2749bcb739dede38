"""Find keys by their secrets, and make every change to keys.

    key, secret = await ring.create(NewKey(name="ci", limits=Limits(requests_per_minute=60)))
    ring.find(secret, time.time())      # the key, or None
    await ring.revoke(key.id)           # refused from now on

The store holds all keys; the ring holds in memory the eight bytes by which it knows a digest, and
the keys that were used last (CACHED_KEYS, all of them where there are not more). So the start, the
memory and the cost of a request do not grow with the number of keys. Look-ups raise Unread for a
key that is not in memory and may be in the store. Unknown secrets are refused from memory, but
where other processes make keys, too, the store is asked.

A change is written to the store (durably), then to memory, then passed to the listeners, all before
its method returns. It is made from the state that it has read: if someone else was faster, it is
made again from theirs. Changes by others reach memory and the listeners through the store; of two
states of a key, the one with the higher version counts. A secret exists only in the results of
`create` and `rotate`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from msgspec import structs

from server.keys.digest_set import DigestSet
from server.keys.keys_in_memory import KeysInMemory
from server.keys.owner_secrets import OwnerSecrets
from server.keys.read_through import Absent, Reads, Unread
from server.keys.secret import (
    PREFIX,
    SECRET_LENGTH,
    digest_of,
    make_key_id,
    make_secret,
    redact,
)
from server.store.key import Key, KeyChanges, NewKey, current_status
from server.store.rows import KeyQuery, StoreChanges
from server.store.store import Store
from workers.errors import Conflict, NotFound, StoreUnavailable

log = logging.getLogger("roxy.keys")

Result = TypeVar("Result")
KeyEnding: TypeAlias = Literal["disabled", "expired", "revoked", "replaced"]
"""Why a secret that was valid is no longer accepted."""

CACHED_KEYS = 20_000
"""Keys in memory: about 700 bytes each."""
CHANGE_TRIES = 20
"""How often a change is made again because others have changed the key."""


class Imported(NamedTuple):
    """How many keys an import has added, and how many were known and not changed."""

    added: int
    kept: int


class KeyRing:
    """All keys of a store, and the `owner` key. `aclose` waits for changes under way.

    `cached` is how many keys are in memory at most.
    """

    def __init__(
        self,
        store: Store,
        *,
        wall: Callable[[], float] = time.time,
        cached: int = CACHED_KEYS,
    ) -> None:
        self.store = store
        self.owner = OwnerSecrets(store)
        self._wall = wall
        self._memory = KeysInMemory(cached)
        self._known = DigestSet()
        self._touched: dict[str, int] = {}
        self._absent = Absent()
        self._reads = Reads()
        self._listeners: list[Callable[[Key], None]] = []
        self._read_listeners: list[Callable[[Key], None]] = []
        self._import_listeners: list[Callable[[], None]] = []
        self._change_lock = asyncio.Lock()
        self._changes: set[asyncio.Task[Any]] = set()
        store.on_foreign_change(self.take_over)

    async def load(self) -> None:
        """Read the owner key and what must be in memory from the store, once, at start."""
        self._known = DigestSet(await self.store.key_prefixes())
        if len(self._known) <= self._memory.limit:
            for key in await self.store.load_keys():
                self._index(key)
        await self.owner.load()

    async def aclose(self) -> None:
        """Wait until changes under way are in the store and in memory."""
        await self._reads.wait()
        if self._changes:
            await asyncio.wait(self._changes)

    def on_change(self, listener: Callable[[Key], None]) -> None:
        """Call `listener` with each created or changed key, before the change returns."""
        self._listeners.append(listener)

    def on_read(self, listener: Callable[[Key], None]) -> None:
        """Call `listener` with each key in memory: those of now, and each that is read later."""
        for key in self._memory.all:
            listener(key)
        self._read_listeners.append(listener)

    def on_import(self, listener: Callable[[], None]) -> None:
        """Call `listener` after keys were imported; `on_change` is not called for them."""
        self._import_listeners.append(listener)

    # Looking up

    def find(self, secret: str, now: float) -> Key | None:
        """Return the active key of a secret; None if it is unknown, expired, disabled or revoked.

        `now` is in Unix seconds. Raises Unread.
        """
        if len(secret) != SECRET_LENGTH or not secret.startswith(PREFIX):
            return None
        return self.find_digest(digest_of(secret), now)

    def find_digest(self, digest: bytes, now: float) -> Key | None:
        """Return the active key of a secret's digest, as `find` does."""
        key = self._memory.find(digest)
        if key is None:
            if (digest in self._known or self.store.shared) and digest not in self._absent:
                raise Unread(lambda: self._reads.once(digest, lambda: self._read(digest)))
            return None
        if key.digest != digest and (key.previous_until or 0) <= now:
            return None
        return key if current_status(key.status, key.expires_at, now) == "active" else None

    def why_ended(self, digest: bytes, now: float) -> KeyEnding | None:
        """Return why `find_digest` has no key for the digest of a secret that was once valid.

        None for a digest that is not of any key in memory; a look-up has read it before.
        """
        key = self._memory.find(digest)
        if key is None:
            return None
        status = current_status(key.status, key.expires_at, now)
        if status != "active":
            return status
        is_old = key.digest != digest and (key.previous_until or 0) <= now
        return "replaced" if is_old else None

    def is_current(self, key: Key, digest: bytes, now: float) -> bool:
        """Return whether the current secret of an active key has this digest, and none is newer.

        Only memory is asked. False means nothing: `find_digest` says more.
        """
        return (
            self._memory.has_current(key, digest)
            and current_status(key.status, key.expires_at, now) == "active"
        )

    async def get(self, key_id: str) -> Key:
        """Return the key with this id, whatever its status. Raises NotFound."""
        key = self._memory.get(key_id) or await self.store.find_key(key_id)
        if key is None:
            raise NotFound("No such key. GET /api/v1/keys lists the keys.")
        return self._memory.with_last_use(key)

    async def list(self, query: KeyQuery | None = None) -> tuple[Key, ...]:
        """Return the keys of a query; None: all, revoked ones too, oldest first."""
        return tuple(
            map(self._memory.with_last_use, await self.store.list_keys(query or KeyQuery()))
        )

    async def find_all(self, key_ids: Iterable[str]) -> dict[str, Key]:
        """Return those of the keys that exist, by their ids."""
        wanted = set(key_ids)
        found = {key_id: key for key_id in wanted if (key := self._memory.get(key_id)) is not None}
        missing = sorted(wanted - found.keys())
        if missing:
            found |= {key.id: key for key in await self.store.find_keys(missing)}
        return found

    async def names(self, key_ids: Iterable[str]) -> dict[str, str]:
        """Return the names of those of the keys that exist, by their ids."""
        return {key.id: key.name for key in (await self.find_all(key_ids)).values()}

    def touch(self, key_id: str, now: float) -> None:
        """Record that a key was used; `take_touched` passes it on to the store."""
        self._touched[key_id] = int(now)
        self._memory.touch(key_id, int(now))

    def take_touched(self) -> Mapping[str, int]:
        """Return the last uses since the previous call, for the ledger to write."""
        touched, self._touched = self._touched, {}
        return touched

    # Changing

    async def create(self, new: NewKey) -> tuple[Key, str]:
        """Create a key; the secret is returned here and kept nowhere."""
        (made,) = await self.create_all((new,))
        return made

    async def create_all(self, new: Sequence[NewKey]) -> Sequence[tuple[Key, str]]:
        """Create several keys, all or none; return each with its secret, which is kept nowhere."""
        made = [(self._made(one, secret := make_secret()), secret) for one in new]
        await self._in_turn(self._add([key for key, _ in made]))
        return made

    async def change(self, key_id: str, changes: KeyChanges) -> Key:
        """Change a key. Raises NotFound, and Conflict for a revoked one."""
        return await self._change(key_id, lambda key: changes.apply(_usable(key)))

    async def revoke(self, key_id: str) -> Key:
        """Refuse a key permanently; revoking it twice is no error. Raises NotFound."""
        return await self._change(key_id, _revoked)

    async def rotate(self, key_id: str, grace_s: int = 0) -> tuple[Key, str]:
        """Replace the secret of a key; the old one is accepted for another `grace_s` seconds.

        A secret from before that, still in its own grace period, ends now.
        """
        secret = make_secret()
        until = int(self._wall()) + grace_s if grace_s > 0 else None
        key = await self._change(key_id, lambda old: _rotated(_usable(old), secret, until))
        return key, secret

    async def import_keys(self, keys: Iterable[Key]) -> Imported:
        """Add the keys whose id and digest are unknown, all or none; known ones are not changed.

        The store takes precedence, so that an old export cannot restore a revoked key. `keys` is
        consumed in the store's thread, so it may read a file of any size.
        """
        return await self._in_turn(self._import(keys))

    # Inside

    async def _read(self, digest: bytes) -> None:
        """Read a key into memory by one of its digests. Raises StoreUnavailable."""
        key = await self.store.find_key_by_digest(digest)
        if key is None:
            self._absent.add(digest)
        elif self._index(key):
            self._notify(self._read_listeners, key)

    async def _change(self, key_id: str, change: Callable[[Key], Key]) -> Key:
        return await self._in_turn(self._commit(key_id, change))

    async def _in_turn(self, change: Coroutine[Any, Any, Result]) -> Result:
        # A task of its own: when the client disconnects, its handler is cancelled, and a change in
        # the store but not in memory would leave a revoked key in use.
        task = asyncio.create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[Result]) -> None:
        self._changes.discard(task)
        if not task.cancelled():
            task.exception()  # a cancelled caller does not retrieve it, and asyncio would warn

    def _made(self, new: NewKey, secret: str) -> Key:
        return Key(
            id=make_key_id(),
            name=new.name,
            redacted=redact(secret),
            digest=digest_of(secret),
            created_at=int(self._wall()),
            expires_at=new.expires_at,
            models=new.models,
            limits=new.limits,
            weight=new.weight,
            note=new.note,
        )

    async def _add(self, keys: Sequence[Key]) -> None:
        async with self._change_lock:
            await self.store.add_keys(keys)
            for key in keys:
                self._index(key)
                self._notify(self._listeners, key)

    async def _commit(self, key_id: str, change: Callable[[Key], Key]) -> Key:
        async with self._change_lock:
            old = await self.get(key_id)  # inside the lock, so that it sees every earlier change
            for _ in range(CHANGE_TRIES):
                key = change(old)
                if key is old:
                    return key
                key = structs.replace(key, version=old.version + 1)
                if await self.store.replace_key(key):
                    self._index(key)
                    self._notify(self._listeners, key)
                    return key
                # Someone else has changed it since it was read into memory.
                newer = await self.store.find_key(key_id)
                old = newer if newer is not None else old
        raise StoreUnavailable("This key is being changed by others all the time. Try again.")

    def take_over(self, changes: StoreChanges) -> None:
        """Take over what others have changed."""
        if changes.owner:
            self.owner.take_over(changes.owner)
        for key in changes.keys:
            if self._index(key):
                self._notify(self._listeners, key)
        if changes.all:
            task = asyncio.create_task(self._compare_all(), name="keys read again")
            self._changes.add(task)
            task.add_done_callback(self._forget)

    async def _compare_all(self) -> None:
        """Read again everything that is in memory."""
        try:
            await self.owner.compare()
            self._known = DigestSet(await self.store.key_prefixes())
            for key in await self.store.find_keys(list(self._memory.ids)):
                if self._index(key):
                    self._notify(self._listeners, key)
        except StoreUnavailable as error:
            log.warning("the keys in memory cannot be compared with the store: %s", error)

    async def _import(self, keys: Iterable[Key]) -> Imported:
        async with self._change_lock:
            imported = Imported(*await self.store.add_keys(keys))
            self._known = DigestSet(await self.store.key_prefixes())
            for listener in self._import_listeners:
                listener()
        return imported

    def _index(self, key: Key) -> bool:
        """Put a key into memory; False: memory has this state, or a newer one."""
        if not self._memory.put(key):
            return False
        self._absent.discard(key.digest)
        self._known.add(key.digest)
        return True

    def _notify(self, listeners: Sequence[Callable[[Key], None]], key: Key) -> None:
        for listener in listeners:
            try:
                listener(key)
            except Exception:  # the change is made; the other listeners must still be called
                log.exception("a listener failed for the change of key %s", key.id)


def _usable(key: Key) -> Key:
    if key.status == "revoked":
        raise Conflict("This key is revoked permanently. Create a new key instead.")
    return key


def _revoked(key: Key) -> Key:
    if key.status == "revoked":
        return key
    return structs.replace(key, status="revoked", previous_digest=None, previous_until=None)


def _rotated(key: Key, secret: str, until: int | None) -> Key:
    """Return a key with a new secret; the old one is accepted until a Unix time, or ends now."""
    return structs.replace(
        key,
        digest=digest_of(secret),
        redacted=redact(secret),
        previous_digest=key.digest if until is not None else None,
        previous_until=until,
    )
