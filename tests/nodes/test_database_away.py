"""A gateway whose PostgreSQL is away, through the front door."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from support.fakes.upstream import FakeUpstream
from support.front_door import OWNER, Door, bearer, front_door
from support.patience import HASTY_S, patient_stores
from support.processes import serving
from support.servers.postgres_server import PASSWORD, PostgresServer
from support.visitors import Browser
from support.waiting import PATIENCE_S

USAGE = "/api/v1/usage?group_by=key"
TRY_LATER = "The server cannot do this at the moment. Try again in a minute."


async def requests_of(door: Door, key_id: str) -> int:
    """Return how many requests of a key are in the sums; 0 while they cannot be read."""
    answer = await door.get(f"{USAGE}&key={key_id}")
    return sum(row["requests"] for row in answer.json().get("data", []))


async def until_saved(door: Door, key_id: str, count: int) -> None:
    """Wait until exactly so many requests of a key are in the sums."""
    async with asyncio.timeout(PATIENCE_S):
        while (found := await requests_of(door, key_id)) < count:
            await asyncio.sleep(0.02)
    assert found == count
    log = (await door.get(f"/api/v1/requests?key={key_id}")).json()
    assert len(log["data"]) == count


async def until_away(door: Door, *, away: bool) -> None:
    """Wait until /readyz says so, which never fails for it."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            ready = await door.get("/readyz")
            assert ready.status_code == 200
            told = ready.json().get("away", [])
            if bool(told) is away:
                assert all(one.startswith("PostgreSQL cannot be used: ") for one in told)
                return
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("begin", "end", "patience_s"),
    [
        (PostgresServer.kill, PostgresServer.start, PATIENCE_S),
        (PostgresServer.hang, PostgresServer.go_on, HASTY_S),
    ],
    ids=["killed", "hung"],
)
async def test_known_keys_work_and_usage_is_saved_once_afterwards(
    tmp_path: Path,
    upstream: FakeUpstream,
    own_postgres: PostgresServer,
    begin: Callable[[PostgresServer], None],
    end: Callable[[PostgresServer], None],
    patience_s: float,
) -> None:
    environ = {"ROXY_DATABASE_URL": own_postgres.new_database()}
    patience = patient_stores(postgres_s=patience_s)
    async with front_door(tmp_path, upstream, environ=environ, patience=patience) as door:
        made = await door.mint_key()
        assert (await door.chat(key=made["key"])).status_code == 200
        await until_saved(door, made["id"], 1)
        await asyncio.to_thread(begin, own_postgres)
        for _ in range(3):
            assert (await door.chat(key=made["key"])).status_code == 200
        refused = await door.client.post("/api/v1/keys", json={"name": "no"}, headers=bearer(OWNER))
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
        assert "retry-after" in refused.headers
        assert (await door.get("/api/v1/requests")).status_code == 503
        assert (await door.chat(key=OWNER)).status_code == 200
        await until_away(door, away=True)
        assert PASSWORD not in (await door.get("/readyz")).text
        assert (await door.chat(key=made["key"])).status_code == 200
        await asyncio.to_thread(end, own_postgres)
        await until_away(door, away=False)
        await until_saved(door, made["id"], 5)
        await door.mint_key("yes")


async def test_usage_that_waits_outlives_the_process_and_is_saved_once(
    tmp_path: Path, upstream: FakeUpstream, own_postgres: PostgresServer
) -> None:
    environ = {"ROXY_DATABASE_URL": own_postgres.new_database()}
    async with serving(tmp_path, upstream, environ=environ) as roxy:
        made = await roxy.door.mint_key()
        assert (await roxy.door.chat(key=made["key"])).status_code == 200
        await until_saved(roxy.door, made["id"], 1)
        await asyncio.to_thread(own_postgres.kill)
        for _ in range(4):
            assert (await roxy.door.chat(key=made["key"])).status_code == 200
        await until_away(roxy.door, away=True)
        spool = tmp_path / "data" / "spool"
        async with asyncio.timeout(PATIENCE_S):
            while b"".join(f.read_bytes() for f in spool.glob("*.spool")).count(b"req_") < 4:
                await asyncio.sleep(0.02)
        roxy.signal(signal.SIGKILL)
        assert PASSWORD not in roxy.err
    await asyncio.to_thread(own_postgres.start)
    async with serving(tmp_path, upstream, environ=environ) as roxy:
        await until_saved(roxy.door, made["id"], 5)
        async with asyncio.timeout(PATIENCE_S):
            while list(spool.iterdir()):
                await asyncio.sleep(0.02)


async def test_a_session_that_cannot_be_read_is_answered_with_an_error_page(
    tmp_path: Path, upstream: FakeUpstream, own_postgres: PostgresServer
) -> None:
    environ = {"ROXY_DATABASE_URL": own_postgres.new_database()}
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    async with (
        front_door(tmp_path / "one", upstream, environ=environ) as one,
        front_door(tmp_path / "other", upstream, environ=environ) as other,
    ):
        signed_in = Browser(one)
        assert (await signed_in.sign_in(OWNER)).status_code == 303
        browser = Browser(other)
        browser.cookies = dict(signed_in.cookies)
        await asyncio.to_thread(own_postgres.kill)
        for path in ("/", "/docs", "/login", "/live", "/usage", "/no-such-page"):
            async with asyncio.timeout(PATIENCE_S):
                page = await browser.open(path)
            assert (page.status_code, TRY_LATER in page.text) == (503, True), path
            assert "retry-after" in page.headers
        for path, status in (("/", 200), ("/live", 200), ("/usage", 503)):
            assert (await signed_in.open(path)).status_code == status, "that session is in memory"
        refused = await browser.call("GET", "key")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
        await asyncio.to_thread(own_postgres.start)
        await until_away(other, away=False)
        assert (await browser.open("/usage")).status_code == 200
