"""Private authorities, proxies, extra headers and queries, from roxy.toml to the socket."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from support.builders.exchanges import BIG, outcome
from support.command_line import CommandLine, shell
from support.fakes.answers import completion, document, refusal
from support.fakes.forward_proxy import ForwardProxy
from support.fakes.raw_upstream import RawUpstream, always, answer, deaf_upstream
from support.fakes.upstream import FakeUpstream
from support.front_door import MODEL, Door, front_door
from support.waiting import eventually

from workers.errors import UpstreamTimeout, UpstreamUnavailable
from workers.transport.transport import Stats, Transport, request_head
from workers.upstream_route import UpstreamRoute

__all__ = ["shell"]

SECRET = "the-value-of-a-secret"
LOGIN = "proxy-user:proxy-password"
HIDDEN = (SECRET, "proxy-password", "proxy-user")
"""What no answer and no command may show."""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    transport = Transport()
    yield transport
    await transport.aclose()
    assert transport.stats == Stats(0, 0, 0)


def model_toml(base_url: str, *quirks: str, secret_env: str = "TEST_UPSTREAM_KEY") -> str:
    """Write a configuration whose test model has one deployment with quirks."""
    lines = [
        "[[models]]",
        f'id = "{MODEL}"',
        "[[models.deployments]]",
        'provider = "openai"',
        f'base_url = "{base_url}"',
        'upstream_model = "upstream-model"',
        f'secret_env = "{secret_env}"',
        *quirks,
    ]
    return "\n".join(lines)


@asynccontextmanager
async def door_to(
    path: Path, toml: str, environ: Mapping[str, str] | None = None
) -> AsyncIterator[Door]:
    async with front_door(path, settings=toml, environ=environ) as door:
        yield door


async def ask(
    transport: Transport, url: str, route: UpstreamRoute
) -> tuple[int, bytes] | type[Exception]:
    head = request_head("POST", f"{url}/v1/x?a=b")
    return await outcome(transport.exchange(url, head, b"{}", route))


# Private authorities


async def test_an_upstream_of_a_private_authority_is_reached_with_its_ca_file(
    tmp_path: Path, tls: ssl.SSLContext, ca_file: str
) -> None:
    async with FakeUpstream(tls=tls) as upstream:
        upstream.plan(completion("Hello"))
        async with door_to(
            tmp_path, model_toml(upstream.base_url, f'ca_file = "{ca_file}"')
        ) as door:
            assert (await door.chat()).status_code == 200
        async with door_to(tmp_path, model_toml(upstream.base_url)) as door:
            refused = await door.chat()
        assert refused.status_code == 502
        assert len(upstream.requests) == 1


async def test_a_ca_file_replaces_the_usual_authorities(transport: Transport, ca_file: str) -> None:
    stranger = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    stranger.issue_cert("127.0.0.1").configure_cert(context)
    async with RawUpstream(always(answer(b"ok")), tls=context) as upstream:
        assert await ask(transport, upstream.url, UpstreamRoute(ca_file)) is UpstreamUnavailable
        assert upstream.requests == []


async def test_the_file_of_the_environment_counts_only_where_it_is_named(
    tmp_path: Path, tls: ssl.SSLContext, ca_file: str
) -> None:
    environ = {"SSL_CERT_FILE": ca_file}
    async with FakeUpstream(tls=tls) as upstream:
        toml = model_toml(upstream.base_url, 'ca_file = "environment"')
        async with door_to(tmp_path, toml, environ) as door:
            assert (await door.chat()).status_code == 200
        async with door_to(tmp_path, model_toml(upstream.base_url), environ) as door:
            assert (await door.chat()).status_code == 502


async def test_connections_of_different_routes_are_not_shared(
    transport: Transport, tls: ssl.SSLContext, ca_file: str
) -> None:
    async with RawUpstream(always(answer(b"ok")), tls=tls) as upstream:
        for _ in range(2):
            assert await ask(transport, upstream.url, UpstreamRoute(ca_file)) == (200, b"ok")
            assert await ask(transport, upstream.url, UpstreamRoute()) is UpstreamUnavailable
        assert len([peer for peer in upstream.peers if peer.requests]) == 1


# Proxies


async def test_an_https_upstream_is_reached_through_a_tunnel(
    transport: Transport, tls: ssl.SSLContext, ca_file: str
) -> None:
    async with (
        RawUpstream(always(answer(b"ok")), tls=tls) as upstream,
        ForwardProxy(login=LOGIN) as proxy,
    ):
        route = UpstreamRoute(ca_file, proxy.url)
        for _ in range(3):
            assert await ask(transport, upstream.url, route) == (200, b"ok")
        (asked,) = proxy.seen  # one tunnel, kept for all three
        assert asked.startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % upstream.port)
        assert len(upstream.requests) == 3
        for request in upstream.requests:
            assert request.startswith(b"POST /v1/x?a=b HTTP/1.1\r\n")
            assert b"proxy-" not in request.lower()


async def test_an_http_upstream_is_asked_for_by_its_whole_url(transport: Transport) -> None:
    async with (
        RawUpstream(always(answer(b"ok"))) as upstream,
        ForwardProxy(login=LOGIN) as proxy,
    ):
        assert await ask(transport, upstream.url, UpstreamRoute("", proxy.url)) == (200, b"ok")
        (seen,) = proxy.seen
        assert seen.startswith(b"POST http://127.0.0.1:%d/v1/x?a=b HTTP/1.1\r\n" % upstream.port)
        assert b"host: 127.0.0.1:%d\r\n" % upstream.port in seen


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_wants_another_login_is_a_fault_of_the_gateway(
    tmp_path: Path, scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with ForwardProxy(login=LOGIN) as proxy:
        quirk = f'proxy = "http://proxy-user:wrong-password@{proxy.address}"'
        async with door_to(tmp_path, model_toml(f"{scheme}://127.0.0.1:9/v1", quirk)) as door:
            refused = await door.chat()
    assert refused.status_code == 502
    assert "407" not in refused.text
    assert "the proxy answered 407" in caplog.text
    assert "wrong-password" not in caplog.text


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 4\r\n\r\noops",
        b"HTTP/1.1 403 Forbidden\r\n\r\n<html>policy</html>",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 2OO OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + bytes(100_000),
        b"HTTP/1.1 200 OK\r\n\r\nand more",
        b"\r\n\r\n",
    ],
)
async def test_whatever_a_proxy_says_instead_of_yes_is_unavailable(
    transport: Transport, said: bytes
) -> None:
    async with ForwardProxy(refusal=said) as proxy:
        route = UpstreamRoute("", proxy.url)
        for _ in range(3):
            assert await ask(transport, "https://127.0.0.1:9", route) is UpstreamUnavailable
        await eventually(lambda: transport.stats == Stats(0, 0, 0))


@pytest.mark.parametrize(
    ("established", "works"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.0 200\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\nvia: 1.1 proxy\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\n\r\nand more", False),
        (b"HTTP/1.1 302 Found\r\nlocation: http://login\r\n\r\n", False),
        (b"HTTP/2 200\r\n\r\n", False),
    ],
)
async def test_a_tunnel_is_open_after_any_2xx_and_nothing_behind_it(
    transport: Transport, tls: ssl.SSLContext, ca_file: str, established: bytes, works: bool
) -> None:
    async with (
        RawUpstream(always(answer(b"ok")), tls=tls) as upstream,
        ForwardProxy(established=established) as proxy,
    ):
        route = UpstreamRoute(ca_file, proxy.url)
        expected = (200, b"ok") if works else UpstreamUnavailable
        assert await ask(transport, upstream.url, route) == expected


async def test_a_proxy_that_is_silent_runs_into_the_time_to_connect() -> None:
    transport = Transport(connect_timeout_s=0.1)
    with deaf_upstream() as url:
        for scheme in ("http", "https"):
            route = UpstreamRoute("", url)
            assert await ask(transport, f"{scheme}://127.0.0.1:9", route) is UpstreamTimeout
    await transport.aclose()


async def test_the_proxy_of_the_environment_is_used_only_where_it_is_named(tmp_path: Path) -> None:
    async with FakeUpstream() as upstream, ForwardProxy(login=LOGIN) as proxy:
        named = model_toml(upstream.base_url, 'proxy = "environment"')
        for toml, environ, through in (
            (named, {"HTTP_PROXY": proxy.url}, 1),
            (named, {"http_proxy": proxy.url, "HTTP_PROXY": "http://127.0.0.1:9"}, 1),
            (named, {"ALL_PROXY": proxy.url.removeprefix("http://")}, 1),
            (named, {"HTTP_PROXY": proxy.url, "NO_PROXY": "127.0.0.0/8"}, 0),
            (named, {"HTTPS_PROXY": proxy.url}, 0),
            (model_toml(upstream.base_url), {"HTTP_PROXY": proxy.url}, 0),
        ):
            proxy.seen.clear()
            async with door_to(tmp_path, toml, environ) as door:
                assert (await door.chat()).status_code == 200
            assert len(proxy.seen) == through, environ


# Headers and queries


async def test_the_headers_and_the_query_of_a_deployment_are_sent(tmp_path: Path) -> None:
    async with FakeUpstream() as upstream:
        toml = model_toml(
            upstream.base_url + "/deployments/gpt/?api-version=2024-10-21&x=%2F",
            'headers = { api-key = "$AZURE_KEY", X-Title = "price: 5$$ ${TEAM}!" }',
            secret_env="",
        )
        async with door_to(tmp_path, toml, {"AZURE_KEY": SECRET, "TEAM": "red"}) as door:
            assert (await door.chat()).status_code == 200
    (asked,) = upstream.requests
    assert asked.path == "/v1/deployments/gpt/chat/completions?api-version=2024-10-21&x=%2F"
    assert asked.headers["api-key"] == SECRET
    assert asked.headers["x-title"] == "price: 5$ red!"
    assert "authorization" not in asked.headers


async def test_an_own_authorization_takes_the_place_of_the_bearer_token(tmp_path: Path) -> None:
    async with FakeUpstream() as upstream:
        quirk = 'headers = { Authorization = "Api-Key $OTHER" }'
        async with door_to(tmp_path, model_toml(upstream.base_url, quirk), {"OTHER": "o"}) as door:
            assert (await door.chat()).status_code == 200
    assert upstream.requests[0].head.lower().count(b"authorization: ") == 1
    assert upstream.requests[0].headers["authorization"] == "Api-Key o"


async def test_a_deployment_without_its_headers_variable_is_off(tmp_path: Path) -> None:
    async with FakeUpstream() as upstream:
        toml = model_toml(upstream.base_url, 'headers = { api-key = "$AZURE_KEY" }')
        async with door_to(tmp_path, toml) as door:
            refused = await door.chat()
    assert refused.status_code == 503
    assert "AZURE_KEY" in refused.text
    assert upstream.requests == []


# roxy check


async def test_check_asks_through_the_quirks_and_shows_them_without_secrets(
    shell: CommandLine, tls: ssl.SSLContext, ca_file: str
) -> None:
    async with FakeUpstream(tls=tls) as upstream, ForwardProxy(login=LOGIN) as proxy:
        upstream.plan(document({"object": "list", "data": []}))
        toml = model_toml(
            upstream.base_url + "?api-version=1&key-id=7",
            'headers = { api-key = "$AZURE_KEY", x-title = "Team" }',
            f'ca_file = "{ca_file}"',
            f'proxy = "{proxy.url}"',
            'max_tokens_field = "max_completion_tokens"',
            "stream_options = false",
            'drop_fields = ["user", "store"]',
            secret_env="",
        )
        (shell.path / "roxy.toml").write_text(toml)
        ended = await shell.beside("check", "--wide", AZURE_KEY=SECRET)
    assert ended.code == 0, ended.out
    (asked,) = upstream.requests
    assert asked.path == "/v1/models?api-version=1&key-id=7"
    assert asked.headers["api-key"] == SECRET
    assert len(proxy.seen) == 1
    lines = [line.strip() for line in ended.out.splitlines()]
    at = next(number for number, line in enumerate(lines) if line.startswith(f"{MODEL}@"))
    assert "ready (reachable)" in lines[at]
    assert set(lines[at + 1 : at + 8]) == {
        "max_tokens_field: max_completion_tokens",
        "stream_options: false",
        "headers: api-key, x-title",
        "drop_fields: user, store",
        f"ca_file: {ca_file}",
        f"proxy: http://{proxy.address}",
        "query: api-version, key-id",
    }
    for secret in HIDDEN:
        assert secret not in ended.out + ended.err


async def test_check_says_what_is_wrong_on_the_way(shell: CommandLine) -> None:
    async with ForwardProxy(login=LOGIN) as proxy:
        for scheme in ("http", "https"):
            toml = model_toml(
                f"{scheme}://127.0.0.1:9/v1", f'proxy = "http://{proxy.address}"', secret_env=""
            )
            (shell.path / "roxy.toml").write_text(toml)
            ended = await shell.beside("check")
            assert ended.code == 1
            assert "not reachable: " in ended.out
            assert "the proxy answered 407" in ended.out
    async with FakeUpstream() as upstream:
        upstream.plan(refusal(401))
        quirk = 'headers = { api-key = "$AZURE_KEY" }'
        (shell.path / "roxy.toml").write_text(model_toml(upstream.base_url, quirk, secret_env=""))
        assert "off: set AZURE_KEY" in (await shell.beside("check")).out
        ended = await shell.beside("check", "--wide", AZURE_KEY=SECRET)
        assert "the upstream refuses the header api-key" in ended.out


async def test_a_large_body_goes_through_a_tunnel_whole(
    transport: Transport, tls: ssl.SSLContext, ca_file: str
) -> None:
    async with RawUpstream(always(answer(b"ok")), tls=tls) as upstream, ForwardProxy() as proxy:
        body = bytes(range(256)) * 20_000
        head = request_head("POST", upstream.url)
        exchange = transport.exchange(upstream.url, head, body, UpstreamRoute(ca_file, proxy.url))
        assert await exchange.read(BIG) == b"ok"
        exchange.release()
        assert upstream.requests[0].partition(b"\r\n\r\n")[2] == body


async def test_a_bad_certificate_is_tried_once_and_named_in_the_health(
    tmp_path: Path, tls: ssl.SSLContext
) -> None:
    async with (
        FakeUpstream(tls=tls) as unknown,
        FakeUpstream() as second,
        front_door(tmp_path, unknown, second) as door,
    ):
        assert (await door.chat()).status_code == 200
        (row,) = await door.usage_rows()
        assert [attempt.ending for attempt in row.attempts] == ["upstream_unavailable", "answered"]
        health = (await door.get("/api/v1/health")).json()
        (model,) = [one for one in health["models"] if one["id"] == MODEL]
        (state, _) = model["deployments"]
        assert (state["state"], state["reason"]) == ("cooling", "certificate")


async def test_a_lone_upstream_with_a_bad_certificate_is_not_tried_twice(
    tmp_path: Path, tls: ssl.SSLContext
) -> None:
    async with FakeUpstream(tls=tls) as unknown, front_door(tmp_path, unknown) as door:
        answer = await door.chat()
        assert answer.status_code == 502
        assert answer.headers["x-should-retry"] == "false"
        assert "certificate" in answer.json()["error"]["message"]
        (row,) = await door.usage_rows()
        assert (row.status, row.attempts) == ("failed", row.attempts[:1])
