"""A secret is checked by its form before any key is looked up."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.builders.rows import a_key
from support.front_door import OWNER, front_door
from support.waiting import PATIENCE_S

from server.identity.authentication import Authentication, GuestSessions
from server.identity.sessions import Sessions
from server.identity.wrong_keys import PER_ADDRESS
from server.keys.key_ring import KeyRing
from server.keys.secret import digest_of, make_secret
from server.store.sqlite.sqlite_store import SqliteStore
from workers.errors import InvalidKey

OWNER_KEY = "an-owner-key-of-any-form"


def mistyped(secret: str) -> str:
    """Return a secret whose checksum is wrong."""
    return secret[:-1] + ("a" if secret[-1] != "a" else "b")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        yield store


async def test_a_secret_with_a_wrong_checksum_is_not_even_looked_up(store: SqliteStore) -> None:
    good = make_secret()
    bad = mistyped(make_secret())
    await store.add_keys([a_key(1, digest=digest_of(good)), a_key(2, digest=digest_of(bad))])
    keys = KeyRing(store)
    await keys.load()
    await keys.owner.set_owner(OWNER_KEY)
    authentication = Authentication(
        keys, GuestSessions(bytes(32)), Sessions(store, keys), guests_welcome=True
    )
    now = time.time()
    assert authentication.principal_of(good, now).kind == "key"
    assert authentication.principal_of(OWNER_KEY, now).is_owner, "it has no checksum"
    for wrong in (bad, mistyped(good), "", "roxy_" + "\ud800" * 38):
        with pytest.raises(InvalidKey):
            authentication.principal_of(wrong, now)


async def test_malformed_keys_count_as_wrong_and_never_shut_out_the_right_one(
    tmp_path: Path,
) -> None:
    async with front_door(tmp_path) as door:
        key = await door.mint()
        wrong = [mistyped(make_secret()), "roxy_wrong", make_secret()]
        statuses = [
            (await door.get("/api/v1/models", wrong[number % 3])).status_code
            for number in range(PER_ADDRESS + 3)
        ]
        assert statuses == [401] * PER_ADDRESS + [429] * 3
        for right in (key, OWNER):
            assert (await door.get("/api/v1/models", right)).status_code == 200
