"""Key secrets, and the ring of keys that requests are checked against."""

from __future__ import annotations

import asyncio
import re
import string
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.waiting import PATIENCE_S

from server.keys.key_ring import KeyRing
from server.keys.read_through import when_read
from server.keys.secret import BASE62, SECRET_LENGTH, digest_of, make_secret, redact, well_formed
from server.store.key import Key, KeyChanges, LimitChanges, Limits, NewKey
from server.store.sqlite.sqlite_store import SqliteStore
from workers.errors import Conflict, NotFound, StoreUnavailable

NOW = 1_795_348_800


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        yield store


@pytest.fixture
async def ring(store: SqliteStore) -> AsyncIterator[KeyRing]:
    ring = KeyRing(store, wall=lambda: NOW)
    await ring.load()
    yield ring
    await ring.aclose()


async def reloaded(store: SqliteStore) -> KeyRing:
    """Read the store as the next start will."""
    ring = KeyRing(store, wall=lambda: NOW)
    await ring.load()
    return ring


def all_bytes(folder: Path) -> bytes:
    """Read every file of a folder."""
    return b"".join(path.read_bytes() for path in folder.iterdir())


# Secrets


def test_a_secret_matches_the_published_pattern_and_its_own_checksum() -> None:
    for secret in (make_secret() for _ in range(200)):
        assert re.fullmatch(r"roxy_[0-9A-Za-z]{38}", secret)
        assert well_formed(secret)


def test_no_two_secrets_are_the_same() -> None:
    assert len({make_secret() for _ in range(1000)}) == 1000


@given(st.integers(5, SECRET_LENGTH - 1), st.sampled_from(BASE62))
def test_any_single_typo_is_noticed_without_a_look_up(place: int, other: str) -> None:
    secret = make_secret()
    typo = secret[:place] + other + secret[place + 1 :]
    assert well_formed(typo) == (typo == secret)


@pytest.mark.parametrize(
    "secret", ["", "roxy_", "sk-" + "a" * 40, "roxy_" + "é" * 38, "roxy_" + "\ud800" * 38, "0" * 43]
)
def test_what_is_no_secret_of_ours_is_not_well_formed(secret: str) -> None:
    assert not well_formed(secret)


def test_a_redacted_secret_keeps_eight_characters() -> None:
    secret = make_secret()
    assert redact(secret) == f"roxy_{secret[5:9]}…{secret[-4:]}"


# Finding


async def find(ring: KeyRing, secret: str, now: float) -> Key | None:
    """Find a key as requests do: in memory, or after a read from the store."""
    return await when_read(lambda: ring.find(secret, now))


async def test_a_created_key_is_found_by_its_secret_only(ring: KeyRing) -> None:
    key, secret = await ring.create(NewKey("ci"))
    assert await find(ring, secret, NOW) == key
    assert ring.find(make_secret(), NOW) is None
    for wrong in ("", secret[:-1], secret + "x", secret.lower(), "x" * 43, "roxy_" + "\ud800" * 38):
        assert await find(ring, wrong, NOW) is None


async def test_an_expired_key_is_not_found(ring: KeyRing) -> None:
    _, secret = await ring.create(NewKey("short", expires_at=NOW + 10))
    assert ring.find(secret, NOW + 9.9) is not None
    assert ring.find(secret, NOW + 10) is None


async def test_a_key_is_current_while_it_is_active_unchanged_and_asked_for_by_its_newest_secret(
    ring: KeyRing,
) -> None:
    key, secret = await ring.create(NewKey("short", expires_at=NOW + 10))
    assert ring.is_current(key, digest_of(secret), NOW + 9.9)
    assert not ring.is_current(key, digest_of(secret), NOW + 10)
    changed = await ring.change(key.id, KeyChanges(weight=9))
    assert not ring.is_current(key, digest_of(secret), NOW)
    assert ring.is_current(changed, digest_of(secret), NOW)
    rotated, newer = await ring.rotate(key.id, grace_s=3600)
    assert not ring.is_current(rotated, digest_of(secret), NOW)
    assert ring.is_current(rotated, digest_of(newer), NOW)
    revoked = await ring.revoke(key.id)
    assert not ring.is_current(revoked, digest_of(newer), NOW)


async def test_a_disabled_key_is_not_found_until_it_is_enabled_again(ring: KeyRing) -> None:
    key, secret = await ring.create(NewKey("ci"))
    await ring.change(key.id, KeyChanges(status="disabled"))
    assert await find(ring, secret, NOW) is None
    await ring.change(key.id, KeyChanges(status="active"))
    assert await find(ring, secret, NOW) is not None


async def test_a_revoked_key_is_refused_at_once_and_for_good(
    ring: KeyRing, store: SqliteStore
) -> None:
    key, secret = await ring.create(NewKey("ci"))
    _, newer = await ring.rotate(key.id, grace_s=3600)
    assert (await ring.revoke(key.id)).status == "revoked"
    for view in (ring, await reloaded(store)):
        assert await find(view, secret, NOW) is None
        assert await find(view, newer, NOW) is None
        assert (await view.get(key.id)).status == "revoked"
    assert (await ring.revoke(key.id)).status == "revoked"
    with pytest.raises(Conflict):
        await ring.change(key.id, KeyChanges(status="active"))
    with pytest.raises(Conflict):
        await ring.rotate(key.id)


async def test_a_rotated_secret_stays_good_for_its_grace(ring: KeyRing, store: SqliteStore) -> None:
    key, old = await ring.create(NewKey("ci"))
    rotated, new = await ring.rotate(key.id, grace_s=60)
    assert rotated.id == key.id
    assert rotated.redacted == redact(new)
    for view in (ring, await reloaded(store)):
        assert view.find(new, NOW) == rotated
        assert view.find(old, NOW + 59) == rotated
        assert view.find(old, NOW + 60) is None


async def test_without_a_grace_the_old_secret_ends_at_once(ring: KeyRing) -> None:
    key, old = await ring.create(NewKey("ci"))
    await ring.rotate(key.id)
    assert await find(ring, old, NOW) is None


async def test_a_second_rotation_ends_the_grace_of_the_first(ring: KeyRing) -> None:
    key, first = await ring.create(NewKey("ci"))
    _, second = await ring.rotate(key.id, grace_s=60)
    await ring.rotate(key.id, grace_s=60)
    assert await find(ring, first, NOW) is None
    assert await find(ring, second, NOW) is not None


# Changing


async def test_a_change_touches_only_what_it_names(ring: KeyRing, store: SqliteStore) -> None:
    limits = Limits(requests_per_minute=5, budget_microusd=7, budget_period="day")
    key, _ = await ring.create(NewKey("ci", models=("a", "b"), expires_at=NOW + 9, limits=limits))
    changes = KeyChanges(
        name="CI", limits=LimitChanges(requests_per_minute=None, tokens_per_minute=3)
    )
    changed = await ring.change(key.id, changes)
    assert changed.name == "CI"
    assert changed.models == ("a", "b")
    assert changed.limits == Limits(None, 3, None, 7, "day")
    assert await (await reloaded(store)).get(key.id) == changed
    cleared = await ring.change(key.id, KeyChanges(models=None, expires_at=None, limits=None))
    assert (cleared.models, cleared.expires_at, cleared.limits) == (None, None, Limits())


async def test_changes_to_one_key_at_the_same_time_all_count(ring: KeyRing) -> None:
    key, _ = await ring.create(NewKey("ci"))
    await asyncio.gather(
        ring.change(key.id, KeyChanges(name="new")),
        ring.change(key.id, KeyChanges(weight=9)),
        ring.change(key.id, KeyChanges(limits=LimitChanges(concurrent_requests=2))),
    )
    now = await ring.get(key.id)
    assert (now.name, now.weight, now.limits.concurrent_requests) == ("new", 9, 2)


async def test_an_unknown_key_is_not_found_by_any_method(ring: KeyRing) -> None:
    with pytest.raises(NotFound):
        await ring.get("key_none")
    for attempt in (ring.change("key_none", KeyChanges()), ring.revoke("x"), ring.rotate("x")):
        with pytest.raises(NotFound):
            await attempt


async def test_keys_are_listed_oldest_first_with_revoked_ones(store: SqliteStore) -> None:
    wall = iter(range(NOW, NOW + 9))
    ring = KeyRing(store, wall=lambda: next(wall))
    keys = [(await ring.create(NewKey(name)))[0] for name in "zab"]
    await ring.revoke(keys[1].id)
    assert [key.name for key in await ring.list()] == ["z", "a", "b"]


async def test_listeners_hear_of_every_change_before_it_is_answered(ring: KeyRing) -> None:
    heard: list[Key] = []

    def failing(_: Key) -> None:
        raise RuntimeError("a listener's bug is not the key's")

    ring.on_change(failing)
    ring.on_change(heard.append)
    key, _ = await ring.create(NewKey("ci"))
    assert heard[-1] == key
    for change in (
        ring.change(key.id, KeyChanges(limits=LimitChanges(requests_per_minute=1))),
        ring.change(key.id, KeyChanges(status="disabled")),
        ring.revoke(key.id),
    ):
        assert heard[-1] == await change or heard[-1] == await ring.get(key.id)
    assert [k.status for k in heard] == ["active", "active", "disabled", "revoked"]


async def test_a_change_the_store_refuses_changes_nothing(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        ring = KeyRing(store)
        key, secret = await ring.create(NewKey("ci"))
    heard: list[Key] = []
    ring.on_change(heard.append)
    with pytest.raises(StoreUnavailable):
        await ring.create(NewKey("late"))
    with pytest.raises(StoreUnavailable):
        await ring.revoke(key.id)
    assert await ring.get(key.id) == key
    assert await find(ring, secret, NOW) == key
    assert heard == []


class SlowStore(SqliteStore):
    """A store that has written a changed key for a while before it says so."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, patience_s=PATIENCE_S)
        self.written, self.answer = asyncio.Event(), asyncio.Event()

    async def replace_key(self, key: Key) -> bool:
        """Replace a key, and return when the test lets it."""
        replaced = await super().replace_key(key)
        self.written.set()
        await self.answer.wait()
        return replaced


async def test_a_caller_that_leaves_does_not_part_the_store_from_the_view(tmp_path: Path) -> None:
    async with SlowStore(tmp_path / "roxy.db") as store:
        ring = KeyRing(store, wall=lambda: NOW)
        key, secret = await ring.create(NewKey("ci"))
        revoking = asyncio.create_task(ring.revoke(key.id))
        await store.written.wait()
        revoking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await revoking
        store.answer.set()
        await ring.aclose()
        assert ring.find(secret, NOW) is None


async def test_a_use_is_shown_at_once_and_written_behind(ring: KeyRing, store: SqliteStore) -> None:
    key, _ = await ring.create(NewKey("ci"))
    ring.touch(key.id, NOW + 5.7)
    assert (await ring.get(key.id)).last_used_at == NOW + 5
    assert ring.take_touched() == {key.id: NOW + 5}
    assert ring.take_touched() == {}
    await ring.change(key.id, KeyChanges(name="new"))
    again = await reloaded(store)
    assert (await again.get(key.id)).last_used_at == NOW + 5


# Importing


async def test_an_import_adds_what_is_unknown_and_leaves_the_rest_alone(
    ring: KeyRing, tmp_path: Path
) -> None:
    known, secret = await ring.create(NewKey("known"))
    async with SqliteStore(tmp_path / "other.db", patience_s=PATIENCE_S) as other:
        elsewhere = KeyRing(other)
        stranger, strange_secret = await elsewhere.create(NewKey("stranger"))
    await ring.revoke(known.id)
    imported = await ring.import_keys([known, stranger])
    assert imported == (1, 1)
    assert await find(ring, secret, NOW) is None, "an old export must not bring a revoked key back"
    assert await find(ring, strange_secret, NOW) == stranger
    assert await ring.import_keys([known, stranger]) == (0, 2)


# The owner


async def test_the_first_start_makes_an_owner_key_once(ring: KeyRing, store: SqliteStore) -> None:
    assert not ring.owner.has_owner
    assert not ring.owner.is_owner("")
    made = await ring.owner.set_owner(None)
    assert made is not None
    assert well_formed(made)
    again = await reloaded(store)
    assert again.owner.has_owner
    assert await again.owner.set_owner(None) is None
    assert again.owner.is_owner(made)
    assert again.find(made, NOW) is None, "the owner's key is no key holder's"


async def test_a_seeded_owner_key_replaces_the_stored_one(
    ring: KeyRing, store: SqliteStore
) -> None:
    made = await ring.owner.set_owner(None)
    assert made is not None
    assert await ring.owner.set_owner("correct horse battery staple".replace(" ", "-")) is None
    for view in (ring, await reloaded(store)):
        assert view.owner.is_owner("correct-horse-battery-staple")
        assert not view.owner.is_owner(made)
    assert not ring.owner.is_owner("correct-horse-battery-stapl\ud800")


# Nothing leaks


async def test_secrets_are_in_no_file_and_no_repr(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        ring = KeyRing(store)
        owner = "owner-secret-of-this-test"
        await ring.owner.set_owner(owner)
        key, secret = await ring.create(NewKey("ci"))
        _, rotated = await ring.rotate(key.id, grace_s=60)
        shown = repr(key) + repr(await ring.list()) + repr(ring) + repr(store)
        written = all_bytes(tmp_path)
    written += all_bytes(tmp_path)
    assert digest_of(rotated) in written, "this looks where the key is"
    for kept_out in (owner, secret, rotated):
        random_part = kept_out.strip(string.punctuation)[6:30]
        assert random_part not in shown
        assert random_part.encode() not in written
