"""What is particular to a history in a file: other writers go on, and erased words are gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import structs
from support.builders.conversations import QUOTA, change_of, question, save
from support.builders.rows import a_key
from support.waiting import PATIENCE_S

from server.history.history_records import StoredFile
from server.history.sqlite_history import SqliteHistory
from server.store.sqlite.sqlite_file import backup_database, connect
from server.store.sqlite.sqlite_store import SqliteStore
from workers.errors import StoreUnavailable

WORD = b"a-word-that-is-nowhere-else"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        yield store


@pytest.fixture
async def file_history(store: SqliteStore) -> AsyncIterator[SqliteHistory]:
    async with SqliteHistory(store.path, patience_s=PATIENCE_S) as history:
        yield history


def files_with(folder: Path, word: bytes) -> list[str]:
    """Return the names of the files that contain a word."""
    return [file.name for file in folder.iterdir() if word in file.read_bytes()]


async def test_keys_are_changed_while_large_files_are_written(
    store: SqliteStore, file_history: SqliteHistory
) -> None:
    await store.add_keys([a_key(1)])
    content = StoredFile("large", "", bytes(5_000_000))
    writing = [
        asyncio.create_task(file_history.put_file("owner", f"f_{n}", "c_1", content, 10 * QUOTA))
        for n in range(6)
    ]
    for version in range(2, 12):
        assert await store.replace_key(structs.replace(a_key(1), version=version))
    await asyncio.gather(*writing)


async def test_a_lock_of_another_program_is_a_refusal_and_nothing_is_written(
    store: SqliteStore, file_history: SqliteHistory
) -> None:
    history = file_history
    await save(history, question(1))
    async with SqliteHistory(store.path, patience_s=0.05) as hasty:
        with contextlib.closing(connect(store.path, "rw")) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable):
                await save(hasty, question(2))
            whole = await history.conversation("owner", "c_1")  # reading works
            assert len(whole.messages) == 1
            other.execute("ROLLBACK")
    assert (await save(history, question(2))).written
    assert len((await history.conversation("owner", "c_1")).messages) == 2


async def test_neither_the_file_nor_a_backup_has_what_was_erased(
    store: SqliteStore, file_history: SqliteHistory, tmp_path: Path
) -> None:
    words = WORD.decode() * 100
    for number in range(20):
        long = question(text=words), question(2, text=words, parent="m_1")
        await save(file_history, *long, conversation=f"c_{number}", title=WORD.decode())
        await file_history.put_file(
            "owner", f"f_{number}", f"c_{number}", StoredFile("", "", WORD * 1000), QUOTA
        )
        await file_history.share("owner", f"c_{number}", None, QUOTA)
    edited = structs.replace(question(), text="short", base=1)
    await file_history.save("owner", "c_0", change_of(edited, title=""), QUOTA)
    await file_history.erase_all("owner")
    await asyncio.to_thread(backup_database, store.path, tmp_path / "copy.db")
    assert await asyncio.to_thread(files_with, tmp_path, WORD) == []
