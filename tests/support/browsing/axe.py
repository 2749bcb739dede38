"""Ask axe whether a page can be used by everybody."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Any

from playwright.async_api import Page

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@cache
def source() -> str:
    """Return axe's script; a page's policy lets it in only by way of the debugger."""
    return (resources.files("axe_playwright_python") / "axe.min.js").read_text()


async def violations(page: Page) -> list[str]:
    """List what axe objects to, each with the first place where."""
    if not await page.evaluate("() => typeof axe === 'object'"):
        await page.evaluate(source())
    found: Any = await page.evaluate(
        "(tags) => axe.run(document, { runOnly: tags, resultTypes: ['violations'] })", RULES
    )
    return [described(one) for one in found["violations"]]


def described(violation: Any) -> str:
    """Return a violation as one line."""
    first = violation["nodes"][0]
    where = f"{first['html'][:200]} {first['failureSummary']}"
    return re.sub(r"\s+", " ", f"{violation['id']}: {violation['help']}: {where}")
