"""Chats that leave nothing behind, and questions that come with the address."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Browser, expect
from support.browsing.browser import open_chat, say
from support.browsing.chat_page import (
    answers,
    attach_text,
    begin_anew,
    box,
    entries,
    numbered,
    talk,
    text_of_answer,
)
from support.browsing.chatting import chatting

EVERYTHING_KEPT = """async () => {
  const kept = [JSON.stringify({ ...localStorage }), JSON.stringify({ ...sessionStorage })];
  for (const { name } of await indexedDB.databases()) {
    const db = await new Promise((resolve) => {
      const request = indexedDB.open(name);
      request.onsuccess = () => resolve(request.result);
    });
    for (const store of db.objectStoreNames) {
      kept.push(await new Promise((resolve) => {
        const request = db.transaction(store).objectStore(store).getAll();
        request.onsuccess = () => resolve(JSON.stringify(request.result));
      }));
    }
    db.close();
  }
  return kept.join("\\n");
}"""


async def test_a_temporary_chat_leaves_nothing_behind(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        upstream.plan(*numbered())
        await open_chat(page)
        await talk(page, "an open question")
        await begin_anew(page)
        await box(page).press_sequentially("zebra begun")
        await page.get_by_role("button", name="Temporary chat").click()
        await expect(page.get_by_text("Nothing is saved.")).to_be_visible()
        await expect(box(page)).to_have_value("zebra begun")
        await attach_text(page, "zebra.txt", b"zebra notes")
        await page.keyboard.press("Enter")
        await expect(answers(page)).to_contain_text("11 in")
        await say(page, "zebra again")
        await expect(text_of_answer(page)).to_have_text(["Answer 2.", "Answer 3."])
        sent = (await upstream.request(2)).json["messages"]
        assert "zebra notes" in str(sent[0]["content"]) and len(sent) == 3
        await box(page).press_sequentially("zebra draft")
        await expect(entries(page)).to_have_text(["an open question"])
        assert "zebra" not in page.url and "/c/" not in page.url
        await entries(page).get_by_role("link", name="an open question").click()
        await expect(text_of_answer(page)).to_have_text(["Answer 1."])
        await expect(page.get_by_text("Nothing is saved.")).to_be_hidden()
        kept = await page.evaluate(EVERYTHING_KEPT)
        assert "an open question" in kept and "zebra" not in kept
        await page.reload()
        await expect(entries(page)).to_have_text(["an open question"])


async def test_an_address_can_bring_a_question_and_never_sends_it(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path) as (upstream, door, page):
        await open_chat(page, "/?q=What%20is%20a%20hash%20table%3F")
        await expect(box(page)).to_have_value("What is a hash table?")
        assert page.url == f"{door.url}/"
        await expect(answers(page)).to_have_count(0)
        await page.get_by_role("button", name="Send", exact=True).click()
        sent = (await upstream.request()).json["messages"]
        assert [one["content"] for one in sent] == ["What is a hash table?"]
        assert len(upstream.requests) == 1
