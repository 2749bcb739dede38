"""TLS at the front door: the same gateway, with the certificate that the settings name."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import openai
import pytest
import trustme
from support.fakes.raw_upstream import descriptors
from support.fakes.upstream import (
    FakeUpstream,
    Pause,
    answer_as_asked,
    chunk,
    event,
    silence,
    stream_of,
    streaming,
)
from support.front_door import MODEL, OWNER, Door, front_door, parse_events, request_body, text_of
from support.plain_http import CHAT, Wire, connect, head, request
from support.servers.shared_gateway import shared_gateway
from support.waiting import PATIENCE_S, eventually, soon

from server.http.client_connection import ConnectionState
from server.http.listening import ListenFailure

STREAMED = json.dumps(request_body("Hi", stream=True)).encode()
HEALTH = request("GET", "/healthz", key=None)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return who signs the certificate."""
    return trustme.CA()


@pytest.fixture(scope="module")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    """Return a client's context."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def certified(authority: trustme.CA, path: Path) -> str:
    """Write a certificate, and return the settings of a server that has it."""
    issued = authority.issue_cert("localhost", "127.0.0.1")
    cert, key = path / "cert.pem", path / "key.pem"
    issued.private_key_pem.write_to_path(key)
    for part in issued.cert_chain_pems:
        part.write_to_path(cert, append=True)
    return f'[server]\ntls_cert = "{cert}"\ntls_key = "{key}"\n'


@pytest.fixture(scope="module")
async def running(
    anyio_backend: object,
    tmp_path_factory: pytest.TempPathFactory,
    authority: trustme.CA,
    client_tls: ssl.SSLContext,
) -> AsyncIterator[tuple[Door, FakeUpstream]]:
    """Return one gateway that speaks TLS only."""
    path = tmp_path_factory.mktemp("tls")
    settings = certified(authority, path)
    settings += f"head_timeout_s = {PATIENCE_S}\nidle_timeout_s = {2 * PATIENCE_S}\n"
    settings += "max_body_bytes = 4000000\n"
    async with shared_gateway(path, settings=settings, tls=client_tls) as both:
        yield both


@pytest.fixture
def upstream(running: tuple[Door, FakeUpstream]) -> FakeUpstream:
    """Return the upstream, which completes whatever is asked."""
    running[1].plan(answer_as_asked)
    running[1].requests.clear()
    return running[1]


@pytest.fixture
def door(running: tuple[Door, FakeUpstream], upstream: FakeUpstream) -> Iterator[Door]:
    """Return the gateway, whose time passes again after a test that held it."""
    yield running[0]
    running[0].release_time_for_clients()


async def test_answers_are_streamed_and_connections_kept(
    door: Door, upstream: FakeUpstream, client_tls: ssl.SSLContext
) -> None:
    hold = asyncio.Event()
    ending = [event(chunk(finish="stop")), event("[DONE]")]
    upstream.plan(streaming([event(chunk("one")), Pause(hold), event(chunk("two")), *ending]))
    async with connect(door.port, client_tls) as wire:
        for _ in range(3):
            await wire.send(HEALTH)
            assert (await wire.answer()).status == 200
        await wire.send(request(body=STREAMED))
        first = await wire.more()
        assert b"one" in first and b"two" not in first
        hold.set()
        while b"[DONE]" not in first:
            first += await wire.more()
        assert b"two" in first


async def test_the_openai_client_speaks_tls(
    door: Door, upstream: FakeUpstream, client_tls: ssl.SSLContext
) -> None:
    upstream.plan(stream_of(["Hel", "lo"]))
    async with openai.AsyncOpenAI(
        base_url=f"https://localhost:{door.port}/api/v1",
        api_key=OWNER,
        http_client=openai.DefaultAsyncHttpxClient(verify=client_tls, trust_env=False),
    ) as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        said = [one.choices[0].delta.content or "" async for one in stream if one.choices]
        assert "".join(said) == "Hello"


async def test_a_page_seen_over_tls_says_so_and_guards_its_cookie(
    door: Door, client_tls: ssl.SSLContext
) -> None:
    async with connect(door.port, client_tls) as wire:
        await wire.send(request("GET", "/"))
        answer = await wire.answer()
        assert "; Secure" in answer.headers["set-cookie"]


async def test_a_large_body_and_a_large_answer_pass(
    door: Door, upstream: FakeUpstream, client_tls: ssl.SSLContext
) -> None:
    text = "x" * 3_000_000
    upstream.plan(stream_of([text]))
    body = json.dumps(request_body(text, stream=True)).encode()
    async with connect(door.port, client_tls) as wire:
        await wire.send(request(body=body))
        answer = await wire.answer()
        assert text_of(parse_events(answer.body.decode())) == text
        assert (await upstream.request()).json["messages"][0]["content"] == text


BEGUN = (b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", HEALTH, b"\0" * 500)
"""What clients send that make no whole handshake."""


@contextlib.asynccontextmanager
async def unfinished(door: Door) -> AsyncIterator[list[Wire]]:
    """Open a hundred connections that do not come to the end of their handshake."""
    async with contextlib.AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(connect(door.port)) for _ in range(100)]
        for number, wire in enumerate(wires):
            await wire.send(BEGUN[number % len(BEGUN)])
        yield wires


async def test_unfinished_handshakes_and_slow_heads_hold_up_nobody(
    door: Door, client_tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    before = descriptors()
    pass_s = door.hold_time_for_clients()
    async with (
        unfinished(door),
        connect(door.port, client_tls) as wire,
        connect(door.port, client_tls) as slow,
    ):
        await slow.send(HEALTH[:-2])
        connections = door.gateway.server.connections
        await eventually(lambda: ConnectionState.HEAD in {one.state for one in connections})
        pass_s(PATIENCE_S + 1)
        assert (await slow.answer()).status == 408
        await wire.send(HEALTH)
        assert (await wire.answer()).status == 200
    await eventually(lambda: door.gateway.server.open_connections == 0)
    await eventually(lambda: descriptors() <= before)
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


async def test_unfinished_handshakes_are_given_up(
    authority: trustme.CA, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = certified(authority, tmp_path) + "head_timeout_s = 0.5\n"
    async with front_door(tmp_path, settings=settings) as door:
        before = descriptors()
        async with unfinished(door) as wires:
            for wire in wires:
                assert b"HTTP" not in await wire.rest()  # an alert, perhaps
            await eventually(lambda: door.gateway.server.open_connections == 0)
        await eventually(lambda: descriptors() <= before)
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("how", ["closes", "resets"])
async def test_a_client_that_leaves_is_noticed_and_nothing_is_logged(
    door: Door,
    upstream: FakeUpstream,
    client_tls: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
    how: str,
) -> None:
    upstream.plan(silence())
    sent = (
        request(body=STREAMED),
        request(body=STREAMED) + b"G",
        request(body=json.dumps(request_body("Hi")).encode()) + HEALTH,
    )
    for number, data in enumerate(sent):
        async with connect(door.port, client_tls) as wire:
            await wire.send(data)
            seen = await upstream.request(number)
            if how == "closes":
                wire.writer.close()
        await soon(seen.left.wait())
    server = door.gateway.server
    await eventually(lambda: server.open_connections == 0)
    assert door.gateway.services.engine.jobs == {}
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


async def test_a_client_that_sends_all_at_once_and_leaves_never_reaches_the_upstream(
    door: Door, upstream: FakeUpstream, client_tls: ssl.SSLContext
) -> None:
    upstream.plan(silence())
    data = request(body=STREAMED)
    for cut in (1, 3, len(data) - len(STREAMED) - 2, len(data) - 1):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", door.port, ssl=client_tls, server_hostname="localhost"
        )
        writer.write(data[:cut])
        writer.write(data[cut:])
        writer.close()
        await writer.wait_closed()
        del reader
    await eventually(lambda: door.gateway.server.open_connections == 0)
    await eventually(lambda: not door.gateway.services.engine.jobs)


async def test_a_refused_body_is_heard_out(door: Door, client_tls: ssl.SSLContext) -> None:
    async with connect(door.port, client_tls) as wire:
        await wire.send(request(body=b"x" * 6_000_000))
        assert (await wire.answer()).status == 413
        await wire.send(head("POST", CHAT, "Content-Length: x") + b"y" * 100_000)
        assert (await wire.answer()).status == 400
        assert await wire.rest() == b""


@pytest.mark.parametrize("cert", ["missing.pem", "garbage.pem"])
async def test_a_certificate_that_cannot_be_used_stops_the_start_with_one_line(
    tmp_path: Path, cert: str
) -> None:
    (tmp_path / "garbage.pem").write_text("not a certificate")
    settings = f'[server]\ntls_cert = "{tmp_path / cert}"\ntls_key = "{tmp_path / cert}"\n'
    with pytest.raises(ListenFailure) as failure:
        async with front_door(tmp_path, settings=settings):
            pass
    assert cert in str(failure.value) and "\n" not in str(failure.value)
