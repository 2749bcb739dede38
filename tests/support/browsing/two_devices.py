"""Two browsers in which one person has signed in.

async with two_devices(chromium, tmp_path) as (upstream, door, one, other, key):
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from playwright.async_api import Browser, Page
from support.browsing.browser import visiting
from support.browsing.chatting import GUESTS
from support.browsing.signing_in import sign_in
from support.fakes.upstream import FakeUpstream
from support.front_door import Door, front_door

HISTORY = "**/api/v1/history/**"


class TwoDevices(NamedTuple):
    """Two browsers in which one person has signed in."""

    upstream: FakeUpstream
    door: Door
    one: Page
    other: Page
    key: str


@asynccontextmanager
async def two_devices(
    browser: Browser, path: Path, *, settings: str = "", expected: tuple[str, ...] = ()
) -> AsyncIterator[TwoDevices]:
    async with (
        FakeUpstream() as upstream,
        front_door(path, upstream, settings=GUESTS + settings) as door,
        visiting(browser, door, expected=expected) as one,
        visiting(browser, door, expected=expected) as other,
    ):
        key = await door.mint("Ada")
        await sign_in(one, key)
        await sign_in(other, key)
        yield TwoDevices(upstream, door, one, other, key)


async def leave_network(page: Page) -> None:
    """Cut the history off."""
    await page.route(HISTORY, lambda route: route.abort())


async def come_back(page: Page) -> None:
    """Let the history be reached again, and say so."""
    await page.unroute(HISTORY)
    await page.evaluate("() => dispatchEvent(new Event('online'))")
