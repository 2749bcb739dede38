"""Attachments and the choice of a model."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import Browser, FilePayload, Locator, Page, Route, expect
from support.browsing.browser import open_chat, say, visiting
from support.browsing.chat_page import box, send_button
from support.browsing.chatting import GUESTS, chatting
from support.builders.catalogs import second_model
from support.fakes.upstream import FakeUpstream
from support.front_door import Door, front_door
from support.inputs.pictures import PNG

MAX_FILE_BYTES = 10 * 1024 * 1024
HAND_OVER = """([how, name, type, size]) => {
  const file = new File([new Uint8Array(size).fill(97)], name, { type });
  const data = new DataTransfer();
  data.items.add(file);
  const target = document.getElementById("message");
  const event = how === "paste"
    ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true })
    : new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
  target.dispatchEvent(event);
}"""


def image() -> FilePayload:
    return {"name": "dot.png", "mimeType": "image/png", "buffer": PNG}


def picker(page: Page) -> Locator:
    return page.locator('form input[type="file"]')


async def hand_over(page: Page, how: str, name: str, size: int, kind: str = "text/plain") -> None:
    """Add a file to the page in one of the three ways."""
    if how == "pick":
        await page.evaluate(
            """([name, type, size]) => {
              const data = new DataTransfer();
              data.items.add(new File([new Uint8Array(size).fill(97)], name, { type }));
              const input = document.querySelector('form input[type="file"]');
              input.files = data.files;
              input.dispatchEvent(new Event("change", { bubbles: true }));
            }""",
            [name, kind, size],
        )
    else:
        await page.evaluate(HAND_OVER, [how, name, kind, size])


async def test_files_come_by_three_ways_and_go_by_keyboard(
    chromium: Browser, demo_door: Door
) -> None:
    async with visiting(chromium, demo_door) as page:
        await open_chat(page)
        await picker(page).set_input_files([image()])
        await expect(page.get_by_role("img", name="dot.png")).to_be_visible()
        await hand_over(page, "drop", "dropped.txt", 1536)
        await expect(page.locator(".box .file", has_text="dropped.txt")).to_contain_text("1.5 KB")
        await hand_over(page, "paste", "pasted.bin", 3, "application/zip")
        await expect(page.locator(".box .file")).to_have_count(3)
        for name in ("dot.png", "dropped.txt", "pasted.bin"):
            await page.get_by_role("button", name=f"Remove {name}").focus()
            await page.keyboard.press("Enter")
        await expect(page.locator(".box .file")).to_have_count(0)


async def test_a_byte_too_many_is_refused_at_once_by_every_way(
    chromium: Browser, demo_door: Door
) -> None:
    async with visiting(chromium, demo_door) as page:
        await open_chat(page)
        for how in ("pick", "drop", "paste"):
            await hand_over(page, how, f"{how}.txt", MAX_FILE_BYTES + 1)
            alert = page.get_by_role("alert")
            await expect(alert).to_contain_text(f"“{how}.txt” has 10,485,761 bytes")
            await expect(alert).to_contain_text("10 MB")
            await expect(page.locator(".box .file")).to_have_count(0)
            await page.get_by_role("button", name="Dismiss").click()
        await hand_over(page, "pick", "fits.txt", MAX_FILE_BYTES)
        await expect(page.locator(".box .file")).to_have_count(1)


async def choose_model(page: Page, name: str) -> None:
    await page.get_by_role("button", name="Model: ").click()
    await page.get_by_role("option", name=name).click()


async def test_an_image_needs_a_model_that_takes_images(chromium: Browser, demo_door: Door) -> None:
    async with visiting(chromium, demo_door) as page:
        await open_chat(page)
        await picker(page).set_input_files([image()])
        await expect(page.get_by_text("GLM 4.5 does not accept images.")).to_be_visible()
        await box(page).fill("What is this?")
        await expect(send_button(page)).to_be_disabled()
        await page.get_by_role("button", name="Switch to Gemini 2.5 Pro").click()
        await expect(send_button(page)).to_be_enabled()
        await page.keyboard.press("Tab")
        await send_button(page).click()
        await expect(page.get_by_role("article", name="Assistant")).to_contain_text("You attached")
        await expect(page.get_by_role("article", name="You").get_by_role("img")).to_be_visible()
        # The other models do not see it, typing or not; it is said until one that does is chosen.
        unseen = page.get_by_text("GLM 4.5 does not see the images of this chat.")
        await choose_model(page, "GLM 4.5")
        await expect(unseen).to_be_visible()
        await box(page).fill("And now?")
        await expect(unseen).to_be_visible()
        await choose_model(page, "Gemini 2.5 Pro")
        await expect(page.get_by_text("≈ 2 tokens")).to_be_visible()
        await expect(unseen).to_be_hidden()


async def test_text_files_are_read_by_the_model(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        await open_chat(page)
        await picker(page).set_input_files(
            {"name": "a.md", "mimeType": "text/markdown", "buffer": b"```\nfenced\n```"}
        )
        await say(page, "Read this")
        parts = (await upstream.request()).json["messages"][0]["content"]
        assert parts[0]["text"] == "File “a.md”:\n\n````\n```\nfenced\n```\n````"
        assert parts[1] == {"type": "text", "text": "Read this"}


@pytest.mark.gateway(environ={"GROQ_API_KEY": "a-key-of-groq"})
async def test_the_model_is_chosen_by_keyboard(chromium: Browser, demo_door: Door) -> None:
    async with visiting(chromium, demo_door) as page:
        await open_chat(page)
        notice = page.get_by_text("Answers come from a script, not from a language model.")
        await expect(notice).to_be_visible()
        await page.get_by_role("button", name="Model: GLM 4.5").focus()
        await page.keyboard.press("Enter")
        box_ = page.get_by_role("combobox", name="Search models")
        await expect(box_).to_be_focused()
        option = page.get_by_role("option", name="Gemini 2.5 Pro")
        await expect(option).to_have_attribute(
            "aria-label",
            "Gemini 2.5 Pro, Google, context 1M tokens, accepts images,"
            " answered by the demo script",
        )
        await page.keyboard.type("sonnet")
        await expect(page.get_by_role("dialog").get_by_role("option")).to_have_count(1)
        await page.keyboard.press("Enter")
        chip = page.get_by_role("button", name="Model: Claude Sonnet 4")
        await expect(chip).to_be_focused()
        await page.reload()
        await expect(chip).to_be_visible()
        for name, is_scripted in (("Llama 3.3 70B", False), ("GLM 4.5", True)):
            await page.get_by_role("button", name="Model: ").click()
            await page.get_by_role("option", name=name).click()
            await expect(notice).to_be_visible(visible=is_scripted)
        await page.get_by_role("button", name="Model: GLM 4.5").click()
        names = [await one.get_attribute("aria-label") for one in await shown(page)]
        assert [str(name).partition(",")[0] for name in names] == [
            *("GLM 4.5", "Llama 3.3 70B", "Claude Sonnet 4"),  # as they were chosen, the last first
            "Gemini 2.5 Pro",
        ]


async def shown(page: Page) -> list[Locator]:
    """Return the models of the picker, in their order."""
    options = page.get_by_role("dialog").get_by_role("option")
    await expect(options).to_have_count(4)
    return await options.all()


async def test_each_conversation_keeps_its_model(chromium: Browser, tmp_path: Path) -> None:
    async with (
        FakeUpstream() as upstream,
        front_door(tmp_path, upstream, settings=GUESTS + second_model(upstream)) as door,
        visiting(chromium, door) as page,
    ):
        await open_chat(page)
        for name in ("Test One", "Test Two"):
            await page.get_by_role("link", name="New chat").click()
            await choose_model(page, name)
            await say(page, f"With {name}")
            await expect(page.get_by_role("article", name="Assistant")).to_contain_text("11 in")
        for name in ("Test One", "Test Two"):
            await page.get_by_role("link", name=f"With {name}").click()
            await expect(page.get_by_role("button", name=f"Model: {name}")).to_be_visible()
            await page.reload()
            await expect(page.get_by_role("button", name=f"Model: {name}")).to_be_visible()
            await say(page, "More")
            await expect(page.get_by_role("article", name="Assistant")).to_have_count(2)
        await upstream.request(3)  # its article is shown before the request is sent
    asked = [request.json["model"] for request in upstream.requests]
    assert asked == ["upstream-model", "second", "upstream-model", "second"]


async def test_enter_while_a_file_is_being_read_sends_once_it_is(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        held = asyncio.Event()

        async def hold(route: Route) -> None:
            await held.wait()
            await route.continue_()

        await page.route("**/composer/attached.js", hold)
        await open_chat(page)
        await picker(page).set_input_files(
            {"name": "a.txt", "mimeType": "text/plain", "buffer": b"the file"}
        )
        await say(page, "Read this")
        await expect(send_button(page)).to_be_disabled()
        await expect(box(page)).to_have_value("Read this")
        held.set()
        parts = (await upstream.request()).json["messages"][0]["content"]
        assert "the file" in parts[0]["text"] and parts[1]["text"] == "Read this"
        await expect(box(page)).to_have_value("")
