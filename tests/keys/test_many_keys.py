"""More keys than fit into memory: each is found, and each change counts at once."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs
from support.builders.rows import a_key
from support.waiting import PATIENCE_S, eventually

from server.answers.key_watch import KeyWatch
from server.keys.digest_set import DigestSet
from server.keys.key_ring import KeyRing
from server.keys.read_through import when_read
from server.keys.secret import digest_of, make_secret
from server.store.key import Key, KeyChanges, NewKey
from server.store.rows import Batch, KeyQuery
from server.store.sqlite.sqlite_store import SqliteStore
from workers.errors import NotFound, StoreUnavailable

NOW = 1_795_348_800
CACHED = 3
SECRETS = {f"key_{number:016}": make_secret() for number in range(20)}
KEYS = [
    a_key(number, id=key_id, digest=digest_of(secret), name=f"name {number}")
    for number, (key_id, secret) in enumerate(SECRETS.items())
]


async def find(ring: KeyRing, secret: str, now: float) -> Key | None:
    """Find a key as requests do: in memory, or after a read from the store."""
    return await when_read(lambda: ring.find(secret, now))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        await store.add_keys(KEYS)
        yield store


@pytest.fixture
async def ring(store: SqliteStore) -> AsyncIterator[KeyRing]:
    ring = KeyRing(store, wall=lambda: NOW, cached=CACHED)
    await ring.load()
    yield ring
    await ring.aclose()


async def test_every_key_is_found_again_and_again(ring: KeyRing) -> None:
    for _ in range(3):
        for key in KEYS:
            assert await find(ring, SECRETS[key.id], NOW) == key
            assert await ring.get(key.id) == key
    with pytest.raises(NotFound):
        await ring.get("key_unknown")


async def test_memory_holds_no_more_than_it_should(ring: KeyRing) -> None:
    for key in KEYS:
        await find(ring, SECRETS[key.id], NOW)
        ring.touch(key.id, NOW)
    await ring.create(NewKey("one more"))
    heard: list[Key] = []
    ring.on_read(heard.append)
    assert len(heard) == CACHED


async def test_the_keys_that_are_used_stay_in_memory(ring: KeyRing) -> None:
    read: list[str] = []
    ring.on_read(lambda key: read.append(key.id))
    for key in KEYS[1:]:
        await find(ring, SECRETS[KEYS[0].id], NOW)
        ring.touch(KEYS[0].id, NOW)
        await find(ring, SECRETS[key.id], NOW)
    assert read.count(KEYS[0].id) == 1


async def test_a_change_counts_at_once_in_memory_and_out_of_it(ring: KeyRing) -> None:
    inside, outside = KEYS[0], KEYS[1]
    await find(ring, SECRETS[inside.id], NOW)
    for key in (inside, outside):
        await ring.change(key.id, KeyChanges(status="disabled"))
        assert await find(ring, SECRETS[key.id], NOW) is None
        for other in KEYS[5:12]:  # it leaves memory, and is read from the store
            await find(ring, SECRETS[other.id], NOW)
        assert await find(ring, SECRETS[key.id], NOW) is None
        await ring.change(key.id, KeyChanges(status="active"))
        assert await find(ring, SECRETS[key.id], NOW) is not None
        await ring.revoke(key.id)
        for other in KEYS[5:12]:
            assert await find(ring, SECRETS[key.id], NOW) is None
            await find(ring, SECRETS[other.id], NOW)


async def test_both_secrets_of_a_rotated_key_are_found_outside_of_memory(ring: KeyRing) -> None:
    key = KEYS[4]
    _, secret = await ring.rotate(key.id, grace_s=60)
    for _ in range(2):
        for other in KEYS[5:12]:
            await find(ring, SECRETS[other.id], NOW)
        found = await find(ring, SECRETS[key.id], NOW + 59)
        assert found is not None and found.id == key.id
        assert await find(ring, SECRETS[key.id], NOW + 60) is None
        for other in KEYS[5:12]:
            await find(ring, SECRETS[other.id], NOW)
        assert await find(ring, SECRETS[key.id], NOW + 60) is None, (
            "also when it has just been read"
        )
        assert await find(ring, secret, NOW + 60) is not None


async def test_an_unknown_secret_is_refused_without_the_store(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        await store.add_keys(KEYS)
        ring = KeyRing(store, cached=CACHED)
        await ring.load()
        assert await find(ring, SECRETS[KEYS[0].id], NOW) is not None
    assert ring.find(SECRETS[KEYS[0].id], NOW) is not None, "it is in memory"
    assert ring.find(make_secret(), NOW) is None
    with pytest.raises(StoreUnavailable):
        await find(ring, SECRETS[KEYS[1].id], NOW)


async def test_a_new_key_is_known_at_once_and_after_a_restart(
    ring: KeyRing, store: SqliteStore
) -> None:
    made = [await ring.create(NewKey(f"new {number}")) for number in range(2 * CACHED)]
    again = KeyRing(store, cached=CACHED)
    await again.load()
    for view in (ring, again):
        for key, secret in made:
            assert await find(view, secret, NOW) == key


async def test_an_import_is_all_or_nothing_and_known_at_once(
    ring: KeyRing, store: SqliteStore
) -> None:
    calls: list[str] = []
    ring.on_import(lambda: calls.append("import"))
    secret = make_secret()
    stranger = a_key(900, digest=digest_of(secret))
    same_digest = a_key(901, digest=KEYS[0].digest)
    changed = structs.replace(KEYS[1], name="another name")

    def broken() -> Iterator[Key]:
        yield stranger
        raise ArithmeticError("scripted")

    with pytest.raises(ArithmeticError):
        await ring.import_keys(broken())
    assert await store.count_keys() == len(KEYS) and not calls
    assert await ring.import_keys(iter([stranger, same_digest, changed])) == (1, 2)
    assert await find(ring, secret, NOW) == stranger
    assert (await ring.get(changed.id)).name == KEYS[1].name
    assert calls == ["import"]


async def test_the_last_use_of_a_key_is_shown_in_memory_and_out_of_it(
    ring: KeyRing, store: SqliteStore
) -> None:
    await find(ring, SECRETS[KEYS[0].id], NOW)
    for key in KEYS[:2]:
        ring.touch(key.id, NOW + 7.5)
    assert (await ring.get(KEYS[0].id)).last_used_at == NOW + 7
    assert (await ring.list(KeyQuery(limit=1)))[0].last_used_at == NOW + 7
    await store.record(Batch(last_used=ring.take_touched()))
    assert (await ring.get(KEYS[1].id)).last_used_at == NOW + 7


async def test_names_come_from_memory_and_from_the_store(ring: KeyRing) -> None:
    await find(ring, SECRETS[KEYS[0].id], NOW)
    wanted = [KEYS[0].id, KEYS[9].id, "owner", "key_unknown"]
    assert await ring.names(wanted) == {KEYS[0].id: "name 0", KEYS[9].id: "name 9"}
    assert await ring.names([]) == {}


class Request:
    """A running request of a key, as the key watch sees it."""

    def __init__(self, key: Key) -> None:
        self.lane = key.id
        self.credential = key.digest
        self.endings: list[str] = []

    def close(self, ending: str, _error: Exception) -> None:
        """Note how it is ended."""
        self.endings.append(ending)


async def test_a_request_of_a_key_that_was_outside_of_memory_ends_when_the_key_expires(
    store: SqliteStore,
) -> None:
    secret = make_secret()
    ends_at = int(time.time()) + 2
    key = a_key(777, digest=digest_of(secret), expires_at=ends_at)
    await store.add_keys([key])
    ring = KeyRing(store, cached=CACHED)
    await ring.load()
    request = Request(key)
    engine: Any = SimpleNamespace(jobs={"one": request})
    answers: Any = SimpleNamespace(readers=lambda _: ())
    watch = KeyWatch(ring, engine, answers)
    assert await find(ring, secret, ends_at - 1) is not None
    for other in KEYS[:9]:  # it leaves memory, and is still watched
        await find(ring, SECRETS[other.id], NOW)
    await eventually(lambda: request.endings == ["cancelled"])
    assert time.time() >= ends_at
    watch.close()


# The set of digests


@pytest.mark.parametrize("max_new", [0, 3, 1000])
def test_a_set_of_digests_has_what_was_put_in(max_new: int) -> None:
    first = [bytes([number, 255 - number]) * 16 for number in range(0, 250, 3)]
    later = [bytes([255 - number, number, 7, 7]) * 8 for number in range(0, 250, 3)]
    known = DigestSet(b"".join(digest[:8] for digest in first), max_new=max_new)
    assert all(digest in known for digest in first)
    assert not any(digest in known for digest in later)
    for digest in [*later, *first]:
        known.add(digest)
    assert all(digest in known for digest in [*first, *later])
    assert len(known) == len(first) + len(later)
    for stranger in (bytes(32), b"\xff" * 32, digest_of("nobody")):
        assert stranger not in known or stranger in (*first, *later)


def test_an_empty_set_has_nothing() -> None:
    assert bytes(32) not in DigestSet()
    assert len(DigestSet()) == 0
