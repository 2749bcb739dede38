"""Chats belong to people: the same on every device, and nothing of them stays after sign-out."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, Response, expect
from support.browsing.axe import violations
from support.browsing.browser import open_chat, say, tab, visiting
from support.browsing.chat_page import (
    answers,
    attach_text,
    begin_anew,
    box,
    edit_answer,
    entries,
    held,
    more,
    numbered,
    stop_button,
    talk,
    text_of_answer,
)
from support.browsing.chatting import chatting
from support.browsing.devices import one_device, two_devices
from support.browsing.page_waiting import MARKED, UNDO_MS, gives, hold_timers, stores
from support.browsing.signing_in import sign_in, sign_out
from support.fakes.upstream import stream_of

AWAY = ("ERR_FAILED", "ERR_INTERNET_DISCONNECTED")


async def test_two_devices_show_the_same(chromium: Browser, tmp_path: Path) -> None:
    async with two_devices(chromium, tmp_path) as (upstream, _, one, other, _):
        upstream.plan(*numbered(1))
        await attach_text(one, "notes.txt", b"the notes")
        await talk(one, "about apples")
        await entries(other).get_by_role("link", name="about apples").click()
        await expect(text_of_answer(other)).to_have_text(["Answer 1."])
        await expect(other.get_by_role("article", name="You")).to_contain_text("notes.txt")
        await more(other, "about apples", "Rename")
        await other.get_by_role("textbox", name="New title").press_sequentially("Fruit")
        await other.keyboard.press("Enter")
        await expect(entries(one)).to_have_text(["Fruit"])
        await expect(one.get_by_role("heading", name="Fruit")).to_be_visible()
        await more(one, "Fruit", "Pin")
        await other.get_by_role("heading", name="Pinned").wait_for()
        answer, go = held("Begun", then=(" and done.",))
        upstream.plan(answer)
        await say(one, "second")
        await expect(text_of_answer(other)).to_have_text(["Answer 1.", "Begun"])
        await expect(stop_button(other)).to_be_visible()
        go.set()
        await expect(text_of_answer(other)).to_have_text(["Answer 1.", "Begun and done."])
        asked = (await upstream.request(1)).json["messages"]
        assert "the notes" in asked[0]["content"][0]["text"]
        await box(one).press_sequentially("a draft of mine")
        await expect(box(other)).to_have_value("a draft of mine")
        await box(other).press_sequentially(" and yours")
        await expect(box(one)).to_have_value("a draft of mine and yours")
        await answers(other).last.get_by_role("button", name="More").click()
        await other.get_by_role("menuitem", name="Delete").click()
        await expect(answers(one)).to_have_count(1)
        await other.get_by_role("button", name="Undo").click()
        await expect(text_of_answer(one)).to_have_text(["Answer 1.", "Begun and done."])
        await hold_timers(other, UNDO_MS)
        await more(other, "Fruit", "Delete")
        await expect(entries(one)).to_have_count(0)
        await expect(box(one)).to_have_value("a draft of mine and yours")
        await other.get_by_role("button", name="Undo").click()
        await expect(entries(one)).to_have_text(["Fruit"])


def heard_of(words: str) -> Callable[[Response], Awaitable[bool]]:
    """Return what recognises the answer in which a page hears of words on another device."""

    async def matches(answer: Response) -> bool:
        return "/history/changes" in answer.url and words in await answer.text()

    return matches


async def test_a_question_edited_on_two_devices_has_a_version_of_each(
    chromium: Browser, tmp_path: Path
) -> None:
    async with two_devices(chromium, tmp_path) as (upstream, _, one, other, _):
        streamed, go = held("Begun", then=(" and done.",))
        upstream.plan(*numbered(1), streamed, *numbered(3)[2:], *numbered(4)[3:])
        await talk(one, "first words")
        await entries(other).get_by_role("link", name="first words").click()
        await other.get_by_role("button", name="Edit message").click()
        field = other.get_by_role("textbox", name="New text")
        await field.press("Control+a")
        await field.press_sequentially("words of ")
        await one.get_by_role("button", name="Edit message").click()
        await one.get_by_role("textbox", name="New text").press_sequentially(" of one")
        async with other.expect_response(heard_of("words of one")):
            await one.keyboard.press("Control+Enter")
        await expect(one.get_by_role("article", name="You")).to_contain_text("2 / 2")
        await field.press_sequentially("other")
        await other.keyboard.press("Control+Enter")
        question = other.get_by_role("article", name="You")
        await expect(question).to_contain_text("words of other")
        await expect(question).to_contain_text("3 / 3")
        await expect(text_of_answer(other)).to_have_text(["Answer 3."])
        mine, said = one.get_by_role("article", name="You"), one.get_by_role("alert")
        await expect(mine).to_contain_text("2 / 3")
        await expect(said).to_contain_text("A new version of your message was sent")
        await expect(text_of_answer(one)).to_have_text(["Begun"])
        go.set()
        await expect(text_of_answer(one)).to_have_text(["Begun and done."])
        await said.get_by_role("button", name="Show it").click()
        await expect(mine).to_contain_text("3 / 3")
        await expect(text_of_answer(one)).to_have_text(["Answer 3."])
        await other.get_by_role("button", name="Regenerate").click()
        await expect(text_of_answer(other)).to_have_text(["Answer 4."])
        await expect(answers(one)).to_contain_text("1 / 2")  # it is read: it stays
        await expect(text_of_answer(one)).to_have_text(["Answer 3."])
        await expect(said).to_contain_text("A new version of this answer was requested")


async def test_what_is_written_while_the_server_is_away_arrives_later(
    chromium: Browser, tmp_path: Path
) -> None:
    async with two_devices(chromium, tmp_path, expected=AWAY) as (upstream, door, one, other, _):
        upstream.plan(*numbered())
        await talk(one, "about apples")
        await expect(entries(other)).to_have_text(["about apples"])
        await one.route("**/api/v1/history/**", lambda route: route.abort())
        await talk(one, "and pears")
        await more(one, "about apples", "Rename")
        await one.get_by_role("textbox", name="New title").press_sequentially("Fruit")
        await one.keyboard.press("Enter")
        await box(one).press_sequentially("a draft")
        state = one.get_by_text("The server cannot be reached. Changes are kept in this browser")
        await expect(state).to_be_visible()
        await stores(one, "a draft")
        # The page is left while nothing was sent: the next one has it all.
        async with tab(one.context, door, expected=AWAY) as again:
            await one.close()
            await open_chat(again)
            await entries(again).get_by_role("link", name="Fruit").click()
            await expect(text_of_answer(again)).to_have_text(["Answer 1.", "Answer 2."])
            await expect(box(again)).to_have_value("a draft")
        await entries(other).get_by_role("link", name="Fruit").click()
        await expect(text_of_answer(other)).to_have_text(["Answer 1.", "Answer 2."])
        await expect(box(other)).to_have_value("a draft")


async def test_an_answer_edited_while_the_server_is_away_is_not_lost(
    chromium: Browser, tmp_path: Path
) -> None:
    async with two_devices(chromium, tmp_path, expected=AWAY) as (upstream, door, one, other, _):
        upstream.plan(*numbered())
        await talk(one, "about apples")
        await entries(other).get_by_role("link", name="about apples").click()
        await expect(text_of_answer(other)).to_have_text(["Answer 1."])
        await one.route("**/api/v1/history/**", lambda route: route.abort())
        await edit_answer(one, 0, " Edited.")
        # The next page does not know which version was changed: both are kept.
        async with tab(one.context, door, expected=AWAY) as again:
            await one.close()
            await open_chat(again)
            await expect(text_of_answer(other)).to_have_text(["Answer 1. Edited."])


MARK = """() => new Promise((done) => {
  const asked = indexedDB.open("roxy");
  asked.onsuccess = () => {
    const transaction = asked.result.transaction("settings", "readwrite");
    transaction.objectStore("settings").put({ id: "offered", value: { "roxy-ada": 1 } });
    transaction.oncomplete = done;
  };
})"""


async def choose_model(page: Page) -> None:
    """Choose a model, which the browser keeps for the next chat."""
    await page.get_by_role("button", name=re.compile("Test One")).first.click()
    await page.get_by_role("option", name=re.compile("Test One")).click()


LEFT_BEHIND = """async () => {
  const records = [];
  for (const { name } of await indexedDB.databases()) {
    const db = await new Promise((done) => {
      const asked = indexedDB.open(name);
      asked.onsuccess = () => done(asked.result);
    });
    for (const store of db.objectStoreNames) {
      const asked = db.transaction(store).objectStore(store).getAll();
      await new Promise((done) => (asked.onsuccess = done));
      records.push(...asked.result.map((record) => [name, store, record.id]));
    }
    db.close();
  }
  const caches_ = isSecureContext ? await caches.keys() : [];
  return [...records, ...Object.keys(sessionStorage), ...Object.keys(localStorage), ...caches_];
}"""
"""Everything that the browser keeps for the pages, but cookies."""
PREFERENCES = {"roxy_theme", "roxy_texts", "roxy_language", "roxy_notice", "roxy_utc_offset"}
"""Cookies of the browser, whoever uses it."""


async def test_sign_out_leaves_nothing_for_guests_and_others(
    chromium: Browser, tmp_path: Path
) -> None:
    opened = one_device(chromium, tmp_path, expected=("404",))
    async with opened as (upstream, door, page, _):
        upstream.plan(*numbered())
        await choose_model(page)
        await talk(page, "a secret of Ada")
        address = page.url
        await box(page).press_sequentially("a draft of Ada")
        await expect(page.get_by_role("status").last).to_contain_text("complete")
        await sign_out(page)
        assert await page.evaluate(LEFT_BEHIND) == []
        names = {cookie["name"] for cookie in await page.context.cookies()}
        assert names <= {"roxy_guest"} | PREFERENCES
        await expect(entries(page)).to_have_count(0)
        await expect(box(page)).to_have_value("")
        await talk(page, "words of a guest")
        await sign_in(page, await door.mint("Bo"))
        await page.get_by_role("dialog").get_by_role("button", name="Leave here").click()
        await expect(entries(page)).to_have_count(0)
        await open_chat(page, address.removeprefix(door.url))
        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text("not in your history")
        await expect(page.get_by_role("dialog")).to_have_count(0)  # it was answered
        await expect(page.get_by_role("button", name="Move 1 chat")).to_be_visible()
        await page.evaluate(MARK)  # as earlier releases left it
        await sign_out(page)
        left = await page.evaluate(LEFT_BEHIND)
        assert {database for database, _, _ in left} == {"roxy"}  # the guest's own chat
        assert "offered" not in {identity for _, _, identity in left}


async def test_chats_of_the_browser_are_moved_complete(chromium: Browser, tmp_path: Path) -> None:
    opened = chatting(chromium, tmp_path, expected=("ERR_FAILED",))
    async with opened as (upstream, door, page):
        key = await door.mint("Ada")
        upstream.plan(*numbered())
        await open_chat(page)
        await attach_text(page, "notes.txt", b"the notes")
        await talk(page, "about apples")
        await page.get_by_role("button", name="Regenerate").click()
        await expect(answers(page)).to_contain_text("2 / 2")
        await expect(answers(page)).to_contain_text("11 in")
        await begin_anew(page)
        await talk(page, "about pears")
        await box(page).press_sequentially("a draft about pears")
        await begin_anew(page)
        # The connection is lost once in the middle.
        lost: list[str] = []

        async def lose_one(route: object) -> None:
            request = route.request  # type: ignore[attr-defined]
            if request.method == "POST" and not lost:
                lost.append(request.url)
                await route.abort()  # type: ignore[attr-defined]
            else:
                await route.continue_()  # type: ignore[attr-defined]

        await page.route("**/api/v1/history/conversations/*", lose_one)
        await sign_in(page, key)
        offer = page.get_by_role("dialog", name="Move your chats")
        await expect(offer).to_contain_text("2 chats")
        assert await violations(page) == []
        await offer.get_by_role("button", name="Move all").click()
        await expect(offer).to_be_hidden()
        assert lost
        await expect(entries(page)).to_have_text(["about pears", "about apples"])
        left = "async () => (await indexedDB.databases()).length"
        assert await page.evaluate(left) >= 1
        async with visiting(chromium, door) as other:
            await sign_in(other, key)
            await expect(entries(other)).to_have_text(["about pears", "about apples"])
            await entries(other).get_by_role("link", name="about pears").click()
            await expect(box(other)).to_have_value("a draft about pears")
            await entries(other).get_by_role("link", name="about apples").click()
            await expect(text_of_answer(other)).to_have_text(["Answer 2."])
            await other.get_by_role("button", name="Previous version").click()
            await expect(text_of_answer(other)).to_have_text(["Answer 1."])
            await talk(other, "once more")
            asked = (await upstream.request(3)).json["messages"]
            assert "the notes" in asked[0]["content"][0]["text"]
        await page.get_by_role("button", name="Sign out").click()
        await page.locator("html[data-ready]").wait_for(state="attached")
        await expect(page.get_by_role("link", name="Sign in").first).to_be_visible()
        await expect(entries(page)).to_have_count(0)


async def test_an_answer_that_a_sign_in_cuts_off_says_so(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (upstream, door, page):
        answer, go = held("Begun", then=(" and done.",))
        upstream.plan(answer)
        await open_chat(page)
        await say(page, "about apples")
        await expect(text_of_answer(page)).to_have_text(["Begun"])
        await sign_in(page, await door.mint("Ada"))
        offer = page.get_by_role("dialog")
        await expect(offer).to_contain_text("1 chat")
        await expect(offer).not_to_contain_text("choose yours")
        await offer.get_by_role("button", name="Move it").click()
        await entries(page).get_by_role("link", name="about apples").click()
        await expect(text_of_answer(page)).to_have_text(["Begun"])
        await expect(answers(page)).to_contain_text("still being written when you signed in")
        go.set()


async def test_a_search_opens_at_the_passage_on_its_branch(
    chromium: Browser, tmp_path: Path
) -> None:
    opened = two_devices(chromium, tmp_path, expected=("503",))
    async with opened as (upstream, _, one, other, _):
        upstream.plan(
            stream_of(["The quince is a fruit.\n\n" + "More about it.\n\n" * 60]),
            stream_of(["Nothing."]),
        )
        await talk(one, "about apples")
        await one.get_by_role("button", name="Regenerate").click()
        await expect(answers(one)).to_contain_text("2 / 2")
        await expect(text_of_answer(one)).to_have_text(["Nothing."])
        search = other.get_by_role("searchbox", name="Search chats")
        await search.press_sequentially("QUINCE fruit")
        await expect(entries(other)).to_have_text([re.compile("about apples.*quince is a")])
        await entries(other).get_by_role("link", name="quince").click()
        await expect(text_of_answer(other)).to_contain_text("The quince is a fruit.")
        await expect(other.get_by_text("The quince is a fruit.").first).to_be_in_viewport()
        await gives(other, MARKED, ["quince", "fruit"])
        await search.fill("plum")
        await expect(other.get_by_text("No results for “plum”.")).to_be_visible()
        refused = {"error": {"message": "Words for programs.", "code": "store_unavailable"}}
        await other.route(
            "**/history/search**", lambda route: route.fulfill(status=503, json=refused)
        )
        await search.fill("quince")
        why = "Only titles were searched. The gateway is busy. Try again shortly."
        await expect(other.get_by_text(why)).to_be_visible()


@pytest.mark.parametrize("settings", ["\n[history]\nenabled = false\n"])
async def test_a_history_that_is_switched_off_is_said(
    chromium: Browser, tmp_path: Path, settings: str
) -> None:
    async with two_devices(chromium, tmp_path, settings=settings) as (upstream, _, one, other, _):
        upstream.plan(*numbered())
        await talk(one, "about apples")
        note = "Chat history is switched off on this server"
        await expect(one.get_by_text(note)).to_be_visible()
        await one.reload()
        await expect(entries(one)).to_have_text(["about apples"])
        await expect(entries(other)).to_have_count(0)
        await one.get_by_role("button", name="Sign out").click()
        question = one.get_by_role("dialog", name="Sign out?")
        await expect(question).to_contain_text("stored in this browser only")
        await question.get_by_role("button", name="Sign out and delete").click()
        await expect(one.get_by_role("link", name="Sign in").first).to_be_visible()
        await expect(entries(one)).to_have_count(0)


async def test_a_full_history_is_said_and_loses_nothing(chromium: Browser, tmp_path: Path) -> None:
    settings = "\n[history]\nquota_bytes = 1048576\n"
    async with two_devices(chromium, tmp_path, settings=settings, expected=("413",)) as (
        upstream,
        _,
        one,
        other,
        _,
    ):
        upstream.plan(*numbered())
        await talk(one, "about apples")
        await begin_anew(one)
        await attach_text(one, "long.txt", b"long\n" * 230_000)
        await talk(one, "about pears")
        alert = one.get_by_role("alert")
        await expect(alert).to_contain_text("Your chat history is full. Nothing is lost")
        await expect(one.get_by_text("Your history is full (1.0 MB)")).to_be_visible()
        await one.reload()
        await entries(one).get_by_role("link", name="about pears").click()
        await expect(text_of_answer(one)).to_have_text(["Answer 2."])
        only_here = "Only in this browser, because your chat history is full: long.txt"
        await expect(one.get_by_text(only_here)).to_be_visible()
        await say(one, "about plums")
        await entries(other).get_by_role("link", name="about pears").click()
        await expect(text_of_answer(other)).to_have_text(["Answer 2.", "Answer 3."])
        await expect(other.get_by_text(only_here)).to_have_count(0)


async def test_everything_is_deleted_exported_and_imported_again(
    chromium: Browser, tmp_path: Path
) -> None:
    erased = ("410",)  # the import gives them new ids
    async with two_devices(chromium, tmp_path, expected=erased) as (upstream, _, one, other, _):
        upstream.plan(*numbered())
        await talk(one, "about apples")
        await begin_anew(one)
        await talk(one, "about pears")
        async with one.expect_download() as downloading:
            await one.get_by_role("button", name="Export all chats").click()
        exported = tmp_path / "export.json"
        await (await downloading.value).save_as(exported)
        await expect(entries(other)).to_have_count(2)
        await other.get_by_role("button", name="Delete all chats").click()
        question = other.get_by_role("dialog", name="Delete all chats?")
        await expect(question).to_contain_text("2 chats")
        assert await violations(other) == []
        await question.get_by_role("button", name="Delete all").click()
        for page in (one, other):
            await expect(entries(page)).to_have_count(0)
        await one.get_by_role("searchbox", name="Search").press_sequentially("apples")
        await expect(one.get_by_text("No results for “apples”.")).to_be_visible()
        async with other.expect_file_chooser() as choosing:
            await other.get_by_role("button", name="Import chats").click()
        await (await choosing.value).set_files(exported)
        await expect(entries(other)).to_have_text(["about pears", "about apples"])
        await entries(other).get_by_role("link", name="about apples").click()
        await expect(text_of_answer(other)).to_have_text(["Answer 1."])
