"""Chat requests that name files of the chat history in place of holding them."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest
from support.fakes.upstream import FakeUpstream, completion
from support.front_door import OWNER, Door, bearer
from support.inputs.pictures import PNG
from support.schemas import validate_error
from support.visitors import guest

from server.history.history_records import StoredFile
from server.history.stored_files import MAX_FILES

PDF = "data:application/octet-stream;base64,JVBERg=="
PICTURE = "data:image/png;base64," + base64.b64encode(PNG).decode()


async def keep(
    door: Door, file_id: str, content: bytes, *, key: str, kind: str = "image/png"
) -> None:
    answer = await door.client.put(
        f"/api/v1/history/files/{file_id}",
        params={"conversation": "c_1", "name": "a", "type": kind},
        content=content,
        headers=bearer(key),
    )
    assert answer.status_code == 204


EXAMPLE = {"image_url": {"url": "roxy-file:f_1"}, "url": "roxy-file:f_unknown"}
"""What is no part of the messages."""


async def ask(
    door: Door, *parts: dict[str, Any], headers: dict[str, str], **more: Any
) -> httpx.Response:
    body = {"model": "test/one", "messages": [{"role": "user", "content": parts}]} | more
    return await door.client.post("/v1/chat/completions", json=body, headers=headers)


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


async def test_a_named_file_reaches_the_upstream_as_its_contents(
    door: Door, upstream: FakeUpstream
) -> None:
    key = await door.mint("Ada")
    await keep(door, "f_1", PNG, key=key)
    await keep(door, "f_2", b"%PDF", key=key, kind="no type\r\n")
    upstream.plan(completion("Seen."))
    file = {"type": "file", "file": {"filename": "a.pdf", "file_data": "roxy-file:f_2"}}
    # Texts that only look like a name, or quote one, are texts.
    quoted = {"type": "text", "text": '"url": "roxy-file:f_1"'}
    bare = {"type": "text", "text": "roxy-file:f_1"}
    short = {"type": "image_url", "image_url": "roxy-file:f_1"}
    braces = '{"a": "}'
    odd = {"type": "image_url", "image_url": {"detail": braces, "x": 1, "url": "roxy-file:f_1"}}
    named = {"type": "file", "file": {"filename": braces, "file_data": "roxy-file:f_2"}}
    parts = (image("roxy-file:f_1"), file, quoted, bare, image("roxy-file:f_1"), short, odd, named)
    tool = {"type": "function", "function": {"name": "open", "parameters": {"examples": [EXAMPLE]}}}
    answer = await ask(door, *parts, headers=bearer(key), tools=[tool])
    assert answer.status_code == 200, answer.text
    sent = (await upstream.request()).json
    assert sent["tools"] == [tool]
    got = sent["messages"][0]["content"]
    assert got[5] == image(PICTURE)
    assert got[6]["image_url"] == {"detail": braces, "x": 1, "url": PICTURE}
    assert got[7]["file"] == {"filename": braces, "file_data": PDF}
    assert got[0] == got[4] == image(PICTURE)
    assert got[1]["file"]["file_data"] == PDF
    assert got[2:4] == [quoted, bare]


async def test_nobody_names_a_file_of_another(door: Door, upstream: FakeUpstream) -> None:
    await keep(door, "f_1", PNG, key=OWNER)
    for file_id in ("f_1", "f_unknown"):
        answer = await ask(
            door, image(f"roxy-file:{file_id}"), headers=bearer(await door.mint("Ada"))
        )
        validate_error(answer.json())
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "file_not_found")
    refused = await ask(door, image("roxy-file:f_1"), headers=guest(door))
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "messages[0].content[0].image_url.url"
    assert not upstream.requests


@pytest.mark.gateway(settings="[server]\nmax_body_bytes = 1000000\n")
async def test_a_named_file_counts_as_if_it_had_been_sent(
    door: Door, upstream: FakeUpstream
) -> None:
    await keep(door, "f_1", b"\0" * 300_000, key=OWNER)
    named = [image("roxy-file:f_1")] * 3
    refused = await ask(door, *named, headers=bearer(OWNER))
    validate_error(refused.json())
    assert refused.status_code == 413
    upstream.plan(completion("Seen."))
    assert (await ask(door, *named[:2], headers=bearer(OWNER))).status_code == 200
    sent = json.loads((await upstream.request()).body)
    assert len(sent["messages"][0]["content"]) == 2


async def test_a_key_over_its_limit_is_refused_before_files_are_read(
    door: Door, upstream: FakeUpstream
) -> None:
    key = await door.mint("Ada", limits={"requests_per_minute": 1})
    await keep(door, "f_1", PNG, key=key)
    upstream.plan(completion("Seen."))
    assert (await ask(door, image("roxy-file:f_1"), headers=bearer(key))).status_code == 200
    # The file is not even looked for.
    refused = await ask(door, image("roxy-file:f_unknown"), headers=bearer(key))
    validate_error(refused.json())
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"


BURST = 20


async def test_of_a_burst_over_the_limit_the_files_of_one_request_are_read(
    door: Door, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = door.gateway.services
    turns, read, arrived, all_are_there = services.filling_turns, [], [], asyncio.Event()
    file, turn_of = services.history.file, turns.of

    def arriving(person: str) -> asyncio.Lock:
        arrived.append(person)
        if len(arrived) == BURST:
            all_are_there.set()
        return turn_of(person)

    async def reading(person: str, file_id: str) -> StoredFile:
        read.append(file_id)
        await all_are_there.wait()
        return await file(person, file_id)

    monkeypatch.setattr(turns, "of", arriving)
    monkeypatch.setattr(services.history, "file", reading)
    key = await door.mint("Ada", limits={"requests_per_minute": 1})
    await keep(door, "f_1", PNG, key=key)
    upstream.plan(completion("Seen."))
    asked = [ask(door, image("roxy-file:f_1"), headers=bearer(key)) for _ in range(BURST)]
    statuses = [answer.status_code for answer in await asyncio.gather(*asked)]
    assert sorted(statuses) == [200] + [429] * (BURST - 1)
    assert read == ["f_1"]
    unknown = await ask(door, image("roxy-file:f_1"), headers=bearer(OWNER), model="test/unknown")
    assert (unknown.status_code, read) == (404, ["f_1"])
    most = [image(f"roxy-file:f_{number}") for number in range(MAX_FILES + 1)]
    assert (await ask(door, *most, headers=bearer(OWNER))).status_code == 400
