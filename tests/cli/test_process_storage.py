"""What a killed, a second or a hindered gateway does with its data directory."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.builders.key_exports import exported_keys
from support.fakes.upstream import FakeUpstream
from support.front_door import OWNER, bearer
from support.ordinary_user import NOBODY, private_place
from support.processes import ROOT, Finished, Roxy, run, serving, surroundings
from support.waiting import PATIENCE_S, eventually, until

from server.keys.export import KeyExport
from server.keys.export_file import read_export
from server.keys.key_ring import KeyRing
from server.store.data_directory import DataDirectory
from server.store.key import NewKey
from server.store.sqlite.sqlite_store import SqliteStore

__all__ = ["private_place"]

KILLS = 5
AS_NOBODY = (
    "import os, sys\n"
    "from server.cli.command_line import main\n"
    "if os.geteuid() == 0: os.seteuid(int(sys.argv[1]))\n"
    "sys.exit(main(sys.argv[2:]))\n"
)


async def make_keys(roxy: Roxy, acknowledged: dict[str, str]) -> None:
    """Create keys until the gateway is gone; note those it has confirmed."""
    while True:
        sent = {"name": f"key {len(acknowledged)}"}
        try:
            answer = await roxy.door.client.post("/api/v1/keys", json=sent, headers=bearer(OWNER))
        except httpx.TransportError:
            return
        if answer.status_code != 503:  # a slow disk makes it refuse some
            assert answer.status_code == 201, answer.text
            made = answer.json()
            acknowledged[made["id"]] = made["key"]


async def keep_asking(roxy: Roxy, key: str) -> None:
    """Stream until the gateway is gone."""
    while True:
        try:
            async with roxy.door.stream(key=key) as response:
                await response.aread()
        except httpx.TransportError:
            return


async def make_data(path: Path) -> Path:
    """Make a data directory with a key in it."""
    with DataDirectory(path / "data") as directory:
        async with SqliteStore(directory.database) as store:
            ring = KeyRing(store)
            async with KeyExport(directory.export, ring):
                await ring.create(NewKey("first"))
    return path / "data"


def content_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@pytest.mark.time_limit(240)
async def test_killed_under_load_it_loses_no_key_it_has_confirmed(tmp_path: Path) -> None:
    acknowledged: dict[str, str] = {}
    settings = "[keys]\nrequests_per_minute = 0\n"
    async with FakeUpstream() as upstream:
        for _ in range(KILLS):
            async with serving(tmp_path, upstream, settings=settings) as roxy:
                first = await roxy.door.mint("for the load")
                work = [make_keys(roxy, acknowledged) for _ in range(3)]
                work += [keep_asking(roxy, first) for _ in range(4)]
                tasks = [asyncio.create_task(one) for one in work]
                count = len(acknowledged)
                export = tmp_path / "data" / "api-keys.json"
                async with asyncio.timeout(PATIENCE_S):
                    while len(acknowledged) < count + 5 or not export.exists():
                        await asyncio.sleep(random.uniform(0.0, 0.02))
                roxy.signal(signal.SIGKILL)
                assert await roxy.ended() == -signal.SIGKILL
                await asyncio.gather(*tasks)
            read_export(export)
        async with serving(tmp_path, upstream, settings=settings) as roxy:
            for secret in acknowledged.values():
                assert (await roxy.door.get("/api/v1/key", secret)).status_code == 200
            await eventually(lambda: acknowledged.keys() <= exported_keys(export).keys())
            assert len(acknowledged) >= 5 * KILLS
            roxy.signal(signal.SIGTERM)
            assert await roxy.ended() == 0


async def test_a_second_instance_on_the_same_directory_stops_and_names_the_first(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as roxy:
        second = await run("serve", "--port", "0", cwd=tmp_path)
        assert f"process {roxy.pid}" in second.complaint
        assert roxy.door.url in second.complaint
        assert (await roxy.door.client.get("/readyz")).status_code == 200


async def test_a_port_in_use_is_one_line_and_the_first_owner_key_is_not_lost(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, options=("--data-dir", "one")) as roxy:
        port = str(roxy.door.port)
        unset = {"ROXY_ADMIN_API_KEY": ""}
        again = ("serve", "--port", port, "--data-dir", "two")
        # Without warnings: Tornado leaves the socket it could not bind to the collector.
        taken = await run(*again, cwd=tmp_path, environ=unset | {"PYTHONWARNINGS": ""})
        assert port in taken.complaint and "--port" in taken.complaint
    async with serving(tmp_path, options=("--data-dir", "two"), environ=unset) as roxy:
        assert roxy.owner_key, "the start that failed must not have used up the only showing"


def cut_in_half(database: Path) -> None:
    os.truncate(database, database.stat().st_size // 2)


def scribble(database: Path) -> None:
    database.write_bytes(b"not a database at all" * 1000)


def empty(database: Path) -> None:
    database.write_bytes(b"")


def from_the_future(database: Path) -> None:
    with closing(sqlite3.connect(database)) as db, db:
        db.execute("INSERT INTO migrations VALUES (9999, '9999_later.sql', 'x', 0)")
    with closing(sqlite3.connect(database)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut_in_half, "damaged"),
        (scribble, "damaged"),
        (empty, "damaged"),
        (from_the_future, "newer"),
    ],
)
async def test_a_database_that_cannot_be_used_stops_the_start_and_is_left_alone(
    tmp_path: Path, spoil: Any, said: str
) -> None:
    data = await make_data(tmp_path)
    spoil(data / "roxy.db")
    before = content_of(data)
    finished = await run("serve", "--port", "0", cwd=tmp_path)
    assert str(data / "roxy.db") in finished.complaint and said in finished.complaint
    assert content_of(data) | {"roxy.lock": b""} == before | {"roxy.lock": b""}


async def test_a_damaged_export_stops_the_start_only_where_it_is_the_only_source(
    tmp_path: Path,
) -> None:
    data = await make_data(tmp_path)
    whole = (data / "api-keys.json").read_bytes()
    (data / "api-keys.json").write_bytes(whole[:-20])
    async with serving(tmp_path) as roxy:
        assert "api-keys.json" in roxy.err  # the warning: it is written again
        assert len((await roxy.door.get("/api/v1/keys")).json()["data"]) == 1
        roxy.signal(signal.SIGTERM)
        assert await roxy.ended() == 0
    assert len(read_export(data / "api-keys.json")) == 1
    alone = tmp_path / "alone"
    alone.mkdir(mode=0o700)
    (alone / "api-keys.json").write_bytes(whole[:-20])
    for _ in range(2):
        finished = await run("serve", "--port", "0", "--data-dir", alone, cwd=tmp_path)
        assert str(alone / "api-keys.json") in finished.complaint
        assert (alone / "api-keys.json").read_bytes() == whole[:-20]


async def test_a_first_start_with_an_export_but_no_database_takes_its_keys_over(
    tmp_path: Path,
) -> None:
    async with FakeUpstream() as upstream:
        async with serving(tmp_path, upstream) as roxy:
            limits = {"requests_per_minute": 7}
            good = await roxy.door.mint("good", limits=limits)
            bad = await roxy.door.mint_key("bad")
            await roxy.door.client.delete(f"/api/v1/keys/{bad['id']}", headers=bearer(OWNER))
            roxy.signal(signal.SIGTERM)
            await roxy.ended()
        for name in ("roxy.db", "roxy.db-wal", "roxy.db-shm"):
            (tmp_path / "data" / name).unlink(missing_ok=True)
        async with serving(tmp_path, upstream) as roxy:
            answer = await roxy.door.chat(key=good)
            assert answer.status_code == 200
            assert answer.headers["x-ratelimit-limit-requests"] == "7"
            assert (await roxy.door.chat(key=bad["key"])).status_code == 401


def test_a_data_directory_that_cannot_be_written_stops_the_start(private_place: Path) -> None:
    private_place.chmod(0o500)
    euid = os.geteuid()
    os.seteuid(os.getuid())  # the child gives its powers up by itself, once it is loaded
    try:
        ended = subprocess.run(
            [
                *(sys.executable, "-c", AS_NOBODY, str(NOBODY)),
                *("serve", "--port", "0", "--data-dir", str(private_place)),
            ],
            cwd=ROOT,
            env=surroundings(),
            capture_output=True,
            check=False,
            text=True,
        )
    finally:
        os.seteuid(euid)
    complaint = Finished(ended.returncode, ended.stdout, ended.stderr).complaint
    assert str(private_place) in complaint and "--data-dir" in complaint


async def test_everything_it_writes_is_private(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        async with serving(tmp_path) as roxy:
            made = await roxy.door.mint_key()
            data = tmp_path / "data"
            # The last of its files that is written in the background, under another name before.
            await eventually(lambda: made["id"] in exported_keys(data / "api-keys.json"))
            assert stat.S_IMODE(data.stat().st_mode) == 0o700
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data.iterdir()}
            assert {"roxy.db", "api-keys.json", "roxy.lock"} <= set(modes)
            assert set(modes.values()) == {0o600}, modes
    finally:
        os.umask(old)


async def test_a_database_locked_by_another_program_hinders_writes_only_and_heals(
    tmp_path: Path,
) -> None:
    async with FakeUpstream() as upstream, serving(tmp_path, upstream, patient=False) as roxy:
        door = roxy.door
        await door.mint("before")
        with closing(sqlite3.connect(tmp_path / "data" / "roxy.db")) as other:
            other.execute("BEGIN EXCLUSIVE")
            refused = await door.client.post(
                "/api/v1/keys", json={"name": "during"}, headers=bearer(OWNER)
            )
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "store_unavailable"
            assert int(refused.headers["retry-after"]) >= 1
            for path in ("keys", "models", "key", "usage"):
                assert (await door.get(f"/api/v1/{path}")).status_code == 200
            assert (await door.get("/healthz")).status_code == 200
            answer = await door.client.get("/readyz")
            assert answer.status_code == 503
            assert answer.json()["reasons"] == ["the database cannot be written"]
            other.rollback()
        # A balancer sends nothing while it is not ready: the health check must find out by itself.

        async def ready() -> bool:
            return (await door.client.get("/readyz")).status_code == 200

        await until(ready)
        await door.mint("after")
        names = [one["name"] for one in (await door.get("/api/v1/keys")).json()["data"]]
        assert names == ["before", "after"]


async def test_chats_go_on_while_the_database_is_locked_and_are_accounted_for_later(
    tmp_path: Path,
) -> None:
    async with FakeUpstream() as upstream, serving(tmp_path, upstream, patient=False) as roxy:
        key = await roxy.door.mint()
        with closing(sqlite3.connect(tmp_path / "data" / "roxy.db")) as other:
            other.execute("BEGIN EXCLUSIVE")
            for _ in range(3):
                assert (await roxy.door.chat(key=key)).status_code == 200
            other.rollback()

        async def accounted() -> bool:
            usage = (await roxy.door.get("/api/v1/usage")).json()["data"]
            return bool(usage) and usage[0]["requests"] == 3

        await until(accounted)


async def test_a_backup_of_the_directory_is_enough_to_move(tmp_path: Path) -> None:
    async with FakeUpstream() as upstream:
        async with serving(tmp_path, upstream) as roxy:
            key = await roxy.door.mint()
            copied = await run("backup", "copy.db", cwd=tmp_path)
            assert copied.code == 0, copied
        moved = tmp_path / "moved"
        moved.mkdir(mode=0o700)
        shutil.copy(tmp_path / "copy.db", moved / "roxy.db")
        async with serving(tmp_path, upstream, options=("--data-dir", "moved")) as roxy:
            assert (await roxy.door.chat(key=key)).status_code == 200
            export = moved / "api-keys.json"
            await eventually(export.exists)  # it is written beside the requests
            assert json.loads(export.read_bytes())["keys"]
