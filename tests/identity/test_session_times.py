"""Sessions and wrong keys over time, with clocks that tests turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from pathlib import Path

import pytest
from support.waiting import PATIENCE_S

from server.identity.sessions import (
    ABSOLUTE_S,
    IDLE_S,
    MAX_PER_PRINCIPAL,
    SEEN_EVERY_S,
    Sessions,
    digest_of_id,
)
from server.identity.wrong_keys import WrongKeyLimit
from server.keys.key_ring import KeyRing
from server.store.rows import SessionRow
from server.store.sqlite.sqlite_store import SqliteStore
from workers.errors import RateLimited, StoreUnavailable

CREDENTIAL = bytes(32)
START = 1_800_000_000.0


class Now:
    """A wall clock."""

    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> float:
        """Return the time."""
        return self.at


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        yield store


async def open_sessions(store: SqliteStore, now: Now) -> Sessions:
    """Load the sessions as a start does."""
    sessions = Sessions(store, KeyRing(store), wall=now)
    await sessions.load()
    return sessions


async def test_a_session_ends_when_it_is_not_used(store: SqliteStore) -> None:
    now = Now()
    sessions = await open_sessions(store, now)
    used, idle = [await sessions.begin("owner", CREDENTIAL) for _ in range(2)]
    for _ in range(3):
        now.at += IDLE_S - 1
        assert sessions.find(used, now.at) is not None
    assert sessions.find(idle, now.at) is None
    assert len(sessions) == 1
    await sessions.aclose()


async def test_a_session_ends_after_a_week_however_much_it_is_used(store: SqliteStore) -> None:
    now = Now()
    sessions = await open_sessions(store, now)
    session = await sessions.begin("owner", CREDENTIAL)
    while now.at + 3600 < START + ABSOLUTE_S:
        now.at += 3600
        assert sessions.find(session, now.at) is not None
    now.at += 3600
    assert sessions.find(session, now.at) is None
    await sessions.aclose()
    assert await store.load_sessions() == []


async def test_when_it_was_last_seen_outlives_a_restart(store: SqliteStore) -> None:
    now = Now()
    sessions = await open_sessions(store, now)
    session = await sessions.begin("owner", CREDENTIAL)
    now.at += IDLE_S - 1
    assert sessions.find(session, now.at) is not None
    await sessions.aclose()
    now.at += IDLE_S - 1
    sessions = await open_sessions(store, now)
    assert sessions.find(session, now.at) is not None
    await sessions.aclose()
    now.at += IDLE_S
    assert len(await open_sessions(store, now)) == 0


async def test_one_principal_cannot_fill_the_memory(store: SqliteStore) -> None:
    now = Now()
    sessions = await open_sessions(store, now)
    other = await sessions.begin("key_b", CREDENTIAL)
    ids = []
    for _ in range(MAX_PER_PRINCIPAL + 5):
        now.at += 1
        ids.append(await sessions.begin("key_a", CREDENTIAL))
    assert len(sessions) == MAX_PER_PRINCIPAL + 1
    assert [sessions.find(one, now.at) is not None for one in ids[:6]] == [False] * 5 + [True]
    assert sessions.find(other, now.at) is not None
    await sessions.aclose()


class Failing(SqliteStore):
    """A store that refuses the first write of sessions, after `meanwhile` has run."""

    meanwhile: Callable[[], object] | None = None

    async def note_sessions(self, seen: Mapping[bytes, int], ended: Collection[bytes]) -> None:
        """Write, or fail."""
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
            raise StoreUnavailable
        await super().note_sessions(seen, ended)


@pytest.mark.parametrize("later_s", [0, SEEN_EVERY_S])
async def test_a_last_use_that_could_not_be_written_is_written_later(
    tmp_path: Path, later_s: int
) -> None:
    now = Now()
    store = Failing(tmp_path / "roxy.db", patience_s=PATIENCE_S)
    async with store:
        sessions = await open_sessions(store, now)
        session = await sessions.begin("owner", CREDENTIAL)
        now.at += SEEN_EVERY_S
        assert sessions.find(session, now.at) is not None
        store.meanwhile = lambda: sessions.find(session, now.at + later_s)
        await sessions.aclose()
        (row,) = await store.load_sessions()
        assert row.seen_at == START
        await sessions.aclose()
        (row,) = await store.load_sessions()
        assert row.seen_at == now.at + later_s


class Locked(SqliteStore):
    """A store that refuses to write sessions while `is_locked`, as for a lock of the file."""

    is_locked = False

    async def put_session(self, session: SessionRow) -> None:
        """Write, or fail."""
        if self.is_locked:
            raise StoreUnavailable
        await super().put_session(session)

    async def note_sessions(self, seen: Mapping[bytes, int], ended: Collection[bytes]) -> None:
        """Write, or fail."""
        if self.is_locked:
            raise StoreUnavailable
        await super().note_sessions(seen, ended)


async def test_an_end_that_could_not_be_written_is_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = Now()
    async with Locked(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        sessions = await open_sessions(store, now)
        session_id = await sessions.begin("owner", CREDENTIAL)
        row = sessions.find(session_id, now.at)
        assert row is not None
        store.is_locked = True
        sessions.end(row)
        assert sessions.find(session_id, now.at) is None, "ended all the same"
        for _ in range(3):
            await sessions._write()
        said = [one.message for one in caplog.records if "cannot write" in one.message]
        assert len(said) == 1, "an outage is one line"
        with pytest.raises(StoreUnavailable):
            await sessions.begin("owner", CREDENTIAL)
        written = [one.digest for one in await store.load_sessions()]
        assert written == [digest_of_id(session_id)]
        store.is_locked = False
        await sessions.aclose()
        assert await store.load_sessions() == []


def test_wrong_keys_are_counted_per_address_and_in_all() -> None:
    now = Now()
    limit = WrongKeyLimit(per_address=3, by_all=5, clock=now)
    for _ in range(3):
        limit.check("a")
        limit.add("a")
        now.at += 1
    with pytest.raises(RateLimited) as caught:
        limit.check("a")
    assert caught.value.retry_after_s == 57
    for address in ("b", "c"):
        limit.check(address)
        limit.add(address)
    with pytest.raises(RateLimited):
        limit.check("d")
    now.at += 57
    limit.check("d")
    limit.check("a")
    for _ in range(3):
        limit.add("a")
    with pytest.raises(RateLimited):
        limit.check("a")
