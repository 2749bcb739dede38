"""A browser engine that Playwright cannot drive: what a test does in it, by roles and labels.

    async with engine.visit(door.url) as page:
        await page.open("/")
        await page.click("button", "Send")

Firefox and WebKitGTK come from Debian's packages. Each engine starts once per run of the tests; a
visit is a clean profile in it. Exceptions, unhandled rejections and violations of the
Content-Security-Policy fail the visit when it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

from support.waiting import PATIENCE_S

ENTER = "\ue007"
ESCAPE = "\ue00c"
CONTROL = "\ue009"

FIND = """
const ROLES = {
  button: "button, summary, [role=button]",
  textbox: "textarea, input:not([type=checkbox], [type=radio], [type=file], [type=hidden])",
  link: "a[href]", article: "article", alert: "[role=alert]", dialog: "dialog[open]",
  menuitem: "[role=menuitem]", heading: "h1, h2, h3", table: "table", row: "tr",
};
const nameOf = (node) => node.getAttribute("aria-label")
  ?? [...(node.labels ?? [])].map((label) => label.textContent).join(" ").trim()
  ?? "";
const all = (role, name) => [...document.querySelectorAll(ROLES[role] ?? role)].filter((node) =>
  node.getClientRects().length && (nameOf(node) || node.textContent).includes(name));
const find = (role, name) => all(role, name).at(-1);
"""
AIM = """
const node = find(args[0], args[1]);
if (!node || node.disabled) return null;
node.scrollIntoView({ block: "nearest" });
const middle = () => {
  const { x, y, width, height } = node.getBoundingClientRect();
  return [x + width / 2, y + height / 2];
};
const at = middle();
for (let n = 0; n < 3; n += 1) await new Promise(requestAnimationFrame);
const still = String(middle()) === String(at);
if (!still || !node.contains(document.elementFromPoint(...at))) return null;
const watched = ["pointerdown", "mousedown", "pointerup", "mouseup", "click"];
let met = false;
const watch = (event) => {
  if (event.type === "pointerdown") met = node.contains(event.target);
  if (!met) {
    event.preventDefault();
    event.stopImmediatePropagation();
  }
};
for (const type of watched) addEventListener(type, watch, true);
globalThis.__aim = () => {
  for (const type of watched) removeEventListener(type, watch, true);
  return met;
};
return at;
"""
FAULTS = """
globalThis.__faults ??= (() => {
  const faults = [];
  addEventListener("error", (event) => faults.push(`exception: ${event.message}`));
  addEventListener("unhandledrejection", (event) => setTimeout(() => {
    if (!event.defaultPrevented) faults.push(`rejection: ${event.reason}`);
  }));
  addEventListener("securitypolicyviolation",
    (event) => faults.push(`CSP: ${event.effectiveDirective} ${event.blockedURI}`));
  return faults;
})();
"""


class Engine(Protocol):
    """What a driver of an engine does."""

    name: str

    async def fresh(self) -> None:
        """Begin with a clean profile."""

    async def go(self, url: str) -> None:
        """Load a page."""

    async def run(self, body: str, *args: Any) -> Any:
        """Run the body of an asynchronous function in the page and return its result."""

    async def keys(self, text: str, *, holding: str = "") -> None:
        """Press keys, one after the other, while another is held."""

    async def press_at(self, x: float, y: float) -> None:
        """Click a point of the window."""

    async def attach(self, selector: str, path: Path) -> None:
        """Choose a file for a field."""

    async def faults(self) -> list[str]:
        """Return what went wrong in pages since the last call."""


class Visit:
    """A page of the gateway in an engine."""

    def __init__(self, engine: Engine, url: str) -> None:
        self.engine = engine
        self._url = url

    async def open(self, path: str) -> None:
        """Load a page and wait until its scripts are ready."""
        await self.engine.go(self._url + path)
        await self.until("return document.readyState === 'complete'")
        await self.engine.run(FAULTS)

    async def open_chat(self, path: str = "/") -> None:
        """Load the chat and wait until it is ready."""
        await self.open(path)
        await self.until("return document.documentElement.hasAttribute('data-ready')")

    async def run(self, body: str, *args: Any) -> Any:
        """Run the body of a function that can use `all(role, name)` and `find(role, name)`."""
        return await self.engine.run(FIND + body, *args)

    async def until(self, body: str, *args: Any) -> Any:
        """Return what a function gives once that is true."""
        last: Any = None
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not (last := await self.run(body, *args)):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            text = await self.engine.run("return document.body.innerText")
            raise AssertionError(f"never true: {body} {args}; the page shows:\n{text}") from None
        return last

    async def sees(self, role: str, name: str = "") -> None:
        """Wait until something is there."""
        await self.until("return Boolean(find(args[0], args[1]))", role, name)

    async def count(self, role: str, name: str, wanted: int) -> None:
        """Wait until there are so many of something."""
        await self.until("return all(args[0], args[1]).length === args[2]", role, name, wanted)

    async def shows(self, text: str) -> None:
        """Wait until a text is on the page."""
        await self.until("return document.body.innerText.includes(args[0])", text)

    async def click(self, role: str, name: str = "") -> None:
        """Click something in its middle, which nothing covers, when it stands still.

        A press that meets something else, because the page moved meanwhile, does nothing; the click
        is then made again.
        """
        while True:
            point = await self.until(AIM, role, name)
            await self.engine.press_at(*point)
            if await self.run("return globalThis.__aim?.() ?? true"):  # a link leaves the page
                return

    async def click_in_menu(self, menu: str, role: str, name: str) -> None:
        """Click a button, or what a menu has in its place where there is little room for words."""
        if await self.run("return Boolean(find('button', args[0]))", name):
            await self.click("button", name)
        else:
            await self.click("button", menu)
            await self.click(role, name)

    async def sign_in(self, path: str, key: str) -> None:
        """Sign in by typing a key, on the way to a page."""
        await self.open(f"/login?next={path}")
        await self.click("textbox", "Key")
        await self.type(key + ENTER)

    async def type(self, text: str) -> None:
        """Type where the focus is."""
        await self.engine.keys(text)

    async def value(self, role: str, name: str) -> str:
        """Return the value of a field."""
        return str(await self.run("return find(args[0], args[1]).value", role, name))

    async def overflow(self) -> list[str]:
        """Return what is wider than the window."""
        found: list[str] = await self.run(
            """const wide = document.documentElement.clientWidth;
            const boxes = [document.documentElement, ...document.querySelectorAll("dialog[open]")];
            return boxes.filter((one) => one.scrollWidth > one.clientWidth + 1
              || one.getBoundingClientRect().right > wide + 1).map((one) => one.nodeName);"""
        )
        return found


@contextlib.asynccontextmanager
async def visiting_in(engine: Engine, url: str) -> AsyncIterator[Visit]:
    """Visit a gateway with a clean profile; what went wrong in its pages fails the block."""
    await engine.fresh()
    yield Visit(engine, url)
    faults = await engine.faults()
    await engine.go("about:blank")
    assert not faults, "\n".join(faults)
