"""The keys API from outside: who may call it, what it answers, and how fast a change bites."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import structs
from support.builders.key_exports import exported_keys
from support.fakes.upstream import FakeUpstream, Pause, chunk, event, silence, streaming
from support.front_door import MODEL, OWNER, Door, bearer, front_door, parse_events, request_body
from support.schemas import validate_error
from support.visitors import Browser
from support.waiting import PATIENCE_S, eventually, soon, until

from server.api.routes import ROUTES
from server.identity.wrong_keys import PER_ADDRESS
from server.store.rows import StoreChanges

OTHER = "zai/glm-4.5"
SECRET = re.compile(r"roxy_[0-9A-Za-z]{38}")
FIELDS = {
    "id",
    "object",
    "name",
    "redacted",
    "created_at",
    "note",
    "last_used_at",
    "expires_at",
    "status",
    "models",
    "limits",
    "weight",
}
OPEN_TO_KEYS = {
    "chat/completions",
    "documents",
    "models",
    "models/{model}",
    "key",
    "jobs/{id}",
    "jobs/{id}/stream",
    "history",
    "history/changes",
    "history/conversations/{id}",
    "history/files/{id}",
    "history/settings",
    "history/search",
    "history/export",
    "history/shares",
    "history/shares/{id}",
    "openapi.json",
    "/healthz",
    "/readyz",
}
"""The routes that are not the owner's alone."""
OWNER_ROUTES = [
    (method, route.path)
    for route in ROUTES
    if route.path not in OPEN_TO_KEYS
    for method in ("GET", "POST", "PATCH", "DELETE")
    if method.lower() in vars(route.handler)
]

WRONG_CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"status": "revoked"}, "status"),
    ({"colour": "red"}, "colour"),
    ({"name": ""}, "name"),
    ({"expires_at": 1}, "expires_at"),
    ({"models": []}, "models"),
    ({"models": [MODEL, "no/such"]}, "models[1]"),
    ({"limits": {"requests_per_minute": 0}}, "limits.requests_per_minute"),
]


async def call(door: Door, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
    headers = more.pop("headers", bearer(OWNER))
    return await door.client.request(method, f"/api/v1/{path}", json=body, headers=headers, **more)


def held(hold: asyncio.Event) -> Any:
    first, last = event(chunk({"content": "x"})), event(chunk(finish="stop"))
    return streaming([first, Pause(hold), last, event("[DONE]")])


@pytest.mark.parametrize(("method", "route"), OWNER_ROUTES)
async def test_only_the_owner_may_call_it(door: Door, method: str, route: str) -> None:
    made = await door.mint_key()
    path = route.replace("{id}", made["id"])
    for headers, status, code in (
        ({}, 401, "invalid_api_key"),
        (bearer("roxy_wrong"), 401, "invalid_api_key"),
        (bearer(made["key"]), 403, "permission_denied"),
        ({"x-api-key": made["key"]}, 403, "permission_denied"),
    ):
        answer = await call(door, method, path, headers=headers)
        assert answer.status_code == status
        validate_error(answer.json())
        assert answer.json()["error"]["code"] == code
    assert len((await call(door, "GET", "keys")).json()["data"]) == 1
    assert (await call(door, "GET", "keys", headers={"x-api-key": OWNER})).status_code == 200
    assert (await door.client.get("/api/keys", headers=bearer(OWNER))).status_code == 200


async def test_a_secret_is_shown_when_it_is_made_and_never_again(door: Door) -> None:
    made = await call(door, "POST", "keys", {"name": "ci"})
    assert made.status_code == 201 and made.headers["cache-control"] == "no-store"
    secrets = [made.json()["key"]]
    assert SECRET.fullmatch(secrets[0])
    assert set(made.json()) == FIELDS | {"key"}
    path = f"keys/{made.json()['id']}"
    rotated = await call(door, "POST", f"{path}/rotate")
    assert rotated.status_code == 200 and rotated.headers["cache-control"] == "no-store"
    secrets.append(rotated.json()["key"])
    assert SECRET.fullmatch(secrets[1]) and secrets[1] != secrets[0]
    for answer in (made, rotated):
        assert answer.headers["referrer-policy"] == "no-referrer"
    answers = [
        await call(door, "GET", "keys"),
        await call(door, "GET", path),
        await call(door, "PATCH", path, {"name": "other"}),
        await call(door, "GET", "key", headers=bearer(secrets[1])),
        await call(door, "DELETE", path),
        await call(door, "PATCH", path, {"name": "late"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 200, 409]
    for answer in answers:
        assert not SECRET.search(answer.text)


async def test_a_key_has_all_its_fields_and_keeps_them(tmp_path: Path) -> None:
    began = int(time.time())
    later = began + 3600
    wanted = {
        "name": "team a ✓",
        "models": [OTHER],
        "expires_at": later,
        "weight": 3,
        "limits": {
            "requests_per_minute": 5,
            "tokens_per_minute": 1000,
            "concurrent_requests": 2,
            "budget_microusd": 1_000_000,
            "budget_period": "day",
        },
    }
    async with front_door(tmp_path) as door:
        made = (await call(door, "POST", "keys", wanted)).json()
        assert {name: made[name] for name in wanted} == wanted
        assert made["status"] == "active" and made["object"] == "key"
        assert made["redacted"] == f"{made['key'][:9]}…{made['key'][-4:]}"
        assert began <= made["created_at"] <= time.time() and made["last_used_at"] is None
        del made["key"]
        assert (await call(door, "GET", f"keys/{made['id']}")).json() == made
        listed = (await call(door, "GET", "keys")).json()
        ends = {"first_id": made["id"], "last_id": made["id"], "has_more": False}
        assert listed == {"object": "list", "data": [made], **ends}
    async with front_door(tmp_path) as door:
        assert (await call(door, "GET", f"keys/{made['id']}")).json() == made


async def test_a_change_leaves_what_it_does_not_name_and_null_clears(door: Door) -> None:
    limits = {"requests_per_minute": 5, "tokens_per_minute": 5000}
    made = await door.mint_key("a", models=[MODEL], limits=limits)
    path = f"keys/{made['id']}"
    assert (await call(door, "PATCH", path, {})).json() == (await call(door, "GET", path)).json()
    changed = (await call(door, "PATCH", path, {"limits": {"requests_per_minute": 9}})).json()
    assert changed["limits"] == made["limits"] | {"requests_per_minute": 9}
    assert (changed["name"], changed["models"]) == ("a", [MODEL])
    answer = await door.chat(key=made["key"])
    assert answer.headers["x-ratelimit-limit-requests"] == "9"  # at once, for the next request
    cleared = {"models": None, "limits": {"requests_per_minute": None}}
    changed = (await call(door, "PATCH", path, cleared)).json()
    assert changed["models"] is None
    assert changed["limits"]["requests_per_minute"] is None
    assert changed["limits"]["tokens_per_minute"] == 5000
    assert "x-ratelimit-limit-requests" not in (await door.chat(key=made["key"])).headers


async def test_a_wrong_change_is_refused_naming_the_field(door: Door) -> None:
    made = await door.mint_key()
    before = (await call(door, "GET", f"keys/{made['id']}")).json()
    for body, param in WRONG_CHANGES:
        for method, path in (("PATCH", f"keys/{made['id']}"), ("POST", "keys")):
            answer = await call(door, method, path, {"name": "n"} | body)
            assert answer.status_code == 400
            validate_error(answer.json())
            assert answer.json()["error"]["param"] == param
    assert (await call(door, "GET", "keys")).json()["data"] == [before]


async def test_a_key_that_is_not_there_is_a_404(door: Door) -> None:
    for method, path, body in (
        ("GET", "keys/key_0000000000000000", None),
        ("PATCH", "keys/key_0000000000000000", {"name": "x"}),
        ("DELETE", "keys/key_0000000000000000", None),
        ("POST", "keys/key_0000000000000000/rotate", None),
    ):
        answer = await call(door, method, path, body)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"


async def test_disabling_revoking_and_expiry_refuse_the_key(door: Door) -> None:
    made = await door.mint_key()
    path = f"keys/{made['id']}"
    for status, expected in (("disabled", 401), ("active", 200)):
        assert (await call(door, "PATCH", path, {"status": status})).json()["status"] == status
        assert (await door.chat(key=made["key"])).status_code == expected
    for _ in range(2):  # revoking twice is no error
        answer = await call(door, "DELETE", path)
        assert (answer.json()["status"], answer.json()["deleted"]) == ("revoked", True)
    assert (await door.chat(key=made["key"])).status_code == 401
    assert (await call(door, "GET", path)).json()["status"] == "revoked"
    for again in ({"status": "active"}, {"name": "x"}):
        answer = await call(door, "PATCH", path, again)
        assert answer.status_code == 409 and answer.json()["error"]["code"] == "conflict"
    assert (await call(door, "POST", f"{path}/rotate")).status_code == 409
    short = await door.mint_key("short", expires_at=int(time.time()) + 3600)
    assert (await door.chat(key=short["key"])).status_code == 200
    await let_expire(door, short)

    async def refused() -> bool:
        return (await door.get("/api/v1/key", short["key"])).status_code == 401

    await until(refused)


async def test_a_refusal_says_what_became_of_a_key_to_who_has_its_secret(door: Door) -> None:
    async def why(key: str | None) -> str:
        answer = await door.client.get("/api/v1/key", headers=bearer(key) if key else {})
        assert answer.status_code == 401, answer.text
        error = answer.json()["error"]
        assert error["code"] == "invalid_api_key"
        return str(error["message"])

    assert "No API key was sent" in await why(None)
    made, short = await door.mint_key(), await door.mint_key(expires_at=int(time.time()) + 3600)
    wrong = [await why(key) for key in ("sk-1", "roxy_wrong", made["key"][:-1] + "-")]
    assert len(set(wrong)) == 1 and "Incorrect API key" in wrong[0]
    path = f"keys/{made['id']}"
    await call(door, "PATCH", path, {"status": "disabled"})
    for _ in range(PER_ADDRESS + 1):
        assert "is disabled" in await why(made["key"]), "it is no guess, and is not counted as one"
    browser = Browser(door)
    await browser.open("/login")
    assert "This key is disabled" in (await browser.submit("/login", key=made["key"])).text
    await call(door, "DELETE", path)
    assert "was revoked" in await why(made["key"])
    await let_expire(door, short)

    async def refused() -> bool:
        return (await door.get("/api/v1/key", short["key"])).status_code == 401

    await until(refused)
    assert "has expired" in await why(short["key"])


async def test_a_rotation_ends_the_old_secret_at_once_or_after_its_grace(door: Door) -> None:
    made = await door.mint_key()
    path = f"keys/{made['id']}/rotate"
    second = (await call(door, "POST", path)).json()
    assert second["id"] == made["id"] and second["previous_valid_until"] is None
    assert (await door.chat(key=made["key"])).status_code == 401
    third = (await call(door, "POST", path, {"grace_s": 3600})).json()
    assert third["previous_valid_until"] > time.time()
    for key in (second["key"], third["key"]):
        assert (await door.chat(key=key)).status_code == 200
    assert (await door.chat(key=made["key"])).status_code == 401
    fourth = (await call(door, "POST", path, {"grace_s": 1})).json()

    async def over() -> bool:
        return (await door.get("/api/v1/key", third["key"])).status_code == 401

    await until(over)
    assert time.time() >= fourth["previous_valid_until"]
    assert (await door.chat(key=fourth["key"])).status_code == 200


async def disable(door: Door, key: dict[str, Any]) -> None:
    await call(door, "PATCH", f"keys/{key['id']}", {"status": "disabled"})


async def revoke(door: Door, key: dict[str, Any]) -> None:
    await call(door, "DELETE", f"keys/{key['id']}")


async def rotate(door: Door, key: dict[str, Any]) -> None:
    await call(door, "POST", f"keys/{key['id']}/rotate")


async def let_expire(door: Door, key: dict[str, Any]) -> None:
    ahead_s, status = 1, 0
    while status != 200:  # 400 when this second has passed on the way: a slow machine
        body = {"expires_at": int(time.time()) + ahead_s}
        status = (await call(door, "PATCH", f"keys/{key['id']}", body)).status_code
        ahead_s *= 2


@pytest.mark.parametrize("end", [disable, revoke, rotate, let_expire])
@pytest.mark.gateway(max_concurrency=3)
async def test_the_running_requests_of_a_key_end_with_it_and_no_others(
    upstream: FakeUpstream, door: Door, end: Callable[[Door, dict[str, Any]], Awaitable[None]]
) -> None:
    hold = asyncio.Event()
    made = await door.mint_key()
    other = await door.mint("other")
    upstream.plan(held(hold), held(hold), silence())
    async with door.stream(key=other) as untouched, door.stream(key=made["key"]) as stream:
        text = stream.aiter_text()
        received = await anext(text)
        waiting = asyncio.create_task(door.chat(key=made["key"]))  # no content yet
        await upstream.request(2)
        queued = asyncio.create_task(door.chat(key=made["key"], stream=True))
        engine = door.gateway.services.engine
        await eventually(lambda: len(engine.jobs) >= 4)
        await end(door, made)
        async with asyncio.timeout(PATIENCE_S):
            received += "".join([part async for part in text])
            refused = [await waiting, await queued]
        last = parse_events(received)[-1]
        validate_error(last)
        assert last["error"]["code"] == "invalid_api_key" and "[DONE]" not in received
        for answer in refused:
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"
        for number in (1, 2):
            await soon(upstream.requests[number].left.wait())
        hold.set()
        assert (await untouched.aread()).endswith(b"data: [DONE]\n\n")


async def test_a_rotation_with_grace_and_other_changes_leave_running_streams_alone(
    upstream: FakeUpstream, door: Door
) -> None:
    hold = asyncio.Event()
    made = await door.mint_key()
    path = f"keys/{made['id']}"
    upstream.plan(held(hold))
    async with door.stream(key=made["key"]) as response:
        await call(door, "POST", f"{path}/rotate", {"grace_s": 60})
        await call(door, "PATCH", path, {"name": "new", "limits": {"requests_per_minute": 1}})
        hold.set()
        assert (await response.aread()).endswith(b"data: [DONE]\n\n")


async def answer_after(
    door: Door,
    made: dict[str, Any],
    change: Callable[[Door, dict[str, Any]], Awaitable[None]],
) -> bytes:
    """Send the head of a completion, change its key, send the body, and read the answer."""
    body = json.dumps(request_body()).encode()
    head = (
        "POST /api/v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Authorization: Bearer {made['key']}\r\nContent-Length: {len(body)}\r\n"
        "Expect: 100-continue\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(head.encode())
    async with asyncio.timeout(PATIENCE_S):
        assert b" 100 " in await reader.readuntil(b"\r\n\r\n")  # the key was good
        await change(door, made)
        writer.write(body)
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize("end", [disable, revoke, rotate])
async def test_a_key_that_ends_while_the_body_is_still_coming_is_refused(
    upstream: FakeUpstream, door: Door, end: Callable[[Door, dict[str, Any]], Awaitable[None]]
) -> None:
    answer = await answer_after(door, await door.mint_key(), end)
    assert answer.startswith(b"HTTP/1.1 401 ") and b"invalid_api_key" in answer
    assert upstream.requests == []


async def test_a_key_that_changes_while_the_body_is_still_coming_is_held_to_its_new_bounds(
    upstream: FakeUpstream, door: Door
) -> None:
    async def narrow(door: Door, made: dict[str, Any]) -> None:
        path = f"keys/{made['id']}"
        changed = await call(door, "PATCH", path, {"models": ["zai/glm-4.5"]})
        assert changed.status_code == 200, changed.text

    answer = await answer_after(door, await door.mint_key(), narrow)
    assert answer.startswith(b"HTTP/1.1 403 ") and b"model_not_allowed" in answer
    assert upstream.requests == []


async def test_a_key_that_ends_while_its_take_waits_reaches_no_upstream(
    door: Door, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await door.mint_key(limits={"requests_per_minute": 9, "concurrent_requests": 2})
    counters = door.gateway.services.counters
    take, waits, go_on = counters.take, asyncio.Event(), asyncio.Event()

    async def held(*args: Any, **more: Any) -> Any:
        waits.set()
        await go_on.wait()
        return await take(*args, **more)

    monkeypatch.setattr(counters, "take", held)
    asked = asyncio.create_task(door.chat(key=made["key"]))
    await soon(waits.wait())
    await door.client.delete(f"/api/v1/keys/{made['id']}", headers=bearer(OWNER))
    go_on.set()
    assert (await soon(asked)).status_code == 401
    assert upstream.requests == []
    key = await door.gateway.services.keys.get(made["id"])
    standing = await counters.standing(key.id, key.limits)
    assert standing.running == 0 and standing.requests is not None
    assert standing.requests.remaining == 9


async def test_streams_opened_with_an_old_secret_end_with_its_grace_and_those_of_the_new_go_on(
    upstream: FakeUpstream, door: Door
) -> None:
    hold = asyncio.Event()
    made = await door.mint_key()
    upstream.plan(held(hold))
    async with door.stream(key=made["key"]) as old:
        answer = await call(door, "POST", f"keys/{made['id']}/rotate", {"grace_s": 2})
        until = answer.json()["previous_valid_until"]
        async with door.stream(key=answer.json()["key"]) as new:
            async with asyncio.timeout(PATIENCE_S):
                events = parse_events((await old.aread()).decode())
            assert time.time() >= until
            validate_error(events[-1])
            assert events[-1]["error"]["code"] == "invalid_api_key"
            await soon(upstream.requests[0].left.wait())
            hold.set()
            assert (await new.aread()).endswith(b"data: [DONE]\n\n")


async def end_grace_soon(door: Door, key_id: str) -> int:
    """Have the grace of a key end within a second, as if another node had said so; give when."""
    ring = door.gateway.services.keys
    key = await ring.get(key_id)
    ends_at = int(time.time()) + 1
    sooner = structs.replace(key, previous_until=ends_at, version=key.version + 1)
    ring.take_over(StoreChanges(keys=[sooner]))
    return ends_at


async def test_who_reads_a_kept_answer_with_an_old_secret_is_ended_and_the_answer_goes_on(
    upstream: FakeUpstream, door: Door
) -> None:
    hold = asyncio.Event()
    made = await door.mint_key()
    answer = await call(door, "POST", f"keys/{made['id']}/rotate", {"grace_s": 3600})
    secret = answer.json()["key"]
    upstream.plan(held(hold))
    async with door.stream(key=secret, headers={"X-Roxy-Keep": "true"}) as kept:
        path = f"/api/v1/jobs/{kept.headers['x-request-id']}/stream"
        old, new = bearer(made["key"]), bearer(secret)
        async with (
            door.client.stream("GET", path, headers=old) as left_behind,
            door.client.stream("GET", path, headers=new) as reader,
        ):
            ends_at = await end_grace_soon(door, made["id"])
            text = (await soon(left_behind.aread())).decode()
            assert time.time() >= ends_at
            assert parse_events(text)[-1]["error"]["code"] == "invalid_api_key"
            hold.set()
            for one in (kept, reader):
                assert (await one.aread()).endswith(b"data: [DONE]\n\n")


async def test_streams_of_a_secret_that_a_second_rotation_ends_end_at_once(
    upstream: FakeUpstream, door: Door
) -> None:
    hold = asyncio.Event()
    first = await door.mint_key()
    path = f"keys/{first['id']}/rotate"
    upstream.plan(held(hold))
    async with door.stream(key=first["key"]) as oldest:
        second = (await call(door, "POST", path, {"grace_s": 60})).json()
        async with door.stream(key=second["key"]) as old:
            await call(door, "POST", path, {"grace_s": 60})
            async with asyncio.timeout(PATIENCE_S):
                events = parse_events((await oldest.aread()).decode())
            assert events[-1]["error"]["code"] == "invalid_api_key"
            hold.set()
            assert (await old.aread()).endswith(b"data: [DONE]\n\n")


async def test_an_allow_list_decides_what_is_listed_and_what_may_be_used(
    upstream: FakeUpstream, door: Door
) -> None:
    made = await door.mint_key(models=[MODEL])
    key = made["key"]
    assert (await door.chat(key=key)).status_code == 200
    answer = await door.chat(key=key, model=OTHER)
    assert answer.status_code == 403
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("model_not_allowed", "model")
    assert MODEL in error["message"]
    listed = (await door.get("/api/v1/models", key)).json()["data"]
    assert [model["id"] for model in listed] == [MODEL]
    assert (await door.get(f"/api/v1/models/{OTHER}", key)).status_code == 404
    assert (await call(door, "PATCH", f"keys/{made['id']}", {"models": None})).is_success
    assert (await door.get(f"/api/v1/models/{OTHER}", key)).status_code == 200
    assert len(upstream.requests) == 1


async def test_anybody_may_ask_about_the_key_in_hand(door: Door) -> None:
    made = await door.mint_key(
        limits={
            "requests_per_minute": 3,
            "concurrent_requests": 2,
            "budget_microusd": 900,
            "budget_period": "total",
        }
    )
    await door.chat(key=made["key"], max_tokens=10)
    mine = (await door.get("/api/v1/key", made["key"])).json()
    assert set(mine) == FIELDS - {"note"} | {"kind", "remaining"}
    assert (mine["id"], mine["kind"]) == (made["id"], "key")
    left = mine["remaining"]
    assert (left["requests"]["limit"], left["requests"]["remaining"]) == (3, 2)
    assert left["concurrent_requests"] == {"limit": 2, "running": 0}
    assert left["budget"]["spent_microusd"] == 11 * 1 + 7 * 2
    assert "tokens" not in left
    owner = (await door.get("/api/v1/key")).json()
    assert (owner["id"], owner["kind"], owner["remaining"]) == ("owner", "owner", None)
    nobody = await door.get("/api/v1/key", None)
    assert nobody.status_code == 401


async def test_the_export_follows_every_change(tmp_path: Path, door: Door) -> None:
    path = tmp_path / "data" / "api-keys.json"
    made = await door.mint_key("first")
    key_id = made["id"]

    async def follows(change: Callable[[Any], bool]) -> None:
        def shown() -> bool:
            key = exported_keys(path).get(key_id)
            return key is not None and change(key)

        await eventually(shown)

    await follows(lambda key: key.name == "first" and key.status == "active")
    await call(door, "PATCH", f"keys/{key_id}", {"name": "second"})
    await follows(lambda key: key.name == "second")
    await call(door, "POST", f"keys/{key_id}/rotate", {"grace_s": 60})
    await follows(lambda key: key.previous_digest is not None)
    await call(door, "DELETE", f"keys/{key_id}")
    await follows(lambda key: key.status == "revoked")
    content = path.read_text()
    assert not SECRET.search(content) and "sha256" in content
    assert json.loads(content)["version"] == 1
