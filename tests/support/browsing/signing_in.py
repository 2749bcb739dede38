"""Sign a browser in to the chat, and out."""

from __future__ import annotations

from playwright.async_api import Page
from support.browsing.browser import READY


async def enter_key(page: Page, key: str) -> None:
    """Enter a key on the sign-in page that is open, and come to the chat."""
    await page.get_by_role("textbox", name="Key").fill(key)
    await page.get_by_role("button", name="Sign in").click()
    await page.locator(READY).wait_for(state="attached")


async def sign_in(page: Page, key: str) -> None:
    """Sign in with a key and come to the chat."""
    await page.goto("/login?next=/")
    await enter_key(page, key)


async def sign_out(page: Page) -> None:
    """Sign out on the chat page, and wait for the page of a guest."""
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_role("link", name="Sign in").first.wait_for()
    await page.locator(READY).wait_for(state="attached")
