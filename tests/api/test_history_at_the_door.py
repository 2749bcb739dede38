"""The chat history from outside: who has one, what is checked, and what travels."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.described import described
from support.front_door import OWNER, Door, bearer, front_door
from support.schemas import validate_error
from support.visitors import Browser, guest

from workers.units import MIB

ASKED = {"id": "m_1", "role": "user", "text": "What is it?", "created": 1_700_000_000_000}
ANSWERED = {
    "id": "m_2",
    "role": "assistant",
    "parent": "m_1",
    "job": "job-2",
    "model": "test/one",
    "text": "It is this.",
    "created": 1_700_000_000_001,
    "state": "done",
}


async def call(
    door: Door, method: str, path: str, *, key: str = OWNER, **more: Any
) -> httpx.Response:
    return await door.client.request(method, f"/api/v1/history/{path}", headers=bearer(key), **more)


async def save(
    door: Door, *messages: dict[str, Any], key: str = OWNER, conversation: str = "c_1", **more: Any
) -> httpx.Response:
    body = {"messages": messages, **more}
    return await call(door, "POST", f"conversations/{conversation}", key=key, json=body)


def refusal(answer: httpx.Response) -> tuple[int, str | None, str | None]:
    validate_error(answer.json())
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


async def test_a_guest_has_no_history_on_the_server(door: Door) -> None:
    visitor = guest(door)
    for path in ("changes", "conversations/c_1", "settings", "search?q=x"):
        answer = await door.client.get(f"/api/v1/history/{path}", headers=visitor)
        assert refusal(answer)[:2] == (403, "history_unavailable")


@pytest.mark.gateway(settings="[history]\nenabled = false\n")
async def test_a_history_that_is_switched_off_takes_and_shows_nothing(door: Door) -> None:
    assert refusal(await save(door, ASKED))[:2] == (403, "history_off")
    assert refusal(await call(door, "GET", "changes"))[:2] == (403, "history_off")


async def test_a_browser_and_a_program_with_one_key_see_the_same(door: Door) -> None:
    secret, other = await door.mint("a"), await door.mint("b")
    assert (await save(door, ASKED, key=secret, set={"title": "t"})).status_code == 200
    browser = Browser(door)
    await browser.sign_in(secret)
    seen = (await browser.call("GET", "history/changes?since=0&open=c_1")).json()
    assert [one["title"] for one in seen["conversations"]] == ["t"]
    assert [one["text"] for one in seen["open"]["messages"]] == ["What is it?"]
    assert seen["quota_bytes"] == 256 * MIB > seen["used_bytes"] > 0
    # A page must send its token with a change, a program its key.
    refused = await browser.call("POST", "history/conversations/c_1", token="x", json={})
    assert refusal(refused)[:2] == (403, "xsrf_refused")
    assert (await call(door, "GET", "changes", key=other)).json()["conversations"] == []
    assert refusal(await call(door, "GET", "conversations/c_1", key=other))[:2] == (
        404,
        "conversation_not_found",
    )


async def test_a_key_that_has_ended_reads_nothing_any_more(door: Door) -> None:
    made = await door.mint_key()
    await save(door, ASKED, key=made["key"])
    await door.client.patch(
        f"/api/v1/keys/{made['id']}", json={"status": "disabled"}, headers=bearer(OWNER)
    )
    answer = await call(door, "GET", "conversations/c_1", key=made["key"])
    assert refusal(answer)[:2] == (401, "invalid_api_key")


NO_DATE = 8_640_000_000_000_001
"""One millisecond after the last time that a `Date` of JavaScript can be."""
DRAFTED = {"id": "f_1", "name": "", "type": "", "size": 1, "extra": {"n": -(2**70)}}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"colour": "red"}, "colour"),
    ({"set": {"title": 5}}, "set.title"),
    ({"set": {"title": "x" * 501}}, "set.title"),
    ({"set": {"parameters": {"seed": 2**70}}}, "set.parameters"),
    ({"draft": {"files": [DRAFTED]}}, "draft.files[0].extra"),
    ({"messages": [ASKED | {"base": 2**70}]}, "messages[0].base"),
    ({"set": {"extra": {"x": "y" * 70_000}}}, "set.extra"),
    ({"messages": [ASKED | {"id": "../x"}]}, "messages[0].id"),
    ({"messages": [ASKED | {"role": "system"}]}, "messages[0].role"),
    ({"messages": [ANSWERED | {"state": "lost"}]}, "messages[0].state"),
    ({"messages": [ASKED | {"files": [{"id": "f"}]}]}, "messages[0].files[0].name"),
    ({"messages": [ASKED | {"html": "<b>"}]}, "messages[0].html"),
    ({"remove": [7]}, "remove[0]"),
    ({"remove": [{"base": 1}]}, "remove[0].id"),
    ({"remove": [{"id": "m_1", "text": ""}]}, "remove[0].text"),
    ({"messages": [ASKED | {"parent": "m_1"}]}, "messages[0].parent"),
    ({"messages": [ANSWERED, ASKED | {"parent": "m_2"}]}, "messages[0].parent"),
    ({"messages": [ASKED | {"created": NO_DATE}]}, "messages[0].created"),
    ({"messages": [ANSWERED | {"created": NO_DATE}]}, "messages[0].created"),
    ({"set": {"created": NO_DATE}}, "set.created"),
    ({"set": {"updated": NO_DATE}}, "set.updated"),
    ({"set": {"deleted": NO_DATE}}, "set.deleted"),
]
HOSTILE = (
    b"",
    b"[]",
    b'{"set": {}',
    b'{"set": {}, "set": {}}',
    b'{"set": {"extra": ' + b'{"a":' * 70 + b"1" + b"}" * 70 + b"}}",
    b'{"set": {"extra": {"n": 1e999}}}',
    b'{"draft": {"text": "\xff"}}',
)


async def test_a_change_is_checked_as_a_whole(door: Door) -> None:
    for body, param in WRONG:
        answer = await call(door, "POST", "conversations/c_1", json=body)
        assert refusal(answer) == (400, None, param)
    for content in HOSTILE:
        answer = await call(door, "POST", "conversations/c_1", content=content)
        assert refusal(answer)[:2] == (400, None), content
    assert (await call(door, "GET", "changes")).json()["cursor"] == 0


async def test_half_a_character_and_nul_are_kept_as_far_as_they_can_be(door: Door) -> None:
    text = r'"cut \ud83d, zero \u0000, whole \ud83d\ude00"'
    made = json.dumps(ASKED | {"text": "TEXT"}).replace('"TEXT"', text)
    body = f'{{"messages": [{made}], "set": {{"title": {text}}}}}'.encode()
    saved = await call(door, "POST", "conversations/c_1", content=body)
    assert saved.status_code == 200, saved.text
    whole = (await call(door, "GET", "conversations/c_1")).json()
    assert whole["messages"][0]["text"] == "cut \ufffd, zero \0, whole \U0001f600"
    assert (await call(door, "GET", "search?q=zero")).json()["data"]


async def test_a_path_with_another_id_is_refused(door: Door) -> None:
    for path in ("conversations/a%2Fb", f"conversations/{'x' * 65}", "files/a.b", "files/%00"):
        assert (await call(door, "GET", path)).status_code in (400, 404)
    for since in ("x", "1.5", "99999999999999999999"):
        assert refusal(await call(door, "GET", f"changes?since={since}")) == (400, None, "since")
    assert refusal(await call(door, "GET", "changes?open=../x"))[2] == "open"
    assert refusal(await call(door, "PUT", "files/f_1", content=b"x"))[2] == "conversation"


async def test_a_file_comes_back_and_cannot_run(door: Door) -> None:
    async def put(name: str, kind: str, content: bytes) -> httpx.Response:
        query = {"conversation": "c_1", "name": f"{name}.x", "type": kind}
        answer = await call(door, "PUT", f"files/{name}", params=query, content=content)
        assert answer.status_code == 204, answer.text
        return await call(door, "GET", f"files/{name}")

    page = await put("page", "text/html", b"<script>alert(1)</script>")
    assert page.content == b"<script>alert(1)</script>"
    assert page.headers["content-type"] == "application/octet-stream"
    assert page.headers["content-disposition"] == "attachment"
    assert "sandbox" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    drawing = await put("drawing", "image/svg+xml", b"<svg/>")
    assert drawing.headers["content-disposition"] == "attachment"
    picture = await put("picture", "image/png", b"\x89PNG")
    assert picture.headers["content-type"] == "image/png"
    assert "content-disposition" not in picture.headers
    assert (await put("empty", "", b"")).content == b""
    largest = await put("largest", "x", b"x" * (10 * MIB))
    assert len(largest.content) == 10 * MIB
    query = {"conversation": "c_1"}
    named = [{"id": "empty", "name": "", "type": "", "size": 0}]
    await save(door, ASKED | {"files": named})
    taken = await call(door, "PUT", "files/empty", params={"conversation": "c_2"}, content=b"x")
    assert refusal(taken) == (400, None, "id")
    large = b"x" * (10 * MIB + 1)
    answer = await call(door, "PUT", "files/more", params=query, content=large)
    assert refusal(answer)[:2] == (413, "request_too_large")


@pytest.mark.gateway(settings="[history]\nquota_bytes = 1048576\n")
async def test_a_full_history_says_so_and_nothing_is_half_written(door: Door) -> None:
    assert (await save(door, ASKED)).status_code == 200
    long = ASKED | {"id": "m_3", "text": "x" * MIB}
    refused = await save(door, long, set={"title": "new"})
    assert refusal(refused)[:2] == (413, "history_full")
    query = {"conversation": "c_1"}
    refused = await call(door, "PUT", "files/f_1", params=query, content=b"x" * MIB)
    assert refusal(refused)[:2] == (413, "history_full")
    whole = (await call(door, "GET", "conversations/c_1")).json()
    assert whole["conversation"]["title"] == "" and len(whole["messages"]) == 1


async def test_what_is_deleted_is_not_in_the_files_of_the_database(door: Door) -> None:
    marker = "a-word-that-occurs-nowhere-else"
    for number in range(30):
        await save(door, ASKED | {"text": f"{marker} " * 300}, conversation=f"c_{number}")
    query = {"conversation": "c_1"}
    await call(door, "PUT", "files/f_1", params=query, content=marker.encode() * 3000)
    folder = door.gateway.services.directory.path

    def found() -> list[str]:
        return [file.name for file in folder.iterdir() if marker.encode() in file.read_bytes()]

    assert found()
    erased = await door.client.delete("/api/v1/history", headers=bearer(OWNER))
    assert erased.json() == {"erased": 30}
    assert found() == []


async def test_answers_of_the_history_are_as_described(door: Door) -> None:
    told = await described(door)
    change = {"messages": [ASKED, ANSWERED], "set": {"title": "t"}, "draft": {"text": "more"}}
    path = "/history/conversations/{id}"
    await told.call(door, "post", path, id="c_1", json=change)
    await told.call(door, "post", path, id="c_1", json={"messages": [ASKED | {"text": "other"}]})
    await told.call(door, "get", path, id="c_1")
    await told.call(door, "get", "/history/changes?since=0&open=c_1")
    await told.call(door, "get", "/history/search?q=this")
    await told.call(door, "put", "/history/settings", json={"value": {"a": 1}})
    await told.call(door, "put", "/history/settings", 409, json={"value": {}})
    stored = await told.call(door, "get", "/history/settings")
    assert stored == {"value": {"a": 1}, "version": 1}
    seen = {"remove": [{"id": "m_2", "base": 7}, "m_9"]}
    kept = await told.call(door, "post", path, id="c_1", json=seen)
    assert [one["id"] for one in kept["newer"]] == ["m_2"]
    await told.call(door, "delete", path + "?version=9", 409, id="c_1")
    await told.call(door, "delete", path + "?version=1", id="c_1")
    await told.call(door, "get", path, 404, id="c_1")
    await told.call(door, "post", path, 410, id="c_1", json=change)
    await told.call(door, "delete", "/history")


async def test_no_title_or_text_gets_into_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with front_door(tmp_path) as door:
        assert (await save(door, ASKED, set={"title": "a-secret"})).status_code == 200
        assert (await call(door, "GET", "search?q=a-secret")).json()["data"]
    written = capsys.readouterr()
    assert "200 GET /api/v1/history/search" in written.out
    assert "a-secret" not in written.out + written.err


async def test_an_export_holds_everything_but_the_trash(door: Door) -> None:
    file = {"id": "f_1", "name": "a.txt", "type": "text/plain", "size": 3, "kind": "text"}
    gone = {"id": "f_2", "name": "gone.txt", "type": "", "size": 3, "kind": "text"}
    query = {"conversation": "c_1", "name": "a.txt"}
    await call(door, "PUT", "files/f_1", params=query, content=b"abc")
    await save(door, ASKED | {"files": [file, gone]}, ANSWERED, set={"title": "t"})
    await save(door, ASKED, conversation="c_2")
    await save(door, ASKED, conversation="c_3", set={"deleted": 1})
    answer = await call(door, "GET", "export")
    assert answer.headers["content-disposition"].startswith("attachment")
    exported = answer.json()
    assert (exported["format"], exported["version"]) == ("roxy-conversations", 1)
    first, second = exported["conversations"]
    assert (first["id"], first["title"], second["id"]) == ("c_1", "t", "c_2")
    assert [one["text"] for one in first["messages"]] == ["What is it?", "It is this."]
    assert first["files"] == [file | {"data": "data:text/plain;base64,YWJj"}]
    assert (second["files"], "draft" in first, first["choices"]) == ([], False, {})
    empty = await call(door, "GET", "export", key=await door.mint())
    assert empty.json()["conversations"] == []


async def test_links_are_off_until_the_owner_allows_them(door: Door) -> None:
    await save(door, ASKED)
    refused = await call(door, "POST", "shares", json={"conversation": "c_1"})
    assert refusal(refused)[:2] == (403, "shares_off")
    assert (await call(door, "GET", "shares")).json() == {"data": []}


@pytest.mark.gateway(settings="[history]\nshares = true\n")
async def test_links_are_made_listed_and_deleted(door: Door) -> None:
    told = await described(door)
    await save(door, ASKED, ANSWERED, set={"title": "t"})
    made = await told.call(door, "post", "/history/shares", 201, json={"conversation": "c_1"})
    assert re.fullmatch(re.escape(door.url) + r"/s/[A-Za-z0-9_-]{32}", made["url"])
    assert (await told.call(door, "get", "/history/shares"))["data"] == [made]
    wrong = {"conversation": "c_1", "message": "m_9"}
    refused = await call(door, "POST", "shares", json=wrong)
    assert refusal(refused)[:2] == (404, "message_not_found")
    other = await door.mint()
    assert refusal(await call(door, "DELETE", f"shares/{made['id']}", key=other))[0] == 404
    assert (await call(door, "DELETE", f"shares/{made['id']}")).status_code == 204
    assert (await call(door, "GET", "shares")).json() == {"data": []}
