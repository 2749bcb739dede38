"""Prompts: the owner's for everybody and one's own, at the message box and in their dialog."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, Page, Route, expect
from support.browsing.axe import violations
from support.browsing.browser import LISTENING, PHONE, READY, open_chat, visiting
from support.browsing.chat_page import answers, box, entries, numbered, send_button, talk
from support.browsing.chatting import GUESTS, TOUCH, chatting
from support.browsing.devices import come_back, leave_network, one_device, two_devices
from support.browsing.signing_in import sign_in, sign_out
from support.fakes.upstream import FakeUpstream
from support.front_door import Door, front_door
from support.waiting import until

OWNERS = """
[web]
prompts = [
  { name = "Summarize", text = "Summarize this in {{number}} points for {{readers}}: " },
  { name = "Practice", text = "Ask me ten questions." },
]
"""


CHANGED = ("409 (Conflict)", "ERR_FAILED")
"""How the server answers a device that has not read what another one has changed."""


def options(page: Page) -> Locator:
    return page.get_by_role("listbox", name="Prompts").get_by_role("option")


def dialog(page: Page) -> Locator:
    return page.get_by_role("dialog")


async def choose(page: Page, name: str) -> None:
    """Press the button beside the box, and choose from the list."""
    await page.get_by_role("button", name="Prompts", exact=True).click()
    await options(page).filter(has_text=name).click()


async def kept(door: Door, key: str, condition: Callable[[list[Any]], bool]) -> None:
    """Return when a condition holds for the settings that the server has."""

    async def holds() -> bool:
        answered = await door.get("/api/v1/history/settings", key)
        return condition([*answered.json()["value"].values()])

    await until(holds)


async def exports(door: Door, key: str, prompts: dict[str, str]) -> None:
    """Return when the export of a person has these prompts: the texts by their names."""

    async def has() -> bool:
        whole = (await door.get("/api/v1/history/export", key)).json()
        return {one["name"]: one["text"] for one in whole["prompts"]} == prompts

    await until(has)


async def add(page: Page, name: str, text: str) -> None:
    """Add a prompt in the dialog that is open."""
    await dialog(page).get_by_role("button", name="New prompt").click()
    await dialog(page).get_by_role("textbox", name="Name").press_sequentially(name)
    await dialog(page).get_by_role("textbox", name="Text").fill(text)
    await dialog(page).get_by_role("button", name="Save").click()


async def edit(page: Page, name: str, added: str) -> None:
    """Add words to a prompt in the dialog that is open."""
    await dialog(page).get_by_role("button", name=f"Edit {name}").click()
    await dialog(page).get_by_role("textbox", name="Text").press("End")
    await dialog(page).get_by_role("textbox", name="Text").press_sequentially(added)
    await dialog(page).get_by_role("button", name="Save").click()


async def test_a_slash_lists_the_prompts_and_stays_a_text(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path, settings=OWNERS) as (upstream, _, page):
        await open_chat(page)
        await page.locator(LISTENING).wait_for(state="attached")
        text, keyboard = box(page), page.keyboard
        await text.press_sequentially("/")
        listed = page.get_by_role("listbox", name="Prompts")
        chosen = listed.get_by_role("option", selected=True)
        await expect(options(page)).to_have_count(3)
        await expect(chosen).to_contain_text("Summarize")
        assert await violations(page) == []
        await keyboard.press("ArrowDown")
        await expect(chosen).to_contain_text("Practice")
        named = await text.get_attribute("aria-activedescendant")
        assert named and named == await chosen.get_attribute("id")
        await keyboard.press("ArrowUp")
        await keyboard.press("ArrowUp")
        await expect(chosen).to_contain_text("Manage prompts")
        await text.press_sequentially("SUM")
        await expect(options(page)).to_have_count(1)
        await keyboard.press("Enter")
        await expect(text).to_have_value("Summarize this in {{number}} points for {{readers}}: ")
        await keyboard.type("five")
        await keyboard.press("Tab")
        await keyboard.type("pupils")
        await expect(text).to_have_value("Summarize this in five points for pupils: ")
        await expect(answers(page)).to_have_count(0)
        await keyboard.press("Tab")  # there is no place left: the focus goes on
        await expect(text).not_to_be_focused()

        await text.fill("")
        await text.press_sequentially("/pr")
        await expect(options(page)).to_have_count(1)
        await keyboard.press("Escape")
        await expect(options(page)).to_have_count(0)
        await text.press_sequentially("a")
        await keyboard.press("Backspace")
        await expect(text).to_have_value("/pr")
        await expect(options(page)).to_have_count(0)
        await keyboard.press("Enter")
        assert (await upstream.request()).json["messages"][-1]["content"] == "/pr"
        await expect(answers(page).get_by_role("button", name="Regenerate")).to_be_visible()

        await text.press_sequentially("/")
        await expect(options(page)).to_have_count(3)
        await text.press_sequentially("practice/all")
        await expect(options(page)).to_have_count(0)
        await keyboard.press("Enter")
        assert (await upstream.request(1)).json["messages"][-1]["content"] == "/practice/all"


TYPED_AT_ONCE = """(box, text) => {
  box.value = text;
  box.dispatchEvent(new InputEvent("input", { bubbles: true }));
  const enter = { key: "Enter", bubbles: true, cancelable: true };
  box.dispatchEvent(new KeyboardEvent("keydown", enter));
}"""


async def test_enter_before_the_list_is_there_waits_for_it(
    chromium: Browser, tmp_path: Path
) -> None:
    go = asyncio.Event()

    async def late(route: Route) -> None:
        await go.wait()
        await route.continue_()

    async with chatting(chromium, tmp_path, settings=OWNERS) as (upstream, _, page):
        upstream.plan(*numbered())
        await page.route("**/prompt_list.js", late)
        summarize = "Summarize this in {{number}} points for {{readers}}: "
        for typed in ("/sum", "/none"):
            await open_chat(page)
            async with page.expect_request("**/prompt_list.js"):
                await box(page).press_sequentially(typed)
            await page.keyboard.press("Enter")
            await expect(box(page)).to_have_value(typed)
            go.set()
            if typed == "/sum":
                await expect(box(page)).to_have_value(summarize)
                await expect(answers(page)).to_have_count(0)
                await box(page).evaluate(TYPED_AT_ONCE, "/pract")  # while it reads the prompts
                await expect(box(page)).to_have_value("Ask me ten questions.")
                await box(page).fill("")
            go.clear()
        go.set()
        assert (await upstream.request()).json["messages"][-1]["content"] == "/none"
        await expect(box(page)).to_have_value("")


async def test_enter_of_an_input_method_and_an_answer_under_way_are_left_alone(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path, settings=OWNERS) as (_, _, page):
        await open_chat(page)
        await box(page).press_sequentially("/")
        await expect(options(page)).to_have_count(3)
        await box(page).evaluate(
            "(node) => node.dispatchEvent(new KeyboardEvent('keydown',"
            " { key: 'Enter', isComposing: true, bubbles: true, cancelable: true }))"
        )
        await expect(options(page)).to_have_count(3)
        await expect(box(page)).to_have_value("/")
        await page.keyboard.press("Tab")
        await expect(box(page)).to_have_value(
            "Summarize this in {{number}} points for {{readers}}: "
        )
        await box(page).fill("before  after")
        for _ in range(6):
            await page.keyboard.press("ArrowLeft")
        await choose(page, "Practice")
        await expect(box(page)).to_have_value("before Ask me ten questions. after")
        await expect(box(page)).to_be_focused()
        await open_chat(page)
        await expect(box(page)).to_have_value("before Ask me ten questions. after")


async def test_prompts_are_a_persons_on_every_device_until_all_is_deleted(
    chromium: Browser, tmp_path: Path
) -> None:
    opened = two_devices(chromium, tmp_path, settings=OWNERS, expected=CHANGED)
    async with opened as (_, door, page, other, key):
        await choose(page, "Manage")
        await add(page, "Letter", "Write a letter.")
        await choose(other, "Manage")
        await add(other, "Poem", "Write a poem.")
        await expect(dialog(other).get_by_role("listitem")).to_contain_text(["Letter", "Poem"])
        await leave_network(page)
        await edit(page, "Letter", " To Eve.")
        await dialog(page).get_by_role("button", name="Done").click()
        await edit(other, "Letter", " To Bob.")
        await dialog(other).get_by_role("button", name="Delete Poem").click()
        await dialog(other).get_by_role("button", name="Undo").click()
        await expect(dialog(other).get_by_role("listitem")).to_have_count(2)
        edited = {"name": "Letter", "text": "Write a letter. To Bob."}
        await kept(door, key, lambda values: edited in values)
        await come_back(page)
        await expect(page.get_by_role("alert")).to_contain_text("list as “Letter (2)”")
        rows = ["LetterWrite a letter. To Bob.", "Letter (2)Write a letter. To Eve.", "Poem"]
        await expect(dialog(other).get_by_role("listitem")).to_contain_text(rows)
        await dialog(other).get_by_role("button", name="Delete Letter (2)").click()
        await dialog(other).get_by_role("button", name="Done").click()

        await talk(page, "# A question\n\nof **mine**")
        await page.get_by_role("article", name="You").hover()
        await page.get_by_role("article", name="You").get_by_role("button", name="More").click()
        await page.get_by_role("menuitem", name="Save as prompt").click()
        await expect(dialog(page).get_by_role("textbox", name="Name")).to_have_value(
            "A question of mine"
        )
        assert await violations(page) == []
        await dialog(page).get_by_role("button", name="Save").click()
        await expect(dialog(page)).to_have_count(0)
        prompts = {
            "Letter": "Write a letter. To Bob.",
            "Poem": "Write a poem.",
            "A question of mine": "# A question\n\nof **mine**",
        }
        await exports(door, key, prompts)
        assert (await door.get("/api/v1/history/changes?since=0", key)).json()["used_bytes"] > 200

        await sign_out(other)
        await other.get_by_role("button", name="Prompts", exact=True).click()
        await expect(options(other)).to_have_count(3)  # the owner's, and "Manage prompts…"
        await page.get_by_role("button", name="Delete all chats").click()
        await expect(dialog(page)).to_contain_text("3 prompts of yours are deleted too.")
        await dialog(page).get_by_role("button", name="Delete all").click()
        await expect(entries(page)).to_have_count(0)
        await exports(door, key, {})
        assert (await door.get("/api/v1/history/export", key)).json()["conversations"] == []
        await choose(page, "Manage")
        await expect(dialog(page)).to_contain_text("No prompts yet.")


async def test_an_export_of_this_browser_takes_prompts_along(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path) as (_, door, page):
        await open_chat(page)
        await choose(page, "Manage")
        await add(page, "Letter", "Write a letter.")
        await dialog(page).get_by_role("button", name="Done").click()
        async with page.expect_download() as downloading:
            await page.get_by_role("button", name="Export all chats").click()
        file = await (await downloading.value).path()
        async with visiting(chromium, door) as other:
            await open_chat(other)
            for _ in range(2):  # a second time it is there already
                async with other.expect_file_chooser() as choosing:
                    await other.get_by_role("button", name="Import chats").click()
                await (await choosing.value).set_files(file)
                await other.get_by_role("button", name="Prompts", exact=True).click()
                await expect(options(other).first).to_contain_text("Write a letter.")
                await expect(options(other)).to_have_count(2)
                await other.keyboard.press("Escape")


async def test_a_prompt_that_cannot_be_saved_says_why_and_is_not_lost(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path) as (_, _, page):
        await open_chat(page)
        await choose(page, "Manage")
        await add(page, "", "")
        alert = dialog(page).get_by_role("alert")
        await expect(alert).to_have_text("Enter a name.")
        await dialog(page).get_by_role("textbox", name="Name").press_sequentially("Long")
        await dialog(page).get_by_role("button", name="Save").click()
        await expect(alert).to_have_text("Enter a text.")
        text = dialog(page).get_by_role("textbox", name="Text")
        await text.fill("x" * 8001)
        await dialog(page).get_by_role("button", name="Save").click()
        await expect(alert).to_have_text(
            "This text is too long: 8,001 of at most 8,000 characters."
        )
        await page.keyboard.press("Escape")
        await expect(alert).to_have_text("This prompt is not saved yet.")
        await text.fill("x" * 8000)
        await dialog(page).get_by_role("button", name="Save").click()
        await expect(dialog(page).get_by_role("listitem")).to_have_count(1)
        for name in "ab":  # with two bytes a letter the room is used up sooner
            await add(page, name, "\u00e9" * 8000)
        await expect(dialog(page).get_by_role("listitem")).to_have_count(3)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_prompts_on_a_phone(chromium: Browser, tmp_path: Path, scheme: str) -> None:
    async with chatting(chromium, tmp_path, settings=OWNERS, color_scheme=scheme, **TOUCH) as (
        _,
        _,
        page,
    ):
        await open_chat(page)
        await page.get_by_role("button", name="Prompts", exact=True).tap()
        await expect(options(page)).to_have_count(3)
        for option in await options(page).all():
            place = await option.bounding_box()
            assert place is not None and place["height"] >= 44
            assert place["x"] >= 0 and place["x"] + place["width"] <= PHONE["width"]
            assert place["y"] >= 0 and place["y"] + place["height"] <= PHONE["height"]
        assert await violations(page) == []
        await options(page).filter(has_text="Practice").tap()
        await expect(box(page)).to_have_value("Ask me ten questions.")
        await expect(send_button(page)).to_be_enabled()
        await page.get_by_role("button", name="Prompts", exact=True).tap()
        await options(page).filter(has_text="Save this text").tap()
        assert await violations(page) == []
        await dialog(page).get_by_role("button", name="Save").tap()
        await page.get_by_role("button", name="Prompts", exact=True).tap()
        await expect(options(page)).to_have_count(5)
        await page.touchscreen.tap(195, 70)
        await expect(options(page)).to_have_count(0)
        await page.get_by_role("button", name="Prompts", exact=True).press("Enter")
        await expect(options(page)).to_have_count(5)
        await page.keyboard.press("Escape")
        await expect(options(page)).to_have_count(0)


async def test_prompts_of_this_browser_are_named_before_they_are_deleted(
    chromium: Browser, tmp_path: Path
) -> None:
    off = OWNERS + "[history]\nenabled = false\n"
    async with one_device(chromium, tmp_path, settings=off) as (_, _, page, key):
        await choose(page, "Manage")
        await add(page, "Letter", "Write a letter.")
        await dialog(page).get_by_role("button", name="Done").click()
        await page.get_by_role("button", name="Sign out").click()
        await expect(dialog(page)).to_contain_text("Your prompts are stored in this browser only.")
        await dialog(page).get_by_role("button", name="Sign out and delete").click()
        await page.get_by_role("link", name="Sign in").first.wait_for()
        await page.locator(READY).wait_for(state="attached")
        await sign_in(page, key)
        await page.get_by_role("button", name="Prompts", exact=True).click()
        await expect(options(page)).to_contain_text(["Summarize", "Practice", "Manage prompts"])


async def test_the_first_prompts_of_the_owner_stand_below_the_box(tmp_path: Path) -> None:
    prompts = ", ".join(f'{{ name = "Prompt {n}", text = "Text {n}." }}' for n in range(50))
    settings = f"{GUESTS}\n[web]\nprompts = [{prompts}]"
    async with (
        FakeUpstream() as upstream,
        front_door(tmp_path, upstream, settings=settings) as door,
    ):
        page = (await door.get("/", None)).text
        assert page.count('class="prompt"') == 8
        assert all(f"Text {n}." in page for n in range(50))


async def test_a_guests_prompts_move_with_all_chats(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (_, door, page):
        await open_chat(page)
        await choose(page, "Manage")
        await add(page, "Letter", "Write a letter.")
        await dialog(page).get_by_role("button", name="Done").click()
        await talk(page, "about apples")
        await sign_in(page, await door.mint("Ada"))
        await dialog(page).get_by_role("button", name="Move it").click()
        await expect(dialog(page)).to_have_count(0)
        await page.get_by_role("button", name="Prompts", exact=True).click()
        await expect(options(page)).to_contain_text(["Letter", "Manage prompts"])
        await page.keyboard.press("Escape")
        await page.locator(LISTENING).wait_for(state="attached")
        await page.keyboard.press("Control+/")
        await expect(dialog(page).get_by_role("row", name="List prompts")).to_be_visible()
        await dialog(page).get_by_role("button", name="Close").click()
        await sign_out(page)
        await page.get_by_role("button", name="Prompts", exact=True).click()
        await expect(options(page)).to_have_text(["Manage prompts…"])
