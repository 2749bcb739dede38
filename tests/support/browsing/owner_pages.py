"""What tests do on the owner's pages."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from playwright.async_api import Locator, Page
from support.browsing.page_tables import PageTables
from support.front_door import OWNER, Door
from support.plain_http import Answer

OURS = {"'self'", "'none'", "'script'", "data:", "blob:"}
"""All that a policy may name: no host, no scheme of the network, nothing unsafe."""


class Outline(HTMLParser):
    """What a page is made of: its tags, and everything that could run, style or load."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.active: list[str] = []
        self.links: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        given = dict(attrs)
        self.tags.append(tag)
        if tag in ("style", "iframe", "object", "embed", "base"):
            self.active.append(tag)
        if tag == "script" and not given.get("src"):
            self.active.append("inline script")
        for name, value in attrs:
            if name.startswith("on") or name in ("style", "srcdoc", "http-equiv"):
                self.active.append(f"{tag} {name}")
            if name in ("href", "src", "action"):
                self.links.append(value or "")


EVIL = "<script>alert(1)</script>"


async def opened(door: Door, path: str = "/usage") -> PageTables:
    """Open a page as the owner and read it."""
    answer = await door.get(path)
    assert answer.status_code == 200, answer.text
    return PageTables(answer.text)


async def sign_in(page: Page, path: str) -> None:
    """Sign in as the owner and go to a page."""
    await page.goto(f"/login?next={path}")
    await page.get_by_label("Key").fill(OWNER)
    await page.get_by_role("button", name="Sign in").click()
    # The page of the form has the path in its own address.
    await page.wait_for_url(re.compile(f"^[^?]*{re.escape(path)}$"))


def combo(page: Page, name: str) -> Locator:
    """Find a select."""
    return page.get_by_role("combobox", name=name)


OUTSIDE = """() => {
  const all = [...document.querySelectorAll("button, a, input, textarea, summary")];
  return all.filter((node) => {
    const hidden = !node.checkVisibility({ visibilityProperty: true });
    if (hidden || node.closest(".unseen, .table, pre, nav")) return false;
    const { left, right, width } = node.getBoundingClientRect();
    return width > 0 && (left < -1 || right > screen.width + 1);
  }).map((node) => node.outerHTML.slice(0, 120));
}"""


LARGE = """() => {
  document.documentElement.style.fontSize = "200%";
  const width = document.documentElement.clientWidth;
  const shown = (kinds) => [...document.querySelectorAll(kinds)].filter((node) =>
    node.checkVisibility({ visibilityProperty: true }) && node.clientWidth !== 1
    && !node.closest(".unseen, .table, pre"));
  const box = (node) => node.getBoundingClientRect();
  const outside = shown("button, a, input, select, textarea, summary, h1, h2, h3, label, p, dd")
    .filter((node) => box(node).width && (box(node).left < -1 || box(node).right > width + 1));
  const cut = shown("button, .button, .icon-button, main :is(h1, h2, h3):not(#title)")
    .filter((node) => !node.matches(".clip, .name") && node.scrollWidth > node.clientWidth + 1);
  const bar = shown(":is(.bar, .head) :is(button, a, select)");
  const over = bar.filter((node, at) => bar.slice(at + 1).some((other) =>
    Math.min(box(node).right, box(other).right) - Math.max(box(node).left, box(other).left) > 1
    && Math.min(box(node).bottom, box(other).bottom) - Math.max(box(node).top, box(other).top) > 1
  ));
  const found = [...outside, ...cut, ...over].map((node) => node.outerHTML.slice(0, 120));
  const more = document.documentElement.scrollWidth - width;
  return more > 0 ? [`wider by ${more} px`, ...found] : found;
}"""
"""Doubles the size of text, and returns what is then cut, outside of the page or over another."""


def is_page(answer: Answer, status: int) -> Outline:
    """Require a page under a strict policy, with nothing inline and nothing from elsewhere."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    rules = (rule.split() for rule in answer.headers["content-security-policy"].split(";"))
    policy = {name: set(sources) for name, *sources in rules}
    for name in ("default-src", "base-uri", "frame-ancestors"):
        assert policy[name] == {"'none'"}
    assert set().union(*policy.values()) <= OURS, policy
    assert not policy.get("script-src", set()) & {"data:", "blob:"}
    outline = Outline(answer.body)
    assert outline.active == []
    assert all(re.fullmatch(r"/[\w/.#-]*(\?next=/\w+)?|#[\w-]+", link) for link in outline.links), (
        outline.links
    )
    return outline
