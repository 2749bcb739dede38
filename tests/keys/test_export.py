"""`api-keys.json`: whole at every instant, private, in step with the database, and read back."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from msgspec import structs
from support.builders.key_exports import exported_keys
from support.builders.rows import a_key
from support.waiting import PATIENCE_S, eventually

from server.keys.export import KeyExport
from server.keys.export_file import DamagedExport, encode_export, read_export
from server.keys.key_ring import KeyRing
from server.keys.read_through import when_read
from server.store.key import Key, KeyChanges, LimitChanges, Limits, NewKey
from server.store.rows import KeyQuery
from server.store.sqlite.sqlite_store import SqliteStore
from server.store.store import StoreFailure
from workers.errors import StoreUnavailable

FULL = a_key(
    1,
    name="Zoë's “key”",
    last_used_at=5,
    expires_at=6,
    status="disabled",
    models=("a/b",),
    limits=Limits(1, 2, 3, 10**15, "week"),
    weight=100,
    previous_digest=b"p" * 32,
    previous_until=7,
)


class Start:
    """One run of a gateway's keys: ring and export over a directory."""

    def __init__(self, ring: KeyRing, export: KeyExport) -> None:
        self.ring = ring
        self.export = export


@asynccontextmanager
async def started(folder: Path, *, owner: bool = True) -> AsyncIterator[Start]:
    """Start in the order in which the gateway does; at the end the export is written."""
    async with SqliteStore(folder / "roxy.db", patience_s=PATIENCE_S) as store:
        ring = KeyRing(store)
        await ring.load()
        async with KeyExport(folder / "api-keys.json", ring) as export:
            if owner:
                await ring.owner.set_owner(None)
            yield Start(ring, export)
        await ring.aclose()


def ids(path: Path) -> set[str]:
    """Return the ids of an export's keys."""
    return set(exported_keys(path))


def names(folder: Path) -> list[str]:
    """Return the names of a folder's files."""
    return sorted(file.name for file in folder.iterdir())


def kept(folder: Path) -> list[Path]:
    """Return the exports that were kept aside."""
    return list(folder.glob("api-keys.kept-*.json"))


def test_keys_come_back_as_they_were_exported(tmp_path: Path) -> None:
    keys = [FULL, a_key(2)]
    (tmp_path / "x.json").write_bytes(encode_export(keys, 1_795_348_800))
    assert read_export(tmp_path / "x.json") == keys


def test_the_file_is_readable_by_people_and_has_hashes_only() -> None:
    text = encode_export([FULL], 1_795_348_800).decode()
    assert text.count("\n") > 20
    export = json.loads(text)
    assert (export["version"], export["exported_at"]) == (1, 1_795_348_800)
    (key,) = export["keys"]
    assert key["sha256"] == FULL.digest.hex()
    assert key["limits"]["requests_per_minute"] == 1
    assert "Zoë" in text


def is_exported(path: Path, keys: list[Key]) -> bool:
    """Return whether the file holds these keys."""
    return read_export(path) == keys


async def test_every_change_reaches_the_file(tmp_path: Path) -> None:
    path = tmp_path / "api-keys.json"
    async with started(tmp_path) as run:
        key, secret = await run.ring.create(NewKey("ci"))
        await eventually(lambda: ids(path) == {key.id})
        for change in (
            run.ring.change(key.id, KeyChanges(limits=LimitChanges(tokens_per_minute=5))),
            run.ring.rotate(key.id, grace_s=5),
            run.ring.revoke(key.id),
        ):
            await change
            expected = [structs.replace(await run.ring.get(key.id), version=1)]
            await eventually(partial(is_exported, path, expected))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert secret not in path.read_text()
    assert names(tmp_path) == ["api-keys.json", "roxy.db"]


async def test_the_file_is_whole_at_every_instant(tmp_path: Path) -> None:
    path = tmp_path / "api-keys.json"
    seen: set[int] = set()
    async with started(tmp_path) as run:
        await eventually(path.exists)

        async def create_many() -> int:
            made = 0
            while made < 100 or len(seen) < 3:  # this looks while it is written
                await run.ring.create(NewKey("ci"))
                made += 1
            return made

        creating = asyncio.create_task(create_many())
        while not creating.done():
            seen.add(len(await asyncio.to_thread(read_export, path)))
        made = await creating
    assert len(read_export(path)) == made


async def test_leaving_writes_what_is_due(tmp_path: Path) -> None:
    async with started(tmp_path) as run:
        created = {(await run.ring.create(NewKey("ci")))[0].id for _ in range(20)}
    assert ids(tmp_path / "api-keys.json") == created


async def test_an_unexpected_error_does_not_end_the_writing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with started(tmp_path) as run:
        path, run.export.path = run.export.path, tmp_path / "zero\0byte"
        await run.ring.create(NewKey("ci"))
        await eventually(lambda: "ValueError" in caplog.text)
        run.export.path = path
        await eventually(lambda: len(ids(path)) == 1)


async def test_a_file_that_cannot_be_written_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "away" / "api-keys.json"
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        ring = KeyRing(store)
        async with KeyExport(path, ring):
            await ring.create(NewKey("ci"))
            await eventually(lambda: "cannot be written" in caplog.text)
            await ring.create(NewKey("keys do not depend on their copy"))
            path.parent.mkdir()
            await eventually(lambda: path.exists() and len(ids(path)) == 2)
    assert caplog.text.count("cannot be written") == 1
    assert "can be written again" in caplog.text


async def test_a_database_that_is_away_is_one_line_and_the_file_is_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Leaving(SqliteStore):
        away = False

        async def list_keys(self, query: KeyQuery) -> list[Key]:
            if self.away:
                raise StoreUnavailable
            return await super().list_keys(query)

    path = tmp_path / "api-keys.json"
    async with Leaving(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        ring = KeyRing(store)
        async with KeyExport(path, ring):
            store.away = True
            await ring.create(NewKey("ci"))
            await eventually(lambda: "cannot be written" in caplog.text)
            store.away = False
            await eventually(lambda: path.exists() and len(ids(path)) == 1)
    assert caplog.text.count("cannot be written (the database is away)") == 1
    assert "Traceback" not in caplog.text


async def test_a_failed_write_is_tried_again_without_another_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "away" / "api-keys.json"
    async with SqliteStore(tmp_path / "roxy.db", patience_s=PATIENCE_S) as store:
        ring = KeyRing(store)
        key, _ = await ring.create(NewKey("ci"))
        async with KeyExport(path, ring):
            await eventually(lambda: "cannot be written" in caplog.text)
            path.parent.mkdir()
            await eventually(lambda: ids(path) == {key.id})


class Interrupted(SqliteStore):
    """A store that runs `then` once, after it has read the keys of an export."""

    then: Callable[[], Awaitable[object]] | None = None

    async def list_keys(self, query: KeyQuery) -> list[Key]:
        """Read keys, then have something change."""
        keys = await super().list_keys(query)
        then, self.then = self.then, None
        if then is not None:
            await then()
        return keys


async def test_a_change_while_the_file_is_written_is_written_too(tmp_path: Path) -> None:
    path = tmp_path / "api-keys.json"
    store = Interrupted(tmp_path / "roxy.db", patience_s=PATIENCE_S)
    async with store:
        ring = KeyRing(store)
        async with KeyExport(path, ring):
            await eventually(path.exists)
            store.then = lambda: ring.create(NewKey("second"))
            await ring.create(NewKey("first"))
            await eventually(lambda: len(ids(path)) == 2)


# The next start


async def test_a_lost_export_is_written_again(tmp_path: Path) -> None:
    async with started(tmp_path) as run:
        key, _ = await run.ring.create(NewKey("ci"))
    (tmp_path / "api-keys.json").unlink()
    async with started(tmp_path):
        await eventually((tmp_path / "api-keys.json").exists)
    assert ids(tmp_path / "api-keys.json") == {key.id}


async def test_an_export_that_a_kill_left_behind_is_brought_up_to_date(tmp_path: Path) -> None:
    async with started(tmp_path) as run:
        key, _ = await run.ring.create(NewKey("ci"))
        await eventually(lambda: ids(tmp_path / "api-keys.json") == {key.id})
        behind = (tmp_path / "api-keys.json").read_bytes()
        await run.ring.revoke(key.id)
    (tmp_path / "api-keys.json").write_bytes(behind)
    (tmp_path / "api-keys.json.123.part").write_bytes(b'{"version": 1, "exp')
    async with started(tmp_path):
        pass
    assert read_export(tmp_path / "api-keys.json")[0].status == "revoked"
    assert names(tmp_path) == ["api-keys.json", "roxy.db"]


async def test_a_true_export_is_left_as_it_is(tmp_path: Path) -> None:
    async with started(tmp_path) as run:
        key, _ = await run.ring.create(NewKey("ci"))
        run.ring.touch(key.id, 1_795_348_800)
    before = (tmp_path / "api-keys.json").stat().st_mtime_ns
    async with started(tmp_path):
        pass
    assert (tmp_path / "api-keys.json").stat().st_mtime_ns == before


async def test_a_lost_database_is_rebuilt_from_the_export(tmp_path: Path) -> None:
    async with started(tmp_path) as run:
        kept, secret = await run.ring.create(NewKey("kept", limits=Limits(5)))
        revoked, revoked_secret = await run.ring.create(NewKey("revoked"))
        await run.ring.revoke(revoked.id)
    (tmp_path / "roxy.db").unlink()
    async with started(tmp_path) as run:
        assert await when_read(partial(run.ring.find, secret, 0)) == kept
        assert await when_read(partial(run.ring.find, revoked_secret, 0)) is None
        assert (await run.ring.get(revoked.id)).status == "revoked"
    async with started(tmp_path) as run:
        assert len(await run.ring.list()) == 2


async def test_a_damaged_export_without_a_database_stops_the_start_every_time(
    tmp_path: Path,
) -> None:
    path = tmp_path / "api-keys.json"
    path.write_bytes(b'{"version": 1, "exported_at": 5, "keys": [{"id"')
    for _ in range(2):
        with pytest.raises(StoreFailure) as failure:
            async with started(tmp_path):
                pass
        assert str(path) in str(failure.value)
        assert "\n" not in str(failure.value)
    assert path.read_bytes().endswith(b'{"id"')
    path.unlink()
    async with started(tmp_path) as run:
        assert (await run.ring.list()) == ()


@pytest.mark.parametrize("keys", [0, 2])
async def test_a_damaged_export_beside_its_database_is_kept_aside_and_written_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, keys: int
) -> None:
    async with started(tmp_path) as run:
        for _ in range(keys):
            await run.ring.create(NewKey("ci"))
    (tmp_path / "api-keys.json").write_bytes(b"\xff damaged")
    async with started(tmp_path):
        pass
    assert len(read_export(tmp_path / "api-keys.json")) == keys
    (aside,) = kept(tmp_path)
    assert aside.read_bytes() == b"\xff damaged"
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600
    assert "It is written again from the database" in caplog.text


async def test_keys_the_database_does_not_know_are_kept_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with started(tmp_path) as run:
        known, _ = await run.ring.create(NewKey("known"))
        newer = encode_export([*await run.ring.list(), a_key(7)], 5)
    (tmp_path / "api-keys.json").write_bytes(newer)
    async with started(tmp_path) as run:
        assert (await run.ring.list()) == (known,), (
            "a file may not add keys behind the owner's back"
        )
    (aside,) = kept(tmp_path)
    assert f"roxy keys import {aside}" in caplog.text
    async with started(tmp_path) as run:
        assert (await run.ring.import_keys(read_export(aside))).added == 1
    assert ids(tmp_path / "api-keys.json") == {known.id, a_key(7).id}
    assert len(kept(tmp_path)) == 1


# Reading what others wrote


def entry(**changes: object) -> dict[str, object]:
    """Return a good entry of an export, changed."""
    whole = json.loads(encode_export([a_key()], 5))["keys"][0]
    return {**whole, **changes}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"version": 1, "exported_at": 5}',
        b'{"version": 2, "exported_at": 5, "keys": []}',
        b'{"version": 1, "exported_at": 5, "keys": [], "more": 1}',
        encode_export([FULL], 5)[:-20],
        encode_export([FULL, FULL], 5),
        encode_export([a_key(1), a_key(2, digest=a_key(1).digest)], 5),
        *(
            json.dumps({"version": 1, "exported_at": 5, "keys": [entry(**changes)]}).encode()
            for changes in (
                {"id": "owner"},
                {"sha256": "00"},
                {"sha256": "X" * 64},
                {"status": "superb"},
                {"weight": 0},
                {"limits": {"requests_per_minute": -1}},
                {"name": ""},
                {"models": "all"},
                {"created_at": 1e30},
                {"secret": "roxy_..."},
            )
        ),
    ],
)
def test_what_is_no_whole_export_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DamagedExport) as refusal:
        read_export(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_export_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(StoreFailure, match="cannot be read"):
        read_export(tmp_path / "none.json")


async def test_an_import_is_exported_and_merged_by_id(tmp_path: Path) -> None:
    other = a_key(3)
    async with started(tmp_path) as run:
        known, _ = await run.ring.create(NewKey("known"))
        changed = structs.replace(known, name="another name")
        (tmp_path / "in.json").write_bytes(encode_export([changed, other], 5))
        imported = await run.ring.import_keys(read_export(tmp_path / "in.json"))
        assert imported == (1, 1)
        assert (await run.ring.get(known.id)).name == "known"
    assert ids(tmp_path / "api-keys.json") == {known.id, other.id}
