"""An answer belongs to the server: reloads, second tabs, failures, limits, what it used."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, Route, expect
from support.browsing.browser import open_chat, say, tab, visiting
from support.browsing.chat_page import (
    answers,
    box,
    held,
    refuse,
    send_button,
    status,
    stop_button,
    text_of_answer,
)
from support.browsing.chatting import GUESTS, chatting
from support.browsing.page_waiting import becomes
from support.browsing.signing_in import sign_in
from support.fakes.relay import Relay
from support.fakes.upstream import (
    USAGE,
    Answer,
    FakeUpstream,
    Pause,
    chunk,
    event,
    events_of,
    refusal,
    stream_of,
    streaming,
)
from support.front_door import Door
from support.inputs.reasoned_texts import ENDED, MARKED, PLAIN
from support.processes import serving
from support.waiting import soon

from webui.shell.assets import packaged_assets

WAITS_MS = [300, 1000, 2000, 4000, 8000, 15_000, 30_000]
"""How long the page waits before it tries to read a lost answer again."""
NOTE_WAITS = """() => {
  window.waits = [];
  const start = window.setTimeout;
  window.setTimeout = (run, ms, ...more) => {
    if (new Error().stack.split("\\n")[2].includes("answer_stream.js")) window.waits.push(ms);
    return start(run, ms, ...more);
  };
}"""
HAS_WAITED = "(times) => window.waits.length === times"
LONG = tuple(f"word{n} " for n in range(400))


async def test_a_reload_goes_on_where_it_was(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        answer, go = held("Before. ", "Still before. ", then=("After.",))
        upstream.plan(answer)
        await open_chat(page)
        await say(page, "Hi")
        await expect(text_of_answer(page)).to_have_text(["Before. Still before."])
        address = page.url
        await page.reload()
        await expect(text_of_answer(page)).to_have_text(["Before. Still before."])
        assert page.url == address and re.search(r"/c/c_\w+$", address)
        go.set()
        await expect(text_of_answer(page)).to_have_text(["Before. Still before. After."])
        await expect(send_button(page)).to_be_visible()
        assert len(upstream.requests) == 1


async def test_reloads_of_a_long_answer_lose_and_double_nothing(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        # The answer comes while the page is read again, and does not end before.
        gates = {reached: asyncio.Event() for reached in (50, 150, 250)}
        pieces: list[bytes | Pause] = []
        for n, word in enumerate(LONG):
            pieces.append(event(chunk(word)))
            if n - 50 in gates:
                pieces.append(Pause(gates[n - 50]))
        pieces += events_of([], usage=USAGE)
        upstream.plan(streaming(pieces, gap_s=0.01))
        whole = "".join(LONG).strip()
        await open_chat(page)
        await say(page, "Hi")
        for reached, gate in gates.items():
            await expect(text_of_answer(page)).to_contain_text(f"word{reached} ")
            seen = await text_of_answer(page).inner_text()
            await page.reload()
            await expect(text_of_answer(page)).to_contain_text(seen)
            assert whole.startswith(await text_of_answer(page).inner_text())
            await expect(stop_button(page)).to_be_visible()
            gate.set()
        await expect(text_of_answer(page)).to_have_text(whole)
        await expect(stop_button(page)).to_be_hidden()
        assert len(upstream.requests) == 1


@pytest.mark.parametrize("begun", ["thinking", "writing"])
async def test_a_second_reader_times_nothing_that_it_did_not_see(
    chromium: Browser, tmp_path: Path, begun: str
) -> None:
    async with chatting(chromium, tmp_path) as (upstream, door, page):
        go = asyncio.Event()
        pieces = [event(chunk(word)) for word in LONG[:100]]
        if begun == "thinking":
            pieces = [event(chunk({"reasoning_content": "word99 "}))]
        upstream.plan(streaming([*pieces, Pause(go), *events_of(["Ended."], usage=USAGE)]))
        await open_chat(page)
        await say(page, "Hi")
        await expect(answers(page)).to_contain_text("word99")
        await page.reload()
        async with tab(page.context, door) as other:
            await open_chat(other, page.url)
            readers = (page, other)
            for one in readers:
                await expect(answers(one)).to_contain_text("word99")
            await asyncio.sleep(1.2)  # a time is shown from the first second on, a speed after half
            for one in readers:
                await expect(answers(one).locator(".state")).to_have_text(begun.capitalize())
            go.set()
            for one in readers:
                await expect(text_of_answer(one)).to_contain_text("Ended.")
                summary = ["Thought"] if begun == "thinking" else []
                await expect(answers(one).locator("summary")).to_have_text(summary)


async def test_a_second_tab_shows_the_same_stream(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (upstream, door, page):
        answer, go = held("Begun. ", then=("Ended.",))
        upstream.plan(stream_of(["One."], usage=USAGE), answer)
        await open_chat(page)
        await say(page, "first")
        await expect(answers(page)).to_contain_text("11 in")
        async with tab(page.context, door) as before, tab(page.context, door) as after:
            await open_chat(before, page.url)
            await expect(text_of_answer(before)).to_have_text(["One."])
            await say(page, "second")
            await expect(text_of_answer(before)).to_have_text(["One.", "Begun."])
            await open_chat(after, page.url)
            tabs = (page, before, after)
            for one in tabs:
                await expect(text_of_answer(one)).to_have_text(["One.", "Begun."])
                await expect(stop_button(one)).to_be_visible()
            go.set()
            for one in tabs:
                await expect(text_of_answer(one)).to_have_text(["One.", "Begun. Ended."])
                await expect(stop_button(one)).to_be_hidden()
        assert len(upstream.requests) == 2


@pytest.mark.gateway(settings=GUESTS)
async def test_a_broken_connection_loses_no_letter(
    chromium: Browser, upstream: FakeUpstream, door: Door
) -> None:
    async with Relay(door.port) as relay, visiting(chromium, relay, expected=("ERR_",)) as page:
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


@pytest.mark.gateway(settings=GUESTS)
@pytest.mark.parametrize("empty", [False, True], ids=["unreachable", "empty"])
async def test_a_connection_that_stays_lost_is_not_tried_for_ever(
    chromium: Browser, upstream: FakeUpstream, door: Door, empty: bool
) -> None:
    tries = 0

    async def fail(route: Route) -> None:
        nonlocal tries
        tries += 1
        if empty:
            await route.fulfill(status=200, content_type="text/event-stream", body="")
        else:
            await route.abort()

    async with Relay(door.port) as relay, visiting(chromium, relay, expected=("ERR_",)) as page:
        answer, go = held("Half of it")
        upstream.plan(answer)
        await page.clock.install(time=0)
        await open_chat(page)
        await say(page, "Hi")
        await expect(text_of_answer(page)).to_have_text(["Half of it"])
        await page.route("**/jobs/*/stream*", fail)
        await page.clock.pause_at(3_600_000)
        await page.evaluate(NOTE_WAITS)
        relay.cut()
        for number, wait_ms in enumerate(WAITS_MS, 1):
            await becomes(page, HAS_WAITED, number)
            assert tries == number
            await expect(answers(page)).to_contain_text("Connection lost, reconnecting")
            await page.clock.run_for(wait_ms)
        await expect(answers(page)).to_contain_text("interrupted")
        await expect(text_of_answer(page)).to_have_text(["Half of it"])
        await expect(send_button(page)).to_be_visible()
        assert tries == 1 + len(WAITS_MS)
        assert await page.evaluate("() => window.waits") == WAITS_MS
        go.set()


async def test_a_cut_answer_is_kept_and_not_asked_for_again(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        cut = streaming([event(chunk("Half an"))], end="cut")
        upstream.plan(cut, stream_of(["A whole answer"], usage=USAGE))
        await open_chat(page)
        await say(page, "Hi")
        alert = answers(page).get_by_role("alert")
        await expect(alert).to_contain_text("The text received so far is kept")
        await expect(text_of_answer(page)).to_have_text(["Half an"])
        assert len(upstream.requests) == 1
        await alert.get_by_role("button", name="Try again").click()
        await expect(text_of_answer(page)).to_have_text(["A whole answer"])
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
            await expect(text_of_answer(page)).to_have_text(["Half of it"])
            roxy.process.kill()
            await expect(answers(page)).to_contain_text("Connection lost")
        port = str(roxy.door.port)
        async with serving(tmp_path, upstream, settings=GUESTS, options=("--port", port)):
            await expect(answers(page)).to_contain_text("interrupted")
            await expect(text_of_answer(page)).to_have_text(["Half of it"])
            await page.reload()
            await expect(answers(page)).to_contain_text("interrupted")
            await stack.aclose()


IMPATIENT = "\n[queue]\nmax_wait_s = 5"
"""With these settings no request waits until its upstream may be asked again."""
BRIEFLY_PATIENT = "\n[queue]\nmax_wait_s = 1.9"


async def test_a_limit_counts_down_and_keeps_the_text(chromium: Browser, tmp_path: Path) -> None:
    opened = chatting(chromium, tmp_path, settings=IMPATIENT, expected=("429",))
    async with opened as (upstream, _, page):
        upstream.plan(refusal(429, headers={"Retry-After": "17"}))
        await page.clock.install(time=0)
        await page.clock.pause_at(3_600_000)
        await open_chat(page)
        await say(page, "my words")
        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text("The provider of this model has reached its rate limit")
        await expect(alert).to_contain_text("in 17 seconds")
        await expect(box(page)).to_have_value("my words")
        await expect(answers(page)).to_have_count(0)
        await expect(send_button(page)).to_be_disabled()
        await page.clock.run_for(5_000)
        await expect(alert).to_contain_text("in 12 seconds")
        await page.clock.run_for(13_000)
        await expect(alert).to_have_text("The wait is over: you can send again.")
        await expect(send_button(page)).to_be_enabled()
        assert page.url.endswith("/")


async def test_a_limit_after_a_wait_counts_down_too(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path, settings=BRIEFLY_PATIENT) as (upstream, _, page):
        go = asyncio.Event()
        limited = b"HTTP/1.1 429 Scripted\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"
        late = Answer(raw=True, pieces=[Pause(go), limited])
        upstream.plan(late, stream_of(["Now it works"], usage=USAGE))
        await page.clock.install(time=0)
        await open_chat(page)
        await say(page, "my words")
        await expect(status(page)).to_have_text("Contacting the provider")
        await page.clock.pause_at(3_600_000)
        go.set()
        refused = answers(page).get_by_role("alert")
        await expect(refused).to_contain_text(
            "The provider of this model has reached its rate limit"
        )
        wait = page.locator("#composer").get_by_role("alert")
        await expect(wait).to_have_text("You can send again in 2 seconds.")
        await box(page).fill("more words")
        await expect(send_button(page)).to_be_disabled()
        await page.clock.run_for(3_000)
        await expect(wait).to_have_count(0)
        await expect(status(page)).to_have_text("The wait is over: you can send again.")
        await expect(send_button(page)).to_be_enabled()
        await refused.get_by_role("button", name="Try again").click()
        await page.clock.run_for(1_000)
        again = await upstream.request(1)  # after 2 s of the gateway's clock
        assert again.json["messages"][-1]["content"] == "my words"
        await again.answered.wait()
        await page.clock.resume()
        await expect(text_of_answer(page)).to_have_text(["Now it works"])


async def test_a_limit_without_a_time_is_told_plainly(chromium: Browser, demo_door: Door) -> None:
    async with visiting(chromium, demo_door, expected=("429",)) as page:
        await open_chat(page)
        await refuse(page, {})
        await say(page, "my words")
        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text("Too many requests")
        await expect(alert).not_to_contain_text(re.compile("NaN|undefined|null|second"))
        await expect(alert.get_by_role("button", name="Try again")).to_be_visible()


@pytest.mark.gateway(settings="[guests]\nrequests_per_minute = 1")
async def test_the_gateways_own_limit_is_named(chromium: Browser, door: Door) -> None:
    async with visiting(chromium, door, expected=("429",)) as page:
        await page.clock.install(time=0)
        await open_chat(page)
        await say(page, "one")
        await expect(text_of_answer(page)).to_have_text(["Hello"])
        left = page.locator("#composer").get_by_text("0 of 1 message left this minute")
        await expect(left).to_be_visible()
        await expect(status(page)).to_contain_text("complete")  # else the next message is queued
        await page.clock.pause_at(40_000)  # before the minute has passed
        async with page.expect_response("**/chat/completions") as refusing:
            await say(page, "two")
        wait = int((await refusing.value).headers["retry-after"])
        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text(f"in {wait} seconds")
        await expect(box(page)).to_have_value("two")
        await expect(send_button(page)).to_be_disabled()
        await page.clock.run_for(wait * 1000)
        await expect(alert).to_contain_text("The wait is over: you can send again.")
        await page.clock.run_for(60_000)
        await expect(page.get_by_text("left this minute")).to_have_count(0)
        await expect(send_button(page)).to_be_enabled()


async def test_an_upstreams_refusal_is_told_in_the_turn(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path, expected=("502", "503", "500")) as (upstream, _, page):
        upstream.plan(refusal(500), stream_of(["Now it works"], usage=USAGE))
        await open_chat(page)
        await say(page, "Hi")
        alert = page.get_by_role("alert").filter(has_text="provider")
        await expect(alert).to_be_visible()
        await alert.get_by_role("button", name="Try again").click()
        await expect(text_of_answer(page)).to_have_text(["Now it works"])
        await expect(answers(page)).to_have_count(1)


async def test_an_answer_shows_what_the_usage_record_has(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path) as (upstream, door, page):
        usage = {"prompt_tokens": 1204, "completion_tokens": 356, "total_tokens": 1560}
        upstream.plan(stream_of(["Hel", "lo"], usage=usage, gap_s=0.3))
        await sign_in(page, await door.mint())
        await say(page, "Hi")
        await expect(answers(page)).to_contain_text("1,204 in · 356 out · $0.0019")
        (row,) = await door.usage_rows()
        speed = int(row.tokens_per_s + 0.5)  # scripts round halves up
        took = f"{(row.ttft_ms + 50) // 100 / 10:.1f} s · {speed} t/s"
        await expect(answers(page)).to_contain_text(f"$0.0019 · {took}")
        assert (row.prompt_tokens, row.completion_tokens) == (1204, 356)
        assert row.cost_microusd == 1916
        await expect(page.locator("#gauge-text")).to_have_text(re.compile(r"^1\.6K / "))
        await expect(page.locator("#total")).to_have_text("$0.0019")
        await page.reload()
        await expect(answers(page)).to_contain_text(f"1,204 in · 356 out · $0.0019 · {took}")


async def test_guests_see_no_costs(chromium: Browser, tmp_path: Path) -> None:
    """Not even those that an older version has left in their browser."""
    async with chatting(chromium, tmp_path) as (upstream, _, page):

        async def as_before(route: Route) -> None:
            answer = await route.fetch()
            told = await answer.json()
            assert told["cost_microusd"] is None
            await route.fulfill(response=answer, json=told | {"cost_microusd": 1916})

        await page.route("**/api/v1/jobs/*", as_before)
        upstream.plan(stream_of(["Hello"], usage=USAGE))
        await open_chat(page)
        await say(page, "Hi")
        for _ in range(2):
            await expect(answers(page)).to_contain_text(" in · ")
            await expect(page.locator("#gauge-text")).not_to_be_empty()
            assert "$" not in await page.locator("body").inner_text()
            await page.reload()


async def test_a_button_keeps_the_focus_when_the_numbers_come(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
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


PARTS = """async ([path, texts]) => {
  const { partsOf, answerText, Sifter } = await import(path);
  const shown = (text, how) => {
    const { thoughts, begin } = partsOf(text, how);
    return [thoughts, text.slice(begin)];
  };
  return Object.fromEntries(texts.map((text) => {
    const [thoughts, answer] = shown(text);
    const grown = [...text].map((_, n) => shown(text.slice(0, n + 1), { grows: true }));
    const first = { text: answer === text || text.search(/^\\s*[<[]/) === 0 ? "So" : text };
    const sifted = [1, 3, text.length || 1].map((size) => {
      const sifter = new Sifter(first);
      let all = "";
      for (let at = 0; at < text.length; at += size) all += sifter.push(text.slice(at, at + size));
      return all + sifter.end();
    });
    return [text, { thoughts, answer, sifted, thought: grown.map(([one]) => one),
      answers: grown.map(([, one]) => one) }];
  }));
}"""
"""What reasoning and answer are in texts, in all that they grow from, and in second parts."""


COPIED = "async (text) => await navigator.clipboard.readText() === text"


async def check_parts(page: Page) -> None:
    """Compare what is found in texts, and in all that they grow from, with the tables."""
    path = packaged_assets().path("js/chat/turns/thoughts.js")
    for texts, is_marked in ((MARKED, True), (ENDED, False), (dict.fromkeys(PLAIN), False)):
        for text, found in (await page.evaluate(PARTS, [path, list(texts)])).items():
            thoughts, answer = texts[text] or ("", text)
            assert (found["thoughts"], found["answer"]) == (thoughts, answer), text
            assert all(answer.startswith(one) for one in found["answers"]) or not is_marked, text
            assert all(thoughts.startswith(one) for one in found["thought"]) or not is_marked, text
            assert {*found["sifted"]} == {answer}, text


async def test_reasoning_is_folded_away_and_never_copied(chromium: Browser, tmp_path: Path) -> None:
    async with chatting(chromium, tmp_path, permissions=["clipboard-read", "clipboard-write"]) as (
        upstream,
        _,
        page,
    ):
        thought = {"reasoning_content": "secretly thinking"}
        go = asyncio.Event()
        end = events_of(["The answer"], usage=USAGE)
        pieces: list[bytes | Pause] = [event(chunk(thought)), Pause(go), *end]
        upstream.plan(streaming(pieces))
        await page.clock.install(time=0)
        await page.clock.pause_at(3_600_000)
        await open_chat(page)
        await say(page, "Hi")
        await expect(status(page)).to_have_text("Thinking")
        await page.clock.run_for(4_200)  # the time that is shown
        go.set()
        await expect(text_of_answer(page)).to_have_text(["The answer"])
        await page.clock.resume()
        await expect(page.get_by_text("secretly thinking")).to_be_hidden()
        await page.get_by_role("button", name="Copy answer").click()
        await becomes(page, COPIED, "The answer")
        await page.get_by_text("Thought for 4.2 s", exact=True).focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("secretly thinking")).to_be_visible()
        # The same where the upstream sends it in the text, cut anywhere.
        more = asyncio.Event()
        begun = [event(chunk(part)) for part in ("<th", "ink>\nquietly ", "musing\n</thi")]
        ended = events_of(["nk>\n\nAnother ", "answer"], usage=USAGE)
        upstream.plan(streaming([*begun, Pause(more), *ended]), stream_of(["Bye"]))
        await say(page, "And now?")
        await expect(status(page)).to_have_text("Thinking")
        await expect(page.get_by_text("quietly musing", exact=True)).to_be_attached()
        await expect(text_of_answer(page).last).to_have_text("")
        more.set()
        await expect(text_of_answer(page).last).to_have_text("Another answer")
        await expect(page.get_by_text("quietly musing")).to_be_hidden()
        await page.get_by_role("button", name="Copy answer").last.click()
        await becomes(page, COPIED, "Another answer")
        await say(page, "Thanks")
        sent = (await upstream.request(2)).json["messages"]
        assert [one["content"] for one in sent if one["role"] == "assistant"] == [
            "The answer",
            "Another answer",
        ]
        await expect(text_of_answer(page).last).to_have_text("Bye")
        await page.reload()
        await expect(text_of_answer(page)).to_have_text(["The answer", "Another answer", "Bye"])
        await check_parts(page)


async def test_what_is_selected_stays_selected_while_text_arrives(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        more, rest = asyncio.Event(), asyncio.Event()
        begun = [event(chunk("A finished paragraph.\n\nAnother"))]
        lines = [event(chunk(f" line\n\n- item {n}\n\nand a")) for n in range(20)]
        end = events_of([" last line."], usage=USAGE)
        upstream.plan(streaming([*begun, Pause(more), *lines, Pause(rest), *end], gap_s=0.02))
        await open_chat(page)
        await say(page, "Hi")
        await expect(text_of_answer(page)).to_contain_text("Another")
        await page.get_by_text("A finished paragraph.").click(click_count=3)
        selected = "() => getSelection().toString().trim()"
        assert await page.evaluate(selected) == "A finished paragraph."
        more.set()
        await expect(text_of_answer(page)).to_contain_text("item 19")
        assert await page.evaluate(selected) == "A finished paragraph."
        rest.set()
        await expect(answers(page)).to_contain_text("11 in")
        assert await page.evaluate(selected) == "A finished paragraph."


@pytest.mark.gateway(settings=GUESTS)
async def test_stop_needs_no_connection_beside_those_of_the_answers(
    chromium: Browser, upstream: FakeUpstream, door: Door
) -> None:
    async with visiting(chromium, door) as page, contextlib.AsyncExitStack() as stack:
        upstream.plan(*[held("Begun")[0] for _ in range(6)])
        others = [await stack.enter_async_context(tab(page.context, door)) for _ in range(5)]
        pages = [page, *others]
        for one in pages:
            await open_chat(one)
        for one in pages:
            await say(one, "Hi")
            await expect(text_of_answer(one)).to_have_text(["Begun"])
        for number, one in enumerate(pages):
            await one.bring_to_front()
            await stop_button(one).click()
            await soon((await upstream.request(number)).left.wait())


@pytest.mark.gateway(settings="[guests]\nrequests_per_day = 1")
async def test_a_long_wait_is_told_in_hours(chromium: Browser, door: Door) -> None:
    async with visiting(chromium, door, expected=("429",)) as page:
        await open_chat(page)
        await say(page, "one")
        await expect(status(page)).to_contain_text("complete")
        await say(page, "two")
        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text(re.compile(r"You can send again in 2[34] hours"))
