"""The address of one's own conversation without a session, and chats left on a server."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.async_api import Browser, expect
from support.browsing.axe import violations
from support.browsing.browser import open_chat, visiting
from support.browsing.chat_page import entries
from support.browsing.chatting import GUESTS, chatting
from support.browsing.signing_in import sign_in
from support.front_door import Door, bearer, front_door

OFF = "\n[history]\nenabled = false\n"
QUESTION = {"id": "m_1", "role": "user", "text": "What is it?", "created": 1_700_000_000_000}


async def keep(door: Door, key: str, conversation: str) -> None:
    saved = await door.client.post(
        f"/api/v1/history/conversations/{conversation}",
        json={"set": {"title": "Mine"}, "messages": [QUESTION]},
        headers=bearer(key),
    )
    assert saved.status_code == 200


async def test_the_address_of_a_chat_leads_there_over_the_sign_in(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path) as (_, door, page):
        key = await door.mint("Ada")
        await keep(door, key, "c_mine")
        await open_chat(page, "/c/c_mine")
        banner = page.get_by_role("banner").get_by_role("link", name="Sign in")
        await expect(banner).to_have_attribute("href", "/login?next=/c/c_mine")
        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text("If it is yours, sign in to open it.")
        await alert.get_by_role("button", name="Sign in").click()
        await page.get_by_label("Key").fill(key)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("article", name="You")).to_contain_text("What is it?")
        assert page.url.endswith("/c/c_mine")


async def test_chats_from_before_the_history_was_switched_off_stay_in_the_hands_of_their_owner(
    chromium: Browser, tmp_path: Path
) -> None:
    async with front_door(tmp_path, demo=True, settings=GUESTS) as door:
        key = await door.mint("Ada")
        await keep(door, key, "c_mine")
    async with (
        front_door(tmp_path, demo=True, settings=GUESTS + OFF) as door,
        visiting(chromium, door) as page,
    ):
        await sign_in(page, key)
        side = page.get_by_role("complementary")
        await expect(side).to_contain_text("Chats from before are still stored on the server.")
        assert await violations(page) == []
        async with page.expect_download() as download:
            await side.get_by_role("link", name="Download").click()
        assert "What is it?" in (await (await download.value).path()).read_text()
        await side.get_by_role("button", name="Delete…").click()
        question = page.get_by_role("dialog")
        await expect(question).to_contain_text(re.compile("deletes 1 chat"))
        await question.get_by_role("button", name="Delete all").click()
        await expect(side).to_contain_text("Deleted from the server.")
        await page.reload()
        await expect(side).to_contain_text("Chat history is switched off on this server")
        await expect(entries(page)).to_have_count(0)
        await expect(side).not_to_contain_text("from before")
