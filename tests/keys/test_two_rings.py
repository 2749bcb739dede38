"""Two processes with one store: what one changes the other knows, and neither undoes the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
from support.waiting import PATIENCE_S, eventually

from server.identity.sessions import Sessions
from server.keys.key_ring import KeyRing
from server.keys.read_through import Unread, when_read
from server.keys.secret import digest_of, make_secret
from server.store.key import Key, KeyChanges, NewKey
from server.store.rows import StoreChanges
from server.store.sqlite.sqlite_store import SqliteStore
from server.store.store import OWNER_META
from workers.errors import Conflict

NOW = 1_800_000_000


class SharedStore(SqliteStore):
    """A store that other processes write to; tests tell it what those have changed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, patience_s=PATIENCE_S)
        self.listeners: list[Callable[[StoreChanges], None]] = []

    @property
    def shared(self) -> bool:
        """Return True."""
        return True

    def on_foreign_change(self, listener: Callable[[StoreChanges], None]) -> None:
        """Keep the listener."""
        self.listeners.append(listener)

    def report(self, changes: StoreChanges) -> None:
        """Report changes of other processes."""
        for listener in self.listeners:
            listener(changes)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SharedStore]:
    async with SharedStore(tmp_path / "roxy.db") as store:
        yield store


async def a_ring(store: SqliteStore) -> KeyRing:
    """Return a ring as a process has it after its start."""
    ring = KeyRing(store)
    await ring.load()
    return ring


async def test_a_key_of_another_process_is_found_without_a_report(store: SharedStore) -> None:
    one, other = await a_ring(store), await a_ring(store)
    key, secret = await one.create(NewKey("a"))
    with pytest.raises(Unread):
        other.find(secret, NOW)
    assert await when_read(partial(other.find, secret, NOW)) == key
    assert other.find(secret, NOW) == key, "it is in memory now"


async def test_an_unknown_key_is_asked_for_once_and_then_refused_from_memory(
    store: SharedStore,
) -> None:
    ring, unknown = await a_ring(store), make_secret()
    assert await when_read(partial(ring.find, unknown, NOW)) is None
    assert ring.find(unknown, NOW) is None


async def test_many_look_ups_at_once_read_a_key_once(
    store: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await a_ring(store), await a_ring(store)
    key, secret = await one.create(NewKey("a"))
    reads: list[bytes] = []
    find = store.find_key_by_digest

    async def counted(digest: bytes) -> Key | None:
        reads.append(digest)
        return await find(digest)

    monkeypatch.setattr(store, "find_key_by_digest", counted)
    found = await asyncio.gather(*(when_read(partial(other.find, secret, NOW)) for _ in range(50)))
    assert found == [key] * 50
    assert len(reads) == 1


async def test_changes_of_two_processes_to_one_key_all_count(store: SharedStore) -> None:
    one, other = await a_ring(store), await a_ring(store)
    key, _ = await one.create(NewKey("a"))
    await other.change(key.id, KeyChanges(weight=7))
    await one.change(key.id, KeyChanges(name="b"))
    changed = await store.find_key(key.id)
    assert changed is not None
    assert (changed.name, changed.weight, changed.version) == ("b", 7, 3)


async def test_a_revoked_key_stays_so_whatever_another_process_believes(
    store: SharedStore,
) -> None:
    one, other = await a_ring(store), await a_ring(store)
    key, secret = await one.create(NewKey("a"))
    await other.get(key.id)
    await when_read(partial(other.find, secret, NOW))
    await one.revoke(key.id)
    for change in (
        other.change(key.id, KeyChanges(status="active")),
        other.rotate(key.id, grace_s=9),
    ):
        with pytest.raises(Conflict):
            await change
    assert (await other.revoke(key.id)).status == "revoked"
    stored = await store.find_key(key.id)
    assert stored is not None and stored.status == "revoked"


async def test_a_reported_change_counts_at_once_and_reaches_the_listeners(
    store: SharedStore,
) -> None:
    ring = await a_ring(store)
    key, secret = await ring.create(NewKey("a"))
    heard: list[Key] = []
    ring.on_change(heard.append)
    revoked = await (await a_ring(store)).revoke(key.id)
    store.report(StoreChanges(keys=[revoked]))
    assert ring.find(secret, NOW) is None
    store.report(StoreChanges(keys=[key, revoked]))
    assert ring.find(secret, NOW) is None, "an older state never replaces a newer one"
    assert heard == [revoked]


async def test_after_a_gap_everything_in_memory_is_compared(store: SharedStore) -> None:
    ring = await a_ring(store)
    key, secret = await ring.create(NewKey("a"))
    _, kept = await ring.create(NewKey("b"))
    other = await a_ring(store)
    await other.revoke(key.id)
    await store.put_meta(OWNER_META, digest_of("another owner key"))
    store.report(StoreChanges(all=True))
    await eventually(lambda: ring.find(secret, NOW) is None)
    assert ring.find(kept, NOW) is not None
    assert ring.owner.is_owner("another owner key")


async def test_a_new_owner_key_is_reported(store: SharedStore) -> None:
    ring = await a_ring(store)
    store.report(StoreChanges(owner=digest_of("another owner key")))
    assert ring.owner.is_owner("another owner key")


async def test_of_two_first_starts_one_makes_the_owner_key(store: SharedStore) -> None:
    rings = [await a_ring(store), await a_ring(store)]
    made = [await ring.owner.set_owner(None) for ring in rings]
    (secret,) = [one for one in made if one is not None]
    assert all(ring.owner.is_owner(secret) for ring in rings)


async def test_a_session_of_another_process_is_found_and_its_end_is_reported(
    store: SharedStore,
) -> None:
    one = Sessions(store, await a_ring(store), wall=lambda: NOW)
    other = Sessions(store, await a_ring(store), wall=lambda: NOW)
    session_id = await one.begin("owner", b"c" * 32)
    found = await when_read(partial(other.find, session_id, NOW))
    assert found is not None and found.principal == "owner"
    assert await when_read(partial(other.find, "made up", NOW)) is None
    one.end(found)
    store.report(StoreChanges(sessions=[found.digest]))
    assert other.find(session_id, NOW) is None
    await one.aclose()
    await other.aclose()


async def test_after_a_gap_ended_sessions_are_forgotten(store: SharedStore) -> None:
    one = Sessions(store, await a_ring(store), wall=lambda: NOW)
    other = Sessions(store, await a_ring(store), wall=lambda: NOW)
    ids = [await one.begin("owner", b"c" * 32) for _ in range(2)]
    rows = [await when_read(partial(other.find, one_id, NOW)) for one_id in ids]
    assert rows[0] is not None
    await store.note_sessions({}, [rows[0].digest])
    store.report(StoreChanges(all=True))
    await eventually(lambda: other.find(ids[0], NOW) is None)
    assert other.find(ids[1], NOW) is not None
    await one.aclose()
    await other.aclose()
