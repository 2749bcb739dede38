"""The chats of a person in Firefox and in WebKit: files, links, the way out, and in again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.browsing.engines.engine import ENTER, Engine, Visit, visiting_in
from support.fakes.upstream import FakeUpstream, stream_of
from support.front_door import Door
from support.inputs.office_files import paragraph, pdf_file, word_file
from support.waiting import eventually

SETTINGS = """
[guests]
requests_per_minute = 1000
[history]
shares = true
"""
LEFT_BEHIND = """
const names = (await indexedDB.databases()).map((one) => one.name);
return [names.filter((name) => name !== "roxy"), Object.keys(sessionStorage),
  Object.keys(localStorage).filter((name) => name !== "roxy-model")];
"""
NO_CHOOSER = "HTMLInputElement.prototype.click = () => {};"
"""An engine without a screen answers its chooser of files with a cancel."""


async def sign_in(page: Visit, key: str) -> None:
    """Sign in, and wait for the chat."""
    await page.sign_in("/", key)
    await page.until("return document.documentElement?.dataset.ready === 'keys'")


async def see_chats(page: Visit) -> None:
    """Open the list of chats, which narrow windows hide."""
    if await page.run("return innerWidth < 640"):
        await page.click("button", "Chats")
    await page.sees("textbox", "Search")


@pytest.mark.gateway(settings=SETTINGS)
async def test_a_person_attaches_documents_shares_a_link_and_leaves_nothing(
    engine: Engine, upstream: FakeUpstream, door: Door, tmp_path: Path
) -> None:
    key = await door.mint("Ada")
    report, letter = tmp_path / "report.pdf", tmp_path / "letter.docx"
    report.write_bytes(pdf_file(["The harvest was good."]))
    letter.write_bytes(word_file(paragraph("The winter was mild.")))
    upstream.plan(stream_of(["An answer about it."]))
    async with visiting_in(engine, door.url) as page:
        await sign_in(page, key)
        for file in (report, letter):
            await engine.attach("input[type=file]", file)
            await page.shows(file.name)
        await page.click("textbox", "Message")
        await page.type("Read it")
        await page.until("return !find('button', 'Send').disabled")  # the file has been read
        await page.type(ENTER)
        await eventually(lambda: upstream.requests)
        asked = str(upstream.requests[0].json["messages"])
        assert "The harvest was good." in asked and "The winter was mild." in asked
        await page.shows("An answer about it.")
        await page.sees("button", "Regenerate")
        await page.open(await page.run("return location.pathname"))
        await page.shows("An answer about it.")
        await page.shows("letter.docx")
        await see_chats(page)
        await page.click("button", "More for Read it")
        await page.click("button", "Share link")
        await page.click("button", "Create link")
        await page.until("return find('textbox', 'Link')?.value.includes('/s/')")
        link = await page.value("textbox", "Link")
        await page.open(link.removeprefix(door.url))
        await page.shows("An answer about it.")
        assert await page.overflow() == []
        exported = (await door.get("/api/v1/history/export", key)).json()
        assert [one["title"] for one in exported["conversations"]] == ["Read it"]
        await page.open_chat()
        await page.click_in_menu("Menu", "button", "Sign out")
        await page.until(
            "return document.querySelector('a[href^=\"/login\"]')"
            "  && document.documentElement.dataset.ready === 'keys'"
        )
        assert await page.run(LEFT_BEHIND) == [[], [], []]
        await see_chats(page)
        await page.shows("No chats yet")
        # What was exported comes back, for somebody else.
        kept = tmp_path / "export.json"
        kept.write_text(json.dumps(exported))
        await sign_in(page, await door.mint("Bo"))
        await see_chats(page)
        await page.run(NO_CHOOSER)
        await page.click_in_menu("Manage chats", "menuitem", "Import chats")
        await page.until("return Boolean(document.querySelector('input[accept*=json]'))")
        await engine.attach("input[accept*=json]", kept)
        await page.click("link", "Read it")
        await page.shows("An answer about it.")
        await page.shows("report.pdf")
