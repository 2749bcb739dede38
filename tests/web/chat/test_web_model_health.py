"""What the chat page shows of how well models answered lately."""

from __future__ import annotations

import re

from playwright.async_api import Browser, expect
from support.browsing.browser import open_chat, visiting
from support.fakes.upstream import FakeUpstream, refusal, stream_of
from support.front_door import Door


async def test_the_picker_says_it(chromium: Browser, upstream: FakeUpstream, door: Door) -> None:
    async with visiting(chromium, door) as page:
        upstream.plan(stream_of(["x"]), refusal(500))
        option = page.get_by_role("option", name="Test One")

        async def look() -> None:
            await open_chat(page)
            await page.get_by_role("button", name="Model: Test One").click()

        await look()
        await expect(option).not_to_contain_text("first token")
        await door.stream_text()
        await look()
        await expect(option).to_contain_text("to first token")
        for _ in range(3):
            await door.chat()
        await look()
        await expect(option).to_have_accessible_name(re.compile("failing"))
