"""Official SDKs retry some errors by themselves; `x-should-retry: false` keeps them from it."""

from __future__ import annotations

import pytest
from support.fakes.upstream import FakeUpstream
from support.front_door import Door, bearer

from workers.errors import RateLimited

CHAT = b"POST /api/v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
PERMANENT = {
    "no key": (CHAT + b"Content-Length: 2\r\n\r\n{}", 401),
    "wrong key": (CHAT + b"Authorization: Bearer x\r\nContent-Length: 2\r\n\r\n{}", 401),
    "no method": (b"PUT /api/v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
    "no path": (b"GET /api/v1/nope HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    "not HTTP": (b"\x16\x03\x01 what\r\n\r\n", 400),
    "large head": (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", 431),
}


@pytest.mark.parametrize("name", PERMANENT)
async def test_an_error_that_a_retry_meets_again_says_so(door: Door, name: str) -> None:
    request, status = PERMANENT[name]
    head = (await door.raw(request)).partition(b"\r\n\r\n")[0].lower()
    assert head.startswith(b"http/1.1 %d " % status)
    assert b"\r\nx-should-retry: false" in head


async def test_a_bad_request_an_unknown_model_and_a_forbidden_route_say_so(door: Door) -> None:
    secret = await door.mint()
    for answer in (
        await door.chat(temperature="hot"),
        await door.chat(model="no/such"),
        await door.client.get("/api/v1/keys", headers=bearer(secret)),
    ):
        assert answer.status_code in (400, 403, 404)
        assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("wait_s", "advice"), [(None, "false"), (5.0, None), (60.0, None), (61.0, "false")]
)
def test_a_limit_says_so_when_no_wait_or_only_a_long_one_helps(
    wait_s: float | None, advice: str | None
) -> None:
    headers = RateLimited("x", limit="tokens", retry_after_s=wait_s).headers()
    assert headers.get("X-Should-Retry") == advice


async def test_an_answer_carries_no_such_advice(upstream: FakeUpstream, door: Door) -> None:
    answer = await door.chat()
    assert answer.status_code == 200
    assert "x-should-retry" not in answer.headers


async def test_a_gateway_that_takes_no_more_says_when_to_ask_again(door: Door) -> None:
    door.gateway.services.engine.leaving = True
    answer = await door.client.get("/readyz")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
