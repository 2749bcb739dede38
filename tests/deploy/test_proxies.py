"""Gateways behind the shipped sites of nginx and Caddy: what a proxy can spoil, and does not."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.fakes.upstream import FakeUpstream, Pause, chunk, event, silence, streaming
from support.front_door import OWNER, Door, bearer, front_door, request_body
from support.network.ports import free_ports
from support.schemas import validate_error
from support.servers.proxies import CADDY, NGINX, Proxy, Site, running_proxy
from support.visitors import guest
from support.waiting import eventually, soon

BEHIND = '[server]\ntrusted_proxies = ["127.0.0.1"]\nbase_url = "https://roxy.example"\n'
CHAT = "/api/v1/chat/completions"
MIB = 1 << 20
DONE = [event(chunk(finish="stop")), event("[DONE]")]

both = pytest.mark.parametrize("site", [NGINX, CADDY], ids=lambda site: site.name)


@pytest.fixture
async def proxy(site: Site, door: Door, tmp_path: Path) -> AsyncIterator[Proxy]:
    """Run the proxy in front of the gateway of `door`."""
    async with running_proxy(site, tmp_path / "proxy", door.port) as running:
        yield running


@both
@pytest.mark.gateway(settings=BEHIND)
async def test_events_arrive_one_by_one(upstream: FakeUpstream, proxy: Proxy, site: Site) -> None:
    holds = [asyncio.Event() for _ in range(3)]
    words = ["one ", "two ", "three "]
    pieces: list[Any] = []
    for hold, word in zip(holds, words, strict=True):
        pieces += [event(chunk({"content": word})), Pause(hold)]
    upstream.plan(streaming([*pieces, *DONE]))
    async with proxy.client.stream(
        "POST", CHAT, json=request_body(stream=True), headers=bearer(OWNER)
    ) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.aiter_lines()
        for hold, word in zip(holds, words, strict=True):
            # The upstream sends the next word only after the client has this one.
            async for line in lines:
                if word in line:
                    break
            hold.set()
        rest = [line async for line in lines]
    assert "data: [DONE]" in rest


@both
@pytest.mark.gateway(settings=BEHIND)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_client_that_leaves_is_noticed_upstream(
    upstream: FakeUpstream, proxy: Proxy, site: Site, stream: bool
) -> None:
    hold = asyncio.Event()
    upstream.plan(
        streaming([event(chunk({"content": "one"})), Pause(hold), *DONE]) if stream else silence()
    )
    body = request_body(stream=stream)

    async def ask() -> None:
        async with proxy.client.stream("POST", CHAT, json=body, headers=bearer(OWNER)) as answer:
            async for _line in answer.aiter_lines():
                arrived.set()

    arrived = asyncio.Event()
    asking = asyncio.create_task(ask())
    request = await upstream.request()
    if stream:
        await soon(arrived.wait())
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    await soon(request.left.wait())


@both
@pytest.mark.gateway(settings=BEHIND)
async def test_a_body_of_20_megabytes_passes(
    upstream: FakeUpstream, proxy: Proxy, site: Site
) -> None:
    picture = "data:image/png;base64," + "A" * (20 * MIB)
    content = [{"type": "image_url", "image_url": {"url": picture}}]
    answer = await proxy.client.post(CHAT, json=request_body(content), headers=bearer(OWNER))
    assert answer.status_code == 200, answer.text
    assert picture.encode() in (await upstream.request()).body


@both
@pytest.mark.gateway(settings=BEHIND)
async def test_a_body_past_the_limit_is_a_413_in_the_shape_of_the_api(
    upstream: FakeUpstream, proxy: Proxy, site: Site, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    large.write_bytes(b" " * 33 * MIB)
    for framing in (f"Content-Length: {33 * MIB}", "Transfer-Encoding: chunked"):
        # curl reads an answer that comes while it still sends.
        command = ["curl", "-sS", "--insecure", "--http1.1", "--data-binary", f"@{large}"]
        headers = [framing, f"Authorization: Bearer {OWNER}", "Content-Type: application/json"]
        for header in [*headers, "Expect:"]:
            command += ["-H", header]
        command += ["-w", "\n%{http_code} %{content_type}", proxy.url + CHAT]
        curl = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        said, _ = await soon(curl.communicate())
        body, _, status = said.decode().rpartition("\n")
        assert status == "413 application/json"
        validate_error(json.loads(body))
        assert json.loads(body)["error"]["code"] == "request_too_large"
    assert not upstream.requests


@both
@pytest.mark.gateway(settings=BEHIND + "max_body_bytes = 1024\n")
async def test_errors_of_the_gateway_pass_unchanged(door: Door, proxy: Proxy, site: Site) -> None:
    for method, path, key, body, status in [
        ("POST", CHAT, OWNER, request_body() | {"model": "no/such"}, 404),
        ("POST", CHAT, OWNER, {"model": 5}, 400),
        ("POST", CHAT, "wrong", {}, 401),
        ("POST", CHAT, OWNER, {"x": "y" * 4096}, 413),
        ("GET", "/api/v1/nothing", OWNER, None, 404),
        ("PUT", CHAT, OWNER, {}, 405),
        ("GET", "/api/v1/models/no%2Fsuch", OWNER, None, 404),
    ]:
        headers = bearer(key) | {"X-Request-Id": "the-same-for-both"}
        direct = await door.client.request(method, path, json=body, headers=headers)
        behind = await proxy.client.request(method, path, json=body, headers=headers)
        assert (behind.status_code, direct.status_code) == (status, status)
        assert behind.content == direct.content
        for name in ("content-type", "x-request-id", "allow", "retry-after"):
            assert behind.headers.get(name) == direct.headers.get(name)


@both
async def test_without_a_node_the_error_has_the_shape_of_the_api(
    site: Site, tmp_path: Path
) -> None:
    async with running_proxy(site, tmp_path / "proxy", *free_ports(1)) as proxy:
        answer = await proxy.client.post(CHAT, json=request_body(), headers=bearer(OWNER))
    assert answer.status_code in (502, 503)
    validate_error(answer.json())
    assert answer.json()["error"]["code"] == "gateway_unavailable"


@both
@pytest.mark.gateway(settings=BEHIND + "[guests]\nrequests_per_minute = 1\n")
async def test_a_guest_is_known_by_its_address_and_cannot_choose_it(
    door: Door, proxy: Proxy, site: Site
) -> None:
    forged = [
        {"X-Forwarded-For": "203.0.113.7"},
        {"X-Forwarded-For": "203.0.113.8, 127.0.0.1"},
        {"X-Real-Ip": "203.0.113.9"},
        {"Forwarded": "for=203.0.113.10"},
    ]

    async def ask(client: httpx.AsyncClient, headers: dict[str, str]) -> int:
        sent = guest(door) | headers
        sent["Cookie"] = f"__Host-{sent['Cookie']}"  # as browsers send it over TLS
        return (await client.post(CHAT, json=request_body(), headers=sent)).status_code

    async with proxy.client_from("127.0.0.2") as first, proxy.client_from("127.0.0.3") as second:
        assert await ask(first, {}) == 200
        assert [await ask(first, headers) for headers in forged] == [429] * len(forged)
        assert await ask(second, {}) == 200


@both
@pytest.mark.gateway(settings=BEHIND)
async def test_connections_to_the_gateway_are_kept(
    upstream: FakeUpstream, door: Door, proxy: Proxy, site: Site
) -> None:
    for _ in range(3):
        assert (await proxy.client.get("/healthz")).status_code == 200
        answer = await proxy.client.post(CHAT, json=request_body(), headers=bearer(OWNER))
        assert answer.status_code == 200
    # One for these requests; a second may ask for readiness.
    assert 1 <= door.gateway.server.open_connections <= 2


@pytest.mark.parametrize("site", [NGINX], ids=["nginx"])
@pytest.mark.gateway(settings=BEHIND)
async def test_plain_http_is_redirected_for_pages_and_refused_for_keys(
    proxy: Proxy, site: Site
) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{proxy.plain_port}") as plain:
        page = await plain.get("/keys?page=2", headers={"Host": "roxy.example"})
        assert page.status_code == 308
        assert page.headers["location"] == "https://roxy.example/keys?page=2"
        refused = await plain.post(CHAT, json=request_body(), headers=bearer(OWNER))
    assert refused.status_code == 403
    validate_error(refused.json())


@both
async def test_two_gateways_share_the_requests_and_one_that_is_gone_is_not_missed(
    site: Site, tmp_path: Path, upstream: FakeUpstream
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with (
        contextlib.AsyncExitStack() as first,
        front_door(tmp_path / "b", upstream, settings=BEHIND) as second,
    ):
        gone = await first.enter_async_context(
            front_door(tmp_path / "a", upstream, settings=BEHIND)
        )
        async with running_proxy(site, tmp_path / "proxy", gone.port, second.port) as proxy:

            async def ask() -> int:
                sent = request_body()
                answer = await proxy.client.post(CHAT, json=sent, headers=bearer(OWNER))
                return answer.status_code

            assert [await ask() for _ in range(6)] == [200] * 6
            both_used = [await door.usage_rows() for door in (gone, second)]
            assert all(both_used)
            await first.aclose()
            assert [await ask() for _ in range(6)] == [200] * 6
            await eventually(lambda: len(upstream.requests) == 12)


@pytest.mark.gateway(settings=BEHIND)
async def test_nginx_repeats_a_completion_whose_node_died_and_nothing_else(
    door: Door, tmp_path: Path
) -> None:
    asked: list[bytes] = []

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n"))
        writer.transport.abort()

    async with (
        await asyncio.start_server(die, "127.0.0.1", 0) as dying,
        running_proxy(
            NGINX, tmp_path / "proxy", dying.sockets[0].getsockname()[1], door.port
        ) as proxy,
    ):

        async def ask(path: str, body: object) -> int:
            answer = await proxy.client.post(path, json=body, headers=bearer(OWNER))
            return answer.status_code

        assert [await ask(CHAT, request_body()) for _ in range(4)] == [200] * 4
        assert len(asked) >= 2
        statuses = [await ask("/api/v1/keys", {"name": "once"}) for _ in range(4)]
        assert sorted(set(statuses)) == [201, 502]
    made = (await door.get("/api/v1/keys")).json()["data"]
    assert len(made) == statuses.count(201)
