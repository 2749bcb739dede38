"""What a killed process had not saved is booked once: by the next start, or by its keeper."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from nodes.family import TWO, child_of, kill, port_of
from support.fakes.upstream import FakeUpstream, Pause, chunk, completion, event, streaming
from support.front_door import bearer, request_body
from support.processes import Roxy, serving
from support.waiting import PATIENCE_S, eventually, soon

TEXT = "word " * 80
MODEL = "test/priced"


def priced(upstream: FakeUpstream) -> str:
    """Return the settings of a model with prices."""
    return f"""
[[models]]
id = "{MODEL}"
name = "Priced"
owned_by = "test"
prices = {{ prompt = 1.0, completion = 2.0 }}
[[models.deployments]]
provider = "openai"
base_url = "{upstream.base_url}"
upstream_model = "upstream-model"
secret_env = ""
"""


def half(hold: asyncio.Event) -> Any:
    """Return a streamed answer that stops after 400 bytes of text until `hold` is set."""
    return streaming([event(chunk({"role": "assistant", "content": TEXT})), Pause(hold)])


def noted(folder: Path) -> list[Any]:
    """Return what the processes of a gateway have noted."""
    return [
        note
        for path in (folder / "data").glob("running-*.notes")
        for note in msgspec.msgpack.decode(path.read_bytes())
    ]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep the database from being written, as another program can."""
    with closing(
        sqlite3.connect(folder / "data" / "roxy.db", PATIENCE_S, isolation_level=None)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


async def usage_of(roxy: Roxy, key_id: str) -> dict[str, Any]:
    """Wait until the key has a request in its usage, and return the sums."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = (await roxy.door.get(f"/api/v1/usage?group_by=key&key={key_id}")).json()["data"]
            if found:
                sums: dict[str, Any] = found[0]
                return sums
            await asyncio.sleep(0.02)  # the keeper books it behind; there is no event to wait for


async def spent(roxy: Roxy, secret: str) -> int:
    """Return what a key has spent of its budget."""
    budget = (await roxy.door.get("/api/v1/key", secret)).json()["remaining"]["budget"]
    assert budget["reserved_microusd"] == 0
    return int(budget["spent_microusd"])


async def charged(roxy: Roxy, secret: str) -> None:
    """Wait until a key has spent something and nothing of it runs."""
    while True:
        budget = (await roxy.door.get("/api/v1/key", secret)).json()["remaining"]["budget"]
        if budget["spent_microusd"] and not budget["reserved_microusd"]:
            return
        await asyncio.sleep(0.02)  # the keeper settles it behind; there is no event to wait for


async def test_a_gateway_that_was_killed_books_at_its_next_start_what_it_had_sent(
    tmp_path: Path,
) -> None:
    hold = asyncio.Event()
    async with FakeUpstream() as upstream:
        upstream.plan(half(hold), completion())
        async with serving(tmp_path, settings=priced(upstream), patient=False) as roxy:
            key = await roxy.door.mint_key(limits={"budget_microusd": 5_000_000})
            headers = bearer(key["key"]) | {"X-Request-Id": "killed-1"}
            body = request_body("Hi", stream=True, model=MODEL, max_tokens=1_000)
            async with roxy.door.client.stream(
                "POST", "/api/v1/chat/completions", json=body, headers=headers
            ) as response:
                assert response.status_code == 200
                pieces = response.aiter_bytes()
                await anext(pieces)
                await eventually(lambda: noted(tmp_path))
                with locked(tmp_path):
                    answer = await roxy.door.client.post(
                        "/api/v1/chat/completions",
                        json=request_body("Hi", model=MODEL),
                        headers=bearer(key["key"]),
                    )
                    ended = answer.headers["X-Request-Id"]
                    await eventually(lambda: list((tmp_path / "data").glob("ended-*.notes")))
                    kill(roxy.pid)
                    await roxy.process.wait()
        async with serving(tmp_path, settings=priced(upstream)) as roxy:
            sums = await usage_of(roxy, key["id"])
            assert (sums["requests"], sums["failed"], sums["estimated_requests"]) == (2, 1, 1)
            row = (await roxy.door.get("/api/v1/requests/killed-1")).json()
            assert row["status"] == "cut"
            assert row["prompt_tokens"] > 0
            assert row["completion_tokens"] == len(TEXT)
            row = (await roxy.door.get(f"/api/v1/requests/{ended}")).json()
            assert row["status"] == "finished"
            assert sums["cost_microusd"] > 0
            assert await spent(roxy, key["key"]) == sums["cost_microusd"]
            assert not noted(tmp_path)
            roxy.signal(signal.SIGKILL)
            await roxy.process.wait()
        async with serving(
            tmp_path, settings=priced(upstream)
        ) as roxy:  # a second start books nothing again
            assert (await usage_of(roxy, key["id"]))["requests"] == 2
            assert await spent(roxy, key["key"]) == sums["cost_microusd"]
        hold.set()


async def test_the_keeper_books_what_a_killed_child_had_sent(tmp_path: Path) -> None:
    hold = asyncio.Event()
    async with (
        FakeUpstream() as upstream,
        serving(tmp_path, settings=priced(upstream), options=TWO, patient=False) as roxy,
    ):
        upstream.plan(half(hold))
        key = await roxy.door.mint_key(limits={"budget_microusd": 5_000_000})
        async with roxy.door.stream(key=key["key"], model=MODEL, max_tokens=1_000) as response:
            pieces = response.aiter_bytes()
            await anext(pieces)
            await eventually(lambda: noted(tmp_path))
            with locked(tmp_path):
                kill(child_of(port_of(response), roxy.pid))
                await soon(charged(roxy, key["key"]))
            sums = await usage_of(roxy, key["id"])  # tried again until it could be written
            assert (sums["requests"], sums["completion_tokens"]) == (1, len(TEXT))
            assert await spent(roxy, key["key"]) == sums["cost_microusd"] > 0
        hold.set()
