"""The list of conversations changes the one record of each, whatever else is under way with it."""

from __future__ import annotations

import re
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
    numbered,
    talk,
    text_of_answer,
)
from support.browsing.chatting import chatting
from support.browsing.page_waiting import UNDO_MS, hold_timers


async def test_a_new_title_is_everywhere_and_stays(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        upstream.plan(*numbered())
        await open_chat(page)
        await talk(page, "about apples")
        await page.reload()
        await more(page, "about apples", "Rename")
        await page.get_by_role("textbox", name="New title").fill("Fruit")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Fruit")).to_be_visible()
        await expect(page).to_have_title(re.compile("^Fruit "))
        await talk(page, "more")
        await expect(entries(page)).to_have_text(["Fruit"])
        await page.reload()
        await expect(entries(page)).to_have_text(["Fruit"])


async def test_pinning_keeps_the_version_and_the_draft(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        upstream.plan(*numbered())
        await open_chat(page)
        await talk(page, "about apples")
        await answers(page).first.get_by_role("button", name="Regenerate").click()
        await expect(answers(page)).to_contain_text("2 / 2")
        await begin_anew(page)
        await page.reload()
        await entries(page).get_by_role("link", name="about apples").click()
        await page.get_by_role("button", name="Previous version").click()
        await box(page).fill("draft words")
        await begin_anew(page)  # keeps the draft at once
        await entries(page).get_by_role("link", name="about apples").click()
        await more(page, "about apples", "Pin")
        await page.get_by_role("heading", name="Pinned").wait_for()
        await page.reload()
        await expect(text_of_answer(page)).to_have_text(["Answer 1."])
        await expect(box(page)).to_have_value("draft words")


async def test_deleting_stops_the_answer_and_undo_brings_the_rest_back(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        answer, _ = held("Begun ")
        upstream.plan(answer, *numbered())
        await open_chat(page)
        await say(page, "about apples")
        await expect(text_of_answer(page)).to_contain_text("Begun")
        await hold_timers(page, UNDO_MS)
        await more(page, "about apples", "Delete")
        await (await upstream.request()).left.wait()
        await expect(entries(page)).to_have_count(0)
        await page.get_by_role("button", name="Undo").click()
        await entries(page).get_by_role("link", name="about apples").click()
        await expect(answers(page)).to_contain_text("Stopped.")
        await expect(text_of_answer(page)).to_have_text(["Begun"])
        await talk(page, "again")
        await page.reload()
        await expect(entries(page)).to_have_text(["about apples"])
        await expect(answers(page)).to_have_count(2)
