"""What a page puts on the clipboard, which it does a little after the click."""

from __future__ import annotations

from playwright.async_api import Page
from support.waiting import until

READ = "() => navigator.clipboard.readText()"


async def copied(page: Page, text: str) -> str:
    """Wait until the clipboard holds `text`, alone or among other words; return all of it."""
    held: list[str] = []

    async def holds() -> bool:
        held.append(await page.evaluate(READ))
        return text in held[-1]

    await until(holds)
    return held[-1]
