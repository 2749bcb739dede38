"""What people meet first: the greeting, the box, suggestions, models, and what is left to them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Browser, ViewportSize, expect
from support.browsing.browser import PHONE, READY, open_chat, say, visiting
from support.browsing.chat_page import answers, box, stop_button
from support.browsing.signing_in import sign_in
from support.front_door import OWNER, Door

from webui.shell.assets import packaged_assets
from workers.catalog.makers import maker_name

OWN_WORDS = """[web]
name = "Example AI"
welcome = "How can we help you study?"
default_model = "anthropic/claude-sonnet-4"
prompts = [
  { name = "Sum up", text = "Sum up this text in five points: " },
  { name = "Practice", text = "Ask me ten questions about cell biology." },
]
"""
SMALL: dict[str, ViewportSize] = {
    "on its side": {"width": 844, "height": 390},
    "zoomed to 400 %": {"width": 320, "height": 256},
}


def touch(size: ViewportSize) -> dict[str, Any]:
    """Return the settings of a phone with a screen of this size."""
    return {"viewport": size, "screen": size, "is_mobile": True, "has_touch": True}


FIFTH = """
[[models]]
id = "some-lab/fifth"
name = "Fifth"
owned_by = "some-lab"
description = "Knitting. Nothing else."
[[models.deployments]]
provider = "openai"
base_url = "https://lab.test/v1"
upstream_model = "fifth"
secret_env = "NOT_SET_HERE"
"""


@pytest.mark.gateway(settings=OWN_WORDS)
async def test_a_guest_on_a_phone_meets_the_owners_words(
    chromium: Browser, demo_door: Door
) -> None:
    async with visiting(chromium, demo_door, **touch(PHONE)) as page:
        answer = await page.goto("/")
        assert answer is not None
        html = await answer.text()
        assert "How can we help you study?" in html and "Ask me ten questions" in html
        await page.locator(READY).wait_for(state="attached")
        suggestions = page.get_by_role("region", name="Suggestions")
        await expect(page.get_by_role("heading", name="How can we help you study?")).to_be_visible()
        await expect(suggestions).to_contain_text("100 of 100 messages left today · Sign in")
        await expect(suggestions).to_contain_text("Anthropic · Writing and editing code")
        chosen = suggestions.get_by_role("button", pressed=True)
        await expect(chosen).to_have_text("Claude Sonnet 4 Anthropic · Writing and editing code")
        places = [await one.bounding_box() for one in await suggestions.get_by_role("button").all()]
        assert len(places) == 6
        for place in (await box(page).bounding_box(), *places):
            assert place is not None and place["y"] + place["height"] <= PHONE["height"]
        assert "$" not in await page.locator("body").inner_text()
        await suggestions.get_by_role("button", name="Practice").tap()
        await expect(box(page)).to_have_value("Ask me ten questions about cell biology.")
        await expect(answers(page)).to_have_count(0)
        await page.get_by_role("button", name="Send", exact=True).tap()
        await expect(answers(page)).to_have_count(1)
        await expect(suggestions).to_be_hidden()
        await page.get_by_role("link", name="New chat").tap()
        await expect(suggestions).to_be_visible()


async def test_models_without_a_secret_are_for_the_owner(chromium: Browser, door: Door) -> None:
    async with visiting(chromium, door) as page:
        await open_chat(page)
        options = page.get_by_role("listbox", name="Models").get_by_role("option")
        await page.get_by_role("button", name="Model: Test One").click()
        await expect(options).to_have_count(1)
        assert await options.first.get_attribute("aria-label") == (
            "Test One, Test, context 131K tokens, text only"
        )
        await sign_in(page, OWNER)
        await page.get_by_role("button", name="Model: Test One").click()
        await expect(options).to_have_count(5)
        label = "$1.00 in, $2.00 out per million tokens"
        await expect(page.get_by_role("option", name=label)).to_have_count(1)
        last = page.get_by_role("option", name="Gemini 2.5 Pro")
        await expect(last).to_be_disabled()
        await expect(last).to_contain_text("set GEMINI_API_KEY or AI_GATEWAY_API_KEY")
        await last.click(force=True)
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="Model: Test One")).to_be_visible()


@pytest.mark.parametrize("signed_in", [False, True])
async def test_a_server_without_models_says_what_to_do(bare_door: Door, *, signed_in: bool) -> None:
    headers = {"Authorization": f"Bearer {OWNER}"} if signed_in else {}
    text = (await bare_door.client.get("/", headers=headers)).text
    assert ("Ask its owner to set one up." in text) is not signed_in
    assert ("<code>OPENROUTER_API_KEY</code>" in text) is signed_in


@pytest.mark.parametrize("name", SMALL)
async def test_at_least_half_of_a_small_screen_is_the_conversation(
    chromium: Browser, demo_door: Door, name: str
) -> None:
    size = SMALL[name]
    async with visiting(chromium, demo_door, **touch(size)) as page:
        await open_chat(page)
        await expect(page.get_by_role("navigation", name="Main")).to_be_hidden()
        await page.get_by_role("button", name="Menu").tap()
        await expect(page.get_by_role("link", name="Docs")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("link", name="Docs")).to_be_hidden()
        await box(page).fill("Hi")
        await page.get_by_role("button", name="Send", exact=True).tap()
        await expect(answers(page)).to_have_count(1)
        place = await page.get_by_role("group", name="Transcript").bounding_box()
        assert place is not None and place["height"] >= size["height"] / 2
        small = await page.evaluate("""() =>
          [...document.querySelectorAll("input:not([type=file]), textarea, select")]
            .filter((one) => parseFloat(getComputedStyle(one).fontSize) < 16)
            .map((one) => one.outerHTML)""")
        assert small == []


async def test_back_closes_the_sheet(chromium: Browser, demo_door: Door) -> None:
    async with visiting(chromium, demo_door, **touch(PHONE)) as page:
        await open_chat(page)
        await box(page).fill("Hi")
        await page.get_by_role("button", name="Send", exact=True).tap()
        await expect(answers(page)).to_have_count(1)
        await expect(page).to_have_url(re.compile("/c/"))
        talk = page.url
        sheet, switch = (
            page.get_by_role("searchbox"),
            page.get_by_label("Chats", exact=True),
        )
        await switch.and_(page.get_by_role("button")).tap()
        await expect(sheet).to_be_visible()
        await box(page).focus()
        await expect(box(page)).not_to_be_focused()  # what is under the sheet is out of reach
        await page.go_back()
        await expect(sheet).to_be_hidden()
        await expect(answers(page)).to_have_count(1)
        await expect(page).to_have_url(talk)
        await switch.and_(page.get_by_role("button")).tap()
        await page.get_by_role("link", name="New chat").first.tap()
        await expect(page.get_by_role("region", name="Suggestions")).to_be_visible()
        await expect(sheet).to_be_hidden()
        await page.go_back()
        await expect(answers(page)).to_have_count(1)
        await expect(page).to_have_url(talk)


@pytest.mark.gateway(settings=FIFTH)
async def test_colours_are_not_all_that_tells(chromium: Browser, demo_door: Door) -> None:
    """Look at the shapes: in forced colours, backgrounds and shadows are gone."""
    async with visiting(chromium, demo_door, forced_colors="active") as page:
        await open_chat(page)
        marks = await page.evaluate("""() =>
          [...document.querySelectorAll("[data-model]")].map((card) =>
            [card.ariaPressed, getComputedStyle(card.querySelector("b"), "::after").content])""")
        assert [mark for pressed, mark in marks if pressed == "true"] == ['" ✓" / ""']
        assert {mark for pressed, mark in marks if pressed == "false"} == {"none"}
        # A model that is not among the first of the catalog gets the last card when it is chosen.
        await page.get_by_role("button", name="Model: ").click()
        await page.get_by_role("option", name="Fifth").click()
        cards = page.get_by_role("list", name="Models").get_by_role("button")
        await expect(cards).to_have_count(4)
        await expect(cards.last).to_have_text("Fifth Some Lab · Knitting")
        await expect(cards.last).to_have_attribute("aria-pressed", "true")
        lines = await page.evaluate("""() =>
          [...document.querySelectorAll("nav[aria-label=Main] a")].map((link) =>
            [link.ariaCurrent, getComputedStyle(link).textDecorationLine])""")
        assert lines == [["page", "underline"], [None, "none"]]
        await say(page, "Hi")
        await expect(stop_button(page)).to_be_visible()
        current = page.get_by_role("navigation", name="Chats").locator("[aria-current]")
        weight = "(link) => Number(getComputedStyle(link).fontWeight)"
        assert await current.evaluate(weight) >= 600


STANDING = """async ([path, cases]) => {
  const { standingWords } = await import(path);
  return cases.map((remaining) => Object.values(standingWords({ remaining })));
}"""


async def test_what_is_left_is_one_short_line(chromium: Browser, bare_door: Door) -> None:
    minute = {"limit": 10, "remaining": 10}
    cases = [
        (None, ["", False]),
        ({"requests": minute | {"remaining": 2}}, ["", False]),
        (
            {"requests": minute | {"remaining": 1}},
            ["1 of 10 messages left this minute", True],
        ),
        (
            {"requests": minute, "requests_day": {"limit": 1200, "remaining": 1100}},
            ["1,100 of 1,200 messages left today", False],
        ),
        (
            {"requests": minute | {"remaining": 1}, "requests_day": {"limit": 9, "remaining": 7}},
            ["7 of 9 messages left today, 1 of 10 messages left this minute", True],
        ),
        (
            {"budget": {"limit_microusd": 5_000_000, "spent_microusd": 4_500_000}},
            ["$0.5000 of $5.00 left", True],
        ),
        (
            {"requests_day": {"limit": 1, "remaining": 0}},
            ["0 of 1 message left today", True],
        ),
    ]
    async with visiting(chromium, bare_door) as page:
        await page.goto("/")
        path = packaged_assets().path("js/chat/limits.js")
        found = await page.evaluate(STANDING, [path, [left for left, _ in cases]])
        assert found == [words for _, words in cases]


def test_makers_have_names() -> None:
    written = {"zai": "Z.ai", "anthropic": "Anthropic", "openai": "OpenAI", "some-lab": "Some Lab"}
    assert {name: maker_name(name) for name in written} == written
    assert maker_name("my Lab") == "my Lab"
