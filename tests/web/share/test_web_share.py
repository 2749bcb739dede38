"""A read-only link: anyone who has it reads one conversation, without sign-in, until it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, expect
from support.browsing.axe import violations
from support.browsing.browser import PHONE, WIDE, visiting
from support.front_door import OWNER, Door, bearer, front_door
from support.inputs.pictures import PNG

SHARES = "[history]\nshares = true\n"
linked = pytest.mark.gateway(settings=SHARES)
TEXT = "Some **bold** words.\n\n```python\nprint(1)\n```\n\n<script>alert(1)</script> [x](no:y)"


async def call(door: Door, method: str, path: str, *, key: str = OWNER, **more: Any) -> Any:
    address = f"/api/v1/history/{path}"
    return await door.client.request(method, address, headers=bearer(key), **more)


async def make_link(door: Door, key: str = OWNER) -> dict[str, str]:
    """Save a conversation with a picture and share it."""
    query = {"conversation": "c_1", "name": "cat.png", "type": "image/png"}
    await call(door, "PUT", "files/f_1", key=key, params=query, content=PNG)
    picture = {"id": "f_1", "name": "cat.png", "type": "image/png", "size": 68, "kind": "image"}
    paper = {"id": "f_2", "name": "paper.pdf", "type": "application/pdf", "size": 2_000_000,
             "kind": "other", "extra": {"source": True}}  # fmt: skip
    read = {"id": "f_3", "name": "paper.pdf", "type": "text/plain", "size": 9000, "kind": "text"}
    messages = [
        {"id": "m_1", "role": "user", "text": "What?", "created": 1}
        | {"files": [picture, paper, read]},
        {"id": "m_2", "role": "assistant", "parent": "m_1", "text": TEXT, "created": 2,
         "state": "done", "model": "zai/glm-4.5", "reasoning": "a secret thought"},
    ]  # fmt: skip
    change = {"messages": messages, "set": {"title": "Cats & dogs", "system": "a secret rule"}}
    saved = await call(door, "POST", "conversations/c_1", key=key, json=change)
    assert saved.status_code == 200, saved.text
    made = await call(door, "POST", "shares", key=key, json={"conversation": "c_1"})
    assert made.status_code == 201, made.text
    link: dict[str, str] = made.json()
    return link


@linked
async def test_a_link_is_read_without_signing_in(chromium: Browser, demo_door: Door) -> None:
    link = await make_link(demo_door)
    for size, scheme in ((WIDE, "light"), (PHONE, "dark")):
        narrow: dict[str, Any] = {"is_mobile": True, "has_touch": True} if size is PHONE else {}
        async with visiting(
            chromium, demo_door, viewport=size, color_scheme=scheme, **narrow
        ) as page:
            await page.goto(link["url"])
            await expect(page.get_by_role("heading", name="Cats & dogs")).to_be_visible()
            question = page.get_by_role("article", name="Question")
            await expect(question).to_contain_text("What?")
            await expect(question.get_by_text("paper.pdf")).to_have_count(1)
            picture = question.get_by_role("img", name="cat.png")
            assert await picture.evaluate("(node) => node.decode().then(() => node.naturalWidth)")
            answer = page.get_by_role("article", name="Answer")
            await expect(answer.get_by_role("heading", name="GLM 4.5")).to_be_visible()
            await expect(answer.locator("strong")).to_have_text("bold")
            await expect(answer.get_by_role("button", name="Copy code")).to_be_visible()
            await expect(answer).to_contain_text("<script>alert(1)</script>")
            assert await page.get_by_role("textbox").count() == 0
            width = await page.evaluate("() => document.documentElement.scrollWidth")
            assert width <= size["width"]
            assert await violations(page) == []
            assert await page.context.cookies() == []


@linked
async def test_a_link_is_not_indexed_and_shows_no_more_than_it_should(demo_door: Door) -> None:
    link = await make_link(demo_door)
    answer = await demo_door.client.get(link["url"])
    assert answer.status_code == 200
    assert "noindex" in answer.headers["x-robots-tag"]
    assert '<meta name="robots" content="noindex' in answer.text
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert "a secret" not in answer.text and "set-cookie" not in answer.headers
    for path in ("/files/f_2", "/files/f_9", "x", "/files/../../keys"):
        assert (await demo_door.client.get(f"{link['url']}{path}")).status_code == 404


async def test_a_link_ends_when_it_is_deleted_and_is_never_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with front_door(tmp_path, settings=SHARES) as door:
        link = await make_link(door)
        picture = f"{link['url']}/files/f_1"
        assert (await door.client.get(picture)).content == PNG
        assert (await call(door, "DELETE", f"shares/{link['id']}")).status_code == 204
        for url in (link["url"], picture):
            gone = await door.client.get(url, headers={"Accept": "text/html"})
            assert gone.status_code == 404 and "noindex" in gone.headers["x-robots-tag"]
            assert "turned off" in gone.text
    assert "/s/" in (written := capsys.readouterr().out)
    assert link["url"].rpartition("/")[2] not in written


@linked
async def test_links_of_a_key_that_has_ended_are_not_shown(demo_door: Door) -> None:
    made = await demo_door.mint_key()
    link = await make_link(demo_door, made["key"])
    key = f"/api/v1/keys/{made['id']}"
    for status, expected in (("disabled", 404), ("active", 200)):
        await demo_door.client.patch(key, json={"status": status}, headers=bearer(OWNER))
        assert (await demo_door.client.get(link["url"])).status_code == expected
    await demo_door.client.delete(key, headers=bearer(OWNER))
    assert (await demo_door.client.get(link["url"])).status_code == 404
