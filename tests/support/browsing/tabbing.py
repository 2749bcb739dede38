"""Reach the controls of a page with the Tab key."""

from __future__ import annotations

from playwright.async_api import Page

MAX_STEPS = 60
FOCUSED = """() => {
  const node = document.activeElement;
  const label = node.getAttribute("aria-label") ?? node.labels?.[0]?.textContent;
  return label ?? node.textContent.trim();
}"""


async def tab_to(page: Page, name: str) -> None:
    """Press Tab until a control of this name has the focus."""
    await _press_until(page, "Tab", name)


async def tab_back_to(page: Page, name: str) -> None:
    """Press Shift+Tab until a control of this name has the focus."""
    await _press_until(page, "Shift+Tab", name)


async def _press_until(page: Page, key: str, name: str) -> None:
    for _ in range(MAX_STEPS):
        await page.keyboard.press(key)
        if await page.evaluate(FOCUSED) == name:
            return
    raise AssertionError(f"{key} never reaches {name}")
