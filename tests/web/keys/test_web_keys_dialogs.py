"""The owner's page of keys with its script: dialogs beside the list, the keyboard alone, axe."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Locator, Page, Route, expect
from support.browsing.axe import violations_in_all_looks
from support.browsing.browser import PHONE, visiting
from support.browsing.clipboard import copied
from support.browsing.owner_pages import OUTSIDE, sign_in
from support.browsing.tabbing import tab_to
from support.fakes.upstream import FakeUpstream
from support.front_door import MODEL, Door, front_door

LONG = (
    "A name that is as long as names may be, for the list to keep its shape all the same: "
    + "w" * 15
)
REFUSED = ("400",)
"""Browsers report every refused form on the console."""


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    """Return one gateway with two keys."""
    async with FakeUpstream() as upstream, front_door(tmp_path, upstream) as one:
        await one.mint_key(LONG, limits={"requests_per_minute": 60, "budget_microusd": 5_000_000})
        await one.mint_key("app", models=[MODEL])
        yield one


async def open_keys(page: Page, path: str = "/keys") -> None:
    """Sign in as the owner and open the page."""
    await sign_in(page, path)
    await expect(page.get_by_role("link", name="Create a key")).to_be_visible()
    await page.wait_for_load_state()  # before its script has come the link leads to a page


def dialog(page: Page) -> Locator:
    """Find the dialog."""
    return page.get_by_role("dialog")


def row(page: Page, name: str) -> Locator:
    """Find a key's row."""
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))


async def test_a_secret_is_copied_from_the_dialog_and_gone_with_it(
    chromium: Browser, door: Door
) -> None:
    async with visiting(chromium, door, permissions=["clipboard-read", "clipboard-write"]) as page:
        await open_keys(page)
        await page.evaluate("() => { window.stayed = true; }")
        await page.get_by_role("link", name="Create a key").click()
        await dialog(page).get_by_label("Name", exact=True).fill("ci")
        await dialog(page).get_by_role("link", name="Trial").click()
        await expect(dialog(page).get_by_label("Budget in dollars")).to_have_value("1")
        await expect(dialog(page).get_by_label("Name", exact=True)).to_have_value("ci")
        await dialog(page).get_by_role("button", name="Create the key").click()
        await expect(dialog(page)).to_contain_text("Shown once.")
        secret = await dialog(page).get_by_role("group", name="Secret").inner_text()
        await dialog(page).get_by_role("button", name="Copy").first.click()
        assert await copied(page, secret) == secret
        assert (await door.chat(key=secret, max_tokens=9)).status_code == 200
        await dialog(page).get_by_role("link", name="Done").click()
        await expect(dialog(page)).to_be_hidden()
        await expect(row(page, "ci")).to_contain_text(f"{secret[:9]}…{secret[-4:]}")
        await expect(row(page, "ci")).to_contain_text("5 req/min · 20K tokens/min · 1 concurrent")
        await expect(page.get_by_role("link", name="Create a key")).to_be_focused()
        assert await page.evaluate("() => window.stayed") is True
        assert secret not in await page.content()
        await door.usage_rows()
        answer = await page.goto("/keys")
        assert answer is not None and secret not in await answer.text()
        await expect(
            row(page, "ci").get_by_role("img", name="1 request in 30 days")
        ).to_be_visible()
        await expect(row(page, "ci")).not_to_contain_text("never used")


async def test_a_search_is_sent_and_stays_after_a_change(chromium: Browser, door: Door) -> None:
    for number in range(60):
        await door.mint_key(f"shop {number:02}")
    async with visiting(chromium, door) as page:
        await open_keys(page)
        await page.get_by_label("Name, note, key or id").fill("shop 3")
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(re.compile(r"/keys\?search=shop\+3&sort=newest$"))
        await expect(page.get_by_text("10 matches")).to_be_visible()
        await row(page, "shop 30").get_by_role("button", name="Disable").click()
        await expect(row(page, "shop 30")).to_contain_text("disabled")
        await expect(page.get_by_text("10 matches")).to_be_visible()
        await expect(page).to_have_url(re.compile(r"/keys\?search=shop\+3&sort=newest$"))


async def test_a_refused_form_keeps_what_was_typed(chromium: Browser, door: Door) -> None:
    async with visiting(chromium, door, expected=REFUSED) as page:
        await open_keys(page)
        await page.get_by_role("link", name="Create a key").click()
        await dialog(page).get_by_label("Name", exact=True).fill("ci")
        await dialog(page).get_by_label("Concurrent requests").fill("two")
        await dialog(page).get_by_role("button", name="Create the key").click()
        field = dialog(page).get_by_label("Concurrent requests")
        await expect(field).to_have_attribute("aria-invalid", "true")
        await expect(field).to_be_focused()
        await expect(field).to_have_accessible_description(re.compile("Enter a whole number"))
        await expect(field).to_have_value("two")
        await field.fill("2")
        await page.keyboard.press("Enter")
        await expect(dialog(page)).to_contain_text("Shown once.")
        await expect(dialog(page)).to_contain_text("2 concurrent")


async def test_a_key_is_edited_disabled_and_enabled_in_place(chromium: Browser, door: Door) -> None:
    async with visiting(chromium, door) as page:
        await open_keys(page)
        await page.evaluate("() => { window.stayed = true; }")
        await page.get_by_role("link", name="app", exact=True).click()
        await dialog(page).get_by_label("Tokens per minute").fill("5000")
        await dialog(page).get_by_role("checkbox", name=MODEL).uncheck()
        await dialog(page).get_by_role("button", name="Save").click()
        await expect(row(page, "app")).to_contain_text("60 req/min · 5K tokens/min")
        await expect(row(page, "app")).to_contain_text("all models")
        await expect(page.get_by_role("link", name="app", exact=True)).to_be_focused()
        for step, state in (("Disable", "disabled"), ("Enable", "active")):
            await page.get_by_role("button", name=f"{step} app").click()
            await expect(row(page, "app")).to_contain_text(state)
        await expect(page.get_by_role("button", name="Disable app")).to_be_focused()
        assert await page.evaluate("() => window.stayed") is True


async def test_a_key_is_rotated_and_revoked_by_its_name(chromium: Browser, door: Door) -> None:
    async with visiting(chromium, door, expected=REFUSED) as page:
        old = await door.mint("worker")
        await open_keys(page)
        await page.get_by_role("link", name="Rotate worker").click()
        await dialog(page).get_by_label("The old secret ends").select_option("after 24 hours")
        await dialog(page).get_by_role("button", name="Rotate").click()
        secret = await dialog(page).get_by_role("group", name="Secret").inner_text()
        await page.keyboard.press("Escape")
        await expect(dialog(page).get_by_role("alert")).to_contain_text("not copied the key yet")
        await expect(dialog(page).get_by_role("group", name="Secret")).to_have_text(secret)
        await page.keyboard.press("Escape")
        await expect(dialog(page)).to_be_hidden()
        await expect(row(page, "worker")).to_contain_text(secret[-4:])
        assert secret not in await page.content()
        await page.get_by_role("link", name="Revoke worker").click()
        name = dialog(page).get_by_label("The name of the key, to confirm")
        await name.fill("workers")
        await page.keyboard.press("Enter")
        await expect(dialog(page)).to_contain_text("Nothing was changed.")
        await name.fill("worker")
        await dialog(page).get_by_role("button", name="Revoke permanently").click()
        await expect(row(page, "worker")).to_have_count(0)
        for one in (old, secret):
            assert (await door.chat(key=one)).status_code == 401
        await page.get_by_role("link", name="Revoked 1").click()
        await expect(row(page, "worker")).to_contain_text("revoked")


async def test_a_key_is_made_by_keyboard_alone(chromium: Browser, door: Door) -> None:
    async with visiting(chromium, door) as page:
        await open_keys(page)
        await tab_to(page, "Create a key")
        await page.keyboard.press("Enter")
        await expect(dialog(page).get_by_label("Name", exact=True)).to_be_focused()
        await page.keyboard.type("by keyboard")
        await tab_to(page, "Concurrent requests")
        await page.keyboard.type("3")
        await page.keyboard.press("Enter")
        await expect(dialog(page)).to_contain_text("Shown once.")
        await tab_to(page, "Copy")
        await tab_to(page, "Done")
        await page.keyboard.press("Enter")
        await expect(dialog(page).get_by_role("button", name="Copy").first).to_be_focused()
        await tab_to(page, "Done")
        await page.keyboard.press("Enter")
        await expect(dialog(page)).to_be_hidden()
        await expect(row(page, "by keyboard")).to_contain_text("3 concurrent")
        await page.keyboard.press("Enter")
        await expect(dialog(page)).to_contain_text("New key")


CLOSED = """(how) => {
  const dialog = document.querySelector("dialog");
  for (const asked of [true, false]) {  // the first time it asks about the secret
    if (how === "Done") dialog.querySelector("[data-close]:not([aria-label])").click();
    else dialog.dispatchEvent(new Event("cancel", { cancelable: true }));
    if (dialog.open !== asked) return "closed at once, or not at all";
  }
  const there = [dialog.open, dialog.childElementCount, document.activeElement.dataset.act];
  document.activeElement.click();
  return there;
}"""
"""Browsers tell that a dialog has closed with their next frame; a quick hand is there before it."""


@pytest.mark.parametrize("how", ["Done", "Escape"])
async def test_a_dialog_that_closes_gives_the_focus_back_at_once(
    chromium: Browser, door: Door, how: str
) -> None:
    async with visiting(chromium, door) as page:
        await open_keys(page)
        await page.get_by_role("link", name="Create a key").click()
        await dialog(page).get_by_label("Name", exact=True).fill("ci")
        await page.keyboard.press("Enter")
        await expect(dialog(page)).to_contain_text("Shown once.")
        # Not by a part of the text: the redacted secret of the other row may hold "ci" as well.
        named = page.locator("#keys tr").filter(has=page.get_by_text("ci", exact=True))
        await expect(named).to_be_attached()
        assert await page.evaluate(CLOSED, how) == [False, 0, "new"]
        await expect(dialog(page)).to_contain_text("New key")
        await page.evaluate(
            "() => document.querySelector('dialog').dispatchEvent(new Event('close'))"
        )
        await expect(dialog(page)).to_contain_text("New key")


async def test_until_the_script_has_come_the_link_leads_to_the_form(
    chromium: Browser, door: Door
) -> None:
    async with visiting(chromium, door) as page:
        await open_keys(page)
        late = asyncio.Event()

        async def hold(route: Route) -> None:
            await late.wait()
            await route.continue_()

        await page.route("**/js/keys/page.js", hold)
        await page.goto("/keys", wait_until="commit")
        await page.get_by_role("link", name="Create a key").press("Enter")
        await expect(page.get_by_role("heading", name="New key", level=1)).to_be_visible()
        await page.get_by_label("Name", exact=True).fill("early")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("group", name="Secret")).to_contain_text("roxy_")
        late.set()


async def test_a_server_that_has_gone_is_told_in_the_dialog(chromium: Browser, door: Door) -> None:
    async with visiting(chromium, door, expected=("ERR_",)) as page:
        await open_keys(page)
        await page.get_by_role("link", name="Create a key").click()
        await dialog(page).get_by_label("Name", exact=True).fill("ci")
        await page.context.set_offline(True)
        await dialog(page).get_by_role("button", name="Create the key").click()
        await expect(dialog(page).get_by_role("alert")).to_contain_text("cannot be reached")
        await expect(dialog(page).get_by_label("Name", exact=True)).to_have_value("ci")


async def test_a_session_that_has_ended_leads_to_the_sign_in_page(
    chromium: Browser, door: Door
) -> None:
    async with visiting(chromium, door) as page:
        await open_keys(page)
        await page.context.clear_cookies()
        await page.get_by_role("link", name="Create a key").click()
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


@pytest.mark.time_limit(240)
async def test_axe_finds_nothing(chromium: Browser, door: Door) -> None:
    async with visiting(chromium, door, expected=REFUSED) as page:
        await open_keys(page)
        assert await violations_in_all_looks(page) == {}, "list"
        await page.get_by_role("link", name="Create a key").click()
        await dialog(page).get_by_role("button", name="Create the key").click()
        await expect(dialog(page)).to_contain_text("Must have 1 to 100 characters.")
        assert await violations_in_all_looks(page) == {}, "form"
        await dialog(page).get_by_label("Name", exact=True).fill("ci")
        await page.keyboard.press("Enter")
        await expect(dialog(page)).to_contain_text("Shown once.")
        assert await violations_in_all_looks(page) == {}, "secret"
        await page.keyboard.press("Escape")
        assert await violations_in_all_looks(page) == {}, "secret, not copied"
        await page.keyboard.press("Escape")
        for name in ("app", "Rotate app", "Revoke app"):
            await page.get_by_role("link", name=name, exact=True).click()
            await expect(dialog(page)).to_be_visible()
            assert await violations_in_all_looks(page) == {}, name
            await page.keyboard.press("Escape")
        await page.goto("/keys/new")
        assert await violations_in_all_looks(page) == {}, "page of the form"


@pytest.mark.parametrize("width", [320, 360, 768, 1440])
async def test_nothing_is_wider_than_the_screen(chromium: Browser, door: Door, width: int) -> None:
    size = {"width": width, "height": 800}
    async with visiting(
        chromium, door, viewport=size, screen=size, is_mobile=width < 700, has_touch=width < 700
    ) as page:
        await open_keys(page)
        (long,) = [key for key in await door.gateway.services.keys.list() if key.name == LONG]
        for path in ("/keys", "/keys/new", f"/keys/{long.id}", f"/keys/{long.id}/revoke"):
            await page.goto(path)
            assert await page.evaluate("() => document.documentElement.scrollWidth") == width, path
            assert await page.evaluate(OUTSIDE) == [], path
        await page.goto("/keys")
        for name in (f"Rotate {LONG}", f"Revoke {LONG}", "Revoke app"):
            act = await page.get_by_role("link", name=name).bounding_box()
            assert act is not None
            assert act["x"] >= 0 and act["x"] + act["width"] <= width, name
        await page.get_by_role("link", name="Create a key").click()
        await dialog(page).get_by_label("Name", exact=True).fill(LONG)
        await page.keyboard.press("Enter")
        await expect(dialog(page)).to_contain_text("Shown once.")
        assert await page.evaluate("() => document.documentElement.scrollWidth") == width
        assert await page.evaluate(
            "() => { const { scrollWidth, clientWidth } = document.querySelector('dialog');"
            " return scrollWidth <= clientWidth; }"
        )


async def test_on_a_phone_all_that_can_be_done_with_a_key_is_in_sight(
    chromium: Browser, door: Door
) -> None:
    async with visiting(chromium, door, viewport=PHONE, has_touch=True) as page:
        await open_keys(page)
        for name in (f"Disable {LONG}", f"Rotate {LONG}", f"Revoke {LONG}", "Revoke app"):
            act = page.get_by_role("button" if name.startswith("Disable") else "link", name=name)
            box = await act.bounding_box()
            assert box is not None
            assert box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"], name


async def test_all_is_done_without_the_script(chromium: Browser, door: Door) -> None:
    async with visiting(chromium, door, java_script_enabled=False) as page:
        await open_keys(page)
        await page.get_by_role("link", name="Create a key").click()
        await page.get_by_role("link", name="Personal").click()
        await page.get_by_label("Name", exact=True).fill("plain")
        await page.get_by_role("button", name="Create the key").click()
        await expect(page.get_by_role("group", name="Secret")).to_contain_text("roxy_")
        await page.get_by_role("link", name="Done").click()
        await page.get_by_role("button", name="Disable plain").click()
        await expect(row(page, "plain")).to_contain_text("disabled")
        await page.get_by_role("link", name="Revoke plain").click()
        await page.get_by_label("The name of the key, to confirm").fill("plain")
        await page.get_by_role("button", name="Revoke permanently").click()
        await expect(row(page, "plain")).to_have_count(0)
