"""`api-keys.json` with many keys: written in steps and not too often, read key by key."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec import structs
from support.builders.rows import a_key
from support.waiting import PATIENCE_S, eventually

from server.keys.export import AT_ONCE_KEYS, STEP_KEYS, KeyExport
from server.keys.export_file import (
    DamagedExport,
    encode_export,
    encode_keys,
    export_end,
    export_start,
    iterate_export,
    read_export,
)
from server.keys.key_ring import KeyRing
from server.store.key import Key, NewKey
from server.store.sqlite.sqlite_store import SqliteStore
from server.store.store import StoreFailure

KEYS = [a_key(number, name='{}\n],"' * (number % 3) + "x") for number in range(1, 700)]


@asynccontextmanager
async def exported(
    folder: Path, *, whole_bytes: int = 0, at_close_keys: int = 10**9, rests: int = 0
) -> AsyncIterator[KeyRing]:
    """Run a key ring and its export; small files count as large ones."""
    async with SqliteStore(folder / "roxy.db", patience_s=PATIENCE_S) as store:
        ring = KeyRing(store)
        await ring.load()
        path = folder / "api-keys.json"
        async with KeyExport(
            path, ring, whole_bytes=whole_bytes, at_close_keys=at_close_keys, rests=rests
        ):
            if not ring.owner.has_owner:
                await ring.owner.set_owner(None)
            yield ring


def write(folder: Path, keys: list[Key]) -> Path:
    """Write an export into the directory of a gateway."""
    path = folder / "api-keys.json"
    path.write_bytes(encode_export(keys, 5))
    return path


def in_order(keys: list[Key]) -> list[Key]:
    return sorted(keys, key=lambda key: (key.created_at, key.id))


@pytest.mark.parametrize("count", [0, 1, 2, STEP_KEYS, STEP_KEYS + 1])
def test_pieces_make_the_same_file_as_the_whole(tmp_path: Path, count: int) -> None:
    keys = KEYS[:count]
    pieces = [
        export_start(5),
        *(encode_keys(keys[at : at + 100], first=at == 0) for at in range(0, count, 100)),
        export_end(empty=not keys),
    ]
    path = tmp_path / "x.json"
    path.write_bytes(b"".join(pieces))
    assert path.read_bytes() == encode_export(keys, 5)
    assert list(iterate_export(path, whole_bytes=0)) == read_export(path) == keys


@pytest.mark.parametrize("cut", [1, 5, 9, 10, 40, 200, 5000])
def test_a_large_file_that_is_cut_is_damaged(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(encode_export(KEYS, 5)[:-cut])
    with pytest.raises(DamagedExport):
        list(iterate_export(path, whole_bytes=0))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"weight": 1', b'"weight": 0'),
        (b'"version": 1', b'"version": 2'),
        (b"  ]\n}\n", b"  ]\n}\n{}"),
        (b"    },\n", b"    }\n"),
        (b'"status": "active"', b'"status": "\xff"'),
    ],
)
def test_a_large_file_with_a_wrong_line_is_damaged(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = tmp_path / "x.json"
    content = encode_export(KEYS, 5)
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    with pytest.raises(DamagedExport):
        list(iterate_export(path, whole_bytes=0))


def test_a_large_file_of_another_layout_is_read_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(encode_export(KEYS, 5).replace(b"\n", b" ").replace(b"  ", b" "))
    assert len(list(iterate_export(path, whole_bytes=0))) == len(KEYS)


async def test_a_lost_database_is_rebuilt_from_a_large_export(tmp_path: Path) -> None:
    write(tmp_path, KEYS)
    async with exported(tmp_path) as ring:
        assert list(await ring.list()) == in_order(KEYS)
    assert read_export(tmp_path / "api-keys.json") == in_order(KEYS)


async def test_a_large_export_that_is_cut_adds_no_key(tmp_path: Path) -> None:
    (tmp_path / "api-keys.json").write_bytes(encode_export(KEYS, 5)[:-300])
    with pytest.raises(StoreFailure, match="only source of keys"):
        async with exported(tmp_path):
            pass
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        assert await store.count_keys() == 0


async def test_a_large_export_with_unknown_keys_is_kept_aside_after_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, [*KEYS, a_key(900)])
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        await store.add_keys(KEYS)
    async with exported(tmp_path):
        await eventually(lambda: "has 1 keys that are not in the database" in caplog.text)
        await eventually(lambda: len(read_export(path)) == len(KEYS))
    (aside,) = copies(tmp_path)
    assert len(read_export(aside)) == len(KEYS) + 1


@pytest.mark.parametrize(
    "behind",
    [
        KEYS[1:],
        [structs.replace(KEYS[0], name="old"), *KEYS[1:]],
        [*KEYS[:-1], structs.replace(KEYS[-1], status="disabled")],
    ],
)
async def test_a_large_export_that_is_behind_is_written_after_the_start(
    tmp_path: Path, behind: list[Key]
) -> None:
    path = write(tmp_path, behind)
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        await store.add_keys(KEYS)
    async with exported(tmp_path):
        await eventually(lambda: read_export(path) == in_order(KEYS))
    assert copies(tmp_path) == []


async def test_a_file_that_is_as_it_was_left_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "api-keys.json"
    async with exported(tmp_path) as ring:
        await ring.create(NewKey("ci"))
    at = path.stat().st_mtime_ns
    spoilt = b"#" * path.stat().st_size
    path.write_bytes(spoilt)
    os.utime(path, ns=(at, at))
    async with exported(tmp_path):
        pass
    assert path.read_bytes() == spoilt
    os.utime(path, ns=(at, at + 1000))
    async with exported(tmp_path):
        pass
    assert len(read_export(path)) == 1


def copies(folder: Path) -> list[Path]:
    """Return the exports that were kept aside, and the partial ones."""
    return [*folder.glob("api-keys.kept-*.json"), *folder.glob("*.part")]


async def test_a_change_of_a_key_is_noticed_by_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "api-keys.json"
    async with exported(tmp_path) as ring:
        await ring.create(NewKey("ci"))
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        other = KeyRing(store)  # no export runs beside it
        await other.load()
        await other.create(NewKey("another"))
    async with exported(tmp_path, whole_bytes=10**9):
        pass
    assert len(read_export(path)) == 2


async def test_a_stop_does_not_wait_for_a_large_file_and_the_next_start_writes_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="roxy.export")
    path = tmp_path / "api-keys.json"
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        await store.add_keys(KEYS)
        await KeyRing(store).owner.set_owner(None)
    async with exported(tmp_path, at_close_keys=10):
        pass  # it is closed before the first step: nothing was awaited in between
    assert "the next start writes it" in caplog.text
    assert not path.exists()
    assert copies(tmp_path) == []
    async with exported(tmp_path, at_close_keys=10):
        await eventually(path.exists)
    assert len(read_export(path)) == len(KEYS)


async def test_changes_of_many_keys_share_a_write(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    many = [a_key(number) for number in range(AT_ONCE_KEYS + 1)]
    path = tmp_path / "api-keys.json"
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        await store.add_keys(many)
    async with exported(tmp_path, rests=10**6) as ring:
        await eventually(path.exists)
        first = path.stat().st_mtime_ns
        for number in range(300):  # longer than a write takes
            await ring.create(NewKey(f"new {number}"))
            assert path.stat().st_mtime_ns == first
    assert len(read_export(path)) == len(many) + 300
