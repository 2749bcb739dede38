"""Guests: browsers of the web app without a key, counted by address, spending within one budget."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from support.fakes.upstream import (
    FakeUpstream,
    Pause,
    answer_as_asked,
    chunk,
    event,
    events_of,
    streaming,
)
from support.front_door import MODEL, OWNER, Door, front_door, request_body
from support.plain_http import CHAT, Answer, ask, every, request
from support.servers.shared_gateway import shared_gateway
from support.waiting import until

from server.accounting.admission import MAX_FILE_BYTES
from server.identity.authentication import GuestSessions

PER_MINUTE = 3
SETTINGS = f"""
[guests]
requests_per_minute = {PER_MINUTE}
concurrent_requests = 100
total_requests_per_minute = 10000
total_requests_per_day = 10000
max_output_tokens = 100
models = ["{MODEL}"]
"""
PROXY = '[server]\ntrusted_proxies = ["127.0.0.0/8"]\n'
SAME_ORIGIN = "Sec-Fetch-Site: same-origin"
OWN_ORIGIN = "Origin: http://gateway.test"


class Browser:
    """A browser that has opened the front page; `address` is what the proxy says of it."""

    def __init__(self, port: int, cookie: str, token: str, address: str = "") -> None:
        self._port = port
        self.cookie = cookie
        self.token = token
        self._address = address

    def at(self, address: str) -> Browser:
        """Return the same browser, elsewhere."""
        return Browser(self._port, self.cookie, self.token, address)

    def lines(self, *more: str, cookie: str | None = None) -> list[str]:
        """Return the headers of a call from one of its pages, but for the proof of origin."""
        sent = [f"Cookie: a=b; roxy_guest={cookie or self.cookie}", f"X-Roxy-Xsrf: {self.token}"]
        forwarded = [f"X-Forwarded-For: {self._address}"] if self._address else []
        return [*sent, *forwarded, *more]

    async def get(self, path: str, *more: str) -> Answer:
        """Make a GET call as a page does."""
        lines = self.lines(SAME_ORIGIN, *more)
        return await ask(self._port, request("GET", path, None, *lines, key=None))

    async def chat(self, *more: str, **body: Any) -> Answer:
        """Ask for a completion as a page does; `more` are further headers."""
        return await self.send(self.lines(SAME_ORIGIN, *more), **body)

    async def send(self, lines: Iterable[str], **body: Any) -> Answer:
        """Ask for a completion with these headers alone."""
        payload = json.dumps(request_body("Hi", **body)).encode()
        return await ask(self._port, request("POST", CHAT, payload, *lines, key=None))


async def open_browser(door: Door) -> Browser:
    """Open a page and keep what it gives: the session, and the token that goes with it."""
    page = await ask(door.port, request("GET", "/", None, key=None))
    if page.status != 200:
        page = await ask(door.port, request("GET", "/login", None, key=None))
    cookie = page.headers["set-cookie"].split(";")[0].removeprefix("roxy_guest=")
    found = re.search(r'name="roxy-xsrf" content="([^"]+)"', page.body.decode())
    return Browser(door.port, cookie, found[1] if found else "")


@pytest.fixture(scope="module")
async def running(
    anyio_backend: object, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Door, FakeUpstream, Browser]]:
    """Return one gateway behind a proxy, and a browser; every test takes addresses of its own."""
    path = tmp_path_factory.mktemp("guests")
    async with shared_gateway(path, settings=PROXY + SETTINGS) as (door, upstream):
        yield door, upstream, await open_browser(door)


@pytest.fixture
def upstream(running: tuple[Door, FakeUpstream, Browser]) -> FakeUpstream:
    """Return the upstream, which completes whatever is asked."""
    running[1].plan(answer_as_asked)
    running[1].requests.clear()
    return running[1]


@pytest.fixture
def door(running: tuple[Door, FakeUpstream, Browser], upstream: FakeUpstream) -> Door:
    """Return the gateway."""
    return running[0]


@pytest.fixture
def browser(running: tuple[Door, FakeUpstream, Browser], upstream: FakeUpstream) -> Browser:
    """Return the browser."""
    return running[2]


async def test_a_call_without_key_and_session_is_a_401(door: Door, upstream: FakeUpstream) -> None:
    async def check(lines: list[str]) -> None:
        body = json.dumps(request_body("Hi")).encode()
        for data in (
            request("POST", CHAT, body, *lines, key=None),
            request("GET", "/api/v1/models", None, *lines, key=None),
            request("GET", "/api/v1/key", None, *lines, key=None),
        ):
            answer = await ask(door.port, data)
            assert answer.status == 401 and answer.error["code"] == "invalid_api_key"

    await every([[], [SAME_ORIGIN], [OWN_ORIGIN], [SAME_ORIGIN, "Cookie: roxy_guest="]], check)
    assert not upstream.requests


@pytest.mark.parametrize("proof", [SAME_ORIGIN, OWN_ORIGIN])
async def test_a_call_from_our_own_page_is_served(
    door: Door, browser: Browser, upstream: FakeUpstream, proof: str
) -> None:
    guest = browser.at("192.0.2.1" if proof is OWN_ORIGIN else "192.0.2.2")
    answer = await guest.send(guest.lines(proof))
    assert answer.status == 200 and answer.json["model"] == MODEL
    assert answer.headers["x-ratelimit-limit-requests"] == str(PER_MINUTE)
    assert answer.headers["x-ratelimit-remaining-requests"] == str(PER_MINUTE - 1)
    assert len(upstream.requests) == 1
    request_id = answer.headers["x-request-id"]

    async def booked() -> bool:
        rows = await door.usage_rows()
        return (request_id, "guest") in {(row.request_id, row.key_id) for row in rows}

    await until(booked)  # the ledger writes behind


async def test_a_guest_is_limited_by_address_whatever_session_it_shows(
    door: Door, browser: Browser
) -> None:
    guest = browser.at("192.0.2.10")
    assert [(await guest.chat()).status for _ in range(5)] == [200, 200, 200, 429, 429]
    other = (await open_browser(door)).at("192.0.2.10")
    refused = await other.chat()
    assert refused.status == 429 and refused.error["code"] == "rate_limit_exceeded"
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert (await browser.at("192.0.2.11").chat()).status == 200


async def test_two_hundred_calls_at_once_admit_exactly_the_limit(browser: Browser) -> None:
    guest = browser.at("192.0.2.20")
    answers = await asyncio.gather(*(guest.chat() for _ in range(200)))
    assert Counter(answer.status for answer in answers) == {200: PER_MINUTE, 429: 200 - PER_MINUTE}


async def test_a_guest_of_ipv6_is_a_64_and_mapped_ipv4_is_ipv4(browser: Browser) -> None:
    async def admitted(addresses: list[str]) -> int:
        answers = [await browser.at(address).chat() for address in addresses]
        return sum(answer.status == 200 for answer in answers)

    assert await admitted([f"2001:db8:0:1::{n:x}" for n in range(10)]) == PER_MINUTE
    assert await admitted([f"2001:db8:0:1:{n}::1" for n in range(10)]) == 0
    assert await admitted(["2001:db8:0:2::1"]) == 1
    mapped = [
        "192.0.2.30",
        "::ffff:192.0.2.30",
        "::ffff:c000:21e",
        "192.0.2.30:5000",
        "[::ffff:192.0.2.30]:1",
    ]
    assert await admitted(mapped) == PER_MINUTE


FORGED = (
    "X-Forwarded-For: {}",
    "X-Real-IP: {}",
    "Forwarded: for={}",
    "X-Client-IP: {}",
    "True-Client-IP: {}",
    "CF-Connecting-IP: {}",
    "Fastly-Client-IP: {}",
    "X-Cluster-Client-IP: {}",
    "X-Forwarded: {}",
    "Forwarded-For: {}",
    "X-Originating-IP: {}",
    "X-Remote-Addr: {}",
    "Client-IP: {}",
    "Via: 1.1 {}",
)


async def test_forged_headers_admit_nothing_beyond_the_limit(tmp_path: Path) -> None:
    async with (
        FakeUpstream() as upstream,
        front_door(tmp_path, upstream, settings=SETTINGS) as door,
    ):
        guest = await open_browser(door)
        statuses = [
            (await guest.chat(line.format(f"198.51.100.{number}"))).status
            for line in FORGED
            for number in range(3)
        ]
        assert Counter(statuses) == {200: PER_MINUTE, 429: len(statuses) - PER_MINUTE}
        assert len(upstream.requests) == PER_MINUTE


async def test_behind_a_trusted_proxy_only_what_it_says_counts(browser: Browser) -> None:
    guest = browser.at("203.0.113.1")
    statuses = [
        (await guest.chat(line.format(f"198.51.100.{n}"))).status
        for n in range(2)
        for line in FORGED[1:]
    ]
    assert Counter(statuses) == {200: PER_MINUTE, 429: len(statuses) - PER_MINUTE}
    made_up = [f"198.51.100.{number}, 203.0.113.1" for number in range(5)]
    made_up += ["garbage, 203.0.113.1", "127.0.0.1, 203.0.113.1", "203.0.113.1, 127.0.0.9"]
    assert {(await browser.at(forwarded).chat()).status for forwarded in made_up} == {429}


async def test_all_guests_together_have_one_budget(tmp_path: Path) -> None:
    settings = PROXY + SETTINGS.replace("minute = 10000", "minute = 5")
    async with (
        FakeUpstream() as upstream,
        front_door(tmp_path, upstream, settings=settings) as door,
    ):
        browser = await open_browser(door)
        answers = await asyncio.gather(*(browser.at(f"192.0.2.{n}").chat() for n in range(100)))
        assert Counter(answer.status for answer in answers) == {200: 5, 429: 95}
        assert len(upstream.requests) == 5
        assert (await door.chat()).status_code == 200  # the owner is no guest


FROM_ELSEWHERE: tuple[list[str], ...] = (
    [],
    ["Sec-Fetch-Site: cross-site"],
    ["Sec-Fetch-Site: same-site"],
    ["Sec-Fetch-Site: none"],
    ["Sec-Fetch-Site: "],
    ["Sec-Fetch-Site: same-origin, cross-site"],
    ["Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"],
    ["Sec-Fetch-Site: cross-site", OWN_ORIGIN],
    ["Origin: http://evil.test"],
    ["Origin: http://gateway.test.evil.test"],
    ["Origin: http://gateway.test:81"],
    ["Origin: http://evil.test@gateway.test"],
    ["Origin: http://gateway.test/x"],
    ["Origin: gateway.test"],
    ["Origin: null"],
    ["Origin: "],
    ["Origin: http://["],
    ["Referer: http://gateway.test/"],
)


async def test_a_call_from_elsewhere_is_refused_though_the_cookie_came_along(
    browser: Browser, upstream: FakeUpstream
) -> None:
    guest = browser.at("192.0.2.40")

    async def check(proof: list[str]) -> None:
        without_token = [line for line in guest.lines() if not line.startswith("X-Roxy-Xsrf")]
        answer = await guest.send([*without_token, *proof])
        assert answer.status in (401, 403) and answer.error["type"]

    await every(FROM_ELSEWHERE, check)
    assert not upstream.requests


async def test_a_bad_key_is_not_rescued_by_the_session(browser: Browser) -> None:
    addresses = (f"192.0.2.{number}" for number in range(60, 100))  # few wrong keys from each

    async def check(line: str) -> None:
        guest = browser.at(next(addresses))
        for answer in (await guest.chat(line), await guest.get("/api/v1/models", line)):
            assert answer.status == 401 and answer.error["code"] == "invalid_api_key"

    wrong = ("roxy_wrong", "", "x" * 43, "roxy_" + "a" * 38)
    lines = [f"Authorization: Bearer {key}" for key in wrong] + [
        f"X-Api-Key: {key}" for key in wrong
    ]
    beside_basic = [f"Authorization: Basic eDp5\r\n{line}" for line in lines]
    schemes = ["Digest x", "Basic", "Basic x y", "Basic eDp5,Bearer x", "roxy_wrong"]
    await every([*lines, *beside_basic, *(f"Authorization: {one}" for one in schemes)], check)


async def test_a_proxys_basic_sign_in_does_not_shut_a_browser_out(
    browser: Browser, upstream: FakeUpstream
) -> None:
    guest, basic = browser.at("192.0.2.43"), "Authorization: bAsIc dXNlcjpwYXNz"
    assert (await guest.get("/api/v1/key", basic)).json["kind"] == "guest"
    assert (await guest.chat(basic)).status == 200
    untold = [line for line in guest.lines(SAME_ORIGIN, basic) if "Xsrf" not in line]
    assert (await guest.send(untold)).error["code"] == "xsrf_refused"
    elsewhere = guest.lines("Sec-Fetch-Site: cross-site", basic)
    assert (await guest.send(elsewhere)).status == 401


async def test_a_good_key_counts_and_not_the_session(browser: Browser) -> None:
    guest = browser.at("192.0.2.42")
    answer = await guest.get("/api/v1/key", f"Authorization: Bearer {OWNER}")
    assert answer.json["kind"] == "owner"
    assert (await guest.get("/api/v1/key")).json["kind"] == "guest"


async def test_where_guests_are_not_welcome_a_session_is_worth_nothing(tmp_path: Path) -> None:
    async with FakeUpstream() as upstream:
        async with front_door(tmp_path, upstream) as door:
            guest = await open_browser(door)
            assert (await guest.chat()).status == 200
        async with front_door(tmp_path, upstream) as door:  # sessions outlive a restart
            guest = Browser(door.port, guest.cookie, guest.token)
            assert (await guest.chat()).status == 200
        closed = "[guests]\nenabled = false\n"
        async with front_door(tmp_path, upstream, settings=closed) as door:
            guest = Browser(door.port, guest.cookie, guest.token)
            for answer in (await guest.chat(), await guest.get("/api/v1/models")):
                assert answer.status == 401 and answer.error["code"] == "invalid_api_key"
        assert len(upstream.requests) == 2


async def test_guests_see_and_use_the_models_that_are_theirs(
    browser: Browser, upstream: FakeUpstream
) -> None:
    guest = browser.at("192.0.2.50")
    models = (await guest.get("/api/v1/models")).json["data"]
    assert [one["id"] for one in models] == [MODEL]
    assert (await guest.get("/api/v1/models/zai/glm-4.5")).status == 404
    refused = await guest.chat(model="zai/glm-4.5")
    assert refused.status == 403 and refused.error["code"] == "model_not_allowed"
    assert not upstream.requests
    assert (await guest.get("/api/v1/key")).json["remaining"]["requests"]["remaining"] == PER_MINUTE


async def test_guests_may_not_do_what_is_the_owners(browser: Browser) -> None:
    guest = browser.at("192.0.2.51")
    for path in ("/api/v1/keys", "/api/v1/usage", "/api/v1/keys/key_x"):
        answer = await guest.get(path)
        assert answer.status == 403 and answer.error["code"] == "permission_denied"


async def test_forged_and_expired_sessions_are_worth_nothing(
    door: Door, browser: Browser, upstream: FakeUpstream
) -> None:
    guest = browser.at("192.0.2.60")
    name, issued, mac = guest.cookie.split(".")
    now, sessions = time.time(), door.gateway.services.guests
    forged = (
        "x",
        "..",
        "a.b.c",
        f"{name}.{issued}.",
        f"{name}.{issued}",
        f"{name}.{issued}.{mac[:-1]}",
        f"{name}.{issued}.{mac}0",
        f"{name}.{issued}.{'0' * len(mac)}",
        f"{name}.{int(issued) + 1}.{mac}",
        f"other.{issued}.{mac}",
        f"{name}.{issued}.{mac[::-1]}",
        f"{name}.{issued}.{mac}.{mac}",
        f"{name}.\xb2.{mac}",
        f"{name}.{issued}.\xe9",
        '"' + guest.cookie,
        GuestSessions(b"another secret of 32 bytes......").issue(now),
        sessions.issue(now - 8 * 24 * 3600),
        sessions.issue(now + 3600),
        sessions.issue(0),
    )

    async def check(cookie: str) -> None:
        answer = await guest.send(guest.lines(SAME_ORIGIN, cookie=cookie))
        assert answer.status == 401 and answer.error["code"] == "invalid_api_key"

    await every(forged, check)
    assert not upstream.requests
    old = sessions.issue(now - 6 * 24 * 3600)
    lines = [f"Cookie: roxy_guest={old}", SAME_ORIGIN]
    answer = await ask(door.port, request("GET", "/api/v1/key", None, *lines, key=None))
    assert answer.json["kind"] == "guest"


CAPPED: tuple[tuple[dict[str, Any], int], ...] = (
    ({}, 100),
    ({"max_tokens": 101}, 100),
    ({"max_tokens": 2**31 - 1}, 100),
    ({"max_tokens": 7}, 7),
    ({"max_tokens": None}, 100),
    ({"max_completion_tokens": 5000}, 100),
    ({"max_completion_tokens": 9}, 9),
    ({"max_tokens": 9, "max_completion_tokens": 5000}, 9),
    ({"max_tokens": 5000, "max_completion_tokens": 5000}, 100),
)
"""The caps that a guest sends, and the one that reaches an upstream of which is not known which
member it obeys: in both."""


async def test_an_answer_to_a_guest_is_capped(browser: Browser, upstream: FakeUpstream) -> None:
    for number, (asked, sent) in enumerate(CAPPED):
        assert (await browser.at(f"192.0.3.{number}").chat(**asked)).status == 200
        seen = upstream.requests[-1].json
        caps = {name: seen[name] for name in seen if name.startswith("max_")}
        assert caps == {"max_tokens": sent, "max_completion_tokens": sent}


async def test_a_guest_runs_so_many_at_a_time(tmp_path: Path) -> None:
    hold = asyncio.Event()
    settings = SETTINGS.replace("concurrent_requests = 100", "concurrent_requests = 1")
    async with (
        FakeUpstream() as upstream,
        front_door(tmp_path, upstream, settings=settings) as door,
    ):
        upstream.plan(streaming([event(chunk("x")), Pause(hold), *events_of(["y"])]))
        guest = await open_browser(door)
        running = asyncio.create_task(guest.chat(stream=True))
        await upstream.request()
        refused = await guest.chat()
        assert refused.status == 429 and refused.error["type"] == "rate_limit_error"
        hold.set()
        assert (await running).status == 200
        assert len(upstream.requests) == 1


async def test_a_bad_request_costs_a_guest_nothing(browser: Browser) -> None:
    guest = browser.at("192.0.2.71")
    for _ in range(10):
        assert (await guest.chat(messages=[])).status == 400
        assert (await guest.chat(model="no/such")).status == 404
    assert [(await guest.chat()).status for _ in range(4)] == [200, 200, 200, 429]


async def test_over_tls_another_host_cannot_plant_a_guests_cookie(tmp_path: Path) -> None:
    settings = '[server]\nbase_url = "https://gateway.test"\n'
    async with front_door(tmp_path, settings=settings) as door:
        page = await ask(door.port, request("GET", "/", None, key=None))
        cookie, *flags = page.headers["set-cookie"].split("; ")
        assert cookie.startswith("__Host-roxy_guest=") and {"Secure", "Path=/"} <= set(flags)
        for name, status in ((cookie, 200), (cookie.removeprefix("__Host-"), 401)):
            asked = request("GET", "/api/v1/key", None, f"Cookie: {name}", SAME_ORIGIN, key=None)
            assert (await ask(door.port, asked)).status == status


async def test_a_file_sent_by_a_page_has_ten_megabytes_at_most(tmp_path: Path) -> None:
    def message(size: int) -> list[dict[str, Any]]:
        url = "data:image/png;base64," + base64.b64encode(bytes(size)).decode()
        return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]

    async with FakeUpstream() as upstream, front_door(tmp_path, upstream) as door:
        guest = await open_browser(door)
        assert (await guest.chat(messages=message(MAX_FILE_BYTES))).status == 200
        refused = await guest.chat(messages=message(MAX_FILE_BYTES + 1))
        assert refused.status == 413 and refused.error["code"] == "request_too_large"
        assert "10 MiB" in refused.error["message"]
        larger = await door.chat(message(MAX_FILE_BYTES + 1)[0]["content"])
        assert larger.status_code == 200, "programs are bound by the size of the body alone"
