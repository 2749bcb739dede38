"""No word is lost when two devices edit, delete and erase the same, one of them offline."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from playwright.async_api import Browser, Page, expect
from support.browsing.chat_page import answers, entries, more, numbered, talk, text_of_answer
from support.browsing.devices import come_back, leave_network, two_devices
from support.front_door import bearer

AWAY = ("ERR_FAILED", "ERR_INTERNET_DISCONNECTED", "409", "410")


async def edit_answer(page: Page, place: int, added: str) -> None:
    """Add words to an answer."""
    await answers(page).nth(place).get_by_role("button", name="More").click()
    await page.get_by_role("menuitem", name="Edit answer").click()
    await page.get_by_role("textbox", name="New text").press_sequentially(added)
    await page.get_by_role("button", name="Save").click()
    await expect(text_of_answer(page).nth(place)).to_contain_text(added.strip())


async def delete_answer(page: Page, place: int) -> None:
    """Delete an answer, the last one."""
    await answers(page).nth(place).get_by_role("button", name="More").click()
    await page.get_by_role("menuitem", name="Delete", exact=True).click()
    await expect(answers(page)).to_have_count(place)


def saved(page: Page) -> AbstractAsyncContextManager[object]:
    """Return what waits until a page has saved a conversation."""
    return page.expect_response(
        lambda one: "/history/conversations/" in one.url and one.request.method == "POST"
    )


async def test_an_edit_outlives_a_removal_that_did_not_know_it(
    chromium: Browser, tmp_path: Path
) -> None:
    async with two_devices(chromium, tmp_path, expected=AWAY) as (upstream, door, one, other, key):
        upstream.plan(*numbered())
        await talk(one, "about apples", "and pears")
        await entries(other).get_by_role("link", name="about apples").click()
        await expect(text_of_answer(other)).to_have_text(["Answer 1.", "Answer 2."])
        # Removed first, then the edit arrives.
        await leave_network(one)
        await edit_answer(one, 1, " Edited.")
        async with saved(other):
            await delete_answer(other, 1)
        await come_back(one)
        for page in (other, one):
            await expect(text_of_answer(page)).to_have_text(["Answer 1.", "Answer 2. Edited."])
        # Edited first, then the removal arrives.
        await leave_network(other)
        await delete_answer(other, 1)
        async with saved(one):
            await edit_answer(one, 1, " Again.")
        await come_back(other)
        for page in (other, one):
            await expect(text_of_answer(page)).to_have_text(
                ["Answer 1.", "Answer 2. Edited. Again."]
            )
        # Erased for good, then the edit arrives: in a copy.
        await leave_network(one)
        await edit_answer(one, 0, " Mine.")
        identity = one.url.rpartition("/")[2]
        path = f"/api/v1/history/conversations/{identity}"
        assert (await door.client.delete(path, headers=bearer(key))).json() == {"erased": 1}
        await expect(entries(other)).to_have_count(0)
        await come_back(one)
        await expect(one.get_by_role("alert")).to_contain_text("deleted on another device")
        await entries(other).get_by_role("link", name="about apples").click()
        kept = ["Answer 1. Mine.", "Answer 2. Edited. Again."]
        await expect(text_of_answer(other)).to_have_text(kept)
        await entries(one).get_by_role("link", name="about apples").click()
        await expect(text_of_answer(one)).to_have_text(kept)


async def test_a_chat_is_not_erased_with_words_that_came_after_its_deletion(
    chromium: Browser, tmp_path: Path
) -> None:
    async with two_devices(chromium, tmp_path, expected=AWAY) as (upstream, _, one, other, _):
        upstream.plan(*numbered())
        await talk(one, "about apples")
        await expect(entries(other)).to_have_text(["about apples"])
        await other.clock.install()
        await leave_network(other)
        await more(other, "about apples", "Delete")
        await expect(entries(other)).to_have_count(0)
        await other.clock.fast_forward(20_000)
        await expect(other.get_by_role("button", name="Undo")).to_have_count(0)
        async with saved(one):
            await talk(one, "and pears")
        await come_back(other)
        await other.clock.fast_forward(5_000)
        await expect(other.get_by_role("alert")).to_contain_text("“about apples” was changed")
        await entries(other).get_by_role("link", name="about apples").click()
        await expect(text_of_answer(other)).to_have_text(["Answer 1.", "Answer 2."])
        await expect(text_of_answer(one)).to_have_text(["Answer 1.", "Answer 2."])
