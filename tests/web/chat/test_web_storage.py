"""A browser that keeps nothing, or has no room, is still one to chat in."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Browser, expect
from support.browsing.browser import open_chat, say
from support.browsing.chat_page import (
    answers,
    begin_anew,
    box,
    entries,
    held,
    more,
    stop_button,
    talk,
    text_of_answer,
)
from support.browsing.chatting import TOUCH, chatting
from support.browsing.page_waiting import UNDO_MS, hold_timers
from support.fakes.upstream import USAGE, stream_of

NO_DATABASE = """IDBFactory.prototype.open = () => {
  throw new DOMException("no", "SecurityError");
};"""
NO_ROOM = """IDBObjectStore.prototype.put = function () {
  throw new DOMException("full", "QuotaExceededError");
};"""


async def test_a_browser_without_storage_can_chat(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (_, _, page):
        await page.add_init_script(NO_DATABASE)
        await open_chat(page)
        await expect(page.get_by_role("alert")).to_contain_text("does not store data for this page")
        await talk(page, "one", "two")
        await begin_anew(page)
        await talk(page, "three")
        await entries(page).get_by_role("link", name="one").click()
        await expect(answers(page)).to_have_count(2)


async def test_a_full_browser_says_so_and_goes_on(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (_, _, page):
        await page.add_init_script(NO_ROOM)
        await open_chat(page)
        await say(page, "one")
        await expect(text_of_answer(page)).to_have_text(["Hello"])
        alert = page.get_by_role("alert").filter(has_text="storage of this browser is full")
        await expect(alert.get_by_role("button", name="Export chats")).to_be_visible()


async def test_a_queued_message_can_be_sent_after_a_stop(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        answer, _ = held("Begun")
        upstream.plan(answer, stream_of(["Two."], usage=USAGE))
        await open_chat(page)
        await say(page, "first")
        await expect(text_of_answer(page)).to_have_text(["Begun"])
        await say(page, "second")
        await stop_button(page).click()
        await expect(answers(page)).to_contain_text("Stopped.")
        await page.reload()
        await page.get_by_role("button", name="Send queued message").click()
        await expect(text_of_answer(page).nth(1)).to_have_text("Two.")
        await expect(page.get_by_role("list", name="Queued")).to_be_hidden()


async def test_undo_is_at_hand_on_a_phone(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path, **TOUCH) as (
        _,
        _,
        page,
    ):
        await open_chat(page)
        await box(page).fill("about apples")
        await page.get_by_role("button", name="Send", exact=True).tap()
        await expect(answers(page)).to_contain_text("11 in")
        await page.get_by_role("button", name="Chats", exact=True).tap()
        await hold_timers(page, UNDO_MS)
        await more(page, "about apples", "Delete")
        await page.get_by_role("button", name="Undo").tap()
        await expect(entries(page)).to_have_count(1)
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="Undo")).to_be_hidden()
        await expect(box(page)).to_be_visible()
