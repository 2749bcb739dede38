"""A long list of conversations: few of its rows are in the page, and it works as if all were."""

from __future__ import annotations

import re

from playwright.async_api import Browser, Locator, Page, expect
from support.browsing.axe import violations
from support.browsing.browser import open_chat, tab, visiting
from support.browsing.chat_page import entries, more
from support.browsing.chatting import TOUCH
from support.front_door import Door

MANY = 1000
MAX_ROWS = 80
"""Rows that may be in the page at a time."""

FILL = """async ([count, title]) => {
  const db = await new Promise((resolve) => {
    const asked = indexedDB.open("roxy");
    asked.onsuccess = () => resolve(asked.result);
  });
  const writing = db.transaction(["conversations", "messages"], "readwrite");
  for (let n = 0; n < count; n += 1) {
    writing.objectStore("conversations").put({
      id: `c_${n}`, title: title || `Number ${n}`, created: n, updated: n, pinned: n % 500 === 3,
      model: "", system: "", parameters: {}, choices: {}, draft: null, waiting: [], deleted: null,
    });
    writing.objectStore("messages").put({
      id: `m_${n}`, conversation: `c_${n}`, parent: null, role: "user", created: n, files: [],
      text: `words and more words ${n === 77 ? "needle" : ""}`,
    });
  }
  await new Promise((resolve) => (writing.oncomplete = resolve));
}"""
TOPS = """(links) => Object.fromEntries(
  links.map((link) => [link.textContent.trim(), Math.round(link.getBoundingClientRect().top)]))"""


async def fill_list(page: Page, count: int = MANY, title: str = "") -> None:
    """Put conversations into the database of the browser, and open the page anew."""
    await open_chat(page)
    await page.evaluate(FILL, [count, title])
    await page.reload()
    await expect(row(page, title or f"Number {count - 1}").first).to_be_visible()


def row(page: Page, title: str) -> Locator:
    return entries(page).get_by_role("link", name=title, exact=True)


def item(page: Page, title: str) -> Locator:
    return entries(page).filter(has=page.get_by_role("link", name=title, exact=True))


def conversations(page: Page) -> Locator:
    return page.get_by_role("navigation", name="Chats")


async def scroll_list(page: Page, by: int) -> None:
    await conversations(page).hover()
    await page.mouse.wheel(0, by)


async def test_keys_go_through_a_thousand_rows_of_which_few_are_in_the_page(
    chromium: Browser, demo_door: Door
) -> None:
    async with visiting(chromium, demo_door) as page:
        await fill_list(page)
        assert await entries(page).count() <= MAX_ROWS
        first = item(page, "Number 999")
        await expect(first).to_have_attribute("aria-setsize", "998")  # two are pinned
        await expect(first).to_have_attribute("aria-posinset", "1")
        await page.get_by_role("searchbox").focus()
        await page.keyboard.press("ArrowDown")
        await expect(row(page, "Number 503")).to_be_focused()
        for _ in range(3):
            await page.keyboard.press("ArrowDown")
        await expect(row(page, "Number 998")).to_be_focused()
        await page.keyboard.press("End")
        await expect(row(page, "Number 0")).to_be_focused()
        await expect(row(page, "Number 0")).to_be_in_viewport()
        last = item(page, "Number 0")
        await expect(last).to_have_attribute("aria-posinset", "998")
        await page.keyboard.press("ArrowUp")
        await expect(row(page, "Number 1")).to_be_focused()
        for _ in range(40):
            await page.keyboard.press("Shift+Tab")  # rows come as the focus goes; 3 is pinned
        await expect(row(page, "Number 22")).to_be_focused()
        await expect(row(page, "Number 22")).to_be_in_viewport()
        await scroll_list(page, -100_000)  # away from the focus
        await expect(row(page, "Number 999")).to_be_in_viewport()
        await expect(row(page, "Number 22")).to_be_focused()
        assert await entries(page).count() <= MAX_ROWS
        await page.keyboard.press("Home")
        await expect(row(page, "Number 503")).to_be_focused()
        assert not await violations(page)


async def test_the_list_keeps_its_place(chromium: Browser, demo_door: Door) -> None:
    async with visiting(chromium, demo_door) as page:
        await fill_list(page)
        await open_chat(page, "/c/c_400")
        current = row(page, "Number 400")
        await expect(current).to_have_attribute("aria-current", "page")
        await expect(current).to_be_in_viewport()
        # Another tab brings one to the top, and deletes another, both out of sight.
        links = entries(page).get_by_role("link")
        before: dict[str, int] = await links.evaluate_all(TOPS)
        async with tab(page.context, demo_door) as other:
            await open_chat(other, "/c/c_900")
            await more(other, "Number 901", "Rename")
            await other.get_by_role("textbox", name="New title").press_sequentially("Other")
            await other.keyboard.press("Enter")
            await expect(row(other, "Other")).to_be_focused()
            await more(other, "Number 900", "Pin")
            await expect(item(page, "Number 400")).to_have_attribute("aria-setsize", "997")
            await more(other, "Number 902", "Delete")
            await expect(other.get_by_role("button", name="Undo")).to_be_focused()
            await expect(item(page, "Number 400")).to_have_attribute("aria-setsize", "996")
        after: dict[str, int] = await links.evaluate_all(TOPS)
        assert after["Number 400"] == before["Number 400"]
        # A search leads back to where the list was.
        search = page.get_by_role("searchbox")
        await search.press_sequentially("needle")
        await expect(entries(page)).to_have_text([re.compile("Number 77.*needle")])
        await search.fill("")
        await expect(current).to_be_in_viewport()
        again: dict[str, int] = await links.evaluate_all(TOPS)
        assert again["Number 400"] == after["Number 400"]
        # The menu of a row that is scrolled away closes.
        await page.get_by_role("button", name="More for Number 400").click()
        menu = page.get_by_role("menu")
        await expect(menu).to_be_visible()
        await scroll_list(page, 3000)
        await expect(menu).to_be_hidden()
        await expect(page.get_by_role("button", name="More for Number 400")).to_be_focused()
        await expect(current).not_to_be_in_viewport()


async def test_a_phone_opens_the_list_at_the_current_row(
    chromium: Browser, demo_door: Door
) -> None:
    async with visiting(chromium, demo_door, **TOUCH) as page:
        await open_chat(page)
        await page.evaluate(FILL, [MANY, ""])
        await open_chat(page, "/c/c_300")
        await page.get_by_role("button", name="Chats").tap()
        current = row(page, "Number 300")
        await expect(current).to_be_in_viewport()
        assert await entries(page).count() <= MAX_ROWS
        bounds = await item(page, "Number 300").bounding_box()
        assert bounds and bounds["height"] >= 44
        # 400 % zoom: the whole drawer scrolls, and brings the rows.
        await page.set_viewport_size({"width": 320, "height": 256})
        await page.get_by_role("searchbox").focus()
        await page.keyboard.press("ArrowDown")
        await page.keyboard.press("End")
        await expect(row(page, "Number 0")).to_be_focused()
        await expect(row(page, "Number 0")).to_be_in_viewport()
        await page.keyboard.press("Home")
        await expect(row(page, "Number 503")).to_be_in_viewport()
        assert await entries(page).count() <= MAX_ROWS
