"""Scripts that a page loads when they are wanted: what happens when they do not come."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from pathlib import Path

from playwright.async_api import Browser, Page, Route, expect
from support.browsing.browser import LISTENING, open_chat
from support.browsing.chat_page import answers, attach_text, box, text_of_answer
from support.browsing.chatting import chatting
from support.fakes.upstream import USAGE, stream_of
from support.waiting import eventually

SCRIPTS = Path(__file__).parents[3] / "webui" / "static" / "js"
STATIC = re.compile(r"/static/")
ANSWER = "```python\nx = 1\n```\n\n\\(x^2\\)\n"


def test_every_import_on_demand_is_tried_again() -> None:
    """Find those that do not go through `loadModule`, alone or with others."""
    alone = [
        f"{path.name}: {line.strip()}"
        for path in SCRIPTS.rglob("*.js")
        for line in path.read_text().splitlines()
        if re.search(r"(?<![#\w.@])import\(", line)
        and not line.lstrip().startswith(("*", "/**"))
        and not re.search(r"(?:load|loadModule)\(\(\) => import\(", line)
    ]
    both = 'chat.js: const modules = () => Promise.all([import("./answers.js"),'
    shown = 'main.js: const { Transcript } = await import("./transcript/transcript.js");'
    assert all(line.startswith((both, shown)) for line in alone), alone
    assert len(alone) == 2, "loadAnswers passes both of them to loadModule"


async def fail_once(page: Page) -> Counter[str]:
    """Have the first request for each script fail; return how often each was asked for."""
    asked: Counter[str] = Counter()

    async def answer(route: Route) -> None:
        asked[route.request.url] += 1
        if asked[route.request.url] == 1:
            await route.abort("failed")
        else:
            await route.continue_()

    await page.route(re.compile(r"/static/.*\.js"), answer)
    return asked


async def test_scripts_that_fail_once_are_asked_for_again(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path, expected=("ERR_FAILED",)) as (upstream, _, page):
        upstream.plan(stream_of([ANSWER], usage=USAGE))
        await open_chat(page)
        await page.locator(LISTENING).wait_for(state="attached")
        asked = await fail_once(page)
        keyboard, dialog = page.keyboard, page.get_by_role("dialog")
        await box(page).press_sequentially("/")
        await expect(page.get_by_role("listbox", name="Prompts")).to_be_visible()
        await box(page).press("Backspace")
        await box(page).press_sequentially("Hi")
        await keyboard.press("Enter")
        await expect(text_of_answer(page).locator("math")).to_be_visible()
        await expect(text_of_answer(page).locator("code span").first).to_have_text("1")
        for keys, name in (
            ("Control+Slash", "Keyboard shortcuts"),
            ("Control+Shift+M", "Choose a model"),
            ("Control+Shift+Comma", "Settings"),
        ):
            await keyboard.press(keys)
            await expect(dialog).to_have_accessible_name(name)
            await keyboard.press("Escape")
            await expect(dialog).to_have_count(0)
        await page.get_by_role("button", name="More for this answer").click()
        await expect(page.get_by_role("menuitem", name="Edit answer")).to_be_visible()
        await keyboard.press("Escape")
        await page.get_by_role("button", name="Edit message").click()
        await expect(page.get_by_role("textbox", name="New text")).to_have_value("Hi")
        await page.get_by_role("button", name="Cancel").click()
        async with page.expect_download():
            await page.get_by_role("button", name="Download code").click()
        await attach_text(page, "notes.txt", b"words")
        await page.get_by_role("button", name="Open notes.txt").click()
        await expect(dialog).to_contain_text("words")
        await expect(page.get_by_role("alert")).to_have_count(0)
        # Some are loaded ahead of their use, while the page is idle.
        await eventually(
            lambda: not [url for url, times in asked.items() if times < 2 and "page.js" not in url]
        )
        assert not [url for url in asked if "?" in url], "no second instance of any"
        assert len(asked) > 15


async def test_what_is_typed_before_the_box_is_there_is_in_it(
    chromium: Browser, tmp_path: Path
) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def answer(route: Route) -> None:
        asked.set()
        await go.wait()
        await route.continue_()

    async with chatting(chromium, tmp_path) as (upstream, _, page):
        upstream.plan(stream_of(["Hello"], usage=USAGE))
        await open_chat(page)
        await box(page).press_sequentially("Hi")
        await page.keyboard.press("Enter")
        await expect(text_of_answer(page)).to_have_text("Hello")
        await page.route(re.compile("/edit[.]js"), answer)
        await page.get_by_role("button", name="Edit message").click()
        await asked.wait()
        await page.keyboard.type(" there")
        go.set()
        await expect(page.get_by_role("textbox", name="New text")).to_have_value("Hi there")
        await expect(box(page)).to_have_value("")


async def test_scripts_that_stay_away_are_said_and_the_text_is_kept(
    chromium: Browser, tmp_path: Path
) -> None:
    gone = False

    async def answer(route: Route) -> None:
        await (route.fulfill(status=404) if gone else route.abort("internetdisconnected"))

    async with chatting(chromium, tmp_path, expected=("ERR_", "404")) as (upstream, _, page):
        upstream.plan(stream_of(["Hello"], usage=USAGE))
        await open_chat(page)
        await page.locator(LISTENING).wait_for(state="attached")
        await page.route(STATIC, answer)
        await page.keyboard.press("Control+Slash")
        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text("the server cannot be reached")
        await alert.get_by_role("button", name="Dismiss").click()
        await box(page).press_sequentially("my words")
        gone = True  # a gateway with another version is there again
        await page.keyboard.press("Enter")
        await expect(alert).to_contain_text("The gateway was updated.")
        await expect(box(page)).to_have_value("my words")
        await expect(answers(page)).to_have_count(0)
        await page.unroute(STATIC)
        async with page.expect_navigation():
            await alert.get_by_role("button", name="Reload").click()
        await expect(box(page)).to_have_value("my words")
        await page.keyboard.press("Enter")
        await expect(text_of_answer(page)).to_have_text(["Hello"])
