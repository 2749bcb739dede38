"""Pages of allowed origins call the API with a key; nothing else is open to other origins."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from support.fakes.upstream import FakeUpstream
from support.front_door import OWNER, Door, bearer
from support.visitors import Browser, guest, page_call

from workers.base_url import checked_origin

APP = "https://app.example"
OPEN = f'[server]\nallowed_origins = ["{APP}", "http://localhost:5173"]\n'
opened = pytest.mark.gateway(settings=OPEN)
CHAT = "/api/v1/chat/completions"
ASKED = "authorization,content-type,x-stainless-lang"


def access_headers(answer: httpx.Response) -> set[str]:
    return {name for name in answer.headers if name.startswith("access-control-")}


async def preflight(door: Door, path: str, origin: str = APP, **more: str) -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": ASKED,
    } | more
    return await door.client.request("OPTIONS", path, headers=headers)


@opened
@pytest.mark.parametrize("origin", [APP, "http://localhost:5173"])
async def test_a_preflight_of_an_allowed_origin_needs_no_key(door: Door, origin: str) -> None:
    answer = await preflight(door, CHAT, origin)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["access-control-allow-origin"] == origin
    assert answer.headers["access-control-allow-methods"] == "POST"
    assert answer.headers["access-control-allow-headers"] == ASKED
    assert int(answer.headers["access-control-max-age"]) > 0
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in answer.headers


@opened
@pytest.mark.parametrize("stream", [False, True])
async def test_an_allowed_page_reads_answers_errors_and_their_headers(
    upstream: FakeUpstream, door: Door, stream: bool
) -> None:
    secret = await door.mint(limits={"requests_per_minute": 9})
    headers = bearer(secret) | {"Origin": APP}
    body: dict[str, Any] = {"model": "test/one", "messages": [{"role": "user", "content": "Hi"}]}
    good = await door.client.post(CHAT, json=body | {"stream": stream}, headers=headers)
    bad = await door.client.post(CHAT, json={}, headers=headers)
    unknown = await door.client.get("/api/v1/nope", headers=headers)
    no_key = await door.client.get("/api/v1/models", headers={"Origin": APP})
    assert [one.status_code for one in (good, bad, unknown, no_key)] == [200, 400, 404, 401]
    for answer in (good, bad, unknown, no_key):
        assert answer.headers["access-control-allow-origin"] == APP
        assert answer.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in answer.headers
    exposed = good.headers["access-control-expose-headers"].lower()
    sent = [name for name in good.headers if name.startswith(("x-ratelimit", "x-request-id"))]
    assert len(sent) == 4 and all(name in exposed for name in sent)
    assert "retry-after" in exposed


@opened
@pytest.mark.parametrize(
    "origin",
    [
        "https://other.example", "https://app.example.evil.test", "https://xapp.example",
        "http://app.example", "https://app.example:444", "https://app.example/", "null", "",
        "HTTPS://APP.EXAMPLE", "https://app.exampl",
    ],
)  # fmt: skip
async def test_no_other_origin_is_allowed(door: Door, origin: str) -> None:
    asked = await preflight(door, CHAT, origin)
    assert asked.status_code == 405 and not access_headers(asked)
    answer = await door.client.get("/api/v1/models", headers=bearer(OWNER) | {"Origin": origin})
    assert answer.status_code == 200 and not access_headers(answer)
    assert asked.headers["vary"] == answer.headers["vary"] == "Origin"


async def test_everything_is_closed_by_default(door: Door) -> None:
    asked = await preflight(door, CHAT)
    answer = await door.client.get("/api/v1/models", headers=bearer(OWNER) | {"Origin": APP})
    assert (asked.status_code, answer.status_code) == (405, 200)
    for one in (asked, answer):
        assert not access_headers(one) and "vary" not in one.headers


@opened
async def test_options_that_is_no_preflight_is_a_405(door: Door) -> None:
    for headers in ({"Origin": APP}, {"Access-Control-Request-Method": "POST"}):
        assert (await door.client.options(CHAT, headers=headers)).status_code == 405


@opened
@pytest.mark.parametrize("path", ["/", "/login", "/docs", "/keys", "/nope", "/static/x/y.js"])
async def test_pages_stay_closed_to_allowed_origins(door: Door, path: str) -> None:
    assert not access_headers(await preflight(door, path))
    assert not access_headers(await door.client.get(path, headers={"Origin": APP}))


@opened
@pytest.mark.parametrize("site", ["cross-site", "same-site", None])
async def test_no_cookie_counts_in_a_request_of_another_origin(
    door: Door, site: str | None
) -> None:
    browser = Browser(door)
    await browser.sign_in(OWNER)
    signed_in = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    for cookies in (page_call(signed_in, browser.token), guest(door)):
        own = await door.client.get("/api/v1/key", headers=cookies)
        assert own.status_code == 200, "the cookie counts on this server's own pages"
        headers = {name: cookies[name] for name in cookies if name != "Sec-Fetch-Site"}
        headers |= {"Origin": APP} | ({"Sec-Fetch-Site": site} if site else {})
        for method, path in (("GET", "/api/v1/key"), ("POST", CHAT), ("GET", "/api/v1/models")):
            answer = await door.client.request(method, path, headers=headers)
            assert answer.status_code == 401, (method, path)


@opened
async def test_odd_names_of_headers_are_not_repeated(door: Door) -> None:
    answer = await preflight(door, CHAT, **{"Access-Control-Request-Headers": "a, b;c=(d)"})
    assert answer.headers["access-control-allow-headers"].startswith("Authorization")


@pytest.mark.parametrize("origin", [APP, "http://localhost:5173", "https://xn--bcher-kva.example"])
def test_an_origin_is_taken_as_browsers_send_it(origin: str) -> None:
    assert checked_origin(origin) == origin


@pytest.mark.parametrize(
    "origin",
    [
        "*", "https://*.example", "https://app.example/", "https://app.example/x", "app.example",
        "https://App.example", "https://app.example:443", "http://app.example:80", "null", "",
        "file:///x", "https://u@app.example", "https://b\u00fccher.example", "https://a:x",
        "https://app.example?x", "https://app.example#",
    ],
)  # fmt: skip
def test_what_no_browser_sends_as_an_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        checked_origin(origin)
