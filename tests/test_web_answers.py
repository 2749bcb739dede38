"""An answer belongs to the server: reloads, second tabs, failures, limits, what it used."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path

from browser import _chromium, open_chat, say, tab, visiting  # noqa: F401
from fakes.upstream import USAGE, FakeUpstream, chunk, event, refusal, stream_of, streaming
from front_door import front_door
from playwright.async_api import Browser, Locator, Page, Route, expect
from processes import serving
from relay import Relay
from test_web_chat import GUESTS, answers, box, held, send_button, status, stop_button

LONG = tuple(f"word{n} " for n in range(400))


def text_of_answer(page: Page) -> Locator:
    return answers(page).locator(".md")


async def test_a_reload_goes_on_where_it_was(chromium: Browser, tmp_path: Path) -> None:
    async with (
        FakeUpstream() as upstream,
        front_door(tmp_path, upstream, settings=GUESTS) as door,
        visiting(chromium, door) as page,
    ):
        answer, go = held("Before. ", "Still before. ", then=("After.",))
        upstream.plan(answer)
        await open_chat(page)
        await say(page, "Hi")
        await expect(text_of_answer(page)).to_have_text("Before. Still before.")
        address = page.url
        await page.reload()
        await expect(text_of_answer(page)).to_have_text("Before. Still before.")
        assert page.url == address and re.search(r"/c/c_\w+$", address)
        go.set()
        await expect(text_of_answer(page)).to_have_text("Before. Still before. After.")
        await expect(send_button(page)).to_be_visible()
        assert len(upstream.requests) == 1


async def test_a_second_tab_shows_the_same_stream(chromium: Browser, tmp_path: Path) -> None:
    async with (
        FakeUpstream() as upstream,
        front_door(tmp_path, upstream, settings=GUESTS) as door,
        visiting(chromium, door) as page,
    ):
        answer, go = held("Begun. ", then=("Ended.",))
        upstream.plan(answer)
        await open_chat(page)
        await say(page, "Hi")
        await expect(text_of_answer(page)).to_have_text("Begun.")
        async with tab(page.context, door) as other:
            await open_chat(other, page.url)
            await expect(text_of_answer(other)).to_have_text("Begun.")
            go.set()
            for one in (page, other):
                await expect(text_of_answer(one)).to_have_text("Begun. Ended.")
                await expect(stop_button(one)).to_be_hidden()


async def test_a_broken_connection_loses_no_letter(chromium: Browser, tmp_path: Path) -> None:
    async with (
        FakeUpstream() as upstream,
        front_door(tmp_path, upstream, settings=GUESTS) as door,
        Relay(door.port) as relay,
        visiting(chromium, relay, expected=("ERR_",)) as page,
    ):
        answer, go = held(*LONG[:200], then=LONG[200:])
        upstream.plan(answer)
        await open_chat(page)
        await say(page, "Hi")
        await expect(text_of_answer(page)).to_contain_text("word199")
        relay.cut()
        go.set()
        await expect(text_of_answer(page)).to_have_text("".join(LONG).strip())
        await expect(stop_button(page)).to_be_hidden()
        assert len(upstream.requests) == 1


async def test_a_cut_answer_is_kept_and_not_asked_for_again(
    chromium: Browser, tmp_path: Path
) -> None:
    async with (
        FakeUpstream() as upstream,
        front_door(tmp_path, upstream, settings=GUESTS) as door,
        visiting(chromium, door) as page,
    ):
        cut = streaming([event(chunk("Half an"))], end="cut")
        upstream.plan(cut, stream_of(["A whole answer"], usage=USAGE))
        await open_chat(page)
        await say(page, "Hi")
        alert = answers(page).get_by_role("alert")
        await expect(alert).to_contain_text("What had arrived is kept")
        await expect(text_of_answer(page)).to_have_text("Half an")
        assert len(upstream.requests) == 1
        await alert.get_by_role("button", name="Try again").click()
        await expect(text_of_answer(page)).to_have_text("A whole answer")
        await expect(answers(page)).to_contain_text("2 / 2")


async def test_an_answer_of_a_gateway_that_restarted_is_interrupted(
    chromium: Browser, tmp_path: Path
) -> None:
    async with FakeUpstream() as upstream, contextlib.AsyncExitStack() as stack:
        async with serving(tmp_path, upstream, settings=GUESTS) as roxy:
            answer, _ = held("Half of it")
            upstream.plan(answer)
            page = await stack.enter_async_context(
                visiting(chromium, roxy.door, expected=("ERR_", "404"))
            )
            await open_chat(page)
            await say(page, "Hi")
            await expect(text_of_answer(page)).to_have_text("Half of it")
            roxy.process.kill()
            await expect(answers(page)).to_contain_text("Connection lost")
        port = str(roxy.door.port)
        async with serving(tmp_path, upstream, settings=GUESTS, options=("--port", port)):
            await expect(answers(page)).to_contain_text("interrupted")
            await expect(text_of_answer(page)).to_have_text("Half of it")
            await page.reload()
            await expect(answers(page)).to_contain_text("interrupted")
            await stack.aclose()


async def refuse(page: Page, headers: dict[str, str]) -> None:
    """Have the gateway refuse the next chat requests with 429."""
    body = '{"error": {"message": "Too many requests: 10 a minute.", "type": "requests",'
    body += ' "param": null, "code": "rate_limit_exceeded"}}'

    async def answer(route: Route) -> None:
        await route.fulfill(status=429, headers=headers, body=body, content_type="application/json")

    await page.route("**/chat/completions", answer)


async def test_a_limit_counts_down_and_keeps_the_text(chromium: Browser, tmp_path: Path) -> None:
    async with (
        front_door(tmp_path, demo=True) as door,
        visiting(chromium, door, expected=("429",)) as page,
    ):
        await page.clock.install()
        await open_chat(page)
        await refuse(page, {"Retry-After": "17"})
        await say(page, "my words")
        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text("Too many requests")
        await expect(alert).to_contain_text("in 17 seconds")
        await expect(box(page)).to_have_value("my words")
        await expect(answers(page)).to_have_count(0)
        await expect(send_button(page)).to_be_disabled()
        await page.clock.run_for(5_000)
        await expect(alert).to_contain_text("in 12 seconds")
        await page.clock.run_for(13_000)
        await expect(alert).to_be_hidden()
        await expect(send_button(page)).to_be_enabled()
        assert page.url.endswith("/")


async def test_a_limit_without_a_time_is_told_plainly(chromium: Browser, tmp_path: Path) -> None:
    async with (
        front_door(tmp_path, demo=True) as door,
        visiting(chromium, door, expected=("429",)) as page,
    ):
        await open_chat(page)
        await refuse(page, {})
        await say(page, "my words")
        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text("Too many requests")
        await expect(alert).not_to_contain_text(re.compile("NaN|undefined|null|second"))
        await expect(alert.get_by_role("button", name="Try again")).to_be_visible()


async def test_the_gateways_own_limit_is_named(chromium: Browser, tmp_path: Path) -> None:
    async with (
        FakeUpstream() as upstream,
        front_door(tmp_path, upstream, settings="[guests]\nrequests_per_minute = 1") as door,
        visiting(chromium, door, expected=("429",)) as page,
    ):
        await open_chat(page)
        await expect(page.get_by_text("1 of 1 message left this minute")).to_be_visible()
        await say(page, "one")
        await expect(text_of_answer(page)).to_have_text("Hello")
        await say(page, "two")
        await expect(page.get_by_role("alert")).to_contain_text(re.compile(r"in \d+ second"))
        await expect(box(page)).to_have_value("two")


async def test_an_upstreams_refusal_is_told_in_the_turn(chromium: Browser, tmp_path: Path) -> None:
    async with (
        FakeUpstream() as upstream,
        front_door(tmp_path, upstream, settings=GUESTS) as door,
        visiting(chromium, door, expected=("502", "503", "500")) as page,
    ):
        upstream.plan(refusal(500), stream_of(["Now it works"], usage=USAGE))
        await open_chat(page)
        await say(page, "Hi")
        alert = page.get_by_role("alert").filter(has_text="upstream")
        await expect(alert).to_be_visible()
        await alert.get_by_role("button", name="Try again").click()
        await expect(text_of_answer(page)).to_have_text("Now it works")
        await expect(answers(page)).to_have_count(1)


async def test_an_answer_shows_what_the_usage_record_has(chromium: Browser, tmp_path: Path) -> None:
    async with (
        FakeUpstream() as upstream,
        front_door(tmp_path, upstream, settings=GUESTS) as door,
        visiting(chromium, door) as page,
    ):
        usage = {"prompt_tokens": 1204, "completion_tokens": 356, "total_tokens": 1560}
        upstream.plan(stream_of(["Hello"], usage=usage))
        await open_chat(page)
        await say(page, "Hi")
        await expect(answers(page)).to_contain_text("1,204 in · 356 out · $0.0019")
        (row,) = await door.usage_rows()
        assert (row.prompt_tokens, row.completion_tokens) == (1204, 356)
        assert row.cost_microusd == 1916
        await expect(page.locator("#gauge-text")).to_have_text(re.compile(r"^1\.6K / "))
        await expect(page.locator("#total")).to_have_text("$0.0019")
        await page.reload()
        await expect(answers(page)).to_contain_text("1,204 in · 356 out · $0.0019")


async def test_a_button_keeps_the_focus_when_the_numbers_come(
    chromium: Browser, tmp_path: Path
) -> None:
    async with (
        FakeUpstream() as upstream,
        front_door(tmp_path, upstream, settings=GUESTS) as door,
        visiting(chromium, door) as page,
    ):
        upstream.plan(stream_of(["Hello"], usage=USAGE))
        may_tell = asyncio.Event()

        async def late(route: Route) -> None:
            await may_tell.wait()
            await route.continue_()

        await page.route(re.compile("/jobs/chat-[^/]+$"), late)
        await open_chat(page)
        await say(page, "Hi")
        button = answers(page).get_by_role("button", name="Regenerate")
        await button.focus()
        may_tell.set()
        await expect(answers(page)).to_contain_text("11 in")
        await expect(button).to_be_focused()


async def test_reasoning_is_folded_away_and_never_copied(chromium: Browser, tmp_path: Path) -> None:
    async with (
        FakeUpstream() as upstream,
        front_door(tmp_path, upstream, settings=GUESTS) as door,
        visiting(chromium, door, permissions=["clipboard-read", "clipboard-write"]) as page,
    ):
        thought = {"reasoning_content": "secretly thinking"}
        upstream.plan(stream_of([thought, "The answer"], usage=USAGE))
        await open_chat(page)
        await say(page, "Hi")
        await expect(text_of_answer(page)).to_have_text("The answer")
        await expect(page.get_by_text("secretly thinking")).to_be_hidden()
        await page.get_by_role("button", name="Copy answer").click()
        assert await page.evaluate("() => navigator.clipboard.readText()") == "The answer"
        summary = page.get_by_text(re.compile("^Thought"))
        await summary.focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("secretly thinking")).to_be_visible()


async def test_a_reader_who_scrolls_up_is_left_alone(chromium: Browser, tmp_path: Path) -> None:
    async with (
        FakeUpstream() as upstream,
        front_door(tmp_path, upstream, settings=GUESTS) as door,
        visiting(chromium, door) as page,
    ):
        lines = tuple(f"Paragraph {n}.\n\n" for n in range(60))
        answer, go = held(*lines, then=lines)
        upstream.plan(answer)
        await open_chat(page)
        await say(page, "Hi")
        await expect(text_of_answer(page)).to_contain_text("Paragraph 58.")
        top = "() => document.getElementById('scroller').scrollTop"
        gap = """() => { const s = document.getElementById('scroller');
                 return s.scrollHeight - s.scrollTop - s.clientHeight; }"""
        assert await page.evaluate(gap) < 60
        await page.locator("#scroller").hover()
        await page.mouse.wheel(0, -600)
        jump = page.get_by_role("button", name="Jump to latest")
        await expect(jump).to_be_visible()
        await page.wait_for_function(f"(was) => ({top})() < was", arg=await page.evaluate(top) + 1)
        await asyncio.sleep(0.3)  # the wheel's own scrolling has no event for its end
        before = await page.evaluate(top)
        go.set()
        await expect(status(page)).to_contain_text("complete")
        assert await page.evaluate(top) == before
        await jump.click()
        await expect(jump).to_be_hidden()
        assert await page.evaluate(gap) < 60


async def test_stop_needs_no_connection_beside_those_of_the_answers(
    chromium: Browser, tmp_path: Path
) -> None:
    async with (
        FakeUpstream() as upstream,
        front_door(tmp_path, upstream, settings=GUESTS) as door,
        visiting(chromium, door) as page,
        contextlib.AsyncExitStack() as stack,
    ):
        upstream.plan(*[held("Begun")[0] for _ in range(6)])
        others = [await stack.enter_async_context(tab(page.context, door)) for _ in range(5)]
        pages = [page, *others]
        for one in pages:
            await open_chat(one)
        for one in pages:
            await say(one, "Hi")
            await expect(text_of_answer(one)).to_have_text("Begun")
        for number, one in enumerate(pages):
            await one.bring_to_front()
            await stop_button(one).click()
            async with asyncio.timeout(5):
                await (await upstream.request(number)).left.wait()


async def test_a_long_wait_is_told_in_hours(chromium: Browser, tmp_path: Path) -> None:
    async with (
        FakeUpstream() as upstream,
        front_door(tmp_path, upstream, settings="[guests]\nrequests_per_day = 1") as door,
        visiting(chromium, door, expected=("429",)) as page,
    ):
        await open_chat(page)
        await say(page, "one")
        await expect(text_of_answer(page)).to_have_text("Hello")
        await say(page, "two")
        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text(re.compile(r"You can send again in 2[34] hours"))
