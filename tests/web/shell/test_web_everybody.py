"""The chat for everybody: what axe says, every width, the keyboard alone, reduced motion."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Browser, expect
from support.browsing.axe import violations
from support.browsing.browser import LISTENING, open_chat, say, visiting
from support.browsing.chat_page import answers, box, held, status, stop_button, text_of_answer
from support.browsing.chatting import GUESTS, chatting
from support.browsing.owner_pages import LARGE, OUTSIDE
from support.browsing.signing_in import sign_in
from support.browsing.tabbing import tab_back_to, tab_to
from support.fakes.upstream import USAGE, FakeUpstream, chunk, event, stream_of, streaming
from support.front_door import OWNER, Door

from webui.page_routes import page_rules

RICH = (
    """### Heading

Text with [a link](https://example.org) and `code`.

- [x] done

```python
def f(x):
    return "a string"  # and a comment
```

| wide | table |
|---|---|
| cell | """
    + "`unbroken_" * 12
    + """` |

> quoted

\\(x^2\\) and $$\\sum_{n=1}^{100} a_n + b_n + c_n + d_n + e_n + f_n + g_n + h_n + i_n + j_n$$

![picture](https://example.org/p.png)
"""
)
SIZES = {"wide": (1280, 860), "phone": (360, 740), "zoomed": (640, 430)}
LOOKS = [("wide", "light"), ("phone", "dark"), ("zoomed", "light")]
"""Each size once and each theme: contrast depends on the theme, the rest on the size."""


@pytest.mark.time_limit(240)
@pytest.mark.parametrize(("size", "scheme"), LOOKS)
@pytest.mark.gateway(settings=GUESTS)
async def test_axe_finds_nothing_in_the_chat(
    chromium: Browser,
    upstream: FakeUpstream,
    door: Door,
    scheme: Literal["light", "dark"],
    size: str,
) -> None:
    width, height = SIZES[size]
    async with visiting(
        chromium, door, color_scheme=scheme, viewport={"width": width, "height": height}
    ) as page:
        answer, go = held(RICH)
        cut = streaming([event(chunk("Half"))], end="cut")
        upstream.plan(stream_of([{"reasoning_content": "hm"}, RICH], usage=USAGE), cut, answer)
        await open_chat(page)
        assert await violations(page) == [], "empty"
        await say(page, "A question")
        await expect(answers(page)).to_contain_text("11 in")
        await say(page, "Another one")
        await expect(page.get_by_role("button", name="Try again")).to_be_visible()
        assert await violations(page) == [], "answered, and failed"
        await say(page, "A third")
        await expect(text_of_answer(page).last).to_contain_text("quoted")
        assert await violations(page) == [], "streaming"
        go.set()
        await expect(stop_button(page)).to_be_hidden()
        for name in ("Model: ", "Chat settings"):
            if size != "wide" and name == "Chat settings":
                await page.get_by_role("button", name="Menu").click()
                assert await violations(page) == [], "menu"
            await page.get_by_role("button", name=name).click()
            await expect(page.get_by_role("dialog")).to_be_visible()
            assert await violations(page) == [], name
            await page.keyboard.press("Escape")
        await page.locator(LISTENING).wait_for(state="attached")
        await page.keyboard.press("Control+/")
        await expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
        assert await violations(page) == [], "shortcuts"
        await page.keyboard.press("Escape")
        if size != "wide":
            await page.get_by_role("button", name="Chats", exact=True).click()
            await page.get_by_role("button", name="Manage chats").click()
            await expect(page.get_by_role("menuitem")).to_have_text(
                ["Export all chats", "Import chats", "Keyboard shortcuts", "Delete all chats"]
            )
            assert await violations(page) == [], "menu of all conversations"
            await page.keyboard.press("Escape")
            await page.get_by_role("button", name="Chats", exact=True).click()
        assert await page.evaluate(LARGE) == []


PAGES = (
    "/no/such/page",
    "/docs",
    "/keys",
    "/keys/new",
    "/usage",
    "/usage/statement",
    "/requests",
    "/live",
    "/models",
    "/keys/many",
    "/keys/invitations",
)


def test_every_page_with_a_plain_address_is_checked() -> None:
    plain = {pattern for pattern, *_ in page_rules(None) if re.fullmatch(r"/[a-z/]*", pattern)}
    assert plain - {"/logout", "/language", "/keys/export", "/usage/file"} <= {
        "/",
        "/login",
        *PAGES,
    }


@pytest.mark.time_limit(240)
@pytest.mark.parametrize(("size", "scheme"), LOOKS)
async def test_axe_finds_nothing_on_the_other_pages(
    chromium: Browser, demo_door: Door, scheme: Literal["light", "dark"], size: str
) -> None:
    width, height = SIZES[size]
    async with visiting(
        chromium,
        demo_door,
        expected=("404", "401"),
        color_scheme=scheme,
        viewport={"width": width, "height": height},
    ) as page:
        await page.goto("/login")
        assert await violations(page) == [], "signing in"
        await page.get_by_label("Key").fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_be_visible()
        assert await violations(page) == [], "a wrong key"
        await sign_in(page, OWNER)
        await demo_door.mint_key("somebody")
        for path in PAGES:
            await page.goto(path)
            if path != "/docs":  # the longest page, judged by its own test in the same sizes
                assert await violations(page) == [], path
            assert await page.evaluate(LARGE) == [], path


@pytest.mark.parametrize("width", [320, 360, 768, 1440])
@pytest.mark.gateway(settings=GUESTS)
async def test_nothing_is_wider_than_the_screen(
    chromium: Browser, upstream: FakeUpstream, door: Door, width: int
) -> None:
    size = {"width": width, "height": 800}
    async with visiting(
        chromium, door, viewport=size, screen=size, is_mobile=width < 700, has_touch=width < 700
    ) as page:
        upstream.plan(stream_of([RICH], usage=USAGE))
        await open_chat(page)
        for moment in ("empty", "answered"):
            assert await page.evaluate("() => document.documentElement.scrollWidth") == width
            assert await page.evaluate(
                "() => document.querySelector('#scroller').scrollWidth <= "
                "document.querySelector('#scroller').clientWidth"
            ), moment
            assert await page.evaluate(OUTSIDE) == [], moment
            if moment == "empty":
                await box(page).fill("unbroken" * 30)
                await page.get_by_role("button", name="Send", exact=True).click()
                await expect(answers(page)).to_contain_text("11 in")


@pytest.mark.parametrize("width", [320, 360, 768, 1440])
async def test_the_way_in_is_not_wider_than_the_screen(
    chromium: Browser, demo_door: Door, width: int
) -> None:
    size = {"width": width, "height": 800}
    async with visiting(
        chromium,
        demo_door,
        expected=("401",),
        viewport=size,
        screen=size,
        is_mobile=width < 700,
        has_touch=width < 700,
    ) as page:
        await page.goto("/login")
        for moment in ("empty", "refused"):
            assert await page.evaluate("() => document.documentElement.scrollWidth") == width
            assert await page.evaluate(OUTSIDE) == [], moment
            await page.get_by_label("Key").fill("wrong" * 60)
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("alert")).to_be_visible()


FOCUS = """() => {
  const node = document.activeElement;
  const drawn = (one) => {
    const { outlineStyle, outlineWidth } = getComputedStyle(one);
    const { width, height } = one.getBoundingClientRect();
    return outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 && width * height > 9;
  };
  const { top, bottom, left, right } = node.getBoundingClientRect();
  const inside = bottom > 0 && right > 0 && top < innerHeight && left < innerWidth;
  const ring = node.id === "message" && getComputedStyle(node.closest(".box")).boxShadow !== "none";
  // The button of a date's calendar is inside the field, and the browser marks it itself.
  const inner = node.type === "date" && !node.matches(":focus-visible");
  const shown = ring || inner || [node, ...(node.labels ?? [])].some(drawn);
  return [node.outerHTML, node === document.body || (inside && shown)];
}"""


@pytest.mark.time_limit(240)
async def test_the_focus_is_always_in_sight(chromium: Browser, demo_door: Door) -> None:
    async with visiting(chromium, demo_door, expected=("404",)) as page:
        for path in ("/login", "/", *PAGES):
            if path == "/":
                await sign_in(page, OWNER)
                await demo_door.mint_key("somebody")
            await page.goto(path)
            stops = set()
            for _ in range(50):
                await page.keyboard.press("Tab")
                stop, seen = await page.evaluate(FOCUS)
                assert seen, f"{path}: {stop}"
                stops.add(stop)
            assert len(stops) > 5, path


RUNNING = """() =>
  document.getAnimations().filter((one) => one.playState === "running").length"""


async def test_all_can_be_done_by_keyboard(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        answer, _ = held("Begun")
        upstream.plan(answer, stream_of(["Two."], usage=USAGE))
        await open_chat(page)
        await page.keyboard.type("A question")
        await page.keyboard.press("Enter")
        await expect(text_of_answer(page)).to_have_text(["Begun"])
        await tab_to(page, "Stop")
        await page.keyboard.press("Enter")
        await expect(answers(page)).to_contain_text("Stopped.")
        await expect(box(page)).to_be_focused()
        await tab_back_to(page, "Regenerate")
        await page.keyboard.press("Enter")
        await expect(text_of_answer(page)).to_have_text(["Two."])
        await expect(box(page)).to_be_focused()
        await tab_back_to(page, "Previous version")
        await page.keyboard.press("Enter")
        await expect(text_of_answer(page)).to_have_text(["Begun"])


async def test_escape_stops_and_shortcuts_work(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        answer, _ = held("Begun")
        upstream.plan(answer)
        await open_chat(page)
        await page.locator(LISTENING).wait_for(state="attached")
        await say(page, "A question")
        await expect(text_of_answer(page)).to_have_text(["Begun"])
        await page.keyboard.press("Escape")
        await expect(answers(page)).to_contain_text("Stopped.")
        await page.keyboard.press("Control+k")
        await expect(page.get_by_role("searchbox")).to_be_focused()
        await page.keyboard.press("Control+Shift+M")
        await expect(page.get_by_role("dialog", name="Choose a model")).to_be_visible()
        await page.keyboard.press("Escape")
        await page.keyboard.press("Control+Shift+O")
        await expect(page.get_by_role("heading", name="New chat")).to_be_visible()
        await expect(box(page)).to_be_focused()


async def test_the_theme_is_the_servers_from_the_first_pixel(
    chromium: Browser, demo_door: Door
) -> None:
    async with visiting(chromium, demo_door) as page:
        await open_chat(page)
        switch = page.get_by_role("button", name="Theme: system")
        await switch.click()
        await page.get_by_role("button", name="Theme: light").click()
        await expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
        answer = await page.goto("/")
        assert answer is not None and 'data-theme="dark"' in await answer.text()
        ground = await page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert ground.startswith("oklch(0.18")


async def test_motion_is_reduced_on_request(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        answer, go = held("Begun", then=(".",))
        upstream.plan(answer)
        await open_chat(page)
        await say(page, "A question")
        await expect(text_of_answer(page)).to_have_text(["Begun"])
        assert await page.evaluate(RUNNING) == 0
        go.set()
        await expect(status(page)).to_contain_text("complete")


async def test_words_run_the_way_they_are_written(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        upstream.plan(stream_of(["مرحبا بالعالم.\n\n- عنصر أول\n\nIn English.\n"], usage=USAGE))
        await open_chat(page)
        await say(page, "שלום עולם")
        await expect(answers(page)).to_contain_text("11 in")
        ways = await page.evaluate("""() =>
          [".said", ".md p", ".md ul", ".md p:last-child"].map(
            (one) => getComputedStyle(document.querySelector(one)).direction)""")
        assert ways == ["rtl", "rtl", "rtl", "ltr"]


async def test_a_conversation_is_printed_as_a_whole(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        upstream.plan(stream_of(["A paragraph.\n\n" * 150], usage=USAGE))
        await open_chat(page)
        await say(page, "A question")
        await expect(answers(page)).to_contain_text("11 in")
        await page.emulate_media(media="print")
        await expect(box(page)).to_be_hidden()
        await expect(page.get_by_role("navigation", name="Chats")).to_be_hidden()
        assert (await page.pdf()).count(b"/Type /Page\n") > 3


LOOKS_OF_LINKS = """() => {
  const looks = { chosen: [], others: [] };
  const ground = getComputedStyle(document.body).backgroundColor;
  for (const link of document.querySelectorAll("nav a, .switch a, .choice a")) {
    const seen = getComputedStyle(link).backgroundColor.replace("rgba(0, 0, 0, 0)", ground);
    looks[link.ariaCurrent ? "chosen" : "others"].push(seen);
  }
  return [looks.chosen, looks.others];
}"""


async def test_what_is_chosen_is_seen_in_forced_colours(chromium: Browser, demo_door: Door) -> None:
    async with visiting(chromium, demo_door, forced_colors="active") as page:
        await sign_in(page, OWNER)
        for path in ("/usage", "/keys"):
            await page.goto(path)
            chosen, others = map(set, await page.evaluate(LOOKS_OF_LINKS))
            assert len(chosen) == 1 and others and not chosen & others, path


@pytest.mark.parametrize("width", [660, 768, 960])
async def test_the_owners_pages_are_all_in_sight_in_the_longest_language(
    chromium: Browser, demo_door: Door, width: int
) -> None:
    size = {"width": width, "height": 800}
    async with visiting(chromium, demo_door, viewport=size, locale="es-ES") as page:
        await page.goto("/login?next=/usage")
        await page.get_by_label("Clave").fill(OWNER)
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="Uso").wait_for()
        links = page.get_by_role("banner").get_by_role("navigation").get_by_role("link")
        await expect(links).to_have_count(7)
        for link in await links.all():
            await expect(link).to_be_in_viewport(ratio=0.9)
