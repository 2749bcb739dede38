"""Versions, drafts, and the list of conversations."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, expect
from support.browsing.browser import open_chat, say, visiting
from support.browsing.chat_page import (
    answers,
    attach_text,
    begin_anew,
    box,
    entries,
    held,
    more,
    numbered,
    refuse,
    status,
    stop_button,
    talk,
    text_of_answer,
)
from support.browsing.chatting import chatting
from support.browsing.page_waiting import UNDO_MS, gives, hold_timers, stores
from support.fakes.upstream import stream_of
from support.front_door import Door


async def test_regenerating_keeps_the_old_version(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        upstream.plan(*numbered())
        await open_chat(page)
        await talk(page, "one", "two")
        await answers(page).first.hover()
        await answers(page).first.get_by_role("button", name="Regenerate").click()
        await expect(answers(page)).to_have_count(1)
        await expect(text_of_answer(page)).to_have_text(["Answer 3."])
        await expect(answers(page)).to_contain_text("2 / 2")
        await page.get_by_role("button", name="Previous version").click()
        await expect(text_of_answer(page)).to_have_text(["Answer 1.", "Answer 2."])
        await page.reload()
        await expect(text_of_answer(page)).to_have_text(["Answer 1.", "Answer 2."])
        await page.get_by_role("button", name="Next version").click()
        await expect(text_of_answer(page)).to_have_text(["Answer 3."])


async def test_editing_begins_another_branch(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path, expected=("429",)) as (upstream, _, page):
        upstream.plan(*numbered())
        await open_chat(page)
        await attach_text(page, "notes.txt", b"the notes")
        await talk(page, "first words")
        await page.get_by_role("button", name="Edit message").click()
        new, keyboard = page.get_by_role("textbox", name="New text"), page.keyboard
        await keyboard.press("Escape")  # nothing was changed
        await expect(new).to_have_count(0)
        await expect(page.get_by_role("button", name="Continue editing")).to_have_count(0)
        await box(page).press("ArrowUp")
        await expect(new).to_be_focused()
        await keyboard.press("Control+A")
        await keyboard.type("other")
        await keyboard.press("Escape")
        await expect(page.get_by_role("article", name="You")).to_contain_text("first words")
        await page.get_by_role("button", name="Continue editing").click()
        await expect(new).to_have_value("other")
        await page.reload()
        await page.get_by_role("button", name="Edit message").click()
        await expect(new).to_have_value("other")
        await new.evaluate(
            "(node) => node.dispatchEvent(new KeyboardEvent('keydown',"
            " { key: 'Enter', isComposing: true, bubbles: true, cancelable: true }))"
        )
        await keyboard.press("Shift+Enter")
        await keyboard.type("words")
        await expect(new).to_have_value("other\nwords")
        await keyboard.press("Enter")
        await expect(text_of_answer(page)).to_have_text(["Answer 2."])
        (content,) = [m["content"] for m in (await upstream.request(1)).json["messages"]]
        assert "the notes" in content[0]["text"] and content[1]["text"] == "other\nwords"
        await expect(page.get_by_role("article", name="You")).to_contain_text("notes.txt")
        await page.get_by_role("button", name="Previous version").first.click()
        await expect(page.get_by_role("article", name="You")).to_contain_text("first words")
        await expect(text_of_answer(page)).to_have_text(["Answer 1."])
        await page.get_by_role("button", name="Edit message").click()
        await expect(new).to_have_value("first words")
        await new.press_sequentially(" again")
        await refuse(page, {"Retry-After": "90"})
        await keyboard.press("Control+Enter")
        await expect(page.get_by_role("alert")).to_contain_text("Too many requests")
        await expect(new).to_have_value("first words again")
        await expect(box(page)).to_have_value("")
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.get_by_role("button", name="Continue editing")).to_have_count(0)


async def test_a_draft_stays_with_its_conversation(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path, expected=("429",)) as (_, _, page):
        await open_chat(page)
        await talk(page, "about apples")
        await box(page).fill("draft in apples")
        await page.get_by_role("link", name="New chat").click()
        await expect(box(page)).to_have_value("")
        await box(page).fill("draft of a new chat")
        await page.get_by_role("link", name="about apples").click()
        await expect(box(page)).to_have_value("draft in apples")
        await page.reload()
        await expect(box(page)).to_have_value("draft in apples")
        await page.get_by_role("link", name="New chat").click()
        await expect(box(page)).to_have_value("draft of a new chat")
        await refuse(page, {"Retry-After": "90"})
        await page.get_by_role("button", name="Send", exact=True).click()
        await expect(page.get_by_role("alert")).to_contain_text("Too many requests")
        await page.reload()
        await expect(box(page)).to_have_value("draft of a new chat")


async def test_a_draft_can_be_written_while_an_answer_runs(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        answer, go = held("Begun", then=(".",))
        upstream.plan(answer)
        await open_chat(page)
        await say(page, "Hi")
        await expect(text_of_answer(page)).to_have_text(["Begun"])
        await box(page).fill("my next thought")
        go.set()
        await expect(stop_button(page)).to_be_hidden()
        await stores(page, "my next thought")
        await page.reload()
        await expect(box(page)).to_have_value("my next thought")


async def test_the_list_renames_pins_deletes_and_takes_back(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path) as (_, _, page):
        await open_chat(page)
        await talk(page, "about apples")
        await begin_anew(page)
        await talk(page, "about pears")
        await expect(entries(page)).to_have_text([re.compile("pears"), re.compile("apples")])
        await more(page, "about apples", "Pin")
        await expect(entries(page)).to_have_text([re.compile("apples"), re.compile("pears")])
        await more(page, "about apples", "Rename")
        await page.get_by_role("textbox", name="New title").fill("Fruit")
        await page.keyboard.press("Enter")
        await expect(entries(page).first).to_contain_text("Fruit")
        await hold_timers(page, UNDO_MS)
        await more(page, "about pears", "Delete")
        await expect(entries(page)).to_have_count(1)
        await page.get_by_role("button", name="Undo").click()
        await expect(entries(page)).to_have_count(2)
        await more(page, "about pears", "Delete")
        await expect(entries(page)).to_have_count(1)
        await page.reload()
        await expect(entries(page)).to_have_text([re.compile("Fruit")])


async def test_a_title_being_written_outlives_the_end_of_an_answer(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        answer, go = held("Begun")
        upstream.plan(answer)
        await open_chat(page)
        await say(page, "about apples")
        await expect(text_of_answer(page)).to_have_text(["Begun"])
        await more(page, "about apples", "Rename")
        await page.get_by_role("textbox", name="New title").fill("Fruit")
        go.set()
        await expect(stop_button(page)).to_be_hidden()
        await page.keyboard.press("Enter")
        await expect(entries(page).first).to_contain_text("Fruit")


async def test_search_finds_titles_and_words(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        upstream.plan(stream_of(["The quince is a fruit."]), stream_of(["Nothing here."]))
        await open_chat(page)
        await talk(page, "about apples")
        await begin_anew(page)
        await talk(page, "about pears")
        search = page.get_by_role("searchbox", name="Search chats")
        await search.fill("pears")
        await expect(entries(page)).to_have_count(1)
        await search.fill("QUINCE")
        await expect(entries(page)).to_have_text([re.compile("about apples.*quince is a fruit")])
        await search.fill("plum")
        await expect(entries(page)).to_have_count(0)
        await expect(page.get_by_text("No results for “plum”.")).to_be_visible()


KEPT = """async () => {
  const db = await new Promise((resolve) => {
    const asked = indexedDB.open("roxy");
    asked.onsuccess = () => resolve(asked.result);
  });
  const all = async (store) => new Promise((resolve) => {
    const asked = db.transaction(store).objectStore(store).getAll();
    asked.onsuccess = () => resolve(asked.result);
  });
  const files = [];
  for (const { bytes, ...file } of await all("files")) {
    files.push({ ...file, text: new TextDecoder().decode(bytes) });
  }
  const conversations = (await all("conversations")).map(({ draft, ...one }) => one);
  return { conversations, messages: await all("messages"), files };
}"""


async def test_an_export_comes_back_the_same(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (upstream, door, page):
        upstream.plan(*numbered())
        await open_chat(page)
        await attach_text(page, "notes.txt", "the nötes".encode())
        await talk(page, "one")
        await expect(answers(page)).to_contain_text("11 in")
        await page.get_by_role("button", name="Regenerate").click()
        await expect(answers(page)).to_contain_text("2 / 2")
        await expect(status(page)).to_contain_text("complete")
        await expect(answers(page)).to_contain_text("11 in")
        before: Any = await page.evaluate(KEPT)
        async with page.expect_download() as downloading:
            await page.get_by_role("button", name="Export all chats").click()
        exported = tmp_path / "export.json"
        await (await downloading.value).save_as(exported)
        async with page.expect_download() as downloading:
            await more(page, "one", "Export as Markdown")
        markdown = (await (await downloading.value).path()).read_text()
        assert (
            "# one\n\n## You\n\n*Attached: notes.txt*\n\none\n\n## Test One\n\nAnswer 2.\n"
            in markdown
        )
        assert json.loads(exported.read_text())["format"] == "roxy-conversations"
        async with visiting(chromium, door) as other:
            await open_chat(other)
            async with other.expect_file_chooser() as choosing:
                await other.get_by_role("button", name="Import chats").click()
            await (await choosing.value).set_files(exported)
            await expect(entries(other)).to_have_count(1)
            await gives(other, KEPT, before)
            await entries(other).get_by_role("link").click()
            await expect(answers(other)).to_contain_text("2 / 2")
            await more(other, "one", "Rename")
            await other.get_by_role("textbox", name="New title").press_sequentially("mine")
            await other.keyboard.press("Enter")
            await expect(entries(other)).to_have_text(["mine"])
            await take_in(other, exported.read_bytes())
            said = other.get_by_role("alert")
            await expect(said).to_contain_text("0 chats imported. 1 was already here.")
            await expect(entries(other)).to_have_text(["mine"])


GOOD = {"id": "c_good", "title": "Good", "messages": []}


def export_of(*conversations: Any) -> bytes:
    """Write an export by hand."""
    document = {"format": "roxy-conversations", "version": 1, "conversations": conversations}
    return json.dumps(document).encode()


async def take_in(page: Page, export: bytes) -> None:
    """Import a file."""
    async with page.expect_file_chooser() as choosing:
        await page.get_by_role("button", name="Import chats").click()
    file = {"name": "mine.json", "mimeType": "application/json", "buffer": export}
    await (await choosing.value).set_files(file)  # type: ignore[arg-type]


DAMAGED = [
    (b"{", "This file is not JSON."),
    (b"[]", "This is not an export"),
    (export_of(GOOD, {"id": "c_bad"}), "A chat in this file is damaged."),
    (export_of(GOOD, {**GOOD, "id": "../x"}), "An id in this file is damaged."),
    (export_of(GOOD, {**GOOD, "messages": [{"role": "user"}]}), "A message in this file"),
    (
        export_of({**GOOD, "files": [{"id": "f", "name": "n", "data": "data:,%"}]}),
        "A file in this file is damaged.",
    ),
    (export_of(GOOD).replace(b": 1,", b": 2,"), "This export is from a newer version"),
]


async def test_a_damaged_import_changes_nothing(chromium: Browser, demo_door: Door) -> None:
    async with visiting(chromium, demo_door) as page:
        await open_chat(page)
        alert = page.get_by_role("alert")
        for export, told in DAMAGED:
            await take_in(page, export)
            await expect(alert).to_contain_text(f"“mine.json” was not imported. {told}")
            await expect(entries(page)).to_have_count(0)
        await page.reload()
        await expect(page.get_by_text("No chats yet.")).to_be_visible()


async def test_what_an_import_leaves_out_or_garbles_is_filled_in(
    chromium: Browser, tmp_path: Path
) -> None:
    question = {"id": "m_1", "role": "user", "text": "What?", "created": "yesterday"}
    answer = {
        "id": "m_2",
        "parent": "m_1",
        "role": "assistant",
        "text": "That.",
        "state": "failed",
        "stats": {"prompt": "many", "completion": 7},
    }
    given = {"id": "c_1", "title": "Sparse", "messages": [question, answer], "parameters": 3}
    hostile = {"messages": [], "model": "x/y", "stream": False, "n": 8, "temperature": 0.5}
    # Its messages have the ids of the first one's, and a time that no Date can be.
    second = {"id": "c_2", "title": "Hostile", "created": 1e300, "parameters": hostile}
    second["messages"] = [question | {"text": "Mine?", "created": 1e300}]
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        upstream.plan(*numbered())
        await open_chat(page)
        await take_in(page, export_of(given, second))
        await entries(page).get_by_role("link", name="Hostile").click()
        await expect(page.get_by_role("article", name="You")).to_have_text(re.compile(r"Mine\?"))
        await page.get_by_role("button", name="Model: ").click()
        await page.get_by_role("option", name=re.compile("Test One")).click()
        await expect(page.get_by_role("button", name="Model: Test One")).to_be_visible()
        await say(page, "A real question")
        asked = (await upstream.request()).json
        assert asked["model"] == "upstream-model" and asked["stream"] and "n" not in asked
        assert [one["content"] for one in asked["messages"]] == ["Mine?", "A real question"]
        assert asked["temperature"] == 0.5
        await expect(text_of_answer(page)).to_have_text(["Answer 1."])
        await entries(page).get_by_role("link", name="Sparse").click()
        await expect(answers(page)).to_contain_text(
            "The answer failed. The text received so far is kept."
        )
        await expect(answers(page)).to_contain_text("7 out")
        await expect(page.locator("main")).not_to_contain_text("NaN")
        await page.get_by_role("button", name="Model: ").click()
        await page.get_by_role("option", name=re.compile("Test One")).click()
        await expect(page.get_by_role("button", name="Model: Test One")).to_be_visible()
        await talk(page, "And now?")
        await page.reload()
        await expect(text_of_answer(page)).to_have_text(["That.", "Answer 2."])


async def test_a_conversation_of_another_browser_is_told(
    chromium: Browser, demo_door: Door
) -> None:
    async with visiting(chromium, demo_door) as page:
        await open_chat(page, "/c/c_unknown")
        await expect(page.get_by_role("alert")).to_contain_text("not in this browser")
        await expect(box(page)).to_be_visible()
        assert page.url.endswith("/")


async def test_a_refused_version_leaves_the_one_that_was_shown(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path, expected=("429",)) as (upstream, _, page):
        upstream.plan(*numbered())
        await open_chat(page)
        await talk(page, "one")
        for place in ("2 / 2", "3 / 3"):
            await page.get_by_role("button", name="Regenerate").click()
            await expect(answers(page)).to_contain_text(place)
        for _ in range(2):
            await page.get_by_role("button", name="Previous version").click()
        await refuse(page, {"Retry-After": "90"})
        await page.get_by_role("button", name="Regenerate").click()
        await expect(page.get_by_role("alert")).to_contain_text("Too many requests")
        await expect(text_of_answer(page)).to_have_text(["Answer 1."])
        await expect(answers(page)).to_contain_text("1 / 3")


async def test_the_last_words_of_a_draft_are_kept_by_whoever_leaves_at_once(
    chromium: Browser, demo_door: Door
) -> None:
    async with visiting(chromium, demo_door) as page:
        await open_chat(page)
        await box(page).fill("quick words")
        await page.reload()
        await expect(box(page)).to_have_value("quick words")
        await box(page).fill("quicker words")
        await page.get_by_role("link", name="Docs").click()
        await open_chat(page)
        await expect(box(page)).to_have_value("quicker words")


async def test_a_model_that_is_offered_no_more_is_told_and_replaced(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        upstream.plan(*numbered())
        question = {"id": "m_1", "role": "user", "text": "What?"}
        await open_chat(page)
        await take_in(page, export_of({**GOOD, "model": "gone/1", "messages": [question]}))
        await entries(page).get_by_role("link", name="Good").click()
        await expect(page.get_by_text("gone/1 is not available here.")).to_be_visible()
        await box(page).fill("And now?")
        await expect(page.get_by_role("button", name="Send", exact=True)).to_be_disabled()
        await page.get_by_role("button", name="Choose a model").click()
        await page.get_by_role("option", name=re.compile("Test One")).click()
        await expect(page.get_by_role("button", name="Model: Test One")).to_be_visible()
        await page.get_by_role("button", name="Send", exact=True).click()
        await expect(text_of_answer(page)).to_have_text(["Answer 1."])
