"""The chat in another language: a conversation, the list beside it, the box, dialogs, refusals."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Browser, Page, expect
from support.browsing.browser import PHONE, open_chat
from support.browsing.chatting import chatting
from support.fakes.upstream import USAGE, refusal, stream_of

from webui.shell.texts import languages

GROUPS = "chat_page chat composer answers problems dialogs health transcript turns sidebar markdown"
ANSWER = """> [!WARNING]
> Heiß.

| a | b |
|---|---|
| 1 | 2 |

```
x = 1
```

- [x] fertig

![Katze](https://example.com/cat.png)

$$x^2$$

<details>

Mehr.

</details>
"""
SHOWN = """() => [...document.querySelectorAll('main, aside, dialog[open]')].flatMap((part) => [
    part.innerText,
    ...[...part.querySelectorAll('[aria-label], [title], [placeholder]')].flatMap((node) =>
    ['aria-label', 'title', 'placeholder'].map((name) => node.getAttribute(name) ?? ''))])"""


def english() -> set[str]:
    """Return the English texts that are others in German."""
    ours, theirs = languages()["en"].groups, languages()["de"].groups
    return {
        text
        for group in GROUPS.split()
        for name, text in ours[group].items()
        if isinstance(text, str) and "{" not in text and text != theirs[group][name]
    } - {"all", "or"}


async def assert_german(page: Page) -> None:
    """Fail if a text on the page is one of the English ones."""
    lines = {line.strip() for text in await page.evaluate(SHOWN) for line in text.splitlines()}
    assert lines & english() == set()
    width = await page.evaluate("() => document.documentElement.scrollWidth")
    assert page.viewport_size and width <= page.viewport_size["width"]


async def read_a_conversation(page: Page) -> None:
    """Ask, look at the answer and the list, and at what can be done with them."""
    await open_chat(page)
    side = page.get_by_role("complementary")
    await expect(side).to_contain_text("Noch keine Chats.")
    await assert_german(page)
    await page.get_by_role("main").get_by_role("textbox").press_sequentially("Hallo")
    await page.keyboard.press("Enter")
    answer = page.get_by_role("article", name="Assistent")
    await expect(answer).to_contain_text("11 Tokens ein, 7 Tokens aus")
    await expect(answer).to_contain_text("Warnung")
    await expect(answer).to_contain_text("Bild „Katze“ auf example.com.")
    await expect(answer.get_by_role("button", name="Tabelle kopieren")).to_be_attached()
    await expect(answer.get_by_role("checkbox", name="erledigt")).to_be_visible()
    await expect(side.get_by_role("heading", name="Heute")).to_be_visible()
    await assert_german(page)
    await page.get_by_role("button", name="Mehr zu dieser Antwort").click()
    await expect(page.get_by_role("menuitem", name="Antwort bearbeiten")).to_be_visible()
    await assert_german(page)
    await page.get_by_role("menuitem", name="Löschen", exact=True).click()
    await expect(page.get_by_text("Nachricht gelöscht.")).to_be_visible()
    await page.get_by_role("button", name="Rückgängig").click()
    await expect(answer).to_be_visible()
    await page.get_by_role("button", name="Mehr zu Hallo").click()
    await expect(page.get_by_role("menuitem", name="Umbenennen")).to_be_visible()
    await assert_german(page)


async def read_a_new_chat(page: Page) -> None:
    """Look at the box of a phone, the dialogs and a refusal."""
    await page.set_viewport_size(PHONE)
    await page.goto("/")
    await expect(page.locator("html[data-ready=keys]")).to_have_count(1)
    message = page.get_by_role("textbox", name="Nachricht", exact=True)
    await expect(page.get_by_role("heading", name="Was möchten Sie wissen?")).to_be_visible()
    await assert_german(page)
    await page.get_by_role("button", name="Modell: Test One").click()
    picker = page.get_by_role("dialog", name="Modell wählen")
    await expect(picker.get_by_role("option", name="nur Text")).to_be_visible()
    await assert_german(page)
    await page.keyboard.press("Escape")
    settings_button = page.get_by_role("button", name="Einstellungen des Chats")
    if not await settings_button.is_visible():
        await page.get_by_role("button", name="Menü").click()
    await settings_button.click()
    settings = page.get_by_role("dialog", name="Einstellungen")
    await settings.get_by_role("textbox", name="Temperatur").press_sequentially("9,5")
    await page.keyboard.press("Tab")
    await expect(settings.get_by_role("alert")).to_have_text("Geben Sie eine Zahl von 0 bis 2 ein.")
    await assert_german(page)
    await settings.get_by_role("button", name="Fertig").click()
    await page.keyboard.press("Control+/")
    await expect(page.get_by_role("dialog", name="Tastenkürzel")).to_contain_text("Strg+B")
    await assert_german(page)
    await page.keyboard.press("Escape")
    await message.press_sequentially("Hallo")
    await expect(page.get_by_text("≈ 2 Tokens")).to_be_visible()
    await page.get_by_role("button", name="Senden", exact=True).click()
    await expect(page.get_by_role("alert")).to_contain_text(
        "Der Anbieter dieses Modells ist überlastet."
    )
    await expect(message).to_have_value("Hallo")
    await assert_german(page)


async def test_the_chat_speaks_german(chromium: Browser, tmp_path: Path) -> None:
    opened = chatting(chromium, tmp_path, expected=("503",), locale="de-DE")
    async with opened as (upstream, _, page):
        upstream.plan(stream_of([ANSWER], usage=USAGE))
        await read_a_conversation(page)
        upstream.plan(*[refusal(503, headers={"Retry-After": "900"})] * 4)
        await read_a_new_chat(page)
