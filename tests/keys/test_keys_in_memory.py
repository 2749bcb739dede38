"""The keys in memory: which are found by what, and which are dropped."""

from __future__ import annotations

from msgspec import structs
from support.builders.rows import a_key

from server.keys.keys_in_memory import KeysInMemory
from server.keys.secret import digest_of
from server.store.key import Key


def a_numbered_key(number: int) -> Key:
    """Make one of several keys."""
    return a_key(number, id=f"key_{number}", digest=digest_of(f"secret {number}"))


def test_a_key_is_found_by_its_id_and_by_both_of_its_digests() -> None:
    key = structs.replace(a_numbered_key(1), previous_digest=digest_of("the old one"))
    memory = KeysInMemory(10)
    assert memory.put(key)
    assert memory.get("key_1") is key
    assert memory.find(key.digest) is memory.find(digest_of("the old one")) is key
    assert memory.has_current(key, key.digest)
    assert not memory.has_current(key, digest_of("the old one"))
    assert memory.find(digest_of("another")) is None


def test_a_newer_state_takes_the_place_of_an_older_one_and_never_the_other_way() -> None:
    old = a_numbered_key(1)
    new = structs.replace(old, digest=digest_of("rotated"), version=2)
    memory = KeysInMemory(10)
    assert memory.put(old) and memory.put(new)
    assert not memory.put(new) and not memory.put(old)
    assert memory.get("key_1") is new
    assert memory.find(old.digest) is None, "the secret before the rotation is forgotten"


def test_above_the_limit_the_least_recently_used_key_is_dropped() -> None:
    memory = KeysInMemory(2)
    for number in (1, 2):
        memory.put(a_numbered_key(number))
    memory.touch("key_1", 100)
    memory.put(a_numbered_key(3))
    assert list(memory.ids) == ["key_1", "key_3"]
    assert memory.find(a_numbered_key(2).digest) is None
    assert memory.with_last_use(a_numbered_key(1)).last_used_at == 100
    memory.touch("key_2", 200)
    assert memory.with_last_use(a_numbered_key(2)).last_used_at is None, "it is not in memory"
