"""A route is served under each prefix and with stray slashes, to proxies and monitors as well."""

from __future__ import annotations

from pathlib import Path

import openai
import pytest
from support.fakes.upstream import FakeUpstream
from support.front_door import MODEL, OWNER, Door, front_door
from support.plain_http import ask, every, request

from server.http.request_head import served_target

PREFIXES = ("/api/v1", "/api", "/v1")
TARGETS = (
    "{}/models",
    "{}/models/",
    "{}/models//",
    "{}//models",
    "/{}/models",
    "//{}///models//",
    "{}/models/?a=b",
    "http://gateway.test{}/models",
    "HTTP://gateway.test:80{}/models/",
    "https://gateway.test/{}/models",
)
CHATS = tuple(target.replace("models", "chat/completions") for target in TARGETS)


@pytest.mark.parametrize(
    ("target", "served"),
    [
        ("/", "/"),
        ("//", "/"),
        ("/a", "/a"),
        ("/a/", "/a"),
        ("//a///b//", "/a/b"),
        ("/a//?x=//y/", "/a?x=//y/"),
        ("/?next=//x", "/?next=//x"),
        ("/a%2F%2Fb/", "/a%2F%2Fb"),
        ("http://host", "/"),
        ("http://host?x", "/?x"),
        ("http://host/", "/"),
        ("http://[::1]:80/a//b", "/a/b"),
        ("http://user@host/a", "http://user@host/a"),
        ("http:///a", "http:///a"),
        ("ftp://host/a", "ftp://host/a"),
        ("*", "*"),
        ("host:443", "host:443"),
        ("", ""),
    ],
)
def test_a_target_is_served_without_its_stray_slashes(target: str, served: str) -> None:
    assert served_target(target) == served


async def test_every_spelling_of_a_path_is_the_same_route(
    upstream: FakeUpstream, door: Door
) -> None:
    body = b'{"model":"%b","messages":[{"role":"user","content":"Hi"}]}' % MODEL.encode()
    models = (await ask(door.port, request("GET", "/api/v1/models"))).json

    async def check(case: tuple[str, str, str]) -> None:
        prefix, models_target, chat_target = case
        asks = request("GET", models_target.format(prefix))
        assert (await ask(door.port, asks)).json == models
        head = await ask(door.port, request("HEAD", models_target.format(prefix)), bodiless=True)
        assert head.status == 200
        answer = await ask(door.port, request("POST", chat_target.format(prefix), body))
        assert answer.status == 200 and answer.json["object"] == "chat.completion"
        one = await ask(door.port, request("GET", f"{prefix}/models/{MODEL}/"))
        assert one.json["id"] == MODEL
        refused = request("GET", models_target.format(prefix), key="wrong")
        assert (await ask(door.port, refused, source="127.0.3.1")).status in (401, 429)

    await every(
        ((prefix, *pair) for prefix in PREFIXES for pair in zip(TARGETS, CHATS, strict=True)),
        check,
    )


async def test_monitors_get_the_head_of_health_and_of_pages(door: Door) -> None:
    async def check(path: str) -> None:
        got = await ask(door.port, request("GET", path, key=None))
        answer = await ask(door.port, request("HEAD", path, key=None), bodiless=True)
        assert answer.status == got.status == 200
        assert answer.headers["content-length"] == str(len(got.body))

    await every(["/healthz", "/healthz/", "/readyz", "//readyz", "/api/openapi.json"], check)


@pytest.mark.parametrize("base", ["/v1", "/v1/", "/api/v1//", "//v1"])
async def test_the_openai_client_works_with_what_people_append(tmp_path: Path, base: str) -> None:
    async with (
        FakeUpstream() as upstream,
        front_door(tmp_path, upstream) as door,
        openai.AsyncOpenAI(
            base_url=door.gateway.url + base, api_key=OWNER, max_retries=0
        ) as client,
    ):
        assert MODEL in [model.id async for model in client.models.list()]
        answer = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hi"}]
        )
        assert answer.choices[0].message.content
