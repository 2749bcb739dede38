"""What is kept no longer is erased, and nothing else."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import structs
from support.builders.conversations import QUOTA, changes, question, save
from support.builders.rows import a_key
from support.servers.postgres_server import PostgresServer
from support.waiting import PATIENCE_S

from server.history.history_records import FileRecord, HistorySettings, StoredFile
from server.history.history_retention import HistoryRetention
from server.history.postgres_history import PostgresHistory
from server.history.sqlite_history import SqliteHistory
from server.history.step_history import StepHistory
from server.history.steps.sql_steps import Steps
from server.store.postgres.postgres_store import PostgresStore
from server.store.sqlite.sqlite_store import SqliteStore
from server.store.store import Store
from workers.errors import NotFound

DAY_S = 86_400


@pytest.fixture(params=["sqlite", "postgres"])
async def kept(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[StepHistory, Store]]:
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "postgres":
            server: PostgresServer = request.getfixturevalue("postgres")
            shared = PostgresStore(server.new_database(), None, patience_s=PATIENCE_S)
            store = await stack.enter_async_context(shared)
            yield PostgresHistory(store), store
        else:
            file = tmp_path / "roxy.db"
            local = SqliteStore(file, patience_s=PATIENCE_S)
            await stack.enter_async_context(local)
            history = SqliteHistory(file, patience_s=PATIENCE_S)
            yield await stack.enter_async_context(history), local


async def erase(kept: tuple[StepHistory, Store], in_days: float, keep_days: int = 0) -> None:
    """Erase once what is due after some days."""
    retention = HistoryRetention(*kept, keep_days, wall=lambda: time.time() + in_days * DAY_S)
    try:
        await retention.erase()
    finally:
        await retention.aclose()


async def ids(history: StepHistory, person: str = "owner") -> list[str]:
    return [one.id for one in (await changes(history, person=person)).conversations]


async def test_the_trash_is_emptied_after_a_day(kept: tuple[StepHistory, Store]) -> None:
    history, _ = kept
    await save(history, question(), conversation="c_kept")
    await save(history, question(), conversation="c_gone")
    await save(history, conversation="c_gone", deleted=1)
    await erase(kept, 0.9)
    assert set(await ids(history)) == {"c_kept", "c_gone"}
    await erase(kept, 1.1)
    after = await changes(history, 1)
    assert (await ids(history), after.erased) == (["c_kept"], ["c_gone"])


async def test_old_conversations_are_erased_when_the_owner_wants_it(
    kept: tuple[StepHistory, Store],
) -> None:
    history, _ = kept
    await save(history, question(), updated=int((time.time() - 40 * DAY_S) * 1000), created=1)
    await save(history, question(), conversation="c_2")
    await erase(kept, 0)
    assert len(await ids(history)) == 2
    await erase(kept, 0, keep_days=30)
    assert await ids(history) == ["c_2"]


async def test_a_file_whose_conversation_was_never_saved_goes_after_a_day(
    kept: tuple[StepHistory, Store],
) -> None:
    history, _ = kept
    await save(history, question())
    file = StoredFile("a", "b", b"c")
    await history.put_file("owner", "f_1", "c_1", file, QUOTA)
    await history.put_file("owner", "f_2", "c_never", file, QUOTA)
    await erase(kept, 1.1)
    assert await history.file("owner", "f_1") == file
    with pytest.raises(NotFound):
        await history.file("owner", "f_2")


async def test_a_cursor_from_before_an_old_erasure_starts_again(
    kept: tuple[StepHistory, Store],
) -> None:
    history, _ = kept
    for number in range(3):
        await save(history, question(), conversation=f"c_{number}")
    cursor = (await changes(history)).cursor
    await history.erase("owner", "c_0")
    await erase(kept, 29)
    assert (await changes(history, cursor)).erased == ["c_0"]
    await erase(kept, 31)
    again = await changes(history, cursor, limit=1)
    assert again.reset and again.more
    rest = await changes(history, again.cursor, limit=1)
    assert not rest.reset  # the pages of a whole list do not begin again
    assert [one.id for one in again.conversations + rest.conversations] == ["c_1", "c_2"]
    assert not (await changes(history, rest.cursor)).reset


async def test_the_history_of_a_revoked_key_is_erased_after_thirty_days(
    kept: tuple[StepHistory, Store],
) -> None:
    history, store = kept
    good, bad = a_key(1), a_key(2)
    await store.add_keys([good, bad])
    for person in (good.id, bad.id, "owner"):
        await save(history, question(), person=person)
        await history.put_settings(person, HistorySettings({"a": 1}, 0))
    await store.replace_key(structs.replace(bad, status="revoked", version=2))
    await erase(kept, 0)
    await erase(kept, 29)
    assert await ids(history, bad.id) == ["c_1"]
    await erase(kept, 31)
    assert await ids(history, bad.id) == []
    assert await history.settings(bad.id) == HistorySettings({}, 0)
    assert (await changes(history, person=bad.id)).cursor == 0
    assert await ids(history, good.id) == await ids(history) == ["c_1"]


async def test_files_of_earlier_versions_become_searchable(
    kept: tuple[StepHistory, Store],
) -> None:
    history, _ = kept
    file = FileRecord("f_1", "old.txt", "text/plain", 9, "text")
    await save(history, question(1, files=(file,)))
    await history.put_file("owner", "f_1", "c_1", StoredFile("old.txt", "", b"old words"), QUOTA)

    def forget() -> Steps[None]:
        yield "DELETE FROM history_file_words WHERE person = ?", ("owner",)

    await history.write(forget())
    assert (await history.search("owner", ["old", "words"], 10)).data == []
    await history.read_old_files()
    (hit,) = (await history.search("owner", ["old", "words"], 10)).data
    assert (hit.message, hit.file) == ("m_1", "old.txt")
