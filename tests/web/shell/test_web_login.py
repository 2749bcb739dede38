"""The sign-in page: where keys come from, and any way in which a key was copied."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, Page, expect
from support.browsing.browser import visiting
from support.front_door import OWNER, Door
from support.visitors import Browser as Visitor


async def attempt(page: Page, text: str) -> None:
    """Paste a text into the field and send it; a field of passwords keeps no line breaks."""
    await page.get_by_label("Key", exact=True).press("Control+a")
    await page.keyboard.insert_text(text)
    await page.keyboard.press("Enter")


async def test_a_wrong_key_stays_in_its_field(chromium: Browser, demo_door: Door) -> None:
    key = await demo_door.mint("ada")
    async with visiting(chromium, demo_door, expected=("401",)) as page:
        await page.goto("/login?next=/docs")
        await expect(page.get_by_text("Ask the owner of this server for a key.")).to_be_visible()
        await page.get_by_text("I am the owner").click()
        await expect(page.get_by_text("ROXY_ADMIN_API_KEY")).to_be_visible()
        field = page.get_by_label("Key", exact=True)
        await expect(field).to_have_attribute("autocomplete", "current-password")
        await attempt(page, key[:-3])
        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text("incomplete or has a typo")
        await expect(field).to_have_value(key[:-3])
        await expect(field).to_have_attribute("type", "password")
        await page.get_by_role("button", name="Show").click()
        await expect(field).to_have_attribute("type", "text")
        await attempt(page, "not-the-owner-key")
        await expect(alert).to_contain_text("This key is not valid")
        await expect(field).to_have_value("not-the-owner-key")
        await attempt(page, f'export ROXY_API_KEY="{key}"')
        await page.wait_for_url("**/docs")
        await expect(page.get_by_text("ada", exact=True)).to_be_visible()


async def test_signing_in_needs_no_script(chromium: Browser, demo_door: Door) -> None:
    async with visiting(chromium, demo_door, java_script_enabled=False, expected=("401",)) as page:
        await page.goto("/login")
        await expect(page.get_by_role("button", name="Show")).to_be_hidden()
        await attempt(page, "wrong")
        await expect(page.get_by_role("alert")).to_contain_text("This key is not valid")
        await attempt(page, f"Bearer {OWNER}")
        await page.wait_for_url("**/")
        await expect(page.get_by_role("link", name="Keys")).to_be_visible()


@pytest.mark.parametrize(
    "pasted", ["ROXY_ADMIN_API_KEY='{}'", "\u201c{}\u201d", "\ufeff{}\u200b\r\n"]
)
async def test_the_owner_key_is_found_in_what_was_pasted(bare_door: Door, pasted: str) -> None:
    answer = await Visitor(bare_door).sign_in(pasted.format(OWNER))
    assert answer.status_code == 303


async def test_too_many_wrong_keys_are_refused_in_words(bare_door: Door) -> None:
    visitor = Visitor(bare_door)
    answers = [await visitor.sign_in(f"wrong{n}") for n in range(11)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429]
    assert "<h1>Too many requests</h1>" in answers[-1].text and "Try again in" in answers[-1].text


async def test_the_pages_script_is_answered_in_the_language_of_the_page(bare_door: Door) -> None:
    headers = {"Accept": "application/json", "Accept-Language": "de"}
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    answer = await bare_door.client.post("/login", content="key=x&xsrf=old", headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["message"].startswith("Diese Seite ist veraltet.")


async def test_the_language_is_the_browsers_or_the_chosen_one(
    chromium: Browser, demo_door: Door
) -> None:
    async with visiting(chromium, demo_door, locale="de-AT", expected=("401", "404")) as page:
        await page.goto("/login?next=/docs")
        await expect(page.get_by_role("heading", name="Anmelden")).to_be_visible()
        await expect(page.locator("html[lang=de]")).to_have_count(1)
        await page.get_by_label("Schlüssel", exact=True).press_sequentially("falsch")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("Dieser Schlüssel ist ungültig")
        await page.get_by_role("button", name="Anzeigen").click()
        await expect(page.get_by_role("button", name="Verbergen")).to_be_visible()
        await page.get_by_label("Sprache").select_option("日本語")  # as by the keyboard
        await page.get_by_role("button", name="Übernehmen").click()
        await expect(page.get_by_role("heading", name="サインイン")).to_be_visible()
        await page.goto("/no/such/page")
        await expect(page.get_by_text("このページは存在しません。")).to_be_visible()
        language = page.get_by_label("言語")
        await language.click()
        await language.select_option("English")
        await expect(page.get_by_role("heading", name="Page not found")).to_be_visible()
        await page.goto("/login")
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_the_language_is_changed_without_script(chromium: Browser, demo_door: Door) -> None:
    async with visiting(chromium, demo_door, java_script_enabled=False) as page:
        await page.goto("/login")
        await page.get_by_label("Language").select_option("Español")
        await page.get_by_role("button", name="Use").click()
        await expect(page.get_by_role("heading", name="Iniciar sesión")).to_be_visible()
