"""The chat page in a browser, in front of a gateway that welcomes guests.

async with chatting(chromium, tmp_path) as (upstream, door, page):
upstream.plan(...)
await open_chat(page)
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

from playwright.async_api import Browser, Page
from support.browsing.browser import PHONE, visiting
from support.fakes.upstream import FakeUpstream
from support.front_door import Door, front_door

GUESTS = "[guests]\nrequests_per_minute = 1000\nrequests_per_day = 100000\nconcurrent_requests = 50"

TOUCH: dict[str, Any] = {"viewport": PHONE, "has_touch": True, "is_mobile": True}
"""The context of a phone."""


class Chatting(NamedTuple):
    """Both ends of a chat, and the gateway between them."""

    upstream: FakeUpstream
    door: Door
    page: Page


@contextlib.asynccontextmanager
async def chatting(
    browser: Browser,
    path: Path,
    *,
    settings: str = "",
    expected: tuple[str, ...] = (),
    **context: Any,
) -> AsyncIterator[Chatting]:
    """Run everything for a block; `expected` and `context` are those of `visiting`."""
    async with (
        FakeUpstream() as upstream,
        front_door(path, upstream, settings=GUESTS + settings) as door,
        visiting(browser, door, expected=expected, **context) as page,
    ):
        yield Chatting(upstream, door, page)
