"""The chat of somebody who has signed in, and what a failing provider looks like."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect
from support.browsing.browser import open_chat, say, visiting
from support.browsing.chat_page import answers, held, status, text_of_answer
from support.browsing.chatting import GUESTS, chatting
from support.browsing.signing_in import sign_in
from support.fakes.upstream import USAGE, FakeUpstream, Pause, events_of, refusal, streaming
from support.front_door import OWNER, Door, front_door


async def test_a_key_holder_chats_on_their_own_limits(chromium: Browser, door: Door) -> None:
    async with visiting(chromium, door, expected=("401", "403")) as page:
        made = await door.mint_key("Ada's laptop", limits={"requests_per_minute": 1})
        await sign_in(page, made["key"])
        await expect(page.get_by_role("link", name="Keys")).to_have_count(0)
        await say(page, "Hi")
        await expect(answers(page)).to_contain_text("11 in")
        await expect(
            page.get_by_text("0 of 1 message left this minute", exact=True)
        ).to_be_visible()
        (row,) = await door.usage_rows()
        assert row.key_id == made["id"]
        stored = await page.evaluate("() => JSON.stringify({ ...localStorage }) + document.cookie")
        assert made["key"] not in stored and "roxy_session" not in stored
        await door.client.delete(
            f"/api/v1/keys/{made['id']}", headers={"Authorization": f"Bearer {OWNER}"}
        )
        await say(page, "Still there?")
        await expect(page.locator("#composer")).to_contain_text("Your key was revoked")
        await expect(page.get_by_role("textbox", name="Message")).to_have_value("Still there?")
        await page.get_by_role("button", name="Sign in with another key").click()
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_the_owner_gets_to_the_record_of_an_answer(chromium: Browser, door: Door) -> None:
    async with visiting(chromium, door, expected=("401", "403")) as page:
        await sign_in(page, OWNER)
        await expect(page.get_by_text("Owner", exact=True)).to_be_visible()
        await expect(page.get_by_role("region", name="Suggestions")).not_to_contain_text("left")
        await say(page, "Hi")
        await expect(answers(page)).to_contain_text("11 in")
        (row,) = await door.usage_rows()
        link = answers(page).get_by_role("link")
        await expect(link).to_have_attribute("href", f"/requests/{row.request_id}")


async def test_a_provider_that_fails_is_told_and_another_tried(
    chromium: Browser, tmp_path: Path
) -> None:
    async with (
        FakeUpstream() as broken,
        FakeUpstream() as upstream,
        front_door(tmp_path, broken, upstream, settings=GUESTS) as door,
        visiting(chromium, door) as page,
    ):
        go = asyncio.Event()
        broken.plan(refusal(503))
        upstream.plan(streaming([Pause(go), *events_of(["Here."], usage=USAGE)]))
        await open_chat(page)
        await say(page, "Hi")
        await expect(status(page)).to_have_text("The provider failed, trying another one")
        go.set()
        await expect(text_of_answer(page)).to_have_text(["Here."])


async def test_the_contact_with_the_provider_is_told(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        go = asyncio.Event()
        thought = {"reasoning_content": "hm"}
        then = asyncio.Event()
        events = events_of([thought], usage=None, finish=None, done=False)
        pieces: list[bytes | Pause] = [
            Pause(go),
            *events,
            Pause(then),
            *events_of(["So."], usage=USAGE),
        ]
        upstream.plan(streaming(pieces))
        await open_chat(page)
        await say(page, "Hi")
        await expect(status(page)).to_have_text("Contacting the provider")
        await expect(answers(page)).to_contain_text(re.compile(r"Contacting the provider · \d+ s"))
        go.set()
        await expect(status(page)).to_have_text("Thinking")
        then.set()
        await expect(text_of_answer(page)).to_have_text(["So."])


@pytest.mark.gateway(settings="[guests]\nenabled = false")
async def test_where_guests_are_not_welcome_the_way_in_is_offered(
    chromium: Browser, demo_door: Door
) -> None:
    async with visiting(chromium, demo_door) as page:
        await open_chat(page)
        welcome = page.get_by_role("region", name="What would you like to know?")
        await expect(welcome).to_contain_text("Guest access is turned off")
        await expect(welcome).not_to_contain_text("left")
        composer = page.locator("#composer")
        await expect(composer).not_to_contain_text("Guest access")
        await page.get_by_role("textbox", name="Message").press_sequentially("hello?")
        await page.keyboard.press("Enter")
        await expect(composer).to_contain_text("Guest access is turned off. Sign in with a key")
        await expect(page.get_by_role("button", name="Send", exact=True)).to_be_disabled()
        await welcome.get_by_role("link", name="Sign in").click()
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        await page.get_by_label("Key").fill(await demo_door.mint("ada"))
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("textbox", name="Message")).to_have_value("hello?")
        await expect(page.get_by_role("button", name="Send", exact=True)).to_be_enabled()


@pytest.mark.gateway(settings="[guests]\nrequests_per_minute = 3\nrequests_per_day = 9")
async def test_what_is_left_is_told_from_every_question_on(
    chromium: Browser, upstream: FakeUpstream, door: Door
) -> None:
    async with visiting(chromium, door) as page:
        answer, end = held("Begun")
        upstream.plan(answer)
        await open_chat(page)
        composer = page.locator("#composer")
        await expect(composer).not_to_contain_text("left")
        await say(page, "Hi")
        await expect(text_of_answer(page)).to_have_text(["Begun"])
        await expect(composer).to_contain_text("8 of 9 messages left today")
        end.set()
        await page.get_by_role("textbox", name="Message").fill("More words")
        await expect(composer).to_contain_text("≈ 3 tokens")
