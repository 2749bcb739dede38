"""What tests do on the chat page, and where they find its parts."""

from __future__ import annotations

import asyncio

from playwright.async_api import FilePayload, Locator, Page, Route, expect
from support.fakes.upstream import (
    USAGE,
    Answer,
    Pause,
    chunk,
    event,
    events_of,
    stream_of,
    streaming,
)


def box(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Message")


def send_button(page: Page) -> Locator:
    return page.get_by_role("button", name="Send", exact=True)


def stop_button(page: Page) -> Locator:
    return page.get_by_role("button", name="Stop", exact=True)


def answers(page: Page) -> Locator:
    return page.get_by_role("article", name="Assistant")


def status(page: Page) -> Locator:
    return page.get_by_role("status").last


def held(*texts: str, then: tuple[str, ...] = ()) -> tuple[Answer, asyncio.Event]:
    """Answer with `texts`, wait for the event, then go on with `then` to the end."""
    go = asyncio.Event()
    pieces: list[bytes | Pause] = [event(chunk({"role": "assistant", "content": ""}))]
    pieces += [event(chunk(text)) for text in texts]
    pieces.append(Pause(go))
    pieces += events_of(list(then), usage=USAGE)
    return streaming(pieces), go


def text_of_answer(page: Page) -> Locator:
    return answers(page).locator(".md")


async def attach_text(page: Page, name: str, content: bytes) -> None:
    """Attach a text file, and wait until it is ready to be sent."""
    file: FilePayload = {"name": name, "mimeType": "text/plain", "buffer": content}
    await page.locator('input[type="file"]').set_input_files(file)
    await expect(page.get_by_role("button", name=f"Remove {name}")).to_be_visible()


async def refuse(page: Page, headers: dict[str, str]) -> None:
    """Have the gateway refuse the next chat requests with 429."""
    body = '{"error": {"message": "Too many requests: 10 a minute.", "type": "requests",'
    body += ' "param": null, "code": "rate_limit_exceeded"}}'

    async def answer(route: Route) -> None:
        await route.fulfill(status=429, headers=headers, body=body, content_type="application/json")

    await page.route("**/chat/completions", answer)


def numbered(count: int = 9) -> list[Answer]:
    """Plan answers that can be distinguished."""
    return [stream_of([f"Answer {n}."], usage=USAGE) for n in range(1, count + 1)]


def entries(page: Page) -> Locator:
    return page.get_by_role("navigation", name="Chats").get_by_role("listitem")


async def more(page: Page, title: str, item: str) -> None:
    """Choose from a conversation's menu."""
    await page.get_by_role("button", name=f"More for {title}").click()
    await page.get_by_role("menuitem", name=item, exact=True).click()


async def edit_answer(page: Page, place: int, added: str) -> None:
    """Add words to an answer."""
    await answers(page).nth(place).get_by_role("button", name="More").click()
    await page.get_by_role("menuitem", name="Edit answer").click()
    await page.get_by_role("textbox", name="New text").press_sequentially(added)
    await page.get_by_role("button", name="Save").click()
    await expect(text_of_answer(page).nth(place)).to_contain_text(added.strip())


async def begin_anew(page: Page) -> None:
    """Leave the open conversation for a new one."""
    await page.get_by_role("link", name="New chat").click()
    await expect(answers(page)).to_have_count(0)


async def talk(page: Page, *texts: str) -> None:
    """Send several messages, each after the answer to the one before."""
    for text in texts:
        done = await answers(page).count()
        await box(page).fill(text)
        await expect(send_button(page)).to_be_enabled()  # attached files are being prepared before
        await page.keyboard.press("Enter")
        await expect(answers(page)).to_have_count(done + 1)
        await expect(
            answers(page).nth(done).get_by_role("button", name="Regenerate")
        ).to_be_visible()
