"""Ask axe whether a page can be used by everybody.

The contrast of a text is judged once for each look that a page has (colour, size, weight, all that
is painted below it): to judge every text of a long page takes axe 7 of its 10 s.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Any

from playwright.async_api import Page

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RULES_OF_COLOURS = ["color-contrast", "link-in-text-block"]
"""Those of RULES that look at colours; the others see the same as long as LAYOUT is the same."""
LAYOUT = """() => JSON.stringify([...document.querySelectorAll("body *")].map((node) => {
  const { x, y, width, height } = node.getBoundingClientRect();
  return [node.outerHTML.length, x, y, width, height,
    node.checkVisibility({ visibilityProperty: true })];
}))"""
LOOKS = """() => {
  const paint = (node) => {
    const { backgroundColor, backgroundImage, opacity, filter } = getComputedStyle(node);
    return `${backgroundColor} ${backgroundImage} ${opacity} ${filter}`;
  };
  const grounds = new Map();
  const ground = (node) => {
    if (node === null) return "";
    if (!grounds.has(node)) {
      const [below, own] = [ground(node.parentElement), paint(node)];
      grounds.set(node, below.endsWith(`/${own}`) ? below : `${below}/${own}`);
    }
    return grounds.get(node);
  };
  const looks = new Map();
  for (const node of document.querySelectorAll("body *")) {
    const written = node.matches("input, select, textarea") ||
      [...node.childNodes].some((one) => one.nodeType === Node.TEXT_NODE && one.data.trim());
    if (!written || !node.checkVisibility({ visibilityProperty: true })) continue;
    const { color, fontSize, fontWeight, textShadow } = getComputedStyle(node);
    const look = [color, fontSize, fontWeight, textShadow, node.disabled, ground(node)].join();
    if (!looks.has(look)) looks.set(look, node);
  }
  return [...looks.values()];
}"""
RUN = f"""async (tags) => {{
  const looks = ({LOOKS})();
  for (const node of looks) node.setAttribute("data-look", "");
  axe.configure({{ rules: [{{ id: "color-contrast", selector: "[data-look]" }}] }});
  const found = await axe.run(document, {{ runOnly: tags, resultTypes: ["violations"] }});
  for (const node of looks) node.removeAttribute("data-look");
  return found.violations;
}}"""


@cache
def source() -> str:
    """Return axe's script; a page's policy lets it in only by way of the debugger."""
    return (resources.files("axe_playwright_python") / "axe.min.js").read_text()


async def violations(page: Page, rules: list[str] = RULES) -> list[str]:
    """List what axe objects to, each with the first place where."""
    if not await page.evaluate("() => typeof axe === 'object'"):
        await page.evaluate(source())
    found: Any = await page.evaluate(RUN, rules)
    return [described(one) for one in found]


async def violations_in_all_looks(page: Page) -> dict[str, list[str]]:
    """Return what axe objects to on a phone and on a wide screen, each in light and in dark.

    The rules that see no colours are asked again in dark only where the layout is another one.
    """
    found = {}
    for width in (360, 1280):
        await page.set_viewport_size({"width": width, "height": 800})
        layouts: set[str] = set()
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            layout: str = await page.evaluate(LAYOUT)
            rules = RULES_OF_COLOURS if layout in layouts else RULES
            layouts.add(layout)
            if wrong := await violations(page, rules):
                found[f"{width} {scheme}"] = wrong
    return found


def described(violation: Any) -> str:
    """Return a violation as one line."""
    first = violation["nodes"][0]
    where = f"{first['html'][:200]} {first['failureSummary']}"
    return re.sub(r"\s+", " ", f"{violation['id']}: {violation['help']}: {where}")
