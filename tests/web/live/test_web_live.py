"""The owner's page of what runs now: it shows, follows and stops, with scripts and without."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import Browser, Locator, Page, expect
from support.browsing.axe import violations
from support.browsing.browser import visiting
from support.browsing.owner_pages import OUTSIDE
from support.browsing.page_tables import PageTables
from support.fakes.upstream import (
    Answer,
    FakeUpstream,
    Pause,
    completion,
    event,
    events_of,
    refusal,
    streaming,
)
from support.front_door import MODEL, OWNER, Door, bearer, front_door
from support.kept import Reading, ask, code_of, held_after
from support.visitors import Browser as PlainBrowser
from support.waiting import eventually, soon

from webui.shell.texts import languages

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
UPDATES = {"X-Roxy-Queue-Updates": "true"}
FOCUSED = "() => document.activeElement.id"


@asynccontextmanager
async def busy_door(path: Path) -> AsyncIterator[tuple[Door, FakeUpstream, list[Reading]]]:
    """Run a gateway with one worker: the owner is being answered, two of a key wait."""
    async with (
        FakeUpstream() as upstream,
        front_door(path, upstream, max_concurrency=1) as door,
        AsyncExitStack() as stack,
    ):
        answer, gate = held_after(4)
        upstream.plan(answer)
        key = bearer(await door.mint(HOSTILE))
        readings = [await stack.enter_async_context(ask(door))]
        await readings[0].read(4)
        for _ in range(2):
            waiting = await stack.enter_async_context(ask(door, key | UPDATES))
            await waiting.read_comment("queued")
            readings.append(waiting)
        try:
            yield door, upstream, readings
        finally:
            gate.set()


@asynccontextmanager
async def owner_at(browser: Browser, door: Door, **context: Any) -> AsyncIterator[Page]:
    """Open the page as the owner."""
    async with visiting(browser, door, **context) as page:
        await page.goto("/login?next=/live")
        await page.get_by_label("Key").fill(OWNER)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("heading", name="Live")).to_be_visible()
        yield page


def rows(page: Page) -> Locator:
    return page.get_by_role("table", name="Requests").locator("tbody tr")


def stop_of(page: Page, reading: Reading) -> Locator:
    return page.locator(f"[id='stop-{reading.id}']")


async def expected_wait_s(door: Door) -> float:
    """Return the estimate for a new request: 15 s behind two others, more if they take long."""
    models = (await door.get("/api/v1/live")).json()["models"]
    (wait_s,) = [float(one["expected_wait_s"]) for one in models if one["id"] == MODEL]
    assert wait_s >= 15
    return wait_s


def wait_between(least_s: float, most_s: float) -> set[str]:
    """Return the words for every wait from one to another."""
    figures = languages()["en"].figures
    seconds = range(math.ceil(least_s), math.ceil(most_s) + 1)
    return {f"≈ {figures.elapsed(one)}" for one in seconds}


async def test_what_runs_waits_and_carries_is_shown_in_words(tmp_path: Path) -> None:
    async with busy_door(tmp_path) as (door, _, readings):
        browser = PlainBrowser(door)
        await browser.sign_in(OWNER)
        before_s = await expected_wait_s(door)
        text = (await browser.open("/live")).text
        waits = wait_between(before_s, await expected_wait_s(door))
        places = [text.index(f'id="job-{one.id}"') for one in readings]
        assert places == sorted(places)
        first, second, third = (text[at : at + 1500] for at in places)
        assert "Owner</th>" in first and "writing" in first and "≈ 4<" in first
        assert "kept" in first and "test/one@127.0.0.1" in first
        assert "waiting" in second and "1 of 2" in second and "2 of 2" in third
        _, models = PageTables(text).tables
        *model, wait = models[1]
        assert model == ["test/one", "busy 1 of 1", "2"] and wait in waits
        assert models[2] == ["127.0.0.1", "busy 1 of 1", "", ""]
        assert models[-1][1:] == ["not configured", "", ""]
        assert "<dt>Running</dt><dd>1</dd>" in text and "<dt>Waiting</dt><dd>2</dd>" in text
        assert "<dt>Answers kept</dt><dd>3</dd>" in text
        assert f"<dt>Expected wait</dt><dd>{wait}</dd>" in text


async def test_a_key_may_be_called_anything(tmp_path: Path) -> None:
    async with busy_door(tmp_path) as (door, _, _readings):
        browser = PlainBrowser(door)
        await browser.sign_in(OWNER)
        page = await browser.open("/live")
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
        assert "<script>alert" not in page.text and "<img" not in page.text


async def test_an_idle_gateway_says_so_and_the_demo_is_labelled(demo_door: Door) -> None:
    browser = PlainBrowser(demo_door)
    await browser.sign_in(OWNER)
    page = await browser.open("/live")
    assert "No active or queued requests." in page.text
    (models,) = PageTables(page.text).tables
    assert models[1] == ["zai/glm-4.5", "idle, room for 64", "0", "none"]
    assert ["demo", "idle, room for 64", "", ""] in models[2:]


async def shown_models(door: Door) -> list[list[str]]:
    """Return the rows of models and deployments that the owner sees."""
    browser = PlainBrowser(door)
    await browser.sign_in(OWNER)
    return PageTables((await browser.open("/live")).text).tables[-1][1:3]


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (refusal(429, headers={"retry-after": "900"}), "the provider's rate limit was reached"),
        (refusal(503, headers={"retry-after": "900"}), "the provider is overloaded"),
        (refusal(401), "its secret was refused"),
        (refusal(402), "its account has no credit"),
    ],
    ids=["429", "503", "401", "402"],
)
async def test_a_deployment_that_cools_is_shown_with_the_reason_and_the_time(
    upstream: FakeUpstream, door: Door, failure: Answer, words: str
) -> None:
    upstream.plan(failure)
    await door.chat()
    model, deployment = await shown_models(door)
    assert model[:2] == ["test/one", "not used: every deployment cools"]
    assert re.fullmatch(rf"cooling for \d+ min \d+ s: {words}", deployment[1]), deployment


async def test_a_deployment_that_is_tried_again_is_shown(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(refusal(429, headers={"retry-after-ms": "50"}), completion())
    assert (await door.chat()).status_code == 200
    _, deployment = await shown_models(door)
    assert deployment[1] == "trying again after: the provider's rate limit was reached"


async def test_an_answer_that_waits_for_its_usage_is_shown_as_that(
    upstream: FakeUpstream, door: Door
) -> None:
    hold = asyncio.Event()
    upstream.plan(streaming([*events_of(["Hi"], done=False), Pause(hold), event("[DONE]")]))
    async with door.stream() as response:
        async for piece in response.aiter_text():
            if '"finish_reason":"stop"' in piece:
                break
    engine = door.gateway.services.engine
    await eventually(lambda: [job.state for job in engine.jobs.values()] == ["done"])
    browser = PlainBrowser(door)
    await browser.sign_in(OWNER)
    assert "waiting for its usage" in (await browser.open("/live")).text
    hold.set()
    await door.usage_rows()


async def test_only_the_owner_sees_it_and_stops(tmp_path: Path) -> None:
    async with busy_door(tmp_path) as (door, _, readings):
        path = f"/live/{readings[0].id}/stop"
        guest, holder = PlainBrowser(door), PlainBrowser(door)
        answer = await guest.open("/live")
        assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/live")
        await guest.open("/")
        assert (await guest.submit(path)).status_code == 401
        await holder.sign_in(await door.mint())
        assert (await holder.open("/live")).status_code == 403
        assert (await holder.submit(path)).status_code == 403
        assert len(door.gateway.services.engine.jobs) == 3


async def test_a_plain_form_stops_a_running_request_and_a_waiting_one(tmp_path: Path) -> None:
    async with busy_door(tmp_path) as (door, upstream, readings):
        running, waiting, other = readings
        browser = PlainBrowser(door)
        await browser.sign_in(OWNER)
        await browser.open("/live")
        for one in (waiting, running, running):  # what has ended is as good as stopped
            answer = await browser.submit(f"/live/{one.id}/stop")
            assert (answer.status_code, answer.headers["location"]) == (303, "/live")
        await soon(upstream.requests[0].left.wait())
        for one in (waiting, running):
            assert code_of((await one.finish())[-1]) == "stopped"
        await upstream.request(1)
        assert len(upstream.requests) == 2
        assert other.id in door.gateway.services.engine.jobs


async def test_a_form_of_another_site_stops_nothing(tmp_path: Path) -> None:
    async with busy_door(tmp_path) as (door, _, readings):
        browser = PlainBrowser(door)
        await browser.sign_in(OWNER)
        path = f"/live/{readings[0].id}/stop"
        assert (await browser.submit(path, xsrf="0" * 64)).status_code == 403
        foreign = {"Sec-Fetch-Site": "cross-site"}
        assert (await browser.submit(path, foreign)).status_code == 403
        assert len(door.gateway.services.engine.jobs) == 3


@pytest.mark.gateway(max_concurrency=1)
async def test_the_page_follows_what_happens_and_stop_ends_it(
    chromium: Browser, upstream: FakeUpstream, door: Door
) -> None:
    async with owner_at(chromium, door) as page:
        await expect(page.get_by_text("No active or queued requests.")).to_be_visible()
        answer, _gate = held_after(4)
        upstream.plan(answer)
        async with ask(door) as running:
            await running.read(4)
            await expect(rows(page)).to_contain_text(["writing"])
            await expect(page.get_by_role("status")).to_have_text("There are active requests")
            async with ask(door, bearer(await door.mint("my app")) | UPDATES) as waiting:
                await waiting.read_comment("queued")
                await expect(rows(page).nth(1)).to_contain_text("1 of 1")
                await stop_of(page, waiting).click()
                await expect(rows(page)).to_have_count(1)
                assert code_of((await waiting.finish())[-1]) == "stopped"
            await stop_of(page, running).click()
            await soon(upstream.requests[0].left.wait())
            await expect(rows(page)).to_have_count(0)
            await expect(page.get_by_role("status")).to_have_text("No active requests")
        assert len(upstream.requests) == 1


async def test_focus_and_selection_survive_and_pause_holds_the_page(
    chromium: Browser, tmp_path: Path
) -> None:
    async with (
        busy_door(tmp_path) as (door, _, readings),
        owner_at(chromium, door) as page,
    ):
        running, second, third = readings
        await stop_of(page, third).focus()
        await page.evaluate(
            """(id) => getSelection().selectAllChildren(
          document.getElementById(`job-${id}`).cells[5])""",
            third.id,
        )
        before = await page.locator("time").get_attribute("datetime")
        await stop_in(door, running)
        await expect(rows(page).nth(0)).to_contain_text("writing")  # the second is carried now
        await expect(page.locator("time")).not_to_have_attribute("datetime", str(before))
        await expect(rows(page)).to_have_count(2)
        assert await page.evaluate(FOCUSED) == f"stop-{third.id}"
        assert await page.evaluate("() => String(getSelection())") == "test/one"
        await page.get_by_role("button", name="Pause").press("Enter")
        await expect(page.get_by_role("button", name="Pause", pressed=True)).to_be_visible()
        async with page.expect_response("**/live"):
            await page.get_by_role("link", name="Refresh").click()
        before = await page.locator("time").get_attribute("datetime")
        await stop_in(door, second)
        await stop_of(page, third).press("Enter")  # it looks again by itself after a Stop
        await expect(page.get_by_text("No active or queued requests.")).to_be_visible()
        assert await page.evaluate(FOCUSED) == "requests-title"


async def stop_in(door: Door, reading: Reading) -> None:
    """Stop a request by other means than the page."""
    door.gateway.services.engine.jobs[reading.id].cancel()


async def test_an_ended_session_is_told(chromium: Browser, door: Door) -> None:
    async with owner_at(chromium, door) as page:
        await page.context.clear_cookies()
        await expect(page.get_by_text("Your session has ended.").first).to_be_visible()


@pytest.mark.gateway(max_concurrency=1)
async def test_the_script_speaks_the_language_of_the_page(
    chromium: Browser, upstream: FakeUpstream, door: Door
) -> None:
    answer, _gate = held_after(4)
    upstream.plan(answer)
    async with ask(door) as running, visiting(chromium, door, locale="de-DE") as page:
        await running.read(4)
        await page.goto("/login?next=/live")
        await page.get_by_label("Schlüssel").fill(OWNER)
        await page.get_by_role("button", name="Anmelden").click()
        await page.get_by_role("button", name="Anfrage von Inhaber stoppen, schreibt").click()
        status = page.get_by_role("status")
        await expect(status).to_have_text("Keine aktiven Anfragen")
        await expect(page.get_by_text("Keine aktiven oder wartenden Anfragen.")).to_be_visible()
        await page.context.clear_cookies()
        await expect(status).to_contain_text("Ihre Sitzung ist beendet.")


async def test_without_scripts_buttons_are_forms(chromium: Browser, tmp_path: Path) -> None:
    async with (
        busy_door(tmp_path) as (door, _, readings),
        owner_at(chromium, door, java_script_enabled=False) as page,
    ):
        await expect(page.get_by_role("button", name="Pause")).to_have_count(0)
        await stop_of(page, readings[2]).click()
        await expect(rows(page)).to_have_count(2)
        await page.get_by_role("link", name="Refresh").click()
        await expect(rows(page)).to_have_count(2)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(
    chromium: Browser, tmp_path: Path, scheme: Literal["light", "dark"]
) -> None:
    async with (
        busy_door(tmp_path) as (door, _, _readings),
        owner_at(chromium, door, color_scheme=scheme) as page,
    ):
        for width in (1440, 768, 360, 320):
            await page.set_viewport_size({"width": width, "height": 800})
            assert await page.evaluate("() => document.documentElement.scrollWidth") == width
            assert await page.evaluate(OUTSIDE) == []
            if width in (1440, 360):
                assert await violations(page) == [], width
