"""The search, in the browser and on the server: the same is found, marked and opened."""

from __future__ import annotations

from typing import Any

from playwright.async_api import Browser
from support.browsing.browser import open_chat, visiting
from support.front_door import Door
from support.inputs.search_cases import SEARCH_CASES

from webui.shell.assets import packaged_assets

SHOW = """async ([build, cases]) => {
  const at = `/static/${build}/js/chat/sidebar/search_words.js`;
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


async def test_the_page_finds_and_shows_what_the_server_does(
    chromium: Browser, demo_door: Door
) -> None:
    cases = [case for case in SEARCH_CASES if "\ud83d" not in case[0]]  # no JSON has it
    async with visiting(chromium, demo_door) as page:
        await open_chat(page)
        build = packaged_assets().build
        sent: list[Any] = [[text, query] for text, query, _ in cases]
        shown = await page.evaluate(SHOW, [build, sent])
    assert shown == [expected for _, _, expected in cases]
