"""Clients of answers that belong to the server: they ask, leave, come back and stop."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
from support.fakes.upstream import USAGE, Answer, Pause, chunk, event, streaming
from support.front_door import OWNER, Door, bearer, parse_events, request_body
from support.waiting import PATIENCE_S

KEEP = {"X-Roxy-Keep": "true"}
UPDATES = bearer(OWNER) | {"X-Roxy-Queue-Updates": "true"}
WORDS = ["one ", "two ", "three ", "four "]
HELD = [chunk({"role": "assistant", "content": ""})] + [chunk(word) for word in WORDS]


class Reading:
    """An event stream, read event by event; comments are kept apart."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.id = response.headers["x-request-id"]
        self.comments: list[str] = []
        self.events: list[str] = []
        self._bytes = response.aiter_raw()
        self._rest = ""

    async def read(self, count: int) -> list[str]:
        """Read on until so many events have come in all."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.events) < count:
                self._take((await anext(self._bytes)).decode())
        assert len(self.events) == count
        return self.events

    async def read_comment(self, text: str) -> None:
        """Read on until a comment has come."""
        async with asyncio.timeout(PATIENCE_S):
            while not any(text in comment for comment in self.comments):
                self._take((await anext(self._bytes)).decode())

    async def finish(self) -> list[str]:
        """Read to the end."""
        async with asyncio.timeout(PATIENCE_S):
            async for piece in self._bytes:
                self._take(piece.decode())
        return self.events

    def _take(self, piece: str) -> None:
        *blocks, self._rest = (self._rest + piece).split("\n\n")
        for block in blocks:
            (self.comments if block.startswith(":") else self.events).append(block)


@contextlib.asynccontextmanager
async def ask(
    door: Door, headers: Mapping[str, str] | None = None, **body: Any
) -> AsyncIterator[Reading]:
    """Ask for a kept stream; as the owner unless `headers` say who."""
    async with door.client.stream(
        "POST",
        "/api/v1/chat/completions",
        json=request_body(stream=True, **body),
        headers=KEEP | dict(headers or bearer(OWNER)),
    ) as response:
        assert response.status_code == 200, await response.aread()
        yield Reading(response)


@contextlib.asynccontextmanager
async def attach(
    door: Door, job_id: str, after: int = 0, headers: Mapping[str, str] | None = None
) -> AsyncIterator[Reading]:
    """Come back for an answer."""
    async with door.client.stream(
        "GET",
        f"/api/v1/jobs/{job_id}/stream?after={after}",
        headers=dict(headers or bearer(OWNER)),
    ) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Reading(response)


async def replay(door: Door, job_id: str, after: int = 0, **more: Any) -> list[str]:
    """Read the rest of an answer."""
    async with attach(door, job_id, after, **more) as reading:
        return await reading.finish()


async def facts(door: Door, job_id: str, key: str = OWNER) -> dict[str, Any]:
    """Ask where a job is."""
    answer = await door.get(f"/api/v1/jobs/{job_id}", key)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def ended(door: Door, job_id: str) -> dict[str, Any]:
    """Wait until a job has ended."""
    async with asyncio.timeout(PATIENCE_S):
        while (told := await facts(door, job_id))["state"] != "done":
            await asyncio.sleep(0.01)
    return told


async def status_of_stream(door: Door, job_id: str, headers: Mapping[str, str], query: str) -> Any:
    """Ask for a stream that is refused, and give the status and the error's code."""
    answer = await door.client.get(f"/api/v1/jobs/{job_id}/stream{query}", headers=headers)
    return answer.status_code, answer.json()["error"]["code"]


def held_after(count: int) -> tuple[Answer, asyncio.Event]:
    """Plan an answer that stops after `count` events until it is let go on."""
    gate = asyncio.Event()
    pieces: list[bytes | Pause] = [event(each) for each in HELD]
    pieces.insert(count, Pause(gate))
    pieces += [event(chunk(finish="stop")), event(chunk(choices=[], usage=USAGE)), event("[DONE]")]
    return streaming(pieces), gate


def code_of(event_text: str) -> Any:
    """Read the code of an error event."""
    return parse_events(event_text + "\n\n")[0]["error"]["code"]


async def stop(door: Door, job_id: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Stop a job."""
    answer = await door.client.delete(
        f"/api/v1/jobs/{job_id}", headers=dict(headers or bearer(OWNER))
    )
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def noise(seed: int) -> str:
    """Make 10 kB of text that does not compress well."""
    return random.Random(seed).randbytes(5000).hex()
