"""Wait for states of a page that no locator shows, and hold the timers that would end them.

    await becomes(page, "async () => (await navigator.clipboard.readText()) === 'Hello'")

Playwright's own `wait_for_function` takes the promise of an asynchronous script for true, and does
not wait at all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from playwright.async_api import Page
from support.waiting import until

UNDO_MS = 20_000
"""How long the page offers to undo the deletion of a chat."""
COPIED_MS = 1600
"""How long a button says that it has copied."""

HOLD = """(ms) => {
  const held = [];
  const start = window.setTimeout;
  window.setTimeout = (run, after, ...more) =>
    after === ms ? void held.push(run) : start(run, after, ...more);
  window.endHeld = () => held.splice(0).forEach((run) => run());
}"""
TOPS_WHILE_TEXT_COMES = """async () => {
  const scroller = document.getElementById("scroller");
  const frame = () => new Promise(requestAnimationFrame);
  for (let top, same = 0; same < 6; same = top === scroller.scrollTop ? same + 1 : 0) {
    top = scroller.scrollTop;  // until the movement has come to its rest
    await frame();
  }
  const letters = () => document.querySelector(".md").textContent.length;
  const first = letters();
  window.isAtRest = true;
  const tops = new Set();
  for (; letters() < first + 150; await frame()) tops.add(scroller.scrollTop);
  return [...tops];
}"""
"""Watch where the page is scrolled to, from its rest on, while 150 letters come."""
MARKED = "() => [...(CSS.highlights.get('found') ?? [])].map((range) => range.toString())"
"""The words of a search that are marked in the transcript."""
STORES = """async (text) => {
  const isIn = (value) => value === text
    || (typeof value === "object" && value !== null && Object.values(value).some(isIn));
  for (const { name } of await indexedDB.databases()) {
    const db = await new Promise((done) => {
      const asked = indexedDB.open(name);
      asked.onsuccess = () => done(asked.result);
    });
    for (const store of db.objectStoreNames) {
      const asked = db.transaction(store).objectStore(store).getAll();
      await new Promise((done) => (asked.onsuccess = done));
      if (!isIn(asked.result)) continue;
      db.close();
      return true;
    }
    db.close();
  }
  return false;
}"""
"""True if a record of the browser has this text as the whole of a member."""


async def becomes(page: Page, script: str, arg: Any = None) -> None:
    """Return when a script, which may be asynchronous, returns something true."""
    await until(lambda: page.evaluate(script, arg))


async def gives(page: Page, script: str, wanted: Any) -> None:
    """Return when a script returns a value. Fail with what it returns instead."""
    found: Any = None

    async def is_so() -> bool:
        nonlocal found
        found = await page.evaluate(script)
        return bool(found == wanted)

    with contextlib.suppress(TimeoutError):
        await until(is_so)
    assert found == wanted


async def stores(page: Page, text: str) -> None:
    """Return when a database of the browser has a text: of a message, say, or of a draft."""
    await becomes(page, STORES, text)


async def hold_timers(page: Page, ms: int) -> Callable[[], Awaitable[Any]]:
    """Keep timers of `ms` that begin from now on from ending. Return what ends them at once."""
    await page.evaluate(HOLD, ms)
    return lambda: page.evaluate("() => window.endHeld()")
