"""What every store must do when several processes write to it."""

from __future__ import annotations

import asyncio

from support.builders.rows import a_key, a_row

from server.store.key import Limits
from server.store.rows import Batch, SessionRow
from server.store.store import Store
from server.store.usage_queries import SumsQuery


async def test_a_key_is_replaced_from_the_state_that_is_stored(store: Store) -> None:
    await store.add_keys([a_key(1, models=("a",), limits=Limits(5)), a_key(2)])
    second = a_key(1, name="new", digest=b"n" * 32, previous_digest=b"p" * 32, version=2)
    late = a_key(1, name="from another process", version=2)
    early = a_key(1, name="from the future", version=4)
    unknown = a_key(3, version=2)
    assert await store.replace_key(second)
    for other in (late, second, early, unknown):
        assert not await store.replace_key(other)
    assert sorted(await store.load_keys(), key=lambda key: key.id) == [second, a_key(2)]


async def test_of_many_changes_at_once_one_is_made(store: Store) -> None:
    await store.add_keys([a_key()])
    changes = [a_key(name=f"change {number}", version=2) for number in range(20)]
    made = await asyncio.gather(*map(store.replace_key, changes))
    assert made.count(True) == 1
    assert await store.find_key(a_key().id) == changes[made.index(True)]


async def test_a_revoked_key_never_becomes_anything_else(store: Store) -> None:
    await store.add_keys([a_key()])
    revoked = a_key(status="revoked", version=2)
    assert await store.replace_key(revoked)
    for version in (2, 3, 4):
        assert not await store.replace_key(a_key(status="active", version=version))
        assert not await store.replace_key(a_key(status="revoked", name="b", version=version))
    assert await store.load_keys() == [revoked]


async def test_a_named_value_is_set_once_if_it_is_absent(store: Store) -> None:
    secrets = [bytes([number]) * 32 for number in range(20)]
    kept = await asyncio.gather(*(store.put_meta_if_absent("secret", one) for one in secrets))
    assert len(set(kept)) == 1
    assert await store.load_meta("secret") == kept[0]
    await store.put_meta("secret", b"another")
    assert await store.put_meta_if_absent("secret", b"late") == b"another"


async def test_a_batch_that_is_sent_again_is_written_once(store: Store) -> None:
    await store.add_keys([a_key()])
    batch = Batch(rows=[a_row(1), a_row(2)], last_used={a_key().id: 300})
    for _ in range(3):
        await store.record(batch)
    await store.record(Batch(rows=[a_row(3)]))
    assert len((await store.usage_rows()).rows) == 3
    (day,) = await store.usage_by(SumsQuery("2000-01-01", "2100-01-01", ()))
    assert day.requests == 3


async def test_a_session_is_found_by_its_digest(store: Store) -> None:
    session = SessionRow(b"s" * 32, "owner", b"c" * 32, 5, 6)
    await store.put_session(session)
    assert await store.find_session(session.digest) == session
    assert await store.find_session(b"x" * 32) is None
    await store.note_sessions({}, [session.digest])
    assert await store.find_session(session.digest) is None
