"""What the chat page shows of how well models answered lately."""

from __future__ import annotations

import re

from playwright.async_api import Browser, expect
from support.browsing.browser import open_chat, visiting
from support.fakes.upstream import FakeUpstream, refusal, stream_of
from support.front_door import Door


async def test_the_cards_and_the_picker_say_it(
    chromium: Browser, upstream: FakeUpstream, door: Door
) -> None:
    async with visiting(chromium, door) as page:
        upstream.plan(stream_of(["x"]), refusal(500))
        await open_chat(page)
        card = page.get_by_role("button", name=re.compile("^Test One"))
        await expect(card).not_to_contain_text("first token")
        await door.stream_text()
        await open_chat(page)
        await expect(card).to_contain_text("to first token")
        for _ in range(3):
            await door.chat()
        await open_chat(page)
        await expect(card).to_contain_text("failing")
        await page.get_by_role("button", name="Model: Test One").click()
        await expect(page.get_by_role("option", name="Test One")).to_have_accessible_name(
            re.compile("failing")
        )
