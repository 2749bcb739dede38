"""Messages that wait for the end of an answer are sent once, and never lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import Browser, Locator, Page, Route, expect
from support.browsing.browser import open_chat, say, tab
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
from support.browsing.page_waiting import becomes, stores
from support.fakes.upstream import Answer, Pause


def waiting(page: Page) -> Locator:
    return page.get_by_role("list", name="Queued").get_by_role("listitem")


async def test_with_two_tabs_a_waiting_message_is_sent_once(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path) as (upstream, door, page):
        answer, end = held("Begun ", then=("and ended.",))
        upstream.plan(answer, *numbered())
        await open_chat(page)
        await say(page, "first")
        await expect(text_of_answer(page)).to_contain_text("Begun")
        async with tab(page.context, door) as other:
            await open_chat(other, page.url)
            await expect(text_of_answer(other)).to_contain_text("Begun")
            await say(page, "second")
            await expect(waiting(other)).to_contain_text(["second"])
            await say(other, "third")
            await expect(waiting(page)).to_contain_text(["second", "third"])
            end.set()
            for one in (page, other):
                texts = ["Begun and ended.", "Answer 1.", "Answer 2."]
                await expect(text_of_answer(one)).to_have_text(texts)
                await expect(waiting(one)).to_have_count(0)
        said = [(request.json["messages"][-1]["content"]) for request in upstream.requests]
        assert said == ["first", "second", "third"]


REFUSED = b"HTTP/1.1 400 Scripted\r\nContent-Length: 2\r\n\r\n{}"
IS_QUEUED = """async () => {
  const asked = indexedDB.open("roxy");
  const db = await new Promise((done) => (asked.onsuccess = () => done(asked.result)));
  const reading = db.transaction("settings").objectStore("settings").getAll();
  await new Promise((done) => (reading.onsuccess = done));
  db.close();
  return reading.result.some(({ messages }) => messages?.length);
}"""


@pytest.mark.parametrize("opened", ["before", "afterwards"])
async def test_a_waiting_message_that_is_refused_waits_on(
    chromium: Browser, tmp_path: Path, opened: str
) -> None:
    async with chatting(chromium, tmp_path, expected=("400",)) as (upstream, _, page):
        answer, end = held("Begun ", then=("and ended.",))
        refuse = asyncio.Event()
        upstream.plan(answer, Answer(raw=True, pieces=[Pause(refuse), REFUSED]), *numbered())
        await open_chat(page)
        await say(page, "first")
        await expect(text_of_answer(page)).to_contain_text("Begun")
        await say(page, "precious words")
        await begin_anew(page)
        end.set()
        await upstream.request(1)
        first = entries(page).get_by_role("link", name="first")
        if opened == "before":
            await first.click()
            await expect(answers(page)).to_have_count(2)
            refuse.set()
            await expect(box(page)).to_have_value("precious words")
            return
        refuse.set()
        await becomes(page, IS_QUEUED)
        await first.click()
        await expect(waiting(page)).to_contain_text(["precious words"])
        await page.reload()
        await page.get_by_role("button", name="Send queued message").click()
        await expect(text_of_answer(page)).to_have_text(["Begun and ended.", "Answer 1."])


async def test_a_second_message_right_after_the_first_waits(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        upstream.plan(*numbered())
        await open_chat(page)
        await page.evaluate(
            """() => {
              const box = document.getElementById("message");
              for (const words of ["one", "two"]) {
                box.value = words;
                box.dispatchEvent(new Event("input"));
                box.form.requestSubmit();
              }
            }"""
        )
        await expect(text_of_answer(page)).to_have_text(["Answer 1.", "Answer 2."])
        await expect(answers(page)).not_to_contain_text(["/ 2"])


async def test_what_one_tab_is_still_sending_another_shows_and_follows(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path) as (upstream, door, page):
        upstream.plan(*numbered())
        await open_chat(page)
        await talk(page, "zero")
        gate = asyncio.Event()

        async def hold(route: Route) -> None:
            await gate.wait()
            await route.continue_()

        await page.route("**/chat/completions", hold)
        async with tab(page.context, door) as other:
            await open_chat(other, page.url)
            await say(page, "slow to send")
            await expect(answers(other).nth(1)).to_contain_text("Sending")
            gate.set()
            for one in (page, other):
                await expect(text_of_answer(one)).to_have_text(["Answer 1.", "Answer 2."])
            await expect(answers(other)).not_to_contain_text(["interrupted"])


async def test_what_another_tab_has_deleted_is_left_with_what_was_typed(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path) as (upstream, door, page):
        upstream.plan(*numbered())
        await open_chat(page)
        await talk(page, "about apples")
        async with tab(page.context, door) as other:
            late = asyncio.Event()

            async def hold(route: Route) -> None:
                await late.wait()
                await route.continue_()

            await other.route("**/state/elsewhere.js", hold)  # it is not needed to begin with
            await open_chat(other, page.url)
            await box(other).fill("still typing")
            # A draft that is saved after the deletion would bring the conversation back.
            await stores(other, "still typing")
            await more(page, "about apples", "Delete")
            await expect(page.get_by_role("button", name="Undo")).to_be_visible()
            late.set()
            await expect(other.get_by_role("alert")).to_contain_text("deleted in another tab")
            await expect(box(other)).to_have_value("still typing")
            await say(other, "still typing, and sent")
            await expect(text_of_answer(other)).to_have_text(["Answer 2."])
            await expect(entries(other)).to_have_text(["still typing, and sent"])
