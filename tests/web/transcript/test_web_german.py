"""A conversation and the list beside it, read in German."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Browser, Page, expect
from support.browsing.browser import open_chat
from support.browsing.chatting import chatting
from support.fakes.upstream import USAGE, stream_of

from webui.shell.texts import languages

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
SHOWN = """
() => [...document.querySelectorAll("aside *, [role=log] *, [role=menu] *")].flatMap((node) => [
  ...["aria-label", "title", "placeholder"].map((name) => node.getAttribute(name) ?? ""),
  ...[...node.childNodes].filter((one) => one instanceof Text).map((one) => one.data.trim()),
])
"""


def english() -> set[str]:
    """Return the English texts of these rooms that are not the same in German."""
    both = languages()["en"].groups, languages()["de"].groups
    return {
        text
        for group in ("transcript", "turns", "sidebar", "markdown")
        for name, text in both[0][group].items()
        if isinstance(text, str) and text != both[1][group][name]
    }


async def is_german(page: Page) -> None:
    shown = set(await page.evaluate(SHOWN))
    assert shown - {""}
    assert shown & english() == set()


async def test_a_conversation_is_in_german(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path, locale="de-DE") as (upstream, _, page):
        upstream.plan(stream_of([ANSWER], usage=USAGE))
        await open_chat(page)
        side = page.get_by_role("complementary")
        await expect(side).to_contain_text("Noch keine Chats.")
        await is_german(page)
        await page.get_by_role("main").get_by_role("textbox").press_sequentially("Hallo")
        await page.keyboard.press("Enter")
        answer = page.get_by_role("article", name="Assistent")
        await expect(answer).to_contain_text("11 Tokens ein, 7 Tokens aus")
        await expect(answer).to_contain_text("Warnung")
        await expect(answer).to_contain_text("Bild „Katze“ auf example.com.")
        await expect(answer.get_by_role("button", name="Tabelle kopieren")).to_be_attached()
        await expect(answer.get_by_role("checkbox", name="erledigt")).to_be_visible()
        await expect(side.get_by_role("heading", name="Heute")).to_be_visible()
        await is_german(page)
        await page.get_by_role("button", name="Mehr zu dieser Antwort").click()
        await expect(page.get_by_role("menuitem", name="Antwort bearbeiten")).to_be_visible()
        await is_german(page)
        await page.get_by_role("menuitem", name="Löschen", exact=True).click()
        await expect(page.get_by_text("Nachricht gelöscht.")).to_be_visible()
        await page.get_by_role("button", name="Rückgängig").click()
        await expect(answer).to_be_visible()
        await page.get_by_role("button", name="Mehr zu Hallo").click()
        await expect(page.get_by_role("menuitem", name="Umbenennen")).to_be_visible()
        await is_german(page)
