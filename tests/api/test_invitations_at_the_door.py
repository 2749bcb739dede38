"""Invitations through the API: the rules are those of the owner's pages."""

from __future__ import annotations

import re
import time
from typing import Any

import httpx
import pytest
from support.front_door import OWNER, Door, bearer
from support.schemas import validate_error
from support.visitors import Browser

SECRET = re.compile(r"roxy_[0-9A-Za-z]{38}")
PATH = "/api/v1/invitations"
DAY = 86_400


async def ask(door: Door, method: str, path: str, body: Any = None) -> httpx.Response:
    """Send a request of the owner."""
    return await door.client.request(method, path, json=body, headers=bearer(OWNER))


async def invite(door: Door, key_id: str, **more: Any) -> dict[str, Any]:
    """Make an invitation and return it."""
    answer = await ask(door, "POST", PATH, {"key_id": key_id} | more)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """Return the error of an answer, which has OpenAI's shape."""
    validate_error(answer.json())
    error: dict[str, Any] = answer.json()["error"]
    return error


async def status(door: Door, made: dict[str, Any]) -> str:
    """Return how an invitation stands."""
    answer = await ask(door, "GET", f"{PATH}/{made['id']}")
    assert answer.status_code == 200
    return str(answer.json()["status"])


async def test_a_link_signs_in_once_and_leaves_the_secret_unless_it_gives_one(door: Door) -> None:
    key = await door.mint_key("Ada")
    made = await invite(door, key["id"], expires_in_s=3600)
    assert made["url"].startswith(f"{door.url}/invite/")
    assert (made["status"], made["key_name"], made["gives_key"]) == ("open", "Ada", False)
    assert made["expires_at"] - made["created_at"] == 3600
    listed = (await ask(door, "GET", PATH)).json()
    assert listed["data"] == [{name: made[name] for name in made if name != "url"}]
    person, path = Browser(door), made["url"].removeprefix(door.url)
    await person.open(path)
    assert (await person.submit(path)).headers["location"] == "/"
    assert await status(door, made) == "used"
    assert (await door.chat(key=key["key"])).status_code == 200

    giving = await invite(door, key["id"], gives_key=True)
    assert giving["expires_at"] - giving["created_at"] == 7 * DAY
    path = giving["url"].removeprefix(door.url)
    await person.open(path)
    secret = SECRET.findall((await person.submit(path)).text)[0]
    assert (await door.chat(key=secret)).status_code == 200
    assert (await door.chat(key=key["key"])).status_code == 401, "the old secret has ended"
    newest = (await ask(door, "GET", PATH)).json()["data"]
    assert {one["id"]: one["status"] for one in newest} == {
        giving["id"]: "used",
        made["id"]: "used",
    }


async def test_a_mail_scanner_does_not_use_a_link_up(door: Door) -> None:
    """It opens links, asks for their heads, and may post without the page's token."""
    made = await invite(door, (await door.mint_key("Ada"))["id"], gives_key=True)
    for method in ("HEAD", "GET", "GET", "OPTIONS"):
        await door.client.request(method, made["url"])
    assert (await door.client.post(made["url"], data={"go": "on"})).status_code in (401, 403)
    assert await status(door, made) == "open"
    person, path = Browser(door), made["url"].removeprefix(door.url)
    await person.open(path)
    assert (await person.submit(path)).status_code == 200


async def test_a_revoked_one_stays_revoked_and_a_used_one_used(door: Door) -> None:
    key = await door.mint_key("Ada")
    made, used = await invite(door, key["id"]), await invite(door, key["id"])
    path = used["url"].removeprefix(door.url)
    person = Browser(door)
    await person.open(path)
    await person.submit(path)
    for _ in range(2):
        answer = await ask(door, "DELETE", f"{PATH}/{made['id']}")
        assert (answer.status_code, answer.json()["status"]) == (200, "revoked")
        assert answer.json()["ended_at"] is not None
    assert (await door.client.get(made["url"])).status_code == 404
    assert (await ask(door, "DELETE", f"{PATH}/{used['id']}")).json()["status"] == "used"


async def test_a_link_of_a_key_that_cannot_be_used_is_blocked(door: Door) -> None:
    key = await door.mint_key("Ada")
    made = await invite(door, key["id"])
    await ask(door, "PATCH", f"/api/v1/keys/{key['id']}", {"status": "disabled"})
    assert await status(door, made) == "blocked"
    refused = await ask(door, "POST", PATH, {"key_id": key["id"]})
    assert refused.status_code == 409 and "Enable the key first" in error_of(refused)["message"]
    assert (await door.client.get(made["url"])).status_code == 404
    await ask(door, "PATCH", f"/api/v1/keys/{key['id']}", {"status": "active"})
    assert await status(door, made) == "open"
    await ask(door, "DELETE", f"/api/v1/keys/{key['id']}")
    assert await status(door, made) == "blocked"
    refused = await ask(door, "POST", PATH, {"key_id": key["id"]})
    assert (refused.status_code, error_of(refused)["code"]) == (409, "conflict")


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "key_id"),
        ({"key_id": "key_none"}, 404, None),
        ({"key_id": "a\0b"}, 404, None),
        ({"key_id": 7}, 400, "key_id"),
        ({"key_id": "k", "expires_in_s": 59}, 400, "expires_in_s"),
        ({"key_id": "k", "expires_in_s": 90 * DAY + 1}, 400, "expires_in_s"),
        ({"key_id": "k", "gives_key": "yes"}, 400, "gives_key"),
        ({"key_id": "k", "url": "x"}, 400, "url"),
    ],
)
async def test_a_wrong_body_is_refused_by_name(
    door: Door, body: Any, status: int, param: str | None
) -> None:
    answer = await ask(door, "POST", PATH, body)
    assert (answer.status_code, error_of(answer)["param"]) == (status, param)


async def test_what_expires_is_expired_and_unknown_ids_are_404(door: Door) -> None:
    key = await door.mint_key("Ada")
    (old,) = await door.gateway.services.invitations.invite([key["id"]], lasts_s=-1, gives_key=True)
    answer = await ask(door, "DELETE", f"{PATH}/{old.invitation.id}")
    assert (answer.json()["status"], answer.json()["ended_at"]) == ("expired", None)
    assert answer.json()["expires_at"] <= time.time()
    for method in ("GET", "DELETE"):
        assert (await ask(door, method, f"{PATH}/inv_none")).status_code == 404
