"""The keys that a process has in memory: those used last, found by their ids and their digests.

`KeyRing` fills it from the store and from changes. Of two states of a key, the one with the higher
version is kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from msgspec import structs

from server.store.key import Key


class KeysInMemory:
    """Up to `limit` keys, with the time of their last use."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._keys: OrderedDict[str, Key] = OrderedDict()
        self._current: dict[bytes, Key] = {}
        self._previous: dict[bytes, Key] = {}
        self._last_used: dict[str, int] = {}

    @property
    def ids(self) -> Iterable[str]:
        """Return the ids of the keys."""
        return self._keys.keys()

    @property
    def all(self) -> Iterable[Key]:
        """Return the keys."""
        return self._keys.values()

    def get(self, key_id: str) -> Key | None:
        """Return the key with this id, or None."""
        return self._keys.get(key_id)

    def find(self, digest: bytes) -> Key | None:
        """Return the key whose current or previous digest this is, or None."""
        return self._current.get(digest) or self._previous.get(digest)

    def has_current(self, key: Key, digest: bytes) -> bool:
        """Return whether this is the newest state of a key, and the digest of its newest secret."""
        return self._current.get(digest) is key

    def put(self, key: Key) -> bool:
        """Add a key in place of its older state; above `limit`, drop the least recently used one.

        False, and nothing is changed, if this state is here, or a newer one.
        """
        old = self._keys.get(key.id)
        if old is not None and old.version >= key.version:
            return False
        self._drop(key.id)
        self._keys[key.id] = key
        self._current[key.digest] = key
        if key.previous_digest is not None:
            self._previous[key.previous_digest] = key
        while len(self._keys) > self.limit:
            oldest = next(iter(self._keys))
            self._drop(oldest)
            self._last_used.pop(oldest, None)
        return True

    def touch(self, key_id: str, at: int) -> None:
        """Record when a key was used, if it is here."""
        if key_id in self._keys:
            self._last_used[key_id] = at
            self._keys.move_to_end(key_id)

    def with_last_use(self, key: Key) -> Key:
        """Return a key with the time of its last use, if it was used since it came into memory."""
        used = self._last_used.get(key.id)
        return key if used is None else structs.replace(key, last_used_at=used)

    def _drop(self, key_id: str) -> None:
        old = self._keys.pop(key_id, None)
        if old is not None:
            self._current.pop(old.digest, None)
            self._previous.pop(old.previous_digest or b"", None)
