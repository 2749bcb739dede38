"""Whatever is sent, the answer is a clear 4xx in OpenAI's shape, and nothing else happens.

One gateway serves all cases. After each of them it must still answer, no limit of the key may have
been used, no room for bodies lost, no job left, no error logged, and the upstream must have seen
nothing. Each test tries a whole table and names every row that breaks its rule.
"""

from __future__ import annotations

import itertools
import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fakes.upstream import FakeUpstream
from support.front_door import OWNER, Door, front_door
from support.inputs.bad_heads import (
    BROKEN_HEADS,
    LOST_PATHS,
    METHODS,
    ODD_HEADERS,
    ROUTES,
    WRONG_CREDENTIALS,
)
from support.inputs.bad_requests import (
    CHAT_BODIES,
    KEY_BODIES,
    KEY_CHANGES,
    ODD_NUMBERS,
    ROTATIONS,
    UNKNOWN_MODELS,
    USAGE_QUERIES,
    VALID,
    Bad,
    with_field,
)
from support.plain_http import CHAT, Answer, Wire, ask, connect, every, head, request

from server.api.routes import ROUTES as API_ROUTES

LIMITS = {
    "requests_per_minute": 1000,
    "tokens_per_minute": 1_000_000,
    "concurrent_requests": 5,
    "budget_microusd": 1_000_000,
}
UNUSED = {"requests": 1000, "tokens": 1_000_000}


class Gate:
    """A running gateway whose state must not change, whatever is sent to it."""

    def __init__(self, door: Door, upstream: FakeUpstream, key: dict[str, Any], wire: Wire) -> None:
        self.door = door
        self.key = key["key"]
        self.key_id = key["id"]
        self.caplog: pytest.LogCaptureFixture | None = None
        self._faults: list[str] = []
        self._upstream = upstream
        self._wire = wire
        self._room = door.gateway.services.bodies._free
        data_dir = door.gateway.services.config.server.data_dir
        secrets = (self.key, OWNER, "upstream-secret", f":{upstream.port}", data_dir)
        self._unspeakable = [*secrets, "Traceback", 'File "', "site-packages", "Tornado", "msgspec"]

    async def refuses(
        self, data: bytes, status: int = 400, *, bodiless: bool = False, source: str | None = None
    ) -> Answer:
        """Send a request, require the refusal to be a good one, and all to be as before."""
        answer = await ask(self.door.port, data, bodiless=bodiless, source=source)
        await self.is_unharmed()
        assert answer.status == status, answer
        assert answer.headers["cache-control"] == "no-store", answer
        for word in self._unspeakable:
            assert word.encode() not in answer.head + answer.body, f"{word} in {answer}"
        return answer

    async def names(self, data: bytes, param: str | None, status: int = 400) -> Any:
        """Require a refusal that names the field; give the error."""
        error = (await self.refuses(data, status)).error
        assert error["type"] == "invalid_request_error"
        assert error["param"] == param, error
        assert 10 < len(error["message"]) < 600, error
        return error

    async def is_unharmed(self) -> None:
        """Require that it answers, and that nothing was used, kept, queued or sent upstream."""
        await self._wire.send(request("GET", "/api/v1/key", key=self.key))
        left = (await self._wire.answer()).json["remaining"]
        assert {name: left[name]["remaining"] for name in UNUSED} == UNUSED
        assert left["concurrent_requests"]["running"] == 0
        assert (left["budget"]["reserved_microusd"], left["budget"]["spent_microusd"]) == (0, 0)
        services = self.door.gateway.services
        assert services.engine.jobs == {}
        assert services.bodies._free == self._room
        assert self._upstream.connections == 0
        assert len(await services.keys.list()) == 1
        assert self.caplog is not None
        errors = [one for one in self.caplog.records if one.levelno >= logging.ERROR]
        self.caplog.clear()
        assert not errors, [(one.getMessage(), one.exc_info) for one in errors]


@pytest.fixture(scope="module")
async def running(
    anyio_backend: object, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gate]:
    """Return one gateway for all cases."""
    path = tmp_path_factory.mktemp("gate")
    async with FakeUpstream() as upstream, front_door(path, upstream) as door:
        key = await door.mint_key(limits=LIMITS)
        await door.client.aclose()  # its connections would outlive the tests that open them
        async with connect(door.port) as wire:
            yield Gate(door, upstream, key, wire)


@pytest.fixture
def gate(running: Gate, caplog: pytest.LogCaptureFixture) -> Gate:
    """Return the gateway, with this test's log."""
    running.caplog = caplog
    return running


@pytest.mark.parametrize("table", CHAT_BODIES, ids=lambda table: table.__name__)
async def test_a_bad_chat_body_is_refused_naming_the_field(
    gate: Gate, table: Callable[[], Iterator[Bad]]
) -> None:
    async def check(case: Bad) -> None:
        await gate.names(request(body=case.body, key=gate.key), case.param)

    await every(table(), check)


async def test_an_unknown_model_is_a_404(gate: Gate) -> None:
    async def check(model: str) -> None:
        body = with_field("model", json.dumps(model))
        error = await gate.names(request(body=body, key=gate.key), "model", 404)
        assert error["code"] == "model_not_found"

    await every(UNKNOWN_MODELS, check)


async def test_an_unknown_model_in_the_path_is_a_404(gate: Gate) -> None:
    async def check(model: str) -> None:
        answer = await gate.refuses(request("GET", f"/api/v1/models/{model}", key=gate.key), 404)
        assert answer.error["code"] == "model_not_found"

    await every(["no/such", "%00", "%2e%2e", "a%0d%0ab", "m" * 3000, "%C3%A9"], check)


async def test_a_bad_new_key_is_refused_naming_the_field(gate: Gate) -> None:
    async def check(case: tuple[bytes, str | None]) -> None:
        await gate.names(request("POST", "/api/v1/keys", case[0]), case[1])

    await every(KEY_BODIES, check)


async def test_a_bad_change_of_a_key_is_refused_naming_the_field(gate: Gate) -> None:
    keys = gate.door.gateway.services.keys
    before = await keys.get(gate.key_id)

    async def check(case: tuple[bytes, str | None]) -> None:
        await gate.names(request("PATCH", f"/api/v1/keys/{gate.key_id}", case[0]), case[1])
        assert await keys.get(gate.key_id) == before

    await every(KEY_CHANGES, check)


async def test_a_bad_rotation_is_refused_naming_the_field(gate: Gate) -> None:
    async def check(case: tuple[bytes, str | None]) -> None:
        await gate.names(request("POST", f"/api/v1/keys/{gate.key_id}/rotate", case[0]), case[1])

    await every(ROTATIONS, check)


async def test_an_unknown_key_is_a_404(gate: Gate) -> None:
    async def check(key_id: str) -> None:
        path = f"/api/v1/keys/{key_id}"
        for data in (
            request("GET", path),
            request("DELETE", path),
            request("PATCH", path, b'{"name":"x"}'),
            request("POST", f"{path}/rotate", b"{}"),
        ):
            assert (await gate.refuses(data, 404)).error["code"] == "not_found"

    await every(["key_nobody", "%00", "..", "%2e%2e", "x" * 3000, "%E2%98%83"], check)


async def test_a_bad_query_is_refused_naming_the_parameter(gate: Gate) -> None:
    async def check(case: tuple[str, str | None]) -> None:
        error = (await gate.refuses(request("GET", f"/api/v1/usage?{case[0]}"))).error
        assert case[1] is None or error["param"] == case[1]

    await every(USAGE_QUERIES, check)


async def test_an_odd_number_in_a_query_of_the_request_log_is_a_400(gate: Gate) -> None:
    async def check(case: tuple[str, str]) -> None:
        name, number = case
        query = f"/api/v1/requests?{name}={number}"
        error = (await gate.refuses(request("GET", query))).error
        assert (error["type"], error["param"]) == ("invalid_request_error", name)
        for page in ("requests", "keys") if name == "before" else ():
            path = f"/{page}?{'page' if page == 'keys' else name}={number}"
            answer = await gate.refuses(request("GET", path, None, "Accept: text/html"))
            assert b"<h1>This request is not valid</h1>" in answer.body

    await every(itertools.product(("before", "limit"), ODD_NUMBERS), check)


async def test_a_query_that_nobody_asked_for_is_ignored(gate: Gate) -> None:
    async def check(query: str) -> None:
        answer = await ask(gate.door.port, request("GET", f"/api/v1/key?{query}", key=gate.key))
        assert answer.status == 200
        await gate.is_unharmed()

    await every(["a=%ff&b=%00", "%ff", "x" * 5000, "&&&===", "a=1;b=2", "?" * 99, "%"], check)


async def test_a_path_of_the_api_that_does_not_exist_is_a_404(gate: Gate) -> None:
    async def check(path: str) -> None:
        for method, body in (("GET", None), ("POST", b"{}"), ("DELETE", None), ("BREW", None)):
            answer = await gate.refuses(request(method, path, body, key=gate.key), 404)
            assert answer.error["code"] == "not_found" and len(answer.error["message"]) < 400
            assert "allow" not in answer.headers
            assert "POST /api/v1/chat/completions" in answer.error["message"]

    await every(LOST_PATHS, check)


async def test_a_path_that_is_not_utf8_is_refused(gate: Gate) -> None:
    async def check(path: str) -> None:
        error = (await gate.refuses(request("GET", path))).error
        assert error["type"] == "invalid_request_error"

    await every(["/api/v1/models/%ff", "/api/v1/keys/%c3", "/api/v1/jobs/%80"], check)


def test_the_list_of_routes_is_complete() -> None:
    for route in API_ROUTES:
        methods = {name for name in METHODS if name.lower() in vars(route.handler)} - {"get"}
        methods |= {"HEAD"} if "GET" in methods else set()
        found = [
            ROUTES[path]
            for path in ROUTES
            if any(re.fullmatch(pattern, path) for pattern in route.patterns)
        ]
        assert methods in found, f"add {route.path} to tests/support/inputs/bad_heads.py"


async def test_a_method_that_a_path_does_not_take_is_a_405(gate: Gate) -> None:
    async def check(case: tuple[str, str]) -> None:
        path, method = case
        for body in (None, b'{"a":1}'):
            answer = await gate.refuses(request(method, path, body), 405)
            assert answer.error["code"] == "method_not_allowed"
            assert set(answer.headers["allow"].split(", ")) == ROUTES[path]

    wrong = ((path, method) for path in ROUTES for method in METHODS if method not in ROUTES[path])
    await every(wrong, check)


async def test_head_is_answered_as_get_is_without_a_body(gate: Gate) -> None:
    varying = {"x-request-id", "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens"}

    async def check(path: str) -> None:
        async with connect(gate.door.port) as wire:
            await wire.send(request("HEAD", path) + request("GET", "/healthz"))
            answer = await wire.answer(bodiless=True)
            assert (await wire.answer()).json == {"status": "ok"}  # no body came between the two
            await wire.send(request("GET", path))
            got = await wire.answer()
        assert answer.status == got.status == (405 if "GET" not in ROUTES[path] else got.status)
        names = (set(answer.headers) | set(got.headers)) - varying
        assert all(answer.headers.get(name) == got.headers.get(name) for name in names), answer
        await gate.is_unharmed()

    await every(ROUTES, check)
    assert (await ask(gate.door.port, request("HEAD", "/healthz"), bodiless=True)).status == 200


async def test_a_wrong_credential_is_a_401(gate: Gate) -> None:
    sources = (f"127.0.1.{number}" for number in itertools.count(1))  # few tries from each

    async def check(lines: list[str]) -> None:
        source = next(sources)
        for method, path, body in (("GET", "/api/v1/models", None), ("POST", CHAT, VALID)):
            data = request(method, path, body, *lines, key=None)
            answer = await gate.refuses(data, 401, source=source)
            assert answer.error["code"] == "invalid_api_key"

    await every(WRONG_CREDENTIALS, check)


async def test_a_bearer_without_a_key_is_no_credential(gate: Gate) -> None:
    async def check(value: str) -> None:
        bearer = f"Authorization: {value}"
        for path in ("/api/v1/models", "/api/v1/key"):
            good = request("GET", path, None, bearer, f"X-Api-Key: {OWNER}", key=None)
            assert (await ask(gate.door.port, good)).status == 200
            for lines in ([bearer], [bearer, "X-Api-Key: null"], [bearer, "X-Api-Key:"]):
                alone = request("GET", path, None, *lines, key=None)
                answer = await gate.refuses(alone, 401, source="127.0.1.200")
                assert answer.error["code"] == "invalid_api_key"
                assert "key is missing" in answer.error["message"]
            wrong = request("GET", path, None, bearer, "X-Api-Key: wrong", key=None)
            answer = await gate.refuses(wrong, 401, source=next(sources))
            assert "incorrect" in answer.error["message"].lower()

    sources = (f"127.0.4.{number}" for number in itertools.count(1))
    words = ("", " ", " null", " undefined", " none", " None", " NULL", "  null ")
    await every([f"{scheme}{word}" for scheme in ("Bearer", "bearer") for word in words], check)
    # A key whose text only begins like a placeholder is judged as a key.
    near = request("GET", "/api/v1/key", None, f"X-Api-Key: {OWNER}", key="nullify")
    await gate.refuses(near, 401, source=next(sources))


async def test_too_many_wrong_keys_are_a_429_and_the_right_one_never_is(gate: Gate) -> None:
    for number in range(10):
        wrong = request("GET", "/api/v1/models", key=f"guess-{number}")
        await gate.refuses(wrong, 401, source="127.0.2.1")
    answer = await gate.refuses(
        request("GET", "/api/v1/models", key="guess-10"), 429, source="127.0.2.1"
    )
    assert answer.error["code"] == "rate_limit_exceeded"
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert answer.headers["x-should-retry"] == "false", "no wait makes a wrong key right"
    right = request("GET", "/api/v1/models", key=OWNER)
    assert (await ask(gate.door.port, right, source="127.0.2.1")).status == 200
    await gate.refuses(request("GET", "/api/v1/models", key="guess"), 401, source="127.0.2.2")


async def test_a_key_in_the_query_is_no_credential(gate: Gate) -> None:
    data = request("GET", f"/api/v1/models?key={OWNER}&api_key={OWNER}", key=None)
    assert (await gate.refuses(data, 401)).error["code"] == "invalid_api_key"


async def test_what_is_the_owners_is_a_403_for_keys(gate: Gate) -> None:
    async def check(path: str) -> None:
        answer = await gate.refuses(request("GET", path, key=gate.key), 403)
        assert answer.error["code"] == "permission_denied"

    await every(["/api/v1/keys", "/api/v1/keys/key_x", "/api/v1/usage"], check)


async def test_a_wait_that_is_no_number_is_refused_naming_the_header(gate: Gate) -> None:
    async def check(value: str) -> None:
        data = request("POST", CHAT, VALID, f"X-Roxy-Max-Wait: {value}", key=gate.key)
        await gate.names(data, "X-Roxy-Max-Wait")

    await every(["x", "nan", "inf", "-1", "1e9", "1s", "0x10", "\xb2", "1,2"], check)


async def test_what_is_not_http_is_a_400_and_the_end(gate: Gate) -> None:
    async def check(data: bytes) -> None:
        async with connect(gate.door.port) as wire:
            await wire.send(data)
            answer = await wire.answer()
            assert answer.status == 400 and answer.error["code"] == "invalid_http"
            assert answer.headers["connection"] == "close"
            assert await wire.rest() == b""
        await gate.is_unharmed()

    await every(BROKEN_HEADS, check)


async def test_no_header_of_a_stranger_makes_more_than_a_401(gate: Gate) -> None:
    async def check(line: str) -> None:
        for method, path, body in (("GET", "/api/v1/models", None), ("POST", CHAT, VALID)):
            await gate.refuses(request(method, path, body, line, key=None), 401)

    await every(ODD_HEADERS, check)


async def test_a_target_that_is_no_path_is_a_404(gate: Gate) -> None:
    async def check(target: str) -> None:
        for method in ("GET", "OPTIONS", "CONNECT"):
            assert (await gate.refuses(head(method, target), 404)).error["code"] == "not_found"
            answer = await gate.refuses(head(method, target, "Accept: text/html"), 404)
            assert answer.headers["content-type"].startswith("text/html")

    await every(["*", "gateway.test:443", "x", "ftp://gateway.test/healthz", "http://"], check)


async def test_a_compressed_body_is_refused_in_words_that_help(gate: Gate) -> None:
    async def check(coding: str) -> None:
        data = request("POST", CHAT, VALID, f"Content-Encoding: {coding}", key=gate.key)
        await gate.names(data, "Content-Encoding")

    await every(["gzip", "deflate", "br", "zstd", "x, gzip"], check)


async def test_a_limited_key_is_told_its_limits_with_every_refusal(gate: Gate) -> None:
    answer = await gate.refuses(request(body=b"{", key=gate.key))
    assert answer.headers["x-ratelimit-remaining-requests"] == "1000"
    assert answer.headers["x-ratelimit-remaining-tokens"] == "1000000"


CONTENT_TYPES = (
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "multipart/form-data",
    "application/octet-stream",
    "application/json; charset=latin-1",
    "application/json;;;",
    "\xff",
    "",
    "x" * 5000,
)


async def test_json_is_taken_whatever_the_content_type_says(
    upstream: FakeUpstream, door: Door
) -> None:

    async def check(content_type: str) -> None:
        lines = [f"Content-Type: {content_type}", f"Content-Length: {len(VALID)}"]
        answer = await ask(door.port, head("POST", CHAT, *lines) + VALID)
        assert answer.status == 200
        assert upstream.requests[-1].headers["content-type"] == "application/json"

    await every(CONTENT_TYPES, check)


async def test_what_is_logged_of_a_request_is_one_short_plain_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with FakeUpstream() as upstream, front_door(tmp_path, upstream) as door:
        for data in (
            request("GET", "/\x85\x9b31m/\xe9\xff"),
            request("GET", "/" + "x" * 20_000),
            request("X" * 5000, "/"),
            request("GET", "/", None, "X-Stainless-Retry-Count: 1\x85\x9b" + "9" * 5000),
            request("GET", f"/?key={OWNER}", None, f"X-Api-Key: {OWNER}"),
            request("POST", CHAT, VALID, "X-Request-Id: a secret\tthing"),
            request(body=with_field("model", '"no\\u0085such\\u009b"')),
        ):
            await ask(door.port, data)
        door.gateway.services.access_log.flush()
    lines = [line for line in capsys.readouterr().out.split("\n") if line]
    assert len(lines) == 7
    for line in lines:
        assert line.isascii() and line.isprintable() and len(line) < 500, line
        assert OWNER not in line and "Hi" not in line and "secret" not in line
