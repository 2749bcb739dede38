"""Programs and missing routes are documented truthfully, and all of the page can be found."""

from __future__ import annotations

import html
import json
import re

import pytest
import yaml
from playwright.async_api import Browser, expect
from support.browsing.axe import violations
from support.browsing.browser import READY, visiting
from support.fakes.upstream import FakeUpstream
from support.front_door import MODEL, OWNER, Door, bearer

from webui.docs.owner_sections import missing_routes
from webui.docs.parts import TOKENS
from webui.docs.recipes import RECIPES
from webui.shell.texts import languages

FORMATS = {
    "json": json.loads,
    "yaml": yaml.safe_load,
    "python": lambda code: compile(code, "", "exec"),
}
"""What reads the settings of a program, by their kind."""

READS_MODELS = ("open-webui",)
"""Programs that read the list of models and need no id."""


@pytest.mark.gateway(settings='[server]\nbase_url = "https://ai.example.org/roxy"')
async def test_every_program_gets_this_server_and_the_chosen_model(door: Door) -> None:
    page = (await door.client.get(f"/docs?model={MODEL}")).text
    text = (await door.client.get(f"/docs.md?model={MODEL}")).text
    for recipe in RECIPES:
        found = re.search(rf'id="with-{recipe.id}">.*?\n><code>(.*?)</code></pre>', page, re.DOTALL)
        assert found is not None, recipe.id
        shown = html.unescape(re.sub(r"<[^>]+>", "", found[1]))
        assert "https://ai.example.org/roxy/api/v1" in shown, recipe.id
        assert MODEL in shown or recipe.id in READS_MODELS
        assert not re.search(r"\b(BASE_URL|MODEL_ID|CONTEXT_TOKENS)\b", shown), recipe.id
        assert f"### {recipe.name}" in text and shown in text, recipe.id
        FORMATS.get(recipe.kind, str)(shown)
    assert {recipe.kind for recipe in RECIPES} <= set(TOKENS)
    assert {recipe.id for recipe in RECIPES} == languages()["en"].groups["recipes"].keys()


async def test_routes_that_are_said_to_be_missing_are_missing(door: Door) -> None:
    rows = missing_routes(languages()["en"]).rows
    paths = [path for cell, _ in rows for path in re.findall(r"`(/\w+)`", cell)]
    assert len(paths) > len(rows)
    for path in paths:
        answer = await door.client.post(f"/api/v1{path}", json={}, headers=bearer(OWNER))
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found"), path


async def test_the_page_is_searched_as_one_types(
    chromium: Browser, upstream: FakeUpstream, door: Door
) -> None:
    async with visiting(chromium, door) as page:
        await page.goto("/docs")
        await page.locator(READY).wait_for(state="attached")
        box = page.get_by_role("searchbox", name="Search the documentation")
        matches = page.get_by_role("list", name="Matches").get_by_role("link")
        await page.keyboard.press("/")
        await expect(box).to_be_focused()
        await page.keyboard.type("BUDGET Exceeded zebra")
        await expect(page.get_by_role("list", name="Matches")).to_have_text(
            "No matches. Try fewer or other words."
        )
        await page.keyboard.press("Escape")
        await expect(box).to_have_value("")
        await page.keyboard.type("insufficient_quota")
        await expect(matches.first).to_contain_text("Errors")
        assert await violations(page) == []
        await page.keyboard.press("Escape")
        for sought, found in (("responses api", "/responses"), ("embeddings API", "/embeddings")):
            await page.keyboard.type(sought)
            row = matches.filter(has_text=found).filter(has_text="Routes that are not here")
            await expect(row).to_have_count(1)
            await page.keyboard.press("Escape")
        await page.keyboard.type("responses api")
        await expect(matches.first).to_contain_text("Routes that are not here")
        await page.keyboard.press("Escape")
        for sought, title, rest in (
            ("shares_off", "shares_off · 403", re.compile("^permission_error · ")),
            ("history.retention_days", "history.retention_days", None),
        ):
            await page.keyboard.type(sought)
            row = matches.filter(has=page.locator("b", has_text=title)).first
            await expect(row).to_be_visible()
            excerpt = row.locator("span").last
            await expect(excerpt).not_to_contain_text(sought)
            if rest:
                await expect(excerpt).to_have_text(rest)
            await page.keyboard.press("Escape")
        await page.keyboard.type("home assist")
        await expect(matches.first).to_contain_text("Home Assistant")
        await page.keyboard.press("ArrowDown")
        await expect(matches.first).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("#with-home-assistant")).to_have_attribute("open", "")
        await expect(page.get_by_text("Extended OpenAI Conversation")).to_be_in_viewport()
        await expect(page).to_have_url(re.compile("#with-home-assistant$"))
        await box.fill("/keys/{id}/rotate")
        await matches.first.click()
        await expect(page.locator("details[open] summary", has_text="rotate")).to_be_in_viewport()
