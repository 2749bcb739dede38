"""The settings of a chat and those for all chats, typed as people type."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.async_api import Browser, expect
from support.browsing.browser import open_chat, say
from support.browsing.chat_page import answers
from support.browsing.chatting import chatting


async def test_settings_go_with_the_request(chromium: Browser, tmp_path: Path) -> None:
    settings = "\nmax_output_tokens = 2000\n"
    async with chatting(chromium, tmp_path, settings=settings) as (upstream, _, page):
        await open_chat(page)
        await page.get_by_role("button", name="Chat settings").click()
        dialog = page.get_by_role("dialog", name="Settings")
        for name, typed in (
            ("System prompt", "Be brief."),
            ("Temperature", "0.7"),
            ("Top P", "0,95"),
            ("Max. answer length", "1,024"),
            ("Instructions for all chats", "Answer in verse."),
        ):
            await dialog.get_by_role("textbox", name=name).press_sequentially(typed)
        length = dialog.get_by_role("textbox", name="Max. answer length")
        await expect(length).to_have_accessible_description(re.compile("up to 2,000 with Test One"))
        await length.press_sequentially("9")
        await length.press("Tab")
        await expect(dialog.get_by_role("alert")).to_have_text(
            "Enter a whole number from 1 to 2,000."
        )
        await length.press("ControlOrMeta+a")
        await length.press_sequentially("1,024")
        await expect(dialog.get_by_role("alert")).to_have_count(0)
        await page.get_by_text("Next request as JSON").click()
        code = page.locator(".raw-request code")
        await expect(code).to_contain_text('"temperature": 0.7')
        await dialog.get_by_role("textbox", name="Temperature").press_sequentially("77")
        await dialog.get_by_role("textbox", name="Temperature").press("Tab")
        await expect(dialog.get_by_role("alert")).to_have_text("Enter a number from 0 to 2.")
        await dialog.get_by_role("textbox", name="Temperature").press("ControlOrMeta+a")
        await dialog.get_by_role("textbox", name="Temperature").press_sequentially("0.05")
        await expect(dialog.get_by_role("alert")).to_have_count(0)
        await page.get_by_role("button", name="Done").click()
        await say(page, "Hi")
        asked = (await upstream.request()).json
        system = {"role": "system", "content": "Answer in verse.\n\nBe brief."}
        assert asked["messages"][0] == system
        assert (asked["temperature"], asked["top_p"], asked["max_tokens"]) == (0.05, 0.95, 1024)
        await expect(answers(page)).to_contain_text("11 in")
        await open_chat(page)
        await say(page, "Hi")
        asked = (await upstream.request(1)).json
        assert asked["messages"][0] == {"role": "system", "content": "Answer in verse."}
        assert "temperature" not in asked
