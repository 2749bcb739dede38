"""The documentation is in the reader's language, and can be searched and used in it."""

from __future__ import annotations

import re

from playwright.async_api import Browser, expect
from support.browsing.browser import READY, visiting
from support.fakes.upstream import USAGE, FakeUpstream, refusal, stream_of
from support.front_door import OWNER, Door, bearer

from webui.shell.texts import languages

GROUPS = ("examples", "recipes")
"""The groups of the documentation that are not called `docs...`."""


def sentences(code: str) -> dict[str, set[str]]:
    """Return the lines of the documentation's texts in a language of more than three words."""
    found: dict[str, set[str]] = {}
    for group, texts in languages()[code].groups.items():
        if group.startswith("docs") or group in GROUPS:
            for name, text in texts.items():
                lines = text.splitlines() if isinstance(text, str) else []
                found[f"{group}.{name}"] = {line for line in lines if len(line.split()) > 3}
    return found


async def test_the_page_and_its_markdown_are_in_the_language_of_the_reader(door: Door) -> None:
    english = {line for lines in sentences("en").values() for line in lines}
    for code, language in languages().items():
        asked = bearer(OWNER) | {"Accept-Language": code}
        page = (await door.client.get("/docs", headers=asked)).text
        text = (await door.client.get("/docs.md", headers=asked)).text
        own = {line for lines in sentences(code).values() for line in lines}
        foreign = code != "en"
        assert f'<html lang="{code}"' in page
        assert [line for line in english - own if line in page or line in text] == []
        assert language.texts.docs_start.streaming in text.replace("\n\n", "\n")
        for told in (page, text):
            assert told.count(language.texts.docs_page.parts_in_english) == foreign
        assert ('<td lang="en">' in page) == foreign
        refused = await door.client.get("/docs?model=no/such", headers=asked)
        assert refused.status_code == 404
        assert language.texts.docs_page.no_such_model in refused.text


async def test_the_page_is_searched_and_run_in_other_languages(
    chromium: Browser, upstream: FakeUpstream, door: Door
) -> None:
    async with visiting(chromium, door, expected=("429",), locale="de-DE") as page:
        upstream.plan(
            stream_of(["Wasser"], usage=USAGE), refusal(429, headers={"Retry-After": "300"})
        )
        await page.goto("/docs")
        await page.locator(READY).wait_for(state="attached")
        frame = page.locator('[data-run="chat"]')
        await frame.get_by_role("button", name="Ausführen").click()
        await expect(frame).to_contain_text("Vollständig · 11 Tokens ein, 7 aus")
        await frame.get_by_role("button", name="Ausführen").click()
        await expect(frame).to_contain_text("Abgelehnt mit 429")
        await expect(frame.locator(".answer")).to_have_text(
            re.compile(r"^Zurzeit sind es zu viele Anfragen\. \(429 rate_limit_exceeded\)")
        )
        await page.locator('[data-run="models"]').get_by_role("button").first.click()
        await expect(page.locator('[data-run="models"]')).to_contain_text("200: 1 Modell")
        await page.get_by_role("searchbox").press_sequentially("SCHLUSSEL andern")
        matches = page.get_by_role("list", name="Treffer").get_by_role("link")
        await expect(matches.first).to_contain_text("Schlüssel ändern, erneuern und widerrufen")
        await page.get_by_label("Sprache", exact=True).select_option("ja")
        await page.get_by_role("banner").get_by_role("button", name="Übernehmen").click()
        await page.locator('html[lang="ja"][data-ready]').wait_for(state="attached")
        await page.get_by_role("searchbox").press_sequentially("ストリーミング応答")
        matches = page.get_by_role("list", name="検索結果").get_by_role("link")
        await expect(matches.first).to_contain_text("ストリーミングの応答")
        await page.get_by_role("searchbox").fill("チャット履歴を暗号化")
        await expect(matches.first).to_contain_text("暗号化されていない")
        await expect(page.get_by_role("status")).to_have_text(re.compile(r"^\d+ 件$"))
