"""Sign-in: any key becomes a session, which is worth exactly what the key is worth."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from support.fakes.upstream import FakeUpstream, Pause, events_of, streaming
from support.front_door import OWNER, Door, bearer, front_door, request_body
from support.visitors import Browser, guest, page_call

from server.identity.authentication import GUEST_COOKIE, SESSION_COOKIE
from server.store.key import Key
from webui.shell.pages import PageHandler
from webui.sign_in.login_page import own_path


async def kind_of(browser: Browser) -> Any:
    """Return the principal of this browser as the API names it, or the status of the refusal."""
    answer = await browser.call("GET", "key")
    return answer.json()["kind"] if answer.status_code == 200 else answer.status_code


async def signed_in(door: Door, key: str = OWNER) -> Browser:
    """Sign a browser in."""
    browser = Browser(door)
    assert (await browser.sign_in(key)).status_code == 303
    return browser


async def test_the_owners_key_opens_what_is_the_owners(door: Door) -> None:
    browser = Browser(door)
    await browser.open("/login")
    assert await kind_of(browser) == "guest"
    assert (await browser.call("GET", "keys")).status_code == 403
    answer = await browser.submit("/login", key=f"  {OWNER}\n", next="/keys?a=b")
    assert (answer.status_code, answer.headers["location"]) == (303, "/keys?a=b")
    assert await kind_of(browser) == "owner"
    assert (await browser.call("GET", "keys")).status_code == 200


async def test_a_key_signed_in_keeps_its_limits(door: Door) -> None:
    made = await door.mint_key(limits={"requests_per_minute": 2})
    browser = await signed_in(door, made["key"])
    assert await kind_of(browser) == "key"
    statuses = [
        (await browser.call("POST", "chat/completions", json=request_body())).status_code
        for _ in range(3)
    ]
    assert statuses == [200, 200, 429]
    rows = await door.usage_rows(2)
    assert {row.key_id for row in rows} == {made["id"]}


async def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites(tmp_path: Path) -> None:
    async with front_door(tmp_path) as door:
        browser = Browser(door)
        cookie = (await browser.sign_in(OWNER)).headers["set-cookie"]
        name, *flags = cookie.split("; ")
        secret, _, tag = name.removeprefix("roxy_session=").partition(".")
        assert len(secret) == 43 and tag.startswith("owner."), "whose it is, once it has ended"
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(flags)
        assert "Secure" not in flags
    settings = '[server]\nbase_url = "https://gateway.test"\n'
    async with front_door(tmp_path, settings=settings) as door:
        browser = Browser(door)
        cookie = (await browser.sign_in(OWNER)).headers["set-cookie"]
        assert cookie.startswith("__Host-roxy_session=")
        assert "Secure" in cookie.split("; ") and "Domain" not in cookie
        assert await kind_of(browser) == "owner"
        browser.cookies = {SESSION_COOKIE: browser.cookies["__Host-roxy_session"]}
        assert await kind_of(browser) == 401, "the name without the prefix may be another's"


async def test_a_wrong_key_is_told_so_and_opens_nothing(door: Door) -> None:
    made = await door.mint_key()
    await door.client.delete(f"/api/v1/keys/{made['id']}", headers=bearer(OWNER))
    browser = Browser(door)
    for key in ("", "x" * 400, made["key"], OWNER.upper(), "ключ"):
        answer = await browser.sign_in(key)
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        assert "This key is not valid" in answer.text
        assert not key or key not in answer.text
    assert await kind_of(browser) == "guest"


async def test_every_sign_in_makes_a_new_session_and_ends_the_old(door: Door) -> None:
    browser = await signed_in(door)
    old = dict(browser.cookies)
    await browser.submit("/login", key=OWNER)
    assert browser.cookies[SESSION_COOKIE] != old[SESSION_COOKIE]
    assert await kind_of(browser) == "owner"
    browser.cookies = old
    assert await kind_of(browser) == "guest"
    assert len(door.gateway.services.sessions) == 1


async def test_signing_out_ends_the_session_on_the_server(door: Door) -> None:
    browser = await signed_in(door)
    kept = dict(browser.cookies)
    answer = await browser.submit("/logout")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert SESSION_COOKIE not in browser.cookies
    browser.cookies = kept
    assert await kind_of(browser) == "guest"


async def test_a_session_never_rescues_a_bad_key(door: Door) -> None:
    browser = await signed_in(door)
    cookie = f"{SESSION_COOKIE}={browser.cookies[SESSION_COOKIE]}"
    for credential in ({"Authorization": "Bearer wrong"}, {"X-Api-Key": ""}):
        headers = page_call(cookie, browser.token) | credential
        assert (await door.client.get("/api/v1/key", headers=headers)).status_code == 401


async def test_a_session_holds_behind_a_proxy_that_asks_for_a_password(door: Door) -> None:
    browser = await signed_in(door)
    browser.site = browser.site | {"Authorization": "Basic dXNlcjpwYXNz"}
    assert await kind_of(browser) == "owner"
    assert (await browser.call("POST", "keys", json={"name": "made"})).status_code == 201
    assert (await browser.submit("/logout")).status_code == 303
    assert await kind_of(browser) == "guest"


@pytest.mark.parametrize(
    ("headers", "get", "post"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200, 200),
        ({"Sec-Fetch-Site": "same-site"}, 401, 401),
        ({"Sec-Fetch-Site": "cross-site"}, 401, 401),
        ({"Sec-Fetch-Site": "none"}, 401, 401),
        ({"Origin": "http://evil.test"}, 401, 401),
        ({"Origin": "ours"}, 200, 200),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "ours"}, 401, 401),
        ({}, 200, 401),
    ],
)
async def test_only_pages_of_this_server_may_use_the_cookie(
    door: Door, headers: dict[str, str], get: int, post: int
) -> None:
    browser = await signed_in(door)
    browser.site = {name: door.url if value == "ours" else value for name, value in headers.items()}
    assert (await browser.call("GET", "key")).status_code == get
    answer = await browser.call("POST", "chat/completions", json=request_body())
    assert answer.status_code == post


async def test_every_change_needs_the_token_of_this_very_session(
    upstream: FakeUpstream, door: Door
) -> None:
    browser, other = await signed_in(door), await signed_in(door)
    visitor, stranger = guest(door), guest(door)
    swapped = visitor | {"X-Roxy-Xsrf": stranger["X-Roxy-Xsrf"]}
    for token in ("", other.token, browser.token[:-1], visitor["X-Roxy-Xsrf"], "ÿ"):
        answer = await browser.call("POST", "keys", token=token, json={"name": "x"})
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "xsrf_refused"
    assert (await browser.call("POST", "keys", json={"name": "x"})).status_code == 201
    for headers, status in ((swapped, 403), (visitor, 200)):
        answer = await door.client.post(
            "/api/v1/chat/completions", json=request_body(), headers=headers
        )
        assert answer.status_code == status
    assert len(upstream.requests) == 1


async def test_a_form_that_is_not_ours_is_refused(door: Door) -> None:
    browser = Browser(door)
    await browser.open("/login")
    forged: list[tuple[dict[str, str], dict[str, str]]] = [
        ({"Sec-Fetch-Site": "cross-site"}, {}),
        ({"Origin": "http://evil.test"}, {}),
        ({}, {}),
        (browser.site, {"xsrf": "0" * 64}),
        (browser.site, {"xsrf": ""}),
    ]
    for site, fields in forged:
        answer = await browser.submit("/login", site, key=OWNER, **fields)
        assert answer.status_code == 403
        assert SESSION_COOKIE not in browser.cookies
    # A page without a referrer says "null" where there is no Fetch Metadata.
    answer = await browser.submit("/login", {"Origin": "null"}, key=OWNER)
    assert answer.status_code == 303
    assert (await browser.submit("/logout", xsrf="")).status_code == 403
    assert await kind_of(browser) == "owner"


@pytest.mark.parametrize("change", ["revoke", "disable", "rotate", "expire"])
async def test_a_key_that_is_no_longer_good_ends_its_sessions_at_once(
    door: Door, change: str
) -> None:
    made, other = await door.mint_key(), await door.mint_key()
    path = f"/api/v1/keys/{made['id']}"
    browser, bystander = await signed_in(door, made["key"]), await signed_in(door, other["key"])
    owner: dict[str, Any] = {"headers": bearer(OWNER)}
    await door.client.patch(path, json={"name": "renamed", "limits": None}, **owner)
    assert await kind_of(browser) == "key", "other changes leave it alone"
    if change == "revoke":
        await door.client.delete(path, **owner)
    elif change == "rotate":
        await door.client.post(f"{path}/rotate", json={"grace_s": 3600}, **owner)
    elif change == "disable":
        await door.client.patch(path, json={"status": "disabled"}, **owner)
        await door.client.patch(path, json={"status": "active"}, **owner)
    else:
        ring = door.gateway.services.keys
        assert ring._memory.put(expired(await ring.get(made["id"])))
    assert await kind_of(browser) == "guest"
    assert await kind_of(bystander) == "key"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("revoke", "revoked"),
        ("disable", "disabled"),
        ("expire", "expired"),
        ("rotate", "signed out"),
        ("sign out", "signed out"),
    ],
)
async def test_a_page_is_refused_with_the_reason_when_its_session_has_ended(
    door: Door, change: str, said: str
) -> None:
    made = await door.mint_key()
    browser = await signed_in(door, made["key"])
    page = browser.visitor
    assert (await browser.call("GET", "key", visitor=page)).json()["kind"] == "key"
    path = f"/api/v1/keys/{made['id']}"
    owner: dict[str, Any] = {"headers": bearer(OWNER)}
    if change == "revoke":
        await door.client.delete(path, **owner)
    elif change == "rotate":
        await door.client.post(f"{path}/rotate", **owner)
    elif change == "sign out":
        await browser.submit("/logout")
    elif change == "disable":
        await door.client.patch(path, json={"status": "disabled"}, **owner)
    else:
        ring = door.gateway.services.keys
        assert ring._memory.put(expired(await ring.get(made["id"])))
    for method, route in (("GET", "key"), ("POST", "chat/completions")):
        answer = await browser.call(method, route, visitor=page)
        assert answer.status_code == 401
        error = answer.json()["error"]
        assert error["code"] == "session_ended" and said in error["message"]
        assert "X-" not in error["message"] and "Bearer" not in error["message"]
    forged = await browser.call("GET", "key", visitor=f"{made['id']}.{'0' * 16}")
    assert "signed out" in forged.json()["error"]["message"], "the state of a key is not for all"


async def test_a_page_of_one_visitor_sends_nothing_as_another(door: Door) -> None:
    browser = Browser(door)
    await browser.open("/login")
    guest_page = browser.visitor
    await browser.sign_in(OWNER)
    owner_page = browser.visitor
    answer = await browser.call("GET", "key", visitor=guest_page)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "session_changed")
    await browser.submit("/logout")
    await browser.sign_in((await door.mint_key())["key"])
    answer = await browser.call("GET", "key", visitor=owner_page)
    assert answer.json()["error"]["code"] == "session_changed"
    assert (await browser.call("GET", "key", visitor=browser.visitor)).json()["kind"] == "key"


async def test_a_page_that_a_link_elsewhere_led_to_asks_once_more(door: Door) -> None:
    cross_site = {"Sec-Fetch-Site": "cross-site", "Accept": "text/html"}
    answer = await door.client.get("/", headers=cross_site)
    assert '<meta name="roxy-visitor" content="?">' in answer.text


def expired(key: Key) -> Key:
    """Make a key whose time has passed: no test waits for it."""
    return structs.replace(key, expires_at=1, version=key.version + 1)


async def test_the_old_secret_of_a_rotated_key_opens_sessions_in_its_grace_only(door: Door) -> None:
    made = await door.mint_key()
    path = f"/api/v1/keys/{made['id']}/rotate"
    await door.client.post(path, json={"grace_s": 3600}, headers=bearer(OWNER))
    browser = await signed_in(door, made["key"])
    assert await kind_of(browser) == "key"
    await door.client.post(path, json={}, headers=bearer(OWNER))
    assert await kind_of(browser) == "guest"


async def test_what_a_session_runs_goes_on_while_its_key_is_only_renamed(
    upstream: FakeUpstream, door: Door
) -> None:
    hold = asyncio.Event()
    made = await door.mint_key()
    browser = await signed_in(door, made["key"])
    upstream.plan(streaming([Pause(hold), *events_of(["all"])]))
    body = request_body(stream=True)
    answer = asyncio.create_task(browser.call("POST", "chat/completions", json=body))
    await upstream.request()
    path = f"/api/v1/keys/{made['id']}"
    await door.client.patch(path, json={"name": "renamed"}, headers=bearer(OWNER))
    hold.set()
    assert (await answer).text.endswith("data: [DONE]\n\n")


async def test_sessions_survive_a_restart_but_not_another_owner_key(tmp_path: Path) -> None:
    async with front_door(tmp_path) as door:
        secret = await door.mint()
        owner, holder = await signed_in(door), await signed_in(door, secret)
        ids = [browser.cookies[SESSION_COOKIE] for browser in (owner, holder)]
    for path in (tmp_path / "data").glob("roxy.db*"):
        assert not any(one.encode() in path.read_bytes() for one in ids), "only hashes are kept"
    async with front_door(tmp_path) as door:
        owner._client = holder._client = door.client
        assert [await kind_of(owner), await kind_of(holder)] == ["owner", "key"]
    environ = {"ROXY_ADMIN_API_KEY": "another-owner-key-for-the-tests"}
    async with front_door(tmp_path, environ=environ) as door:
        owner._client = holder._client = door.client
        assert [await kind_of(owner), await kind_of(holder)] == ["guest", "key"]
        assert len(door.gateway.services.sessions) == 1


@pytest.mark.gateway(settings='[server]\ntrusted_proxies = ["127.0.0.1"]\n')
async def test_after_ten_wrong_keys_an_address_has_to_wait(door: Door) -> None:
    browser = Browser(door)
    await browser.open("/login")
    here, there = ({"X-Forwarded-For": f"192.0.2.{n}"} | browser.site for n in (1, 2))
    for _ in range(10):
        assert (await browser.submit("/login", here, key="wrong")).status_code == 401
    for key in ("wrong", OWNER):
        answer = await browser.submit("/login", here, key=key)
        assert answer.status_code == 429
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert answer.headers["content-type"].startswith("text/html")
        assert "Try again in" in answer.text
    assert (await browser.submit("/login", there, key=OWNER)).status_code == 303


async def test_guesses_in_parallel_are_counted_one_by_one(door: Door) -> None:
    browser = Browser(door)
    await browser.open("/login")
    answers = await asyncio.gather(*(browser.submit("/login", key="wrong") for _ in range(30)))
    assert sorted(answer.status_code for answer in answers) == [401] * 10 + [429] * 20


class OwnersPage(PageHandler):
    """A page for the owner alone."""

    access = "owner"

    def get(self) -> None:
        """Show something."""
        self.show(
            "shell/login.html",
            wanted="/",
            problem="for your eyes only",
            max_key_chars=1,
            guests=False,
        )

    def post(self) -> None:
        """Take a form."""
        self.reply_json(self.take_form())


async def test_an_owners_page_sends_guests_to_sign_in_and_refuses_key_holders(door: Door) -> None:
    given = {"services": door.gateway.services}
    door.gateway.server._application.add_handlers(".*", [("/secret", OwnersPage, given)])
    nobody, visitor = Browser(door), Browser(door)
    await visitor.open("/login")
    for browser in (nobody, visitor):
        answer = await browser.open("/secret?a=b&c=d")
        assert answer.status_code == 303
        assert answer.headers["location"] == "/login?next=/secret%3Fa%3Db%26c%3Dd"
        assert "for your eyes only" not in answer.text
        assert (await browser.submit("/secret", x="y")).status_code == 401
    holder = await signed_in(door, await door.mint())
    assert (await holder.open("/secret")).status_code == 403
    assert (await holder.submit("/secret", x="y")).status_code == 403
    owner = await signed_in(door)
    answer = await owner.open("/secret")
    assert answer.status_code == 200 and "for your eyes only" in answer.text
    assert (await owner.submit("/secret", x="y")).json()["x"] == "y"
    assert (await owner.submit("/secret", xsrf="")).status_code == 403
    asked_next = await visitor.open("/login?next=/secret%3Fa%3Db%26c%3Dd")
    assert 'name="next" value="/secret?a=b&amp;c=d"' in asked_next.text


@pytest.mark.gateway(settings="[guests]\nenabled = false\n")
async def test_without_guests_one_can_still_sign_in(door: Door) -> None:
    browser = Browser(door)
    await browser.open("/login")
    assert await kind_of(browser) == 401
    assert (await browser.submit("/login", key=OWNER)).status_code == 303
    assert await kind_of(browser) == "owner"


async def test_cookies_of_other_servers_on_this_host_do_no_harm(door: Door) -> None:
    browser = await signed_in(door)
    ours = browser.cookies.pop(SESSION_COOKIE)
    browser.cookies |= {'odd{"a"': '[1, "]"}', "": "=;,", "x": "ÿ", SESSION_COOKIE: ours}
    assert await kind_of(browser) == "owner"


@pytest.mark.parametrize("cookie", ["", "x", "ÿ" * 43, "a" * 43, "a" * 9000, '"', "%00"])
async def test_a_made_up_session_is_none(door: Door, cookie: str) -> None:
    headers = page_call(f"{SESSION_COOKIE}={cookie}")
    raw = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    assert (await door.client.get("/api/v1/key", headers=raw)).status_code == 401


async def test_a_guest_is_told_what_is_left(door: Door) -> None:
    visitor = guest(door)
    await door.client.post("/api/v1/chat/completions", json=request_body(), headers=visitor)
    told = (await door.client.get("/api/v1/key", headers=visitor)).json()
    assert (told["id"], told["kind"]) == ("guest", "guest")
    left = told["remaining"]
    assert (left["requests"]["limit"], left["requests"]["remaining"]) == (10, 9)
    assert (left["requests_day"]["limit"], left["requests_day"]["remaining"]) == (100, 99)
    assert left["concurrent_requests"] == {"limit": 2, "running": 0}
    assert GUEST_COOKIE in visitor["Cookie"]


@pytest.mark.parametrize(
    ("wanted", "gone_to"),
    [
        ("/usage?days=7#x", "/usage?days=7#x"),
        ("//evil.test", "/"),
        ("/\\evil.test", "/"),
        ("https://evil.test", "/"),
        ("javascript:alert(1)", "/"),
        ("/a\r\nSet-Cookie: x=y", "/"),
        ("/ü", "/"),
        ("", "/"),
    ],
)
def test_signing_in_leads_to_a_page_of_this_server(wanted: str, gone_to: str) -> None:
    assert own_path(wanted) == gone_to
