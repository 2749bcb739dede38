"""Assets, headers and the weight of the chat page."""

from __future__ import annotations

import gzip
import re

import httpx
import pytest
from playwright.async_api import Browser, Response, Route, expect
from support.browsing.browser import open_chat, visiting
from support.browsing.signing_in import sign_in
from support.front_door import Door

from webui.shell.assets import Assets, packaged_assets, without_comments
from workers.errors import NotFound

MAX_JS_BYTES = 60 * 1024
MAX_REQUESTS = 12
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:;"
    " font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'; manifest-src 'self'; require-trusted-types-for 'script';"
    " trusted-types 'none'"
)
"""Text of its own, so that a directive which the server loses is missed here."""
UNUSED = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"


def test_a_changed_file_changes_every_path() -> None:
    one, other = Assets({"a.js": b"1", "b.css": b"x"}), Assets({"a.js": b"2", "b.css": b"x"})
    assert one.path("b.css") != other.path("b.css")
    assert one.find(one.build, "b.css").plain == b"x"
    with pytest.raises(NotFound):
        one.find(other.build, "b.css")


def test_names_and_contents_cannot_be_mistaken_for_each_other() -> None:
    assert Assets({"a": b"1", "b": b"2"}).build != Assets({"a": b"1b2"}).build


def test_templates_cannot_name_a_file_that_is_not_there() -> None:
    with pytest.raises(KeyError):
        packaged_assets().path("js/no-such.js")


def test_types_cost_no_bytes() -> None:
    script = (
        b"let a = /** @type {B} */ (c);\n/** @type {B} */ (d).e(); /* kept */\nf(); /** kept */\n"
    )
    lean = b"let a = (c);\n(d).e(); /* kept */\nf(); /** kept */\n"
    assert without_comments(script) == lean


def test_comments_stay_at_home() -> None:
    script = b"// one\nlet a = 1; // kept\n  /** two\n   * lines */\n  a /* kept */ += 1;\n"
    lean = b"\nlet a = 1; // kept\n\n\n  a /* kept */ += 1;\n"
    assert without_comments(script) == lean


async def test_assets_are_compressed_and_kept_for_ever(demo_door: Door) -> None:
    path = packaged_assets().path("js/chat/main.js")
    answer = await demo_door.client.get(path, headers={"Accept-Encoding": "br, gzip;q=0.5"})
    assert answer.status_code == 200
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    for refused in ("gzip;q=0", "br, gzip; q=0.0", "gzip;q=0.00", "*;q=0.000", "identity"):
        plain = await demo_door.client.get(path, headers={"Accept-Encoding": refused})
        assert "content-encoding" not in plain.headers
        assert plain.content == answer.content
        assert plain.headers["vary"] == answer.headers["vary"] == "Accept-Encoding"


async def test_a_phone_can_keep_the_chat_on_its_home_screen(demo_door: Door) -> None:
    page = await demo_door.client.get("/")
    (path,) = re.findall(r'<link rel="manifest" href="([^"]+)"', page.text)
    answer = await demo_door.client.get(path)
    assert answer.headers["content-type"] == "application/manifest+json"
    manifest = answer.json()
    assert manifest["start_url"] == "/" and manifest["display"] == "standalone"
    assert {"any", "maskable"} == {icon["purpose"] for icon in manifest["icons"]}
    sizes = {"192x192", "512x512"}
    assert sizes < {icon["sizes"] for icon in manifest["icons"]}
    (touch,) = re.findall(r'<link rel="apple-touch-icon" href="([^"]+)"', page.text)
    icons = [*((icon["src"], icon["type"]) for icon in manifest["icons"]), (touch, "image/png")]
    for src, kind in icons:
        found = await demo_door.client.get(httpx.URL(path).join(src).path)
        assert found.status_code == 200 and found.headers["content-type"] == kind


@pytest.mark.parametrize("path", ["js/none.js", "../pages.py", "js/", "js/%2e%2e/js/chat/main.js"])
async def test_a_missing_asset_is_no_page(demo_door: Door, path: str) -> None:
    build = packaged_assets().build
    for at in (f"/static/{build}/{path}", f"/static/000000000000/{path}"):
        head = f"GET {at} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answer = await demo_door.raw(head.encode())
        assert answer.startswith(b"HTTP/1.1 404")
        assert b"<html" not in answer


@pytest.mark.parametrize(
    ("method", "path", "accept"),
    [
        ("GET", "/models", "application/json"),  # the official clients
        ("POST", "/openai/v1/chat/completions", "*/*"),  # what fetch() says
        ("POST", "/chat/completions", "application/json"),
    ],
)
async def test_a_client_with_a_wrong_base_url_is_told_the_right_one(
    demo_door: Door, method: str, path: str, accept: str
) -> None:
    answer = await demo_door.client.request(method, path, headers={"Accept": accept})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
    assert "/api/v1" in answer.json()["error"]["message"]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_browser_at_a_wrong_path_gets_a_page(demo_door: Door, method: str) -> None:
    headers = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    answer = await demo_door.client.request(method, "/modles", headers=headers)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("path", ["/", "/c/c_1", "/login", "/no/such/page"])
async def test_every_page_has_the_policy_and_nothing_inline(demo_door: Door, path: str) -> None:
    answer = await demo_door.client.get(path, headers={"Accept": "text/html"})
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["permissions-policy"] == UNUSED
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert not re.search(r"<style|\sstyle=|\son\w+=", answer.text)
    assert re.findall(r"<script[^>]*>(?!</script>)", answer.text) == []


SECURE = pytest.mark.gateway(settings='[server]\nbase_url = "https://roxy.example"\n')


@pytest.mark.parametrize("policy", [None, pytest.param("same-origin", marks=SECURE)])
async def test_only_over_tls_a_page_shares_no_process_with_other_sites(
    bare_door: Door, policy: str | None
) -> None:
    answer = await bare_door.client.get("/", headers={"Accept": "text/html"})
    assert answer.headers.get("cross-origin-opener-policy") == policy


async def test_the_first_visit_is_light_and_the_second_loads_no_script(
    chromium: Browser, demo_door: Door
) -> None:
    async with visiting(chromium, demo_door) as page:
        answers: list[Response] = []

        def note(answer: Response) -> None:
            answers.append(answer)

        page.on("response", note)
        await open_chat(page)
        before_usable = await page.evaluate("""() => {
          const [ready] = performance.getEntriesByName("roxy-ready");
          const loaded = performance.getEntriesByType("resource");
          return loaded.filter((one) => one.startTime < ready.startTime).map((one) => one.name);
        }""")
        await page.wait_for_load_state("networkidle")
        assets = packaged_assets()
        scripts = [answer.url for answer in answers if answer.url.endswith(".js")]
        weight = 0
        for url in scripts:
            asset = assets.find(assets.build, url.partition(f"{assets.build}/")[2])
            assert asset.gzipped is not None
            weight += len(asset.gzipped)
            assert gzip.decompress(asset.gzipped) == asset.plain
        assert weight <= MAX_JS_BYTES, f"{weight} bytes in {len(scripts)} scripts"
        assert len(before_usable) + 1 <= MAX_REQUESTS, "\n".join(before_usable)
        await open_chat(page)
        await page.wait_for_load_state("networkidle")
        again = await page.evaluate("""() => performance.getEntriesByType("resource")
          .filter((one) => one.name.endsWith(".js") && one.transferSize > 0)
          .map((one) => one.name)""")
        assert again == []


async def test_a_key_holder_can_write_as_soon_as_a_guest(
    chromium: Browser, demo_door: Door
) -> None:
    async with visiting(chromium, demo_door) as page:
        await sign_in(page, await demo_door.mint())
        await open_chat(page)
        before_usable = await page.evaluate("""() => {
          const [ready] = performance.getEntriesByName("roxy-ready");
          const loaded = performance.getEntriesByType("resource");
          return loaded.filter((one) => one.startTime < ready.startTime).map((one) => one.name);
        }""")
        assert len(before_usable) + 1 <= MAX_REQUESTS, "\n".join(before_usable)
        assert not [name for name in before_usable if "/history/" in name]


async def test_a_form_of_very_many_fields_is_not_read(door: Door) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for count, status in ((1100, 403), (1101, 400)):
        body = "&".join(f"a{number}=" for number in range(count))
        answer = await door.client.post("/login", content=body, headers=form)
        assert answer.status_code == status


async def test_a_browser_that_is_too_old_shows_a_notice(chromium: Browser, door: Door) -> None:
    async with visiting(chromium, door) as page:
        notice = page.get_by_text("This browser is too old for this page.")
        await page.goto("/login")
        await expect(notice).to_be_hidden()

        async def age(route: Route) -> None:
            answer = await route.fetch()
            style = (await answer.text()).replace("white-space-collapse:collapse", "x-new:1")
            style = style.replace("white-space-collapse: collapse", "x-new: 1")
            await route.fulfill(response=answer, body=style)

        await page.context.route("**/*.css", age)
        await page.goto("/docs")
        await expect(notice).to_be_visible()
