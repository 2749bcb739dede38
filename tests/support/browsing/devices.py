"""One person who has signed in, on one device or on two.

async with two_devices(chromium, tmp_path) as (upstream, door, one, other, key):
    await talk(one, "about apples")
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from playwright.async_api import Browser, Page
from support.browsing.browser import visiting
from support.browsing.chatting import chatting
from support.browsing.signing_in import sign_in
from support.fakes.upstream import FakeUpstream
from support.front_door import Door

HISTORY = "**/api/v1/history/**"


class OneDevice(NamedTuple):
    """A browser in which a person has signed in with `key`."""

    upstream: FakeUpstream
    door: Door
    page: Page
    key: str


class TwoDevices(NamedTuple):
    """Two browsers in which one person has signed in with `key`."""

    upstream: FakeUpstream
    door: Door
    one: Page
    other: Page
    key: str


@contextlib.asynccontextmanager
async def one_device(
    browser: Browser, path: Path, *, settings: str = "", expected: tuple[str, ...] = ()
) -> AsyncIterator[OneDevice]:
    """Run a gateway and sign in; `expected` are console errors, as of `visiting`."""
    opened = chatting(browser, path, settings=settings, expected=expected)
    async with opened as (upstream, door, page):
        key = await door.mint("Ada")
        await sign_in(page, key)
        yield OneDevice(upstream, door, page, key)


@contextlib.asynccontextmanager
async def two_devices(
    browser: Browser, path: Path, *, settings: str = "", expected: tuple[str, ...] = ()
) -> AsyncIterator[TwoDevices]:
    """Run a gateway and sign in twice; `expected` are console errors, as of `visiting`."""
    opened = one_device(browser, path, settings=settings, expected=expected)
    async with (
        opened as (upstream, door, one, key),
        visiting(browser, door, expected=expected) as other,
    ):
        await sign_in(other, key)
        yield TwoDevices(upstream, door, one, other, key)


async def leave_network(page: Page) -> None:
    """Cut the history off."""
    await page.route(HISTORY, lambda route: route.abort())


async def come_back(page: Page) -> None:
    """Connect the history again, and say so."""
    await page.unroute(HISTORY)
    await page.evaluate("() => dispatchEvent(new Event('online'))")
