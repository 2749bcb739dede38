"""What a page shows when it is offline, and when the list lies over it on a phone."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.async_api import Browser, expect
from support.browsing.browser import open_chat, say
from support.browsing.chat_page import answers, box, numbered, send_button, text_of_answer
from support.browsing.chatting import TOUCH, chatting
from support.browsing.page_waiting import becomes


async def test_being_offline_is_said_and_taken_back(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path, expected=("ERR_",)) as (upstream, _, page):
        upstream.plan(*numbered())
        await open_chat(page)
        await say(page, "one")
        await expect(answers(page)).to_contain_text("11 in")
        await page.context.set_offline(True)
        note = page.get_by_role("note").filter(has_text="offline")
        await say(page, "two")
        await expect(note).to_be_visible()
        await expect(box(page)).to_have_value("two")
        await expect(page.get_by_role("article", name="You")).to_have_count(1)
        await expect(page.get_by_role("alert")).to_have_count(0)  # the note says it
        await page.context.set_offline(False)
        await expect(note).to_have_count(0)
        await expect(page.get_by_role("alert")).to_have_count(0)
        await send_button(page).click()
        await expect(text_of_answer(page)).to_have_text(["Answer 1.", "Answer 2."])


async def test_back_closes_the_list_of_conversations(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path, **TOUCH) as (upstream, door, page):
        upstream.plan(*numbered())
        await open_chat(page)
        side = page.get_by_role("complementary", name="Chats")
        switch = page.get_by_role("button", name="Chats", exact=True)
        search = page.get_by_role("searchbox")
        dialog = page.get_by_role("dialog")
        for name in ("Model: Test One", "Chat settings"):
            for by_back in (False, True):
                if name == "Chat settings":
                    await page.get_by_role("button", name="Menu").tap()
                await page.get_by_role("button", name=name).tap()
                await expect(dialog).to_be_visible()
                if by_back:
                    await page.go_back()
                else:
                    await dialog.get_by_role("button", name="Close").tap()
                await expect(dialog).to_have_count(0)
                await becomes(page, "() => !history.state?.dialogs")
                assert page.url == f"{door.url}/"
        for text in ("about apples", "about pears"):
            await box(page).fill(text)
            await send_button(page).click()
            await expect(answers(page)).to_contain_text("11 in")
            await expect(switch).to_have_attribute("aria-expanded", "false")
            await switch.click()
            await expect(switch).to_have_attribute("aria-expanded", "true")
            await expect(search).to_be_in_viewport()
            if text == "about apples":
                await side.get_by_role("button", name="Manage chats").click()
                await page.get_by_role("menuitem", name="Delete all").click()
                await expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
                await page.go_back()
                await expect(dialog).to_have_count(0)
                await expect(switch).to_have_attribute("aria-expanded", "true")
                await side.get_by_role("link", name="New chat").click()
                await expect(answers(page)).to_have_count(0)
        address = page.url
        await page.go_back()
        await expect(search).not_to_be_in_viewport()
        assert page.url == address
        await expect(text_of_answer(page)).to_have_text(["Answer 2."])
        await switch.click()
        await page.get_by_role("link", name="about apples").click()
        await expect(text_of_answer(page)).to_have_text(["Answer 1."])
        await expect(search).not_to_be_in_viewport()
        await page.go_back()
        await expect(page).to_have_url(address)
        await expect(text_of_answer(page)).to_have_text(["Answer 2."])
        await page.go_back()
        await expect(page).to_have_url(re.compile(f"{door.url}/(c/.*)?$"))
