"""Secrets stay secret: what is written, logged, shown and answered holds none of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from support.fakes.upstream import FakeUpstream, Request, completion, refusal, stream_of
from support.front_door import OWNER, bearer
from support.processes import UPSTREAM_SECRET, Roxy, run, serving
from support.waiting import eventually

from server.keys.secret import make_secret

PROMPT = "the-marker-of-a-prompt"
ANSWER = "the-marker-of-an-answer"
CHOSEN = "an-owner-key-of-my-choice"
FILES = ("roxy.db", "api-keys.json", "roxy.lock")


def found_in(secrets: dict[str, str], where: dict[str, bytes]) -> list[str]:
    return [
        f"{name} is in {place}"
        for place, content in where.items()
        for name, secret in secrets.items()
        if secret.encode() in content
    ]


async def everything_written(roxy: Roxy, data: Path) -> dict[str, bytes]:
    """Return every file of the data directory, what was logged, and what `ps` shows."""
    await eventually((data / "api-keys.json").exists)  # it is written beside the requests
    return await asyncio.to_thread(_read_all, roxy, data)


def _read_all(roxy: Roxy, data: Path) -> dict[str, bytes]:
    places: dict[str, bytes] = {}
    for path in data.iterdir():
        with contextlib.suppress(FileNotFoundError):  # notes of a request that has just ended
            places[path.name] = path.read_bytes()
    assert set(FILES) <= set(places)
    places["standard error"] = roxy.err.encode()
    places["standard output"] = roxy.out.encode()
    places["the arguments"] = Path(f"/proc/{roxy.pid}/cmdline").read_bytes()
    return places


def echoing(request: Request) -> Any:
    """Answer as an upstream that repeats in its errors what it was sent."""
    said = request.json["messages"][-1]["content"]
    heard = f"{request.headers['authorization']} {said}"
    if "refuse" in said:
        error = {"message": heard, "type": "invalid_request_error", "param": None, "code": None}
        return refusal(401 if "credentials" in said else 400, {"error": error})
    if request.json.get("stream"):
        return stream_of([ANSWER, ANSWER])
    return completion(ANSWER)


async def knock(roxy: Roxy, upstream: FakeUpstream, key: str, *strangers: str) -> dict[str, bytes]:
    """Ask for everything there is, well and badly; give all that was answered to others."""
    door = roxy.door
    upstream.plan(echoing)
    for stream in (False, True):
        for said in (PROMPT, f"refuse {PROMPT}", f"refuse credentials {PROMPT}"):
            await door.chat(said, key=key, stream=stream)
            await door.chat(said, stream=stream)
    await door.chat(PROMPT, key=key, model="no/such")
    answers = {}
    for number, stranger in enumerate((*strangers, key[:-1], key + "x")):
        answers[f"a refused key {number}"] = (await door.chat(PROMPT, key=stranger)).content
    for path in (f"models?api_key={key}", f"usage?key={key}"):
        await door.get(f"/api/v1/{path}")
    for path in ("keys", "key", "models", "usage", "usage?format=csv", f"jobs/{PROMPT}"):
        for who in (OWNER, key, None):
            answer = await door.get(f"/api/v1/{path}", who)
            answers[f"{path} for {who}"] = answer.content + repr(answer.headers).encode()
    for body in (b'{"model": "' + PROMPT.encode(), json.dumps({"messages": PROMPT}).encode()):
        path = "/api/v1/chat/completions"
        await door.client.post(path, content=body, headers=bearer(key))
    return answers


@pytest.mark.parametrize("style", ["text", "json"])
async def test_no_secret_and_no_prompt_is_in_files_logs_arguments_or_answers(
    tmp_path: Path, style: str
) -> None:
    settings = f'[log]\nformat = "{style}"\nlevel = "debug"\n'
    async with FakeUpstream() as upstream, serving(tmp_path, upstream, settings=settings) as roxy:
        made = await roxy.door.mint_key()
        path = f"/api/v1/keys/{made['id']}/rotate"
        headers = bearer(OWNER)
        rotated = await roxy.door.client.post(path, json={"grace_s": 60}, headers=headers)
        stranger = make_secret()
        answers = await knock(roxy, upstream, rotated.json()["key"], stranger)
        secrets = {
            "the first secret": made["key"],
            "the second secret": rotated.json()["key"],
            "the owner key": OWNER,
            "the upstream's secret": UPSTREAM_SECRET,
        }
        texts = {"a stranger's key": stranger, "the prompt": PROMPT, "the answer": ANSWER}
        await eventually(lambda: not (f"/api/v1/jobs/{PROMPT}" not in roxy.out))
        written = await everything_written(roxy, tmp_path / "data")
        paths = f"/api/v1/jobs/{PROMPT}".encode()  # a path is the client's own choice
        written["standard output"] = written["standard output"].replace(paths, b"")
        assert found_in(secrets | texts, written) == []
        assert found_in(secrets, answers) == []


async def test_an_owner_key_is_made_and_printed_once_and_only_its_hash_is_kept(
    tmp_path: Path,
) -> None:
    unset = {"ROXY_ADMIN_API_KEY": ""}
    async with serving(tmp_path, environ=unset | {"ROXY_LOG_FORMAT": "json"}) as roxy:
        key = roxy.owner_key
        assert roxy.err.count(f"\n    {key}\n") == roxy.err.count(key) == 1
        assert key not in roxy.out
        assert (await roxy.door.get("/api/v1/keys", key)).status_code == 200
        written = await everything_written(roxy, tmp_path / "data") | {"standard error": b""}
        assert found_in({"the owner key": key}, written) == []
    async with serving(tmp_path, environ=unset) as roxy:
        assert roxy.owner_key == "" and key not in roxy.err
        assert (await roxy.door.get("/api/v1/keys", key)).status_code == 200
    async with serving(tmp_path, environ={"ROXY_ADMIN_API_KEY": CHOSEN}) as roxy:
        assert roxy.owner_key == ""
        assert (await roxy.door.get("/api/v1/keys", key)).status_code == 401
        assert (await roxy.door.get("/api/v1/keys", CHOSEN)).status_code == 200


async def test_a_short_owner_key_is_refused_without_being_repeated(tmp_path: Path) -> None:
    finished = await run("serve", cwd=tmp_path, environ={"ROXY_ADMIN_API_KEY": "only-15-letters"})
    assert "ROXY_ADMIN_API_KEY" in finished.complaint and "16" in finished.complaint
    assert "only-15-letters" not in finished.err
    assert not (tmp_path / "data").exists()
