"""Measure the chat page in Chromium: how busy it keeps the browser. Nothing here is asserted.

    python tests/bench/pages.py

A conversation of 300 messages is opened and an answer of 15,000 letters streamed into it, beside
1,000 other conversations. Times depend on the machine and its neighbours; believe the shares of
the main thread, taken from the processor's own account of it, and compare runs with each other
only. `--quick` shows in some seconds that all of it works; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2])]

from bench.processes import family  # noqa: E402
from playwright.async_api import (  # noqa: E402
    BrowserContext,
    CDPSession,
    Page,
    ViewportSize,
    async_playwright,
)
from support.browsing.browser import ARGS, NO_CHROMIUM, READY, WIDE, find_chromium  # noqa: E402
from support.fakes.upstream import FakeUpstream, stream_of  # noqa: E402
from support.front_door import Door, front_door  # noqa: E402
from support.waiting import PATIENCE_S  # noqa: E402

TURN = (
    "## Title\n\nSome **text** with `code` and a list:\n\n- one\n- two\n- three\n\n```python\n"
    "def f(x):\n    return x + 1\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
    + "Words and words and more words in a paragraph. " * 20
    + "\n\nThe end."
)
LETTERS_PER_CHUNK = 12
GAP_S = 0.006
KEY_GAP_MS = 40
KIB = 1024
VIEW = ViewportSize(width=WIDE["width"], height=WIDE["height"])


class Size(NamedTuple):
    """How much is measured."""

    conversations: int
    messages: int
    turns: int
    letters: int


FULL = Size(conversations=1000, messages=300, turns=14, letters=100)
QUICK = Size(conversations=20, messages=10, turns=1, letters=5)

BARS = {
    "first load: scripts, KiB gzip": "<= 60",
    "first load: requests before usable": "<= 12",
    "repeat visit: scripts, bytes": "0",
    "conversations listed after ready, ms": "< 300",
    "main thread of a load with the list, ms": "",
    "rows of the list in the page": "<= 80",
    "search shown after a letter, ms": "< 100",
    "open the long conversation, ms": "< 1000",
    "DOM nodes": "<= 30000",
    "upstream asked to first text shown, ms": "< 150",
    "answer lasted, s": "",
    "main thread busy, % of the wall": "<= 25",
    "scripts, % of the wall": "",
    "layout and style, % of the wall": "",
    "frames over 100 ms": "0",
    "longest frame of those over 50 ms, ms": "<= 100",
    "typing: key to next frame, p95, ms": "< 50",
}
"""Every figure, and what it should be."""

FILL = """async ([turn, conversations, messages]) => {
  const db = await new Promise((resolve) => {
    const asked = indexedDB.open("roxy");
    asked.onsuccess = () => resolve(asked.result);
  });
  const writing = db.transaction(["conversations", "messages"], "readwrite");
  const one = { pinned: false, model: "test/one", system: "", parameters: {}, choices: {},
    draft: null, waiting: [], deleted: null };
  for (let n = 0; n < conversations; n += 1) {
    writing.objectStore("conversations").put(
      { ...one, id: `c_${n}`, title: `Number ${n}`, created: n, updated: n });
  }
  for (let n = 0; n < messages; n += 1) {
    writing.objectStore("messages").put({ id: `m_${n}`, conversation: "c_1",
      parent: n ? `m_${n - 1}` : null, role: n % 2 ? "assistant" : "user",
      text: n % 2 ? turn : `A question ${n}`, created: n, state: "done", finish: "stop",
      stats: null, model: "test/one", reasoning: "", files: [], job: "x" });
  }
  await new Promise((resolve) => (writing.oncomplete = resolve));
}"""
LISTED = """
new MutationObserver((_, watch) => {
  if (!document.querySelector("#sidebar li")) return;
  watch.disconnect();
  requestAnimationFrame(() => setTimeout(() => performance.mark("bench-listed")));
}).observe(document, { subtree: true, childList: true });
"""
WAIT_LISTED = "() => performance.getEntriesByName('bench-listed').length > 0"
BETWEEN = """([from, to]) => performance.getEntriesByName(to)[0].startTime
  - (from ? performance.getEntriesByName(from)[0].startTime : 0)"""
LOADED = """() => {
  const [ready] = performance.getEntriesByName("roxy-ready");
  const all = performance.getEntriesByType("resource");
  const scripts = all.filter((one) => one.name.endsWith(".js"));
  const sum = (name) => scripts.reduce((total, one) => total + one[name], 0);
  return { before: all.filter((one) => one.startTime < ready.startTime).length + 1,
    gzipped: sum("encodedBodySize"), sent: sum("transferSize") };
}"""
SEARCH = """async (text) => {
  const box = document.querySelector("#sidebar input[type=search]");
  const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  let slowest = 0;
  for (let n = 1; n <= text.length; n += 1) {
    await painted();
    const began = performance.now();
    box.value = text.slice(0, n);
    box.dispatchEvent(new Event("input", { bubbles: true }));
    await painted();
    slowest = Math.max(slowest, performance.now() - began);
  }
  return slowest;
}"""
FIRST_TEXT = """() => new Promise((resolve) => {
  const log = document.getElementById("transcript");
  const before = log.childElementCount;
  new MutationObserver(() => {
    const last = log.childElementCount > before && log.lastElementChild.querySelector(".md");
    if (last?.textContent) resolve(performance.now());
  }).observe(log, { subtree: true, childList: true, characterData: true });
})"""
WATCH_FRAMES = """() => {
  window.benchFrames = [];
  new PerformanceObserver((list) => {
    for (const frame of list.getEntries()) window.benchFrames.push(frame.duration);
  }).observe({ type: "long-animation-frame" });
}"""
WATCH_KEYS = """() => {
  window.benchKeys = [];
  document.getElementById("message").addEventListener("keydown", (event) => {
    const began = event.timeStamp;
    requestAnimationFrame(() => setTimeout(() => window.benchKeys.push(performance.now() - began)));
  });
}"""


async def measure(size: Size) -> dict[str, float]:
    """Return every figure of BARS."""
    path = find_chromium()
    if path is None:
        raise SystemExit(NO_CHROMIUM)
    with tempfile.TemporaryDirectory(prefix="roxy-pages-") as directory:
        async with (
            FakeUpstream() as upstream,
            front_door(Path(directory), upstream) as door,
            async_playwright() as playwright,
        ):
            browser = await playwright.chromium.launch(executable_path=path, args=list(ARGS))
            try:
                profile = await browser.new_context(base_url=door.url, viewport=VIEW)
                profile.set_default_timeout(PATIENCE_S * 1000)
                return await _visits(profile, door, upstream, size)
            finally:
                await browser.close()


async def _visits(
    profile: BrowserContext, door: Door, upstream: FakeUpstream, size: Size
) -> dict[str, float]:
    page = await profile.new_page()
    figures = await _load(page)
    await page.evaluate(FILL, [TURN, size.conversations, size.messages])
    figures |= await _list(profile, size)
    cdp = await profile.new_cdp_session(page)
    await cdp.send("Performance.enable")
    await _open(page, "/c/c_1")
    figures["open the long conversation, ms"] = await page.evaluate(BETWEEN, ["", "roxy-ready"])
    await cdp.send("HeapProfiler.collectGarbage")  # the pages before it are gone
    figures["DOM nodes"] = (await _metrics(cdp))["Nodes"]
    figures |= await _stream(page, cdp, upstream, size)
    figures["typing: key to next frame, p95, ms"] = await _type(page, size)
    return figures


async def _open(page: Page, path: str) -> None:
    await page.goto(path)
    await page.locator(READY).wait_for(state="attached")
    await page.wait_for_load_state("networkidle")


async def _load(page: Page) -> dict[str, float]:
    """Visit twice, with nothing kept and with everything kept."""
    await _open(page, "/")
    first: dict[str, float] = await page.evaluate(LOADED)
    await _open(page, "/")
    again: dict[str, float] = await page.evaluate(LOADED)
    return {
        "first load: scripts, KiB gzip": first["gzipped"] / KIB,
        "first load: requests before usable": first["before"],
        "repeat visit: scripts, bytes": again["sent"],
    }


async def _list(profile: BrowserContext, size: Size) -> dict[str, float]:
    """Show the list of conversations and search in it."""
    page = await profile.new_page()
    await page.add_init_script(LISTED)
    cdp = await profile.new_cdp_session(page)
    await cdp.send("Performance.enable")
    await _open(page, "/")
    await page.wait_for_function(WAIT_LISTED)
    busy = (await _metrics(cdp))["TaskDuration"] * 1000
    await page.get_by_role("searchbox").focus()  # the texts are read now, once
    await page.wait_for_load_state("networkidle")
    figures = {
        "conversations listed after ready, ms": await page.evaluate(
            BETWEEN, ["roxy-ready", "bench-listed"]
        ),
        "main thread of a load with the list, ms": busy,
        "rows of the list in the page": await page.locator("#sidebar li").count(),
        "search shown after a letter, ms": await page.evaluate(SEARCH, "number 9"),
    }
    await page.close()
    return figures


async def _stream(
    page: Page, cdp: CDPSession, upstream: FakeUpstream, size: Size
) -> dict[str, float]:
    answer = f"{TURN}\n\n" * size.turns
    pieces = [
        answer[at : at + LETTERS_PER_CHUNK] for at in range(0, len(answer), LETTERS_PER_CHUNK)
    ]
    upstream.plan(stream_of(pieces, gap_s=GAP_S))
    first = asyncio.create_task(page.evaluate(FIRST_TEXT))
    await page.evaluate(WATCH_FRAMES)
    before, cpu, began = await _metrics(cdp), _cpu_s(), time.monotonic()
    await page.get_by_role("textbox", name="Message").fill("go")
    await page.keyboard.press("Enter")
    asked = await upstream.request()
    # Chromium counts from the navigation, by the same clock that the upstream reads.
    shown_at = before["NavigationStart"] + await first / 1000
    usage = page.locator("article").nth(size.messages + 1).locator(".usage")
    await usage.wait_for(timeout=120_000)
    lasted = time.monotonic() - began
    after, cpu_after = await _metrics(cdp), _cpu_s()
    frames: list[float] = await page.evaluate("() => window.benchFrames")
    busiest = max(cpu_after[pid] - cpu.get(pid, 0.0) for pid in cpu_after)
    return {
        "upstream asked to first text shown, ms": (shown_at - asked.at) * 1000,
        "answer lasted, s": lasted,
        "main thread busy, % of the wall": busiest / lasted * 100,
        "scripts, % of the wall": _share(before, after, "ScriptDuration"),
        "layout and style, % of the wall": _share(before, after, "LayoutDuration")
        + _share(before, after, "RecalcStyleDuration"),
        "frames over 100 ms": sum(frame > 100 for frame in frames),
        "longest frame of those over 50 ms, ms": max(frames, default=0.0),
    }


async def _type(page: Page, size: Size) -> float:
    """Type into the box under the long conversation; give the 95th percentile."""
    await page.evaluate(WATCH_KEYS)
    await page.get_by_role("textbox", name="Message").focus()
    text = ("some words " * size.letters)[: size.letters]
    await page.keyboard.type(text, delay=KEY_GAP_MS)
    await page.wait_for_function("(count) => window.benchKeys.length >= count", arg=len(text))
    times: list[float] = sorted(await page.evaluate("() => window.benchKeys"))
    return times[-(-len(times) * 95 // 100) - 1]


async def _metrics(cdp: CDPSession) -> dict[str, float]:
    told: dict[str, Any] = await cdp.send("Performance.getMetrics")
    return {metric["name"]: metric["value"] for metric in told["metrics"]}


def _share(before: Mapping[str, float], after: Mapping[str, float], name: str) -> float:
    return (after[name] - before[name]) / (after["Timestamp"] - before["Timestamp"]) * 100


def _cpu_s() -> dict[str, float]:
    """Read the processor time of our renderers' main threads (proc(5), stat)."""
    times = {}
    for process in (Path(f"/proc/{pid}") for pid in family(os.getpid())):
        with contextlib.suppress(OSError):
            if b"--type=renderer" in (process / "cmdline").read_bytes():
                stat = (process / "task" / process.name / "stat").read_text()
                fields = stat.rpartition(")")[2].split()
                times[process.name] = (int(fields[11]) + int(fields[12])) / 100
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the chat page in Chromium.")
    parser.add_argument("--quick", action="store_true", help="only show that it works")
    size = QUICK if parser.parse_args().quick else FULL
    with contextlib.redirect_stdout(io.StringIO()):  # the gateway's access log
        figures = asyncio.run(measure(size))
    for name, bar in BARS.items():
        print(f"{name:44} {figures[name]:10.1f}  {bar}".rstrip())


if __name__ == "__main__":
    main()
