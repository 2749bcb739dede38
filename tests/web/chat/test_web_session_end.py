"""The end of a session while a chat is open: nothing typed is lost, nothing is sent as a guest."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.async_api import Browser, Page, Route, expect
from support.browsing.browser import READY, say, tab, visiting
from support.browsing.chat_page import (
    answers,
    attach_text,
    box,
    held,
    numbered,
    send_button,
    talk,
    text_of_answer,
)
from support.browsing.chatting import chatting
from support.browsing.signing_in import enter_key, sign_in
from support.fakes.upstream import USAGE, stream_of
from support.front_door import OWNER, Door, bearer

BASE_TEXTS = re.compile(r"X-|Bearer|header", re.IGNORECASE)


async def reopen_ended(page: Page, door: Door) -> None:
    """Reload a chat whose key is disabled, and open others: all are the person's own, still."""
    composer, address = page.locator("#composer"), page.url
    await page.reload()
    await expect(composer).to_contain_text("Your key is disabled.")
    await expect(box(page)).to_have_value("second")
    await expect(send_button(page)).to_be_disabled()
    await expect(page.get_by_text("Sign in to see your chats.")).to_be_visible()
    await expect(page.get_by_role("alert")).to_have_count(0)
    assert page.url == address
    async with tab(page.context, door, expected=("401",)) as elsewhere:
        await elsewhere.goto("/")
        await expect(elsewhere.locator("#composer")).to_contain_text("Your key is disabled.")
        await elsewhere.goto("/docs")
    await expect(composer).to_contain_text("Your key is disabled.")


async def test_a_session_that_ends_keeps_the_text_and_leads_back(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path, expected=("401",)) as (upstream, door, page):
        cut, _ = held("Cut ")
        answer, go = held("Begun ")
        upstream.plan(stream_of(["One."], usage=USAGE), cut, answer)
        made, other = await door.mint_key("ann"), await door.mint_key("bob")
        await sign_in(page, made["key"])
        await say(page, "first")
        await expect(answers(page)).to_contain_text("11 in")
        address = page.url
        await say(page, "more")
        await expect(text_of_answer(page)).to_have_text(["One.", "Cut"])
        await attach_text(page, "notes.txt", b"the notes")
        await box(page).press_sequentially("second")
        path = f"/api/v1/keys/{made['id']}"
        off, on = {"status": "disabled"}, {"status": "active"}
        await door.client.patch(path, json=off, headers=bearer(OWNER))
        composer = page.locator("#composer")
        await expect(composer).to_contain_text("Your key is disabled.")
        await expect(page.get_by_text("signed out")).to_have_count(0)
        await expect(page.get_by_text("left this minute")).to_have_count(0)
        await expect(composer).not_to_contain_text(BASE_TEXTS)
        await expect(box(page)).to_have_value("second")
        await expect(page.get_by_role("button", name="Remove notes.txt")).to_be_visible()
        await expect(send_button(page)).to_be_disabled()
        await expect(answers(page).last).to_contain_text("Your key is disabled.")
        acts = answers(page).get_by_role("button", name=re.compile("Continue|Sign in|Regenerate"))
        await expect(acts).to_have_count(0)
        await reopen_ended(page, door)
        assert len(upstream.requests) == 2
        await door.client.patch(path, json=on, headers=bearer(OWNER))
        await page.get_by_role("button", name="Sign in with another key").click()
        await enter_key(page, made["key"])
        assert page.url == address
        await expect(box(page)).to_have_value("second")
        await expect(page.get_by_role("button", name="Remove notes.txt")).to_be_visible()
        # Another tab signs out, and in with another key.
        await send_button(page).click()
        await expect(text_of_answer(page)).to_have_text(["One.", "Cut", "Begun"])
        async with tab(page.context, door) as elsewhere:
            await elsewhere.goto("/docs")
            await elsewhere.get_by_role("button", name="Sign out").click()
            await expect(composer).to_contain_text("You signed out in another tab.")
            await sign_in(elsewhere, other["key"])
            await expect(composer).to_contain_text("signed in with another key")
            await expect(page.get_by_role("button", name="Reload")).to_be_visible()
        go.set()
        rows = await door.usage_rows(3)
        assert {row.key_id for row in rows} == {made["id"]}


async def test_a_temporary_chat_outlives_the_end_of_its_session(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path, expected=("401",)) as (upstream, door, page):
        upstream.plan(*numbered())
        made = await door.mint_key("ann")
        await sign_in(page, made["key"])
        await page.get_by_role("button", name="Temporary chat").click()
        await expect(page.get_by_text("Nothing is saved.")).to_be_visible()
        await talk(page, "first")
        await box(page).press_sequentially("second")
        path = f"/api/v1/keys/{made['id']}"
        for status in ("disabled", "active"):
            await door.client.patch(path, json={"status": status}, headers=bearer(OWNER))
        await expect(page.locator("#composer")).to_contain_text("You've been signed out.")
        async with page.expect_popup() as opening:
            await page.get_by_role("button", name="Sign in again").click()
        await enter_key(await opening.value, made["key"])
        await expect(page.get_by_role("button", name="Sign in again")).to_have_count(0)
        await send_button(page).click()
        await expect(text_of_answer(page)).to_have_text(["Answer 1.", "Answer 2."])


async def test_a_link_on_another_site_leads_to_the_visitors_own_page(
    chromium: Browser, demo_door: Door
) -> None:
    async with visiting(chromium, demo_door, expected=("foreign request: http://else",)) as page:

        async def answer(route: Route) -> None:
            link = f'<a href="{demo_door.url}/">To the chat</a>'
            await route.fulfill(body=link, content_type="text/html")

        await page.route("http://elsewhere.test/", answer)
        await sign_in(page, OWNER)
        await page.goto("http://elsewhere.test/")
        await page.get_by_role("link", name="To the chat").click()
        await expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        await page.locator(READY).wait_for(state="attached")
        await say(page, "Hi")
        await expect(answers(page).get_by_role("button", name="Regenerate")).to_be_visible()
