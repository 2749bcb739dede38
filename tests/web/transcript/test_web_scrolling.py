"""A reader who moves up while an answer is written is left where they are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from playwright.async_api import Browser, Page, expect
from support.browsing.browser import open_chat, say
from support.browsing.chat_page import (
    answers,
    box,
    send_button,
    status,
    stop_button,
    talk,
    text_of_answer,
)
from support.browsing.chatting import TOUCH, chatting
from support.browsing.page_waiting import TOPS_WHILE_TEXT_COMES, becomes
from support.fakes.upstream import (
    USAGE,
    Answer,
    Pause,
    chunk,
    event,
    events_of,
    stream_of,
    streaming,
)

Movement = Callable[[Page], Awaitable[object]]

AT_END = """() => {
  const { scrollTop, scrollHeight, clientHeight } = document.getElementById("scroller");
  return scrollHeight - clientHeight > 300 && scrollHeight - scrollTop - clientHeight < 60;
}"""
PLACE = """() => {
  const { scrollTop, scrollHeight, clientHeight } = document.getElementById("scroller");
  return { top: scrollTop, gap: scrollHeight - scrollTop - clientHeight };
}"""
SMALL_STEPS_UP = """async () => {
  for (let n = 0; n < 3; n += 1) {
    document.getElementById("scroller").scrollTop -= 8;
    await new Promise(requestAnimationFrame);
  }
}"""


def long_answer() -> Answer:
    """Answer for longer than a test lasts."""
    return streaming([event(chunk(f"Paragraph {n}.\n\n")) for n in range(20_000)], gap_s=0.01)


def press(key: str) -> Movement:
    async def pressed(page: Page) -> None:
        await page.locator("#scroller").press(key)

    return pressed


async def turn_the_wheel(page: Page) -> None:
    await page.locator("#scroller").hover()
    await page.mouse.wheel(0, -40)


async def drag_the_scrollbar(page: Page) -> None:
    await page.evaluate(SMALL_STEPS_UP)


async def drag_a_finger(page: Page) -> None:
    """Drag 60 px down, as a slow finger does."""
    session = await page.context.new_cdp_session(page)
    for kind, y in [("touchStart", 300), *[("touchMove", 300 + n) for n in range(3, 61, 3)]]:
        points = [{"x": 200, "y": y}]
        await session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    await session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


async def move_up(page: Page, *movements: Movement) -> None:
    """Move up in each way while an answer is written: the page stays there until the click."""
    await open_chat(page)
    await box(page).fill("Hi")
    await send_button(page).click()
    jump = page.get_by_role("button", name="Jump to latest")
    await expect(text_of_answer(page)).to_contain_text("Paragraph 30.")
    for movement in movements:
        await becomes(page, AT_END)
        top = await page.evaluate("() => document.getElementById('scroller').scrollTop")
        await movement(page)
        await expect(jump).to_be_visible()  # the page has begun to move
        tops = await page.evaluate(TOPS_WHILE_TEXT_COMES)
        assert len(tops) == 1, f"{movement}: {tops}"
        await expect(jump).to_be_visible()
        await jump.click()
        await expect(jump).to_be_hidden()
        await becomes(page, "(top) => document.getElementById('scroller').scrollTop > top", top)
        assert len(await page.evaluate(TOPS_WHILE_TEXT_COMES.replace("same < 6", "false"))) > 1
    await stop_button(page).click()  # the gateway would carry the answer to its end


async def test_a_mouse_and_the_keys_hold_the_page(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        upstream.plan(long_answer())
        keys = map(press, ("ArrowUp", "PageUp", "Home", "Shift+Space"))
        await move_up(page, turn_the_wheel, drag_the_scrollbar, *keys)


async def test_a_finger_holds_the_page(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path, **TOUCH) as (upstream, _, page):
        upstream.plan(long_answer())
        await move_up(page, drag_a_finger)


async def test_another_version_of_a_turn_stands_where_the_turn_stood(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        long = "A paragraph of this answer.\n\n" * 30
        upstream.plan(*[stream_of([f"{long}Answer {n}."]) for n in range(5)])
        await open_chat(page)
        await talk(page, "one", "two", "three", "four")
        question = page.get_by_role("article", name="You").nth(1)
        await question.get_by_role("button", name="Edit message").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("textbox", name="New text")).to_be_focused()
        await page.keyboard.type(" more")
        await page.keyboard.press("Control+Enter")
        await expect(box(page)).to_be_focused()
        await expect(text_of_answer(page)).to_contain_text(["Answer 0.", "Answer 4."])
        back = question.get_by_role("button", name="Previous version")
        await back.click()
        await expect(answers(page)).to_have_count(4)
        jump = page.get_by_role("button", name="Jump to latest")
        await expect(jump).to_be_visible()
        await expect(question).to_be_in_viewport()
        await expect(question.get_by_role("button", name="Next version")).to_be_focused()
        await jump.click()
        await expect(text_of_answer(page).last.get_by_text("Answer 3.")).to_be_in_viewport()


async def test_a_reader_who_scrolls_up_is_left_alone_until_they_jump_to_the_end(
    chromium: Browser, tmp_path: Path
) -> None:
    def paragraphs(first: int, end: int) -> list[bytes | Pause]:
        return [event(chunk(f"Paragraph {n}.\n\n")) for n in range(first, end)]

    async with chatting(chromium, tmp_path) as (upstream, _, page):
        more, rest = asyncio.Event(), asyncio.Event()
        pieces = [*paragraphs(0, 60), Pause(more), *paragraphs(60, 180), Pause(rest)]
        upstream.plan(streaming([*pieces, *events_of(["At last."], usage=USAGE)], gap_s=0.01))
        await open_chat(page)
        await say(page, "Hi")
        await expect(text_of_answer(page)).to_contain_text("Paragraph 58.")
        assert (await page.evaluate(PLACE))["gap"] < 60
        top = (await page.evaluate(PLACE))["top"]
        await page.locator("#scroller").hover()
        await page.mouse.wheel(0, -600)
        jump = page.get_by_role("button", name="Jump to latest")
        await expect(jump).to_be_visible()
        await becomes(page, f"(was) => ({PLACE})().top < was", top)
        watching = asyncio.create_task(page.evaluate(TOPS_WHILE_TEXT_COMES))
        await becomes(page, "() => window.isAtRest")
        more.set()
        tops = await watching
        assert len(tops) == 1
        await expect(text_of_answer(page)).to_contain_text("Paragraph 178.")
        await expect(jump).to_be_visible()
        await jump.click()
        await expect(jump).to_be_hidden()
        there = await page.evaluate(PLACE)
        assert there["gap"] < 60 and there["top"] > tops[0]
        rest.set()
        await expect(status(page)).to_contain_text("complete")
        await expect(answers(page)).to_contain_text("11 in")
        end = await page.evaluate(PLACE)
        assert end["gap"] < 60 and end["top"] > there["top"], "it follows again"
        await expect(jump).to_be_hidden()
