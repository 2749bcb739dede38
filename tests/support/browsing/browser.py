"""A real browser for tests of the pages, watched for everything that must not happen.

    async def test_...(chromium: Browser, door: Door) -> None:
        async with visiting(chromium, door) as page:
            await page.goto("/")

A console error, an uncaught exception, a violation of the Content-Security-Policy and a request to
another origin fail the test when its visit ends. `expected` lists texts of console errors that are
part of the test: browsers report every refused request as one.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from typing import Any, Protocol

import pytest
from playwright.async_api import (
    Browser,
    BrowserContext,
    Page,
    ViewportSize,
    async_playwright,
    expect,
)
from support.waiting import PATIENCE_S

ARGS = (
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP roxy.test 127.0.0.1",
)
"""The sandbox needs more than a container gives; the rest keeps the browser from calling home."""
WIDE = {"width": 1280, "height": 860}
PHONE: ViewportSize = {"width": 390, "height": 844}
TOLD_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP ${event.effectiveDirective} ${event.blockedURI} ${event.sourceFile}`));
"""
READY = "html[data-ready]"
LISTENING = 'html[data-ready="keys"]'
"""The chat page once it listens to its keyboard shortcuts, which load while it is idle."""
NO_CHROMIUM = "no Chromium: apt-get install chromium-headless-shell fonts-dejavu-core"


class Served(Protocol):
    """Whatever has an address."""

    @property
    def url(self) -> str:
        """Return it."""


def find_chromium() -> str | None:
    """Return the path of Debian's Chromium without windows, else of the whole one.

    A page takes the shell 0.5 s of CPU. It takes the whole browser, which draws its own windows
    though they are hidden, 1.9 s.
    """
    return shutil.which("chromium-headless-shell") or shutil.which("chromium")


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """Start Debian's Chromium; without it the tests fail and say what installs it."""
    path = find_chromium()
    if path is None:
        pytest.fail(NO_CHROMIUM, pytrace=False)
    expect.set_options(timeout=PATIENCE_S * 1000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(ARGS))
        yield browser
        await browser.close()


@contextlib.asynccontextmanager
async def visiting(
    browser: Browser, door: Served, *, expected: tuple[str, ...] = (), **context: Any
) -> AsyncIterator[Page]:
    """Open a page in a clean profile. `context` are Playwright's settings of one."""
    settings = {"viewport": WIDE, "base_url": door.url, "reduced_motion": "reduce"} | context
    profile = await browser.new_context(**settings)
    profile.set_default_timeout(PATIENCE_S * 1000)  # also of the windows that a page opens
    try:
        async with tab(profile, door, expected=expected) as page:
            yield page
    finally:
        await profile.close()


@contextlib.asynccontextmanager
async def tab(
    profile: BrowserContext, door: Served, *, expected: tuple[str, ...] = ()
) -> AsyncIterator[Page]:
    """Open one more tab of a profile, watched like the first."""
    page = await profile.new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    faults = watch(page, door.url)
    await page.add_init_script(TOLD_VIOLATIONS)
    try:
        yield page
    except Exception as error:
        error.add_note("\n".join([f"{page.url} had:", *faults]))
        raise
    faults = [fault for fault in faults if not any(text in fault for text in expected)]
    assert not faults, "\n".join(faults)


def watch(page: Page, origin: str) -> list[str]:
    """Gather what must not happen on a page."""
    faults: list[str] = []
    own = (origin, origin.replace("127.0.0.1", "roxy.test"), "data:", "blob:")
    page.on(
        "console",
        lambda said: faults.append(f"console: {said.text}") if said.type == "error" else None,
    )
    page.on("pageerror", lambda error: faults.append(f"exception: {error}"))
    page.on(
        "request",
        lambda asked: (
            None if asked.url.startswith(own) else faults.append(f"foreign request: {asked.url}")
        ),
    )
    return faults


async def open_chat(page: Page, path: str = "/") -> None:
    """Go to the chat and wait until it is ready."""
    await page.goto(path)
    await page.locator(READY).wait_for(state="attached")


async def say(page: Page, text: str) -> None:
    """Write a message and send it."""
    await page.get_by_role("textbox", name="Message").fill(text)
    await page.keyboard.press("Enter")
