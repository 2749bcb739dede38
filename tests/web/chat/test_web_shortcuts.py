"""Keys and dropped files on the chat page: what they reach, and what they leave alone."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Browser, Page, expect
from support.browsing.browser import LISTENING, open_chat, say
from support.browsing.chat_page import answers, box, held, stop_button, text_of_answer
from support.browsing.chatting import chatting
from support.waiting import soon

DROP = """([name, selector]) => {
  const data = new DataTransfer();
  data.items.add(new File(["words"], name, { type: "text/plain" }));
  const target = document.querySelector(selector);
  const send = (kind) => target.dispatchEvent(
    new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
  return [send("dragover"), send("drop")];
}"""
CTRL, SHIFT = 2, 8


async def press(page: Page, key: str, code: str, modifiers: int) -> None:
    """Press a key of a keyboard that has `key` at the place `code`."""
    session = await page.context.new_cdp_session(page)
    place = {"key": key, "code": code, "modifiers": modifiers}
    for kind in ("rawKeyDown", "keyUp"):
        await session.send("Input.dispatchKeyEvent", {"type": kind, **place})


async def test_escape_closes_what_is_open_and_stops_only_from_the_box(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        answer, _ = held("Begun")
        upstream.plan(answer)
        await open_chat(page)
        await say(page, "apples")
        await expect(text_of_answer(page)).to_have_text(["Begun"])
        more = page.get_by_role("button", name="More for apples")
        await more.click()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("menu")).to_be_hidden()
        await more.click()
        await page.get_by_role("menuitem", name="Rename").click()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("textbox", name="New title")).to_have_count(0)
        await page.get_by_role("searchbox").press_sequentially("app")
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Model: ").click()
        await page.get_by_role("dialog").get_by_role("combobox").press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await page.get_by_role("button", name="Chat settings").click()
        await page.get_by_role("textbox", name="Temperature").press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await expect(stop_button(page)).to_be_visible()
        assert not upstream.requests[0].left.is_set()
        await box(page).press("Escape")
        await expect(answers(page)).to_contain_text("Stopped")
        await soon(upstream.requests[0].left.wait())


async def test_shortcuts_go_by_the_place_of_the_key_and_files_may_be_dropped_anywhere(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path) as (_, _, page):
        await open_chat(page)
        await page.locator(LISTENING).wait_for(state="attached")
        dialog = page.get_by_role("dialog")
        for key, code, modifiers, opened in (
            ("/", "Digit7", CTRL | SHIFT, "Keyboard shortcuts"),  # German
            (";", "Comma", CTRL | SHIFT, "Settings"),  # German
            ("Б", "Comma", CTRL | SHIFT, "Settings"),  # Russian
            (".", "Slash", CTRL, "Keyboard shortcuts"),  # Russian
            ("\u039c", "KeyM", CTRL | SHIFT, "Choose a model"),  # Greek
        ):
            await press(page, key, code, modifiers)
            await expect(dialog).to_have_accessible_name(opened)
            await page.keyboard.press("Escape")
            await expect(dialog).to_have_count(0)
        await press(page, "л", "KeyK", CTRL)
        await expect(page.get_by_role("searchbox")).to_be_focused()
        assert await page.evaluate(DROP, ["one.txt", "#sidebar"]) == [False, False]
        assert await page.evaluate(DROP, ["two.txt", "header"]) == [False, False]
        for name in ("one.txt", "two.txt"):
            await expect(page.get_by_role("button", name=f"Remove {name}")).to_be_visible()
        await press(page, "/", "Digit7", CTRL | SHIFT)
        await expect(dialog).to_be_visible()
        assert await page.evaluate(DROP, ["three.txt", "dialog"]) == [False, False]
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="Remove three.txt")).to_have_count(0)
