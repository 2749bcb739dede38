"""What can be done with a turn: continued, asked again, changed, deleted, branched off."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.async_api import Browser, Page, expect
from support.browsing.browser import open_chat, say, visiting
from support.browsing.chat_page import answers, box, held, numbered, talk, text_of_answer
from support.browsing.chatting import GUESTS, chatting
from support.browsing.signing_in import sign_in
from support.builders.catalogs import second_model
from support.fakes.upstream import USAGE, FakeUpstream, chunk, event, stream_of, streaming
from support.front_door import front_door


async def choose(page: Page, of: str, item: str) -> None:
    """Choose from the menu of the last turn of a kind."""
    await page.get_by_role("button", name=f"More for this {of}").last.click()
    await page.get_by_role("menuitem", name=item).click()


async def test_a_cut_answer_is_continued_without_a_seam(chromium: Browser, tmp_path: Path) -> None:
    first = "The quick brown fox jumps over the la"
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        limited = [chunk(first), chunk(finish="length", usage=USAGE)]
        upstream.plan(
            streaming([*map(event, limited), b"data: [DONE]\n\n"]),
            streaming([event(chunk("over the lazy dog, and then "))], end="cut"),
            stream_of(["and then ", "it sleeps."], usage=USAGE),
        )
        await open_chat(page)
        await say(page, "Hi")
        await expect(answers(page)).to_contain_text("11 in")
        await page.get_by_role("button", name="Continue").click()
        await expect(answers(page).get_by_role("alert")).to_be_visible()
        await expect(text_of_answer(page)).to_have_text(f"{first}zy dog, and then")
        sent = (await upstream.request(1)).json["messages"]
        assert [one["role"] for one in sent] == ["user", "assistant", "user"]
        assert sent[1]["content"] == first
        await page.get_by_role("button", name="Continue").click()
        whole = f"{first}zy dog, and then it sleeps."
        await expect(text_of_answer(page)).to_have_text(whole)
        await expect(answers(page)).to_contain_text(re.compile(r"(22|33|≈ \d+) in"))
        await expect(answers(page)).not_to_contain_text("/ 2")
        await expect(page.get_by_role("article", name="You")).to_have_count(1)
        await page.reload()
        await expect(text_of_answer(page)).to_have_text(whole)
        await expect(answers(page)).not_to_contain_text("/ 2")


async def test_another_model_answers_the_same_question(chromium: Browser, tmp_path: Path) -> None:
    async with (
        FakeUpstream() as upstream,
        front_door(tmp_path, upstream, settings=GUESTS + second_model(upstream)) as door,
        visiting(chromium, door) as page,
    ):
        upstream.plan(*numbered())
        await open_chat(page)
        await page.get_by_role("button", name="Model: ").click()
        await page.get_by_role("option", name="Test One").click()
        await talk(page, "one")
        asked = (await upstream.request()).json["model"]
        await choose(page, "answer", "Regenerate with another model")
        await page.get_by_role("option", name="Test Two").click()
        await expect(text_of_answer(page)).to_have_text(["Answer 2."])
        await expect(answers(page)).to_contain_text("Test Two")
        assert (await upstream.request(1)).json["model"] == "second"
        await page.get_by_role("button", name="Previous version: Test One").click()
        await expect(text_of_answer(page)).to_have_text(["Answer 1."])
        await talk(page, "two")
        assert (await upstream.request(2)).json["model"] == asked, "the choice was for one answer"


async def test_turns_are_changed_deleted_and_branched_off(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        upstream.plan(*numbered())
        await open_chat(page)
        await talk(page, "one", "two")
        await expect(
            page.get_by_role("article", name="You").first.get_by_role("time")
        ).to_have_text(re.compile(r"\d\d?:\d\d"))
        await choose(page, "answer", "Edit answer")
        await page.get_by_role("textbox", name="New text").press_sequentially(" Edited.")
        await page.get_by_role("button", name="Save").click()
        await expect(text_of_answer(page)).to_have_text(["Answer 1.", "Answer 2. Edited."])
        await choose(page, "message", "Delete from here")
        await expect(text_of_answer(page)).to_have_text(["Answer 1."])
        await page.get_by_role("button", name="Undo").click()
        await expect(text_of_answer(page)).to_have_text(["Answer 1.", "Answer 2. Edited."])
        await expect(page.get_by_text("2 messages deleted")).to_have_count(0)
        await expect(page.get_by_role("article", name="You").last).to_be_focused()
        await page.reload()
        await expect(text_of_answer(page)).to_have_text(["Answer 1.", "Answer 2. Edited."])
        address = page.url
        await choose(page, "message", "Open in a new chat from here")
        await expect(text_of_answer(page)).to_have_text(["Answer 1."])
        await expect(box(page)).to_have_value("two")
        assert page.url != address
        await say(page, "three")
        await expect(text_of_answer(page)).to_have_text(["Answer 1.", "Answer 3."])
        sent = [one["content"] for one in (await upstream.request(2)).json["messages"]]
        assert sent == ["one", "Answer 1.", "three"]
        await page.goto(address)
        await expect(text_of_answer(page)).to_have_text(["Answer 1.", "Answer 2. Edited."])
        await choose(page, "message", "Delete from here")
        await expect(page.get_by_role("button", name="Undo")).to_be_visible()
        await answers(page).get_by_role("button", name="Regenerate").click()
        await expect(text_of_answer(page)).to_have_text(["Answer 4."])
        await expect(page.get_by_role("button", name="Undo")).to_have_count(0)


async def test_a_comparison_begins_where_both_answers_do(chromium: Browser, tmp_path: Path) -> None:
    async with (
        FakeUpstream() as upstream,
        front_door(tmp_path, upstream, settings=GUESTS + second_model(upstream)) as door,
        visiting(chromium, door) as page,
    ):
        long = "\n\n".join(f"Paragraph {n}." for n in range(60))
        second, go = held("Begun", then=(" and done.",))
        upstream.plan(stream_of([long]), second)
        await open_chat(page)
        await talk(page, "one")
        await expect(page.get_by_text("Paragraph 59.")).to_be_in_viewport()
        await choose(page, "answer", "Compare with another model")
        await page.get_by_role("option", name="Test One").click()
        await expect(page.get_by_text("Begun")).to_be_in_viewport()
        await expect(page.get_by_text("Paragraph 0.")).to_be_in_viewport()
        go.set()
        await expect(page.get_by_text("Begun and done.")).to_be_in_viewport()
        await expect(page.get_by_text("Paragraph 0.")).to_be_in_viewport()


async def test_two_models_answer_side_by_side(chromium: Browser, tmp_path: Path) -> None:
    async with (
        FakeUpstream() as upstream,
        front_door(tmp_path, upstream, settings=GUESTS + second_model(upstream)) as door,
        visiting(chromium, door) as page,
        visiting(chromium, door) as other,
    ):
        upstream.plan(*numbered())
        key = await door.mint()
        for one in (page, other):
            await sign_in(one, key)
        await talk(page, "one")
        await choose(page, "answer", "Compare with another model")
        offered = page.get_by_role("dialog").get_by_role("option")
        await expect(offered).to_have_count(1)  # not the model that has answered
        await page.get_by_role("option", name="Test One").click()
        await expect(text_of_answer(page)).to_have_text(["Answer 1.", "Answer 2."])
        await expect(page.get_by_role("article", name="You")).to_have_count(1)
        boxes = [await one.bounding_box() for one in await answers(page).all()]
        assert boxes[0] and boxes[1] and boxes[0]["y"] == boxes[1]["y"]
        names = answers(page).get_by_role("heading")
        await expect(names).to_have_text(["Test Two", "Test One"])
        for name in await names.all():
            await expect(name).to_be_in_viewport()
        await expect(page.get_by_role("button", name="Use this answer")).to_have_count(2)
        await page.reload()
        await expect(text_of_answer(page)).to_have_text(["Answer 1.", "Answer 2."])
        await page.get_by_role("button", name="Edit message").click()
        await page.get_by_role("textbox", name="New text").press_sequentially(" more")
        await page.keyboard.press("Enter")
        await expect(text_of_answer(page)).to_have_text(["Answer 3."])
        await expect(page.get_by_role("button", name="Regenerate")).to_be_visible()
        await page.get_by_role("button", name="Previous version").click()
        await expect(text_of_answer(page)).to_have_text(["Answer 1.", "Answer 2."])

        await other.goto(page.url)
        await expect(text_of_answer(other)).to_have_text(["Answer 1.", "Answer 2."])
        await page.set_viewport_size({"width": 390, "height": 844})
        await expect(answers(page)).to_have_text([re.compile("Answer 2")])
        await expect(names).to_have_text(["Test One"])
        hidden = await names.bounding_box()  # the buttons show them
        assert hidden and hidden["width"] == 1
        await page.get_by_role("group", name="Answers").get_by_role("button").first.click()
        await expect(answers(page)).to_have_text([re.compile("Answer 1")])
        await page.get_by_role("button", name="Use this answer").click()
        await expect(page.get_by_role("group", name="Answers")).to_have_count(0)
        await expect(answers(page)).to_contain_text(["1 / 2"])
        await expect(names).to_have_text(["The answer"])
        await expect(text_of_answer(other)).to_have_text(["Answer 1."])
        await say(page, "two")
        sent = [one["content"] for one in (await upstream.request(3)).json["messages"]]
        assert sent == ["one", "Answer 1.", "two"]
