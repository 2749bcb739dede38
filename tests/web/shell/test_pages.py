"""The pages: small, without script, and under the strictest policy, whatever happens."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.browsing.owner_pages import is_page
from support.fakes.upstream import FakeUpstream
from support.front_door import OWNER, Door, bearer, front_door
from support.plain_http import ask, connect, every, head, request

from webui.shell.texts import languages

FRONT = "/"
BROWSER = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"
LOST = (
    "/nope",
    "/index.html",
    "/apis",
    "/apix/v1/models",
    "//evil.test/",
    "/%00",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/../../etc/passwd",
    "/static",
    "/static/",
    "/static/%00",
    "/static/site.css/",
    "/static/site.css%00",
    "/static/nope.css",
    "/static/../pages.py",
    "/static/..%2f..%2froxy.toml",
    "/static//etc/passwd",
    "/static/site.css/../../server/app.py",
    "/templates/home.html",
    "/data/api-keys.json",
    "/.git/config",
    "/.env",
    "/robots.txt",
    "/<script>alert(1)</script>",
    "/{{7*7}}",
    "/%ff%fe",
    "/caf\xe9",
    "/" + "x" * 20_000,
    "/nope?" + "a=b&" * 500,
)


@pytest.fixture(scope="module")
async def door(
    anyio_backend: object, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Door]:
    """Return one gateway."""
    path = tmp_path_factory.mktemp("pages")
    async with FakeUpstream() as upstream, front_door(path, upstream) as one:
        yield one


async def test_the_front_page_is_a_page(door: Door) -> None:
    outline = is_page(await ask(door.port, request("GET", FRONT, None, key=None)), 200)
    assert {"main", "title"} <= set(outline.tags)


async def test_a_first_visit_is_given_a_guest_session_that_only_this_site_can_use(
    door: Door,
) -> None:
    answer = await ask(door.port, request("GET", FRONT, None, key=None))
    value, *attributes = answer.headers["set-cookie"].split("; ")
    assert re.fullmatch(r"roxy_guest=[\w.-]{40,100}", value)
    assert set(attributes) == {"Path=/", "Max-Age=604800", "HttpOnly", "SameSite=Strict"}
    again = await ask(door.port, request("GET", FRONT, None, f"Cookie: {value}", key=None))
    assert again.status == 200 and "set-cookie" not in again.headers
    other = await ask(door.port, request("GET", FRONT, None, "Cookie: roxy_guest=a.1.0", key=None))
    assert value not in other.headers["set-cookie"]


async def test_a_host_that_tries_to_be_markup_is_refused(door: Door) -> None:
    async def check(host: bytes) -> None:
        answer = await ask(
            door.port, b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (FRONT.encode(), host)
        )
        if answer.status == 200:
            is_page(answer, 200)
        else:
            assert answer.status == 400 and answer.error["code"] == "invalid_http"

    await every([b"<script>", b'a"onload=x', b"a&b", b"a'b", b"[::1]:80", b"a;b", b""], check)


async def test_what_is_not_there_is_a_small_page(door: Door) -> None:
    async def check(path: str) -> None:
        for method, body in (("GET", None), ("PUT", b"{}"), ("OPTIONS", None), ("BREW", None)):
            asks = request(method, path, body, BROWSER, key=None)
            answer = await ask(door.port, asks)
            outline = is_page(answer, 404)
            assert "/" in outline.links and len(answer.body) < 8000
            assert answer.headers["x-request-id"].encode() in answer.body
            assert b"<script>" not in answer.body and b"xxxx" not in answer.body
            assert "set-cookie" not in answer.headers

    await every(LOST, check)


async def test_a_wrong_url_of_a_program_is_answered_with_json(door: Door) -> None:
    async def check(accept: str) -> None:
        lines = [f"Accept: {accept}"] if accept else []
        for method, path in itertools.product(
            ("GET", "POST", "BREW"), ("/nope", "/models", "/x/y")
        ):
            body = b"{}" if method == "POST" else None
            answer = await ask(door.port, request(method, path, body, *lines, key=None))
            assert answer.status == 404 and answer.error["code"] == "not_found"
            assert answer.headers["content-type"] == "application/json"
            assert "/api/v1" in answer.error["message"]

    await every(["", "*/*", "application/json", "text/*", "application/json, text/plain"], check)
    for accept in (BROWSER, "Accept: application/json, TEXT/HTML"):
        is_page(await ask(door.port, request("GET", "/nope", None, accept, key=None)), 404)


async def test_a_method_that_a_page_does_not_take_is_a_405(door: Door) -> None:
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"):
        answer = await ask(door.port, request(method, FRONT, b"x"))
        assert "GET" in answer.headers["allow"].split(", ")
        is_page(answer, 405)


async def test_head_has_the_head_of_the_page_and_no_body(door: Door) -> None:
    async with connect(door.port) as wire:
        await wire.send(head("HEAD", "/nope", BROWSER) + head("HEAD", FRONT))
        await wire.send(head("GET", "/healthz"))
        for status in (404, 200):
            answer = await wire.answer(bodiless=True)
            assert answer.status == status and "content-security-policy" in answer.headers
        assert (await wire.answer()).json == {"status": "ok"}


TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}


async def test_what_a_page_loads_is_served_as_what_it_is_and_loads_nothing_from_elsewhere(
    door: Door,
) -> None:
    outline = is_page(await ask(door.port, request("GET", FRONT, None, key=None)), 200)
    files = {link.partition("#")[0] for link in outline.links if link.startswith("/static/")}
    assert any(file.endswith(".css") for file in files)
    for file in files:
        answer = await ask(door.port, request("GET", file, None, key=None))
        assert answer.status == 200, file
        assert answer.headers["content-type"].startswith(TYPES[Path(file).suffix])
        assert answer.headers["x-content-type-options"] == "nosniff"
        if file.endswith(".css"):
            assert not re.search(rb"@import|url\(\s*['\"]?(?!data:)", answer.body), file


async def test_a_page_needs_no_key_and_minds_no_wrong_one(door: Door) -> None:
    for lines in ([], ["Authorization: Bearer wrong"], ["Cookie: \xff"], ["Origin: http://["]):
        is_page(await ask(door.port, request("GET", FRONT, None, *lines, key=None)), 200)


async def test_a_large_body_sent_to_a_page_is_refused_as_a_page(door: Door) -> None:
    async with connect(door.port) as wire:
        await wire.send(request("POST", "/nope", b"x" * 1_000_000, BROWSER))
        is_page(await wire.answer(), 404)
        await wire.send(request("GET", FRONT, b"x" * 1_000_000))
        is_page(await wire.answer(), 413)
        await wire.send(head("GET", "/healthz"))
        assert (await wire.answer()).status == 200


async def test_broken_http_is_answered_without_a_page(door: Door) -> None:
    answer = await ask(door.port, b"GET / HTTP/1.1\r\n\r\n")
    assert answer.status == 400 and answer.error["code"] == "invalid_http"


BAD_DAYS = ("start=abc", "start=2026-11-22&end=2026-11-21", "end=2026-13-01", "start=0001-01-01")
BAD_QUERIES = {
    "/usage": (
        *BAD_DAYS,
        "key=key_0000000000000000",
        "key=%3Cscript%3E",
        "days=8",
        "days=x",
        "month=next",
        "metric=money",
        "stack=day",
        "by=hour",
        "model=%ff",
    ),
    "/usage/file": (*BAD_DAYS, "month=next", "by=hour", "days=7"),
    "/usage/statement": tuple(f"key=guest&{query}" for query in (*BAD_DAYS, "month=next")),
    "/requests": (
        "before=-1",
        "before=0",
        "before=x",
        "before=" + "9" * 40,
        "key=key_nope",
        "status=odd",
    ),
    "/keys": ("sort=size", "show=all", "page=0"),
}


@pytest.mark.parametrize("path", BAD_QUERIES)
async def test_a_wrong_parameter_is_refused_on_a_page(door: Door, path: str) -> None:
    for query in BAD_QUERIES[path]:
        answer = await door.get(f"{path}?{query}")
        assert answer.status_code == 400, query
        assert answer.headers["content-type"].startswith("text/html")
        assert "<h1>This request is not valid</h1>" in answer.text and "<script>" not in answer.text


@pytest.mark.parametrize("path", ["/usage", "/usage/file", "/usage/statement"])
async def test_wrong_days_are_refused_in_the_language_of_the_page(door: Door, path: str) -> None:
    headers = bearer(OWNER) | {"Accept-Language": "de"}
    for query in BAD_DAYS:
        answer = await door.client.get(f"{path}?key=guest&{query}", headers=headers)
        assert answer.status_code == 400
        assert languages()["de"].texts.usage.bad_days in answer.text
