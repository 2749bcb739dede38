"""Hold the digests of all keys in little memory: a set for millions of them.

Eight bytes of each digest are kept, in one sorted array: 8 MB for 1,000,000 keys. A digest that is
not in the set belongs to no key, so a guessed key costs no look-up in the store; one that is in it
belongs to a key with all but certainty, and the store decides. Digests are never taken out.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left

from server.store.store import PREFIX_BYTES

MAX_NEW = 100_000
"""New digests are kept beside the array until there are so many; then it is sorted again."""


class DigestSet:
    """Prefixes of digests; `prefixes` holds those to begin with, one after another."""

    def __init__(self, prefixes: bytes = b"", *, max_new: int = MAX_NEW) -> None:
        words = array("Q")
        words.frombytes(prefixes)
        if sys.byteorder == "little":  # so that the order is that of the digests
            words.byteswap()
        self._sorted = array("Q", sorted(words))
        self._new: set[int] = set()
        self._max_new = max_new

    def __len__(self) -> int:
        return len(self._sorted) + len(self._new)

    def __contains__(self, digest: bytes) -> bool:
        word = int.from_bytes(digest[:PREFIX_BYTES], "big")
        place = bisect_left(self._sorted, word)
        return word in self._new or (place < len(self._sorted) and self._sorted[place] == word)

    def add(self, digest: bytes) -> None:
        """Add a digest; one that is there already is not added again."""
        if digest in self:
            return
        self._new.add(int.from_bytes(digest[:PREFIX_BYTES], "big"))
        if len(self._new) > self._max_new:
            self._sorted = array("Q", sorted([*self._sorted, *self._new]))
            self._new.clear()
