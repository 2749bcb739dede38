"""Every page in Firefox and in WebKit: what people do most, typed and clicked."""

from __future__ import annotations

from pathlib import Path

from support.browsing.chat_page import held
from support.browsing.engines.engine import CONTROL, ENTER, ESCAPE, Engine, Visit, visiting_in
from support.fakes.upstream import FakeUpstream, stream_of
from support.front_door import OWNER, Door
from support.waiting import eventually

COMPLETE = "return document.querySelector('[data-status]').textContent.startsWith('Response')"
COPIED = "return document.querySelector('[data-status]').textContent === 'Copied'"


async def say(page: Visit, text: str) -> None:
    """Type a message and send it."""
    await page.click("textbox", "Message")
    await page.type(text + ENTER)


async def test_an_answer_is_streamed_stopped_and_copied(
    engine: Engine, upstream: FakeUpstream, door: Door
) -> None:
    answer, _ = held("The **first** words")
    upstream.plan(answer, stream_of(["Some `code` and **bold**.\n\n| a |\n|---|\n| b |"]))
    async with visiting_in(engine, door.url) as page:
        await page.open_chat()
        await say(page, "Hello")
        await page.shows("The first words")
        await page.click("button", "Stop")
        await page.sees("button", "Regenerate")
        await say(page, "Again")
        await page.shows("Some code and bold.")
        await page.count("button", "Copy answer", 2)
        await page.until(COMPLETE)  # else it would replace the word that is looked for
        await page.click("button", "Copy answer")
        await page.until(COPIED)
        await page.click("textbox", "Message")
        await engine.keys("v", holding=CONTROL)
        await page.until(
            "return find('textbox', 'Message').value.startsWith('Some `code` and **b')"
        )
        assert await page.overflow() == []


async def test_decimals_and_files_reach_the_model(
    engine: Engine, upstream: FakeUpstream, door: Door, tmp_path: Path
) -> None:
    note = tmp_path / "note.txt"
    note.write_text("kept in the file")
    async with visiting_in(engine, door.url) as page:
        await page.open_chat()
        await page.click_in_menu("Menu", "button", "Chat settings")
        await page.click("textbox", "Temperature")
        await page.type("0.7")
        assert await page.value("textbox", "Temperature") == "0.7"
        await page.type(ESCAPE)
        await page.until("return !document.querySelector('dialog[open]')")
        await engine.attach("input[type=file]", note)
        await page.shows("note.txt")
        await say(page, "Read it")
        await eventually(lambda: upstream.requests)
        body = upstream.requests[0].json
        assert body["temperature"] == 0.7
        assert "kept in the file" in str(body["messages"])
        await page.sees("button", "Regenerate")


async def test_the_owner_signs_in_and_makes_a_key(engine: Engine, door: Door) -> None:
    async with visiting_in(engine, door.url) as page:
        await page.sign_in("/keys", "not-a-key")
        await page.sees("alert")
        await page.sign_in("/keys", OWNER)
        await page.sees("link", "Create a key")
        await page.click("link", "Create a key")
        await page.sees("dialog")
        await page.click("textbox", "Name")
        await page.type("Ada")
        assert await page.overflow() == []
        await page.click("button", "Create the key")
        await page.shows("Shown once.")
        await page.click("button", "Copy")
        await page.until(COPIED)
        for path in ("/usage", "/requests", "/live"):
            await page.open(path)
            await page.sees("heading")
            assert await page.overflow() == [], path


async def test_the_documentation_shows_and_runs_its_examples(engine: Engine, door: Door) -> None:
    async with visiting_in(engine, door.url) as page:
        await page.open("/docs")
        await page.shows(f"{door.url}/api/v1")
        assert await page.overflow() == []
        await page.click("link", "Copy as Markdown")
        await page.until(COPIED)
        await page.click("button", "Run")
        await page.shows("200")


async def test_leaving_while_modules_load_is_quiet(engine: Engine, door: Door) -> None:
    async with visiting_in(engine, door.url) as page:
        for _ in range(3):
            await engine.go(f"{door.url}/")
            await engine.go(f"{door.url}/docs")
        await page.open("/docs")
