"""Sending, streaming and stopping in the browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect
from support.browsing.browser import PHONE, open_chat, say, visiting
from support.browsing.chat_page import answers, box, held, send_button, status, stop_button
from support.browsing.chatting import GUESTS, TOUCH, chatting
from support.fakes.upstream import (
    USAGE,
    FakeUpstream,
    events_of,
    stream_of,
    streaming,
)
from support.front_door import Door
from support.waiting import eventually, soon


async def test_the_chat_is_ready_to_write_in(chromium: Browser, demo_door: Door) -> None:
    async with visiting(chromium, demo_door) as page:
        await open_chat(page)
        await expect(box(page)).to_be_focused()
        await expect(page.get_by_role("heading", level=2).first).to_be_visible()
        assert await page.get_by_role("button", name="Gemini").count() == 1
        await expect(send_button(page)).to_be_disabled()


async def test_the_form_is_there_before_any_script(chromium: Browser, demo_door: Door) -> None:
    async with visiting(chromium, demo_door, java_script_enabled=False) as page:
        await page.goto("/")
        await expect(box(page)).to_be_visible()
        await expect(page.get_by_text("What would you like to know?")).to_be_visible()


async def test_a_touch_screen_keeps_its_keyboard_down(chromium: Browser, demo_door: Door) -> None:
    async with visiting(
        chromium, demo_door, viewport=PHONE, has_touch=True, is_mobile=True
    ) as page:
        await open_chat(page)
        await expect(box(page)).not_to_be_focused()


async def test_only_text_can_be_sent(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        await open_chat(page)
        await box(page).fill("  \n ")
        await expect(send_button(page)).to_be_disabled()
        await box(page).fill("one")
        await expect(send_button(page)).to_be_enabled()
        await page.keyboard.press("Shift+Enter")
        await page.keyboard.type("two")
        await expect(box(page)).to_have_value("one\ntwo")
        await page.keyboard.press("Control+Enter")
        request = await upstream.request()
        assert request.json["messages"][-1]["content"] == "one\ntwo"
        await expect(answers(page)).to_contain_text("Hello")
        await say(page, "three")
        request = await upstream.request(1)
        assert [m["role"] for m in request.json["messages"]] == ["user", "assistant", "user"]


async def test_enter_of_an_input_method_does_not_send(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        await open_chat(page)
        keyboard = await page.context.new_cdp_session(page)
        composing = {"text": "にほん", "selectionStart": 3, "selectionEnd": 3}
        await keyboard.send("Input.imeSetComposition", composing)
        await expect(box(page)).to_have_value("にほん")
        enter = {"type": "rawKeyDown", "key": "Enter", "windowsVirtualKeyCode": 229}
        await keyboard.send("Input.dispatchKeyEvent", enter)
        await keyboard.send("Input.insertText", {"text": "日本"})
        # Safari ends the composition first, and tells of it by the code of the key alone.
        await box(page).dispatch_event("keydown", {"key": "Enter", "keyCode": 229, "bubbles": True})
        await expect(box(page)).to_have_value("日本")
        assert not upstream.requests
        await page.keyboard.press("Enter")
        assert (await upstream.request()).json["messages"][-1]["content"] == "日本"
        assert len(upstream.requests) == 1


async def test_enter_on_a_touch_screen_is_a_new_line(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path, **TOUCH) as (
        upstream,
        _,
        page,
    ):
        await open_chat(page)
        await box(page).fill("one")
        await page.keyboard.press("Enter")
        await page.keyboard.type("two")
        await expect(box(page)).to_have_value("one\ntwo")
        await send_button(page).tap()
        assert (await upstream.request()).json["messages"][-1]["content"] == "one\ntwo"
        await page.get_by_role("button", name="Edit message").tap()
        new = page.get_by_role("textbox", name="New text")
        await new.press("Enter")
        await page.keyboard.type("three")
        await expect(new).to_have_value("one\ntwo\nthree")


async def test_an_answer_is_shown_while_it_is_written(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        answer, go = held("The first", then=(" and the last",))
        upstream.plan(answer)
        await open_chat(page)
        await say(page, "Hi")
        await expect(answers(page)).to_contain_text("The first")
        await expect(answers(page)).to_have_attribute("aria-busy", "true")
        await expect(status(page)).to_have_text("Generating")
        await expect(stop_button(page)).to_be_visible()
        await expect(send_button(page)).to_be_hidden()
        go.set()
        await expect(status(page)).to_have_text("Response complete, 5 words")
        await expect(answers(page)).not_to_have_attribute("aria-busy", "true")
        await expect(send_button(page)).to_be_visible()
        await expect(box(page)).to_be_focused()


async def test_stop_ends_the_upstream_call_and_freezes_the_text(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        answer, _ = held("Half of", then=(" never",))
        upstream.plan(answer)
        await open_chat(page)
        await say(page, "Hi")
        await expect(answers(page)).to_contain_text("Half of")
        request = await upstream.request()
        await stop_button(page).click()
        await soon(request.left.wait())
        await expect(answers(page)).to_contain_text("Stopped.")
        await page.reload()
        await expect(answers(page)).to_contain_text("Half of")
        await expect(answers(page)).to_contain_text("Stopped.")
        await expect(answers(page)).not_to_contain_text("never")
        upstream.plan(stream_of(["Half of", " it is enough."], usage=USAGE))
        await answers(page).get_by_role("button", name="Continue").click()
        await expect(answers(page)).to_contain_text("Half of it is enough.")
        await expect(answers(page)).not_to_contain_text("Stopped.")


@pytest.mark.gateway(settings=GUESTS, max_concurrency=1)
async def test_stop_in_the_queue_reaches_no_upstream(
    chromium: Browser, upstream: FakeUpstream, door: Door
) -> None:
    async with visiting(chromium, door) as page:
        answer, go = held("busy", then=("done",))
        upstream.plan(answer)
        async with door.stream("first"):
            await upstream.request()
            await open_chat(page)
            await say(page, "second")
            await expect(status(page)).to_have_text(re.compile("Position 1 of 1"))
            await stop_button(page).click()
            await expect(answers(page)).to_contain_text("Stopped.")
            await eventually(lambda: len(door.gateway.services.engine.jobs) <= 1)
            go.set()
        assert len(upstream.requests) == 1


@pytest.mark.gateway(settings=GUESTS, max_concurrency=1)
async def test_the_place_in_the_queue_is_told(
    chromium: Browser, upstream: FakeUpstream, door: Door
) -> None:
    async with visiting(chromium, door) as page:
        answer, go = held("busy", then=("done",))
        upstream.plan(answer)
        async with door.stream("first"):
            await upstream.request()
            async with door.stream("second", headers={"X-Roxy-Queue-Updates": "true"}):
                await open_chat(page)
                await say(page, "third")
                await expect(status(page)).to_have_text(re.compile("Position 2 of 2"))
            await expect(status(page)).to_have_text(re.compile("Position 1 of 1"))
            go.set()
        await expect(answers(page)).to_contain_text("done")


async def test_a_message_waits_for_the_answer_before_it(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        answer, go = held("One", then=(".",))
        upstream.plan(answer, *[streaming(events_of(["Two."], usage=USAGE))])
        await open_chat(page)
        await say(page, "first")
        await expect(answers(page)).to_contain_text("One")
        await say(page, "second")
        await expect(page.get_by_role("list", name="Queued")).to_contain_text("second")
        assert len(upstream.requests) == 1
        go.set()
        await expect(answers(page).nth(1)).to_contain_text("Two.")
        assert (await upstream.request(1)).json["messages"][-1]["content"] == "second"
        await expect(page.get_by_role("list", name="Queued")).to_be_hidden()
