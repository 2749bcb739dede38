"""The Models page: what each deployment has and lacks, how it does, and a try through it."""

from __future__ import annotations

import re

import httpx
import pytest
from playwright.async_api import Browser, expect
from support.browsing.browser import PHONE, visiting
from support.browsing.chat_page import held
from support.browsing.owner_pages import sign_in
from support.fakes.relay import Relay
from support.fakes.upstream import USAGE, FakeUpstream, refusal, stream_of
from support.front_door import MODEL, OWNER, Door, bearer
from support.waiting import eventually

SECRET = "upstream-secret"


async def opened(door: Door, key: str | None = OWNER) -> httpx.Response:
    """Return the page as a browser gets it; API clients get the right base URL instead."""
    headers = {"Accept": "text/html"} | (bearer(key) if key else {})
    return await door.client.get("/models", headers=headers)


async def test_it_says_what_is_missing_and_nothing_secret(door: Door) -> None:
    text = " ".join((await opened(door)).text.split())
    assert "1 of 5 models are configured." in text
    assert "TEST_UPSTREAM_KEY is set" in text
    assert "by Z.ai" in text and "by Meta" in text
    assert "Set <code>OPENROUTER_API_KEY</code> and restart the gateway." in text
    assert "$1.00 in, $2.00 out" in text
    assert SECRET not in text
    assert text.index("Test One") < text.index("GLM 4.5"), "what can be used comes first"


TWO_WAYS = """
[[models]]
id = "test/two"
name = "Two ways"
[[models.deployments]]
provider = "openai"
base_url = "https://dear.test/v1"
upstream_model = "dear"
order = 2
[[models.deployments]]
provider = "openai"
base_url = "https://cheap.test/v1"
upstream_model = "cheap"
"""


@pytest.mark.gateway(settings=TWO_WAYS)
async def test_deployments_stand_in_the_order_in_which_they_are_tried(door: Door) -> None:
    places = re.findall(r"<code>(cheap|dear)</code>", (await opened(door)).text)
    assert places == ["cheap", "dear"]


async def test_a_model_whose_last_request_failed_is_not_called_available(
    upstream: FakeUpstream, door: Door
) -> None:
    async def state() -> str:
        """Return the state of the first model, the only one that is configured."""
        return str(re.findall(r'class="state \w*">([^<]*)<', (await opened(door)).text)[0])

    assert await state() == "Available"
    upstream.plan(refusal(500))
    assert (await door.chat()).status_code == 502
    assert await state() == "Last request failed"
    upstream.plan(stream_of(["Hello"], usage=USAGE))
    assert await door.stream_text()
    assert await state() == "Available"


@pytest.mark.gateway(quirks='headers = { "x-token" = "secret-of-a-header" }')
async def test_what_is_in_an_address_or_a_header_stays_secret(door: Door) -> None:
    text = (await opened(door)).text
    assert "secret-of-a-header" not in text
    assert "@127.0.0.1:" not in text.replace(f"{MODEL}@", "")


async def test_only_the_owner_gets_in(door: Door) -> None:
    assert (await opened(door, await door.mint())).status_code == 403
    assert (await opened(door, None)).status_code == 303


async def test_a_try_shows_text_time_and_cost_or_the_error(
    chromium: Browser, upstream: FakeUpstream, door: Door
) -> None:
    async with visiting(
        chromium, door, viewport=PHONE, has_touch=True, is_mobile=True, expected=("502",)
    ) as page:
        upstream.plan(stream_of(["Hello ", "there."], usage=USAGE), refusal(401))
        await sign_in(page, "/models")
        line = page.get_by_role("list", name="Deployments of Test One").get_by_role("listitem")
        button = line.get_by_role("button", name="Try Test One")
        await button.click()
        await expect(line).to_contain_text("Hello there.")
        await expect(line).to_contain_text("It works · 11 tokens in")
        await expect(line).to_contain_text("$")
        await expect(button).to_be_focused()
        await button.click()
        await expect(line).to_contain_text("Failed")
        await expect(line).to_contain_text("Cause: its secret was refused (HTTP 401)")
        await expect(line).to_contain_text("Details: scripted 401")
        assert len(upstream.requests) == 2
        assert upstream.requests[0].json["messages"][-1]["content"].startswith("Say hello")
        await page.get_by_role("link", name="Refresh").click()
        await expect(line).to_contain_text("Cooling down")
        await expect(line).to_contain_text("The last request failed (")
        await expect(line).to_contain_text(
            "its secret was refused (HTTP 401). Details: scripted 401"
        )
        await expect(line).to_contain_text("its secret was refused")
        assert await page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


async def test_a_try_outlives_its_connection_and_can_be_stopped(
    chromium: Browser, upstream: FakeUpstream, door: Door
) -> None:
    async with Relay(door.port) as relay, visiting(chromium, relay, expected=("ERR_",)) as page:
        answer, _ = held("Slow")
        upstream.plan(answer)
        await sign_in(page, "/models")
        await page.get_by_role("button", name="Try Test One").click()
        await expect(page.get_by_text("Slow", exact=True)).to_be_visible()
        words = page.locator('[data-part="words"]').first
        await page.route("**/jobs/*/stream*", lambda route: route.abort())
        relay.cut()
        await expect(words).to_have_text("Connection lost, reconnecting")
        await page.unroute("**/jobs/*/stream*")
        await expect(words).to_have_text("Writing")
        await page.get_by_role("button", name="Stop the try").click()
        await expect(page.get_by_role("button", name="Try Test One")).to_be_visible()
        await eventually(lambda: not door.gateway.services.engine.jobs)


async def test_it_speaks_german_with_its_states_and_errors(
    chromium: Browser, upstream: FakeUpstream, door: Door
) -> None:
    async with visiting(chromium, door, viewport=PHONE, locale="de-DE", expected=("502",)) as page:
        upstream.plan(stream_of(["Hallo."], usage=USAGE), refusal(401))
        await page.goto("/login?next=/models")
        await page.get_by_label("Schlüssel").fill(OWNER)
        await page.get_by_role("button", name="Anmelden").click()
        await expect(page.get_by_role("heading", name="Modelle", exact=True)).to_be_visible()
        main = page.get_by_role("main")
        await expect(main).to_contain_text("1 von 5 Modellen sind eingerichtet.")
        await expect(main).to_contain_text("$1,00 ein, $2,00 aus")
        line = page.get_by_role("list", name="Deployments von Test One").get_by_role("listitem")
        button = line.get_by_role("button", name="Test One über")
        await button.click()
        await expect(line).to_contain_text("Funktioniert · 11 Tokens ein")
        assert "Sag in einem kurzen Satz" in upstream.requests[0].json["messages"][-1]["content"]
        await button.click()
        await expect(line).to_contain_text("Der Anbieter ist nicht erreichbar oder lehnt")
        await expect(line).to_contain_text("Ursache: der geheime Schlüssel wurde abgelehnt")
        await page.get_by_role("link", name="Aktualisieren").click()
        await expect(line).to_contain_text("Pausiert noch")
        await expect(line).to_contain_text("der geheime Schlüssel wurde abgelehnt")
        shown = await main.inner_text()
        english = (
            r"\b(Not|Available|Context|Price|Input|unknown|hour|Set|restart|Try|order|up to)\b"
        )
        assert re.findall(english, shown) == []
        assert await page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
