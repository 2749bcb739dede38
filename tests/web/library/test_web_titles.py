"""Titles that a model writes, and those that are made from the first words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Response, expect
from support.browsing.browser import open_chat, say, visiting
from support.browsing.chat_page import answers, begin_anew, entries, held, more, talk
from support.browsing.chatting import chatting
from support.browsing.devices import one_device
from support.browsing.signing_in import sign_in
from support.fakes.upstream import (
    USAGE,
    Answer,
    Pause,
    completion,
    refusal,
    stream_of,
)

from webui.chat.title_model import choose_title_model
from webui.shell.assets import packaged_assets

TITLES = "\n[web]\ntitles = true\n"
IN_BROWSER = "[history]\nenabled = false\n"
ANSWER = stream_of(["They grow on trees."], usage=USAGE)
CLEAN = """
async (build) => {
  const { titleOf } = await import(`/static/${build}/js/chat/state/records.js`);
  const { cleanTitle } = await import(`/static/${build}/js/chat/turns/titling.js`);
  window.titles = { titleOf, cleanTitle };
}
"""
FIRST_WORDS = {
    "**Bold** and *leaning* `code`": "Bold and leaning code",
    "# A heading\n\ntext": "A heading text",
    "- one\n- [ ] two": "one two",
    "> [a link](https://example.com/) and ~~this~~": "a link and this",
    "```python\nprint(1)\n```": "print(1)",
    "2 * 3 * 4 = **kwargs, __init__ and - 5": "2 * 3 * 4 = **kwargs, __init__ and - 5",
    "- 5 + 3 = ?": "- 5 + 3 = ?",
    "---": "---",
    "#include <a>": "#include <a>",
    "**太字**の質問": "太字の質問",
    "\U0001f34e" * 61: "\U0001f34e" * 60 + "…",
}
WRITTEN = {
    '"Growing Apples."': "Growing Apples",
    "**Title:** Growing Apples": "Growing Apples",
    "# Growing Apples\n\nThis title ...": "Growing Apples",
    "<think>\nHm.\n</think>\n\n„Äpfel ziehen“": "Äpfel ziehen",
    "<think>\nnever ends": "",
    "「リンゴの育て方」。": "リンゴの育て方",
    "How do apples grow?": "How do apples grow?",
    "  \n": "",
    "***": "",
}


async def test_a_title_is_one_plain_line(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (_, _, page):
        await open_chat(page)
        await page.evaluate(CLEAN, packaged_assets().build)
        for name, cases in (("titleOf", FIRST_WORDS), ("cleanTitle", WRITTEN)):
            made = await page.evaluate(
                "([name, texts]) => texts.map((text) => window.titles[name](text))",
                [name, list(cases)],
            )
            assert made == list(cases.values())


def asks_for_title(answer: Response) -> bool:
    return answer.request.headers.get("x-request-id", "").startswith("title-")


def limits_after_title() -> Callable[[Response], bool]:
    """Return what recognises the limits that a page reads once it has a title."""
    titles: list[Response] = []

    def matches(answer: Response) -> bool:
        if asks_for_title(answer):
            titles.append(answer)
        return bool(titles) and answer.url.endswith("/api/v1/key")

    return matches


@pytest.mark.parametrize("settings", ["", IN_BROWSER], ids=["on the server", "in the browser"])
async def test_a_model_writes_the_title_once(
    chromium: Browser, tmp_path: Path, settings: str
) -> None:
    opened = one_device(chromium, tmp_path, settings=TITLES + settings)
    async with opened as (upstream, door, page, _):
        first, go = held("They grow", then=(" on trees.",))
        upstream.plan(first, completion('"**Growing Apples.**"'), ANSWER)
        await say(page, "**Tell me** about apples")
        await expect(entries(page)).to_have_text(["Tell me about apples"])
        go.set()
        await expect(entries(page)).to_have_text(["Growing Apples"])
        await expect(page.get_by_role("heading", name="Growing Apples")).to_be_visible()
        asked = (await upstream.request(1)).json
        assert not asked.get("stream") and asked["max_tokens"] <= 300
        assert "**Tell me** about apples" in asked["messages"][1]["content"]
        assert "They grow on trees." in asked["messages"][1]["content"]
        await talk(page, "go on", "and on")
        streamed = [(await upstream.request(n)).json.get("stream") for n in range(4)]
        assert streamed == [True, None, True, True]
        rows = await door.usage_rows(4)
        (title,) = [row for row in rows if row.request_id.startswith("title-")]
        assert title.key_id == rows[0].key_id != "guest" and title.cost_microusd
        await open_chat(page)
        await expect(entries(page)).to_have_text(["Growing Apples"])


async def test_a_title_by_a_model_follows_on_all_devices_and_yields_to_the_persons(
    chromium: Browser, tmp_path: Path
) -> None:
    opened = one_device(chromium, tmp_path, settings=TITLES, expected=("400",))
    async with opened as (upstream, door, page, key), visiting(chromium, door) as other:
        await sign_in(other, key)
        upstream.plan(ANSWER, completion("Growing Apples"))
        await talk(page, "apples")
        await expect(entries(other)).to_have_text(["Growing Apples"])

        go = asyncio.Event()
        body = json.dumps({"choices": [{"message": {"role": "assistant", "content": "Late"}}]})
        late = Answer(
            pieces=[Pause(go), body.encode()], headers={"content-type": "application/json"}
        )
        upstream.plan(ANSWER, late)
        await begin_anew(page)
        await talk(page, "pears")
        await upstream.request(3)
        await more(other, "pears", "Rename")
        await other.get_by_role("textbox", name="New title").press_sequentially("Mine")
        await other.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Mine")).to_be_visible()
        async with page.expect_response(limits_after_title()):
            go.set()
        await expect(entries(page)).to_have_text(["Mine", "Growing Apples"])

        upstream.plan(ANSWER, refusal(400), ANSWER)
        await begin_anew(page)
        async with page.expect_response(asks_for_title) as refused:
            await talk(page, "plums")
        assert (await refused.value).status == 400
        await talk(page, "go on")
        assert (await upstream.request(6)).json["stream"] is True
        await expect(entries(page).first).to_have_text("plums")
        await expect(page.get_by_role("alert")).to_be_hidden()


async def test_guests_and_temporary_chats_have_no_title_by_a_model(
    chromium: Browser, tmp_path: Path
) -> None:
    opened = one_device(chromium, tmp_path, settings=TITLES)
    async with opened as (upstream, door, page, _), visiting(chromium, door) as guest:
        upstream.plan(ANSWER)
        await open_chat(guest)
        await talk(guest, "apples", "pears")
        await page.get_by_role("button", name="Temporary chat").click()
        await talk(page, "plums", "figs")
        assert [(await upstream.request(n)).json["stream"] for n in range(4)] == [True] * 4
        await expect(answers(page)).to_have_count(2)


def card(name: str, price: float | None, **more: Any) -> dict[str, Any]:
    """Describe a model as the page gets it."""
    prices = None if price is None else {"prompt": price, "completion": price}
    kinds = {"input": ["text"], "output": ["text"]}
    known = {"id": name, "prices": prices, "available": True, "demo": False, "health": None}
    return known | {"modalities": kinds} | more


def test_the_cheapest_model_writes_the_title() -> None:
    dear, cheap, free = card("a", 3), card("b", 1), card("c", 0)
    unknown, failing = card("d", None), card("e", 0, health={"mark": "bad"})
    absent, demo = card("f", 0, available=False), card("g", 0, demo=True)
    painter = card("h", 0, modalities={"input": ["text"], "output": ["image"]})
    everything = [dear, cheap, free, unknown, failing, absent, demo, painter]
    chosen = []
    for one in (free, cheap, dear, unknown, failing, demo):
        chosen.append(choose_title_model(everything))
        everything.remove(one)
    assert chosen == ["c", "b", "a", "d", "e", "g"]
    assert choose_title_model(everything) == ""
