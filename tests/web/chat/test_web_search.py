"""The search, in the browser and on the server: the same is found, marked and opened."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Error, Page, Route, expect
from support.browsing.browser import open_chat, visiting
from support.browsing.chat_page import answers, attach_text, begin_anew, entries, numbered, talk
from support.browsing.chatting import chatting
from support.browsing.page_waiting import MARKED, gives
from support.browsing.signing_in import sign_in
from support.fakes.upstream import FakeUpstream, stream_of
from support.front_door import Door
from support.inputs.search_cases import SEARCH_CASES

from webui.shell.assets import packaged_assets

SHOW = """async ([build, cases]) => {
  const at = `/static/${build}/js/chat/search_words.js`;
  const { excerptOf, fold, wordsOf } = await import(at);
  return cases.map(([text, query]) => {
    const words = wordsOf(query);
    if (!words.every((word) => fold(text).includes(word))) return null;
    const { excerpt, matches } = excerptOf(text, words);
    let [shown, from] = ["", 0];
    for (const [start, end] of matches) {
      shown += `${excerpt.slice(from, start)}[${excerpt.slice(start, end)}]`;
      from = end;
    }
    return shown + excerpt.slice(from);
  });
}"""

TITLES = """async ([build, titles]) => {
  const { resultsOf, shownTitle } = await import(`/static/${build}/js/chat/sidebar/results.js`);
  const { marksOf } = await import(`/static/${build}/js/chat/search_words.js`);
  const shown = titles.map((title) => {
    const [text, [[start, end]]] = shownTitle(title, marksOf(title, ["tart"]));
    return [text, text.slice(start, end)];
  });
  const hit = { conversation: "c", title: "tart", excerpt: "a tart", matches: [], role: "user" };
  const hits = [{ ...hit, message: null, where: "title" }, { ...hit, message: "m", where: "text" }];
  const [{ first, passages }] = resultsOf([{ id: "c", title: "tart" }], "tart", {
    query: "tart", hits, partial: false, problem: "" });
  return { shown, first: first.message, passages: passages.map(({ message }) => message) };
}"""
SHOWN_TITLES = {
    "A tart with quinces": "A tart with quinces",
    "How I bake something like a quince tart": "…quince tart",
    "Fragen zu Apfelkuchenrezepten, tart": "…tart",
    "リンゴとカリンで焼くお菓子 tart の作り方": "…tart の作り方",
}


async def test_the_page_finds_and_shows_what_the_server_does(
    chromium: Browser, demo_door: Door
) -> None:
    cases = [case for case in SEARCH_CASES if "\ud83d" not in case[0]]  # no JSON has it
    async with visiting(chromium, demo_door) as page:
        await open_chat(page)
        build = packaged_assets().build
        sent: list[Any] = [[text, query] for text, query, _ in cases]
        shown = await page.evaluate(SHOW, [build, sent])
        found = await page.evaluate(TITLES, [build, list(SHOWN_TITLES)])
    assert found["shown"] == [[text, "tart"] for text in SHOWN_TITLES.values()]
    assert (found["first"], found["passages"]) == ("m", ["m"])  # not at the end of the chat
    assert shown == [expected for _, _, expected in cases]


async def ask_about_a_file(page: Page, upstream: FakeUpstream) -> None:
    """Have a conversation about a file, and another one."""
    upstream.plan(stream_of(["A quince tart is baked, to start with."]), stream_of(["Nothing."]))
    notes = ("filler words " * 200 + "The secret Nädel lies here.").encode()
    await attach_text(page, "notes.txt", notes)
    await talk(page, "What is in it?")
    await begin_anew(page)
    await talk(page, "about pears")


async def search_finds_everything(page: Page) -> None:
    """Search as people do; the same in the browser and on the server."""
    search = page.get_by_role("searchbox")
    await search.press_sequentially("NÄDEL secret")
    await expect(entries(page)).to_have_text(
        [re.compile("What is in it.*In notes.txt.*The secret Nädel lies here")]
    )
    passage = entries(page).get_by_role("link", name="In notes.txt")
    await expect(passage.locator("mark")).to_have_text(["secret", "Nädel"])
    await passage.click()
    question = page.get_by_role("article", name="You")
    await expect(question).to_be_focused()
    await gives(page, MARKED, ["notes.txt"])
    # Words that begin with it are marked, here and on the page, not parts of words.
    await search.fill("tart")
    passage = entries(page).get_by_role("link", name="Answer: A quince")
    await expect(passage.locator("mark")).to_have_text(["tart"])
    await passage.click()
    await expect(answers(page)).to_be_focused()
    await gives(page, MARKED, ["tart"])
    # All words, wherever each is: in the question, and in its file.
    await search.fill("what lies")
    await expect(entries(page)).to_have_text([re.compile("What is in it")])
    await search.fill("notes.txt")
    await expect(entries(page).get_by_role("link", name="File: notes.txt")).to_be_visible()
    await search.fill("pears")
    await expect(entries(page).locator("mark")).to_have_text(["pears"])
    await search.fill("nädel pears")
    await expect(page.get_by_text("No results for “nädel pears”.")).to_be_visible()
    await expect(entries(page)).to_have_count(0)
    await search.fill("")
    await expect(entries(page)).to_have_count(2)


async def test_a_guest_finds_words_in_files_marked(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        await open_chat(page)
        await ask_about_a_file(page, upstream)
        await page.reload()
        await search_finds_everything(page)
        # The title leads to the passage, and so does Enter.
        await page.get_by_role("searchbox").press_sequentially("secret")
        await expect(entries(page).get_by_role("link", name="secret")).to_be_visible()
        await page.get_by_role("searchbox").press("Enter")
        await expect(page.get_by_role("article", name="You")).to_be_focused()
        await gives(page, MARKED, ["notes.txt"])


async def test_a_person_finds_words_in_files_marked(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (upstream, door, page):
        await sign_in(page, await door.mint("Ada"))
        await ask_about_a_file(page, upstream)
        async with visiting(chromium, door) as other:
            await sign_in(other, await door.mint("Bob"))
            await other.get_by_role("searchbox").fill("nädel")
            await expect(other.get_by_text("No results for “nädel”.")).to_be_visible()
        await search_finds_everything(page)


async def test_the_next_letter_ends_a_search_and_more_results_are_said(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path, expected=("ERR_ABORTED",)) as (upstream, door, page):
        upstream.plan(*numbered(1))
        await sign_in(page, await door.mint("Ada"))
        await talk(page, "about apples")
        asked, go = asyncio.Event(), asyncio.Event()

        async def hold(route: Route) -> None:
            asked.set()
            await go.wait()
            with contextlib.suppress(Error):  # the page has ended the request
                await route.continue_()

        await page.route("**/history/search?*q=app", hold)
        async with page.expect_event("requestfailed", lambda one: one.url.endswith("q=app")):
            await page.get_by_role("searchbox").press_sequentially("app")
            await asked.wait()
            await page.keyboard.type("les")
        await expect(entries(page).locator("mark")).to_have_text(["apples"])
        go.set()
        # The server says that there are more than it has sent.
        await page.route("**/history/search?*q=answer", as_partial)
        await page.get_by_role("searchbox").fill("answer")
        await expect(page.get_by_text("There may be more.")).to_be_visible()


async def as_partial(route: Route) -> None:
    """Change the answer to one that is not complete."""
    answer = await route.fetch()
    await route.fulfill(json=await answer.json() | {"partial": True})
