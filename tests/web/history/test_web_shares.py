"""Read-only links are offered where the owner allows them, and end when they are revoked."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Browser, expect
from support.browsing.axe import violations
from support.browsing.chat_page import answers, more, numbered, talk
from support.browsing.devices import one_device

SHARES = "\n[history]\nshares = true\n"


async def test_a_link_is_made_copied_and_revoked(chromium: Browser, tmp_path: Path) -> None:
    opened = one_device(chromium, tmp_path, settings=SHARES)
    async with opened as (upstream, door, page, key):
        upstream.plan(*numbered())
        await talk(page, "about apples")
        await more(page, "about apples", "Share link")
        dialog = page.get_by_role("dialog", name="Share a link")
        await dialog.get_by_role("button", name="Create link").click()
        url = await dialog.get_by_role("textbox", name="Link").input_value()
        assert url.startswith(f"{door.url}/s/")
        links = dialog.get_by_role("list", name="Links").get_by_role("listitem")
        await expect(links).to_have_count(1)
        (made,) = (await door.get("/api/v1/history/shares", key)).json()["data"]
        assert made["url"] == url
        await links.get_by_role("button", name="Revoke").click()
        await expect(links).to_have_count(0)
        await expect(dialog.get_by_text("No links yet.")).to_be_visible()
        await expect(dialog.get_by_role("textbox", name="Link")).to_have_count(0)
        assert (await door.get("/api/v1/history/shares", key)).json()["data"] == []
        await page.keyboard.press("Escape")
        await answers(page).get_by_role("button", name="More").click()
        await page.get_by_role("menuitem", name="Share link").click()
        await expect(dialog).to_contain_text("this answer with its question")
        await dialog.get_by_role("button", name="Create link").click()
        await expect(links).to_contain_text("One answer")
        assert await violations(page) == []
