"""HTTP as it comes: refusals that the client gets to read, framing without doubt, ids, order."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import AsyncIterator

import pytest
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
from support.front_door import Door, parse_events, request_body, text_of
from support.plain_http import CHAT, Wire, ask, chunked, connect, every, head, request
from support.servers.shared_gateway import shared_gateway
from support.waiting import eventually, soon

VALID = json.dumps(request_body("Hi")).encode()
STREAMED = json.dumps(request_body("Hi", stream=True)).encode()
HEALTH = request("GET", "/healthz", key=None)
MB = 1024 * 1024
SMALL = f"[server]\nmax_body_bytes = {MB}\n"


@pytest.fixture(scope="module")
async def running(
    anyio_backend: object, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Door, FakeUpstream]]:
    """Return one gateway that takes bodies of up to one MB."""
    path = tmp_path_factory.mktemp("gate")
    async with shared_gateway(path, settings=SMALL) as both:
        yield both


@pytest.fixture
def upstream(running: tuple[Door, FakeUpstream]) -> FakeUpstream:
    """Return the upstream, which completes whatever is asked."""
    running[1].plan(answer_as_asked)
    running[1].requests.clear()
    return running[1]


@pytest.fixture
def door(running: tuple[Door, FakeUpstream], upstream: FakeUpstream) -> Door:
    """Return the gateway."""
    return running[0]


async def goes_on(wire: Wire) -> None:
    """Require that the connection serves the next request."""
    await wire.send(HEALTH)
    assert (await wire.answer()).json == {"status": "ok"}


async def is_over(wire: Wire) -> None:
    """Require that nothing more comes, and the end of the connection soon."""
    assert await wire.rest() == b""


async def is_refused_as_no_http(wire: Wire) -> None:
    """Require one answer that says so, and the end."""
    answer = await wire.answer()
    assert answer.status == 400 and answer.error["code"] == "invalid_http"
    assert answer.headers["connection"] == "close"
    await is_over(wire)


def too_large(answer: object) -> bool:
    """Return whether an answer says that the body is too large."""
    status, error = answer.status, answer.error  # type: ignore[attr-defined]
    return status == 413 and error["code"] == "request_too_large" and str(MB) in error["message"]


async def test_a_body_announced_too_large_is_refused_before_it_is_sent(door: Door) -> None:
    async with connect(door.port) as wire:
        await wire.send(head("POST", CHAT, "Content-Length: 30000000"))
        assert too_large(await wire.answer())


async def test_a_body_too_large_that_is_sent_in_full_is_answered_and_the_connection_goes_on(
    door: Door,
) -> None:
    async with connect(door.port) as wire:
        await wire.send(request(body=b"x" * (8 * MB)))
        assert too_large(await wire.answer())
        await goes_on(wire)


async def test_a_chunked_body_too_large_is_refused_as_soon_as_it_is(door: Door) -> None:
    async with connect(door.port) as wire:
        await wire.send(head("POST", CHAT, "Transfer-Encoding: chunked"))
        for _ in range(20):
            await wire.send(chunked(b"x" * 65_536).removesuffix(b"0\r\n\r\n"))
        assert too_large(await wire.answer())
        await wire.send(chunked(b"the rest"))
        await goes_on(wire)


async def test_a_client_that_asks_first_is_refused_and_not_told_to_continue(door: Door) -> None:
    lines = ("Content-Length: 30000000", "Expect: 100-continue")
    async with connect(door.port) as wire:
        await wire.send(head("POST", CHAT, *lines))
        answer = await wire.answer()
        assert too_large(answer) and answer.headers["connection"] == "close"
        await is_over(wire)


async def test_a_client_that_asks_first_is_told_to_continue(door: Door) -> None:
    async with connect(door.port) as wire:
        await wire.send(head("POST", CHAT, f"Content-Length: {len(VALID)}", "Expect: 100-continue"))
        assert (await wire.answer()).status == 100
        await wire.send(VALID)
        assert (await wire.answer()).status == 200
        await goes_on(wire)


async def test_a_body_without_end_is_cut_off(door: Door) -> None:
    async with connect(door.port) as wire:
        await wire.send(head("POST", CHAT, "Transfer-Encoding: chunked"))
        piece = chunked(b"x" * MB).removesuffix(b"0\r\n\r\n")

        async def send_on() -> None:
            while True:
                await wire.send(piece)

        with pytest.raises(ConnectionError):
            await soon(send_on())


@pytest.mark.parametrize("line", ["Content-Length: 30000000", "Transfer-Encoding: chunked"])
async def test_a_wrong_key_is_refused_before_the_body_is_read(door: Door, line: str) -> None:
    async with connect(door.port) as wire:
        await wire.send(head("POST", CHAT, line, key="roxy_wrong"))
        assert (await wire.answer()).status == 401


@pytest.mark.parametrize(
    ("status", "path", "key"),
    [
        (401, CHAT, "roxy_wrong"),
        (404, "/api/v1/nope", None),
        (405, "/api/v1/models", None),
        (404, "/nope", None),
    ],
)
async def test_a_connection_goes_on_after_a_refusal_whose_body_was_read(
    door: Door, status: int, path: str, key: str | None
) -> None:
    async with connect(door.port) as wire:
        for _ in range(3):
            await wire.send(request("POST", path, b"x" * 500_000, key=key))
            assert (await wire.answer()).status == status
            pieces = chunked(b"x" * 70_000, b"y" * 70_000)
            await wire.send(head("POST", path, "Transfer-Encoding: chunked", key=key) + pieces)
            assert (await wire.answer()).status == status
        await goes_on(wire)


SMUGGLED = b"0\r\n\r\n" + HEALTH
AMBIGUOUS = (
    ["Content-Length: 5", "Transfer-Encoding: chunked"],
    ["Transfer-Encoding: chunked", "Content-Length: 5"],
    ["Transfer-Encoding: identity", "Content-Length: 5"],
    ["Content-Length: 5", "Content-Length: 6"],
    ["Content-Length: 5", "Content-Length: 5"],
    ["Content-Length: 5, 5"],
    ["Content-Length: 5,6"],
    ["Content-Length: -1"],
    ["Content-Length: +5"],
    ["Content-Length: 5 5"],
    ["Content-Length: 0x5"],
    ["Content-Length: 5.0"],
    ["Content-Length: 5e1"],
    ["Content-Length: 1_0"],
    ["Content-Length: five"],
    ["Content-Length: "],
    ["Content-Length: \xb2"],
    ["Content-Length: 99999999999999999999999999999999999999"],
    ["Content-Length: " + "9" * 5000],
    ["Transfer-Encoding: gzip"],
    ["Transfer-Encoding: gzip, chunked"],
    ["Transfer-Encoding: chunked, gzip"],
    ["Transfer-Encoding: chunked, chunked"],
    ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
    ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
    ["Transfer-Encoding: xchunked"],
    ["Transfer-Encoding: chunked;q=1"],
    ['Transfer-Encoding: "chunked"'],
    ["Transfer-Encoding: chunked,"],
    ["Transfer-Encoding: \x0bchunked"],
    ["Transfer-Encoding:"],
    ["Transfer-Encoding : chunked"],
    ["Content-Length : 5"],
    [" Content-Length: 5"],
)


async def test_framing_that_can_be_read_two_ways_is_refused_and_the_connection_closed(
    door: Door, upstream: FakeUpstream
) -> None:
    async def check(case: tuple[str, list[str]]) -> None:
        async with connect(door.port) as wire:
            await wire.send(head("POST", case[0], *case[1]) + SMUGGLED)
            await is_refused_as_no_http(wire)

    paths = (CHAT, "/api/v1/nope", "/healthz", "/nope")
    await every([(path, lines) for path in paths for lines in AMBIGUOUS], check)
    assert not upstream.requests


BAD_CHUNKS = (
    b"x\r\n",
    b"-5\r\nhello\r\n0\r\n\r\n",
    b"+5\r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b" 5\r\nhello\r\n0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"5_0\r\nhello\r\n0\r\n\r\n",
    b"\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello!\r\n0\r\n\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"5\r\nhello\r\n0\r\nX",
    b"5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
    b"5;name=value\r\nhello\r\n0\r\n\r\n",
    b"7fffffffffffffff\r\nhello",
    b"ffffffffffffffffffffffff\r\nhello",
    b"f" * 63 + b"\r\nhello",
    b"f" * 500,
    b"5\n" * 100,
    b"\0" * 100,
)


async def test_a_bad_chunk_is_a_400_and_the_end(door: Door) -> None:
    async def check(data: bytes) -> None:
        async with connect(door.port) as wire:
            await wire.send(head("POST", CHAT, "Transfer-Encoding: chunked") + data + HEALTH)
            await is_refused_as_no_http(wire)

    await every(BAD_CHUNKS, check)
    assert door.gateway.services.engine.jobs == {}


async def test_a_bad_chunk_after_a_refusal_gives_no_second_answer(door: Door) -> None:
    async with connect(door.port) as wire:
        await wire.send(head("POST", CHAT, "Transfer-Encoding: chunked", key="wrong"))
        assert (await wire.answer()).status == 401
        await wire.send(b"zz\r\n" + HEALTH)
        await is_over(wire)


async def test_bytes_after_a_request_are_taken_for_the_next_and_refused(door: Door) -> None:
    async with connect(door.port) as wire:
        await wire.send(request(body=VALID) + b"left over\r\n\r\n" + HEALTH)
        assert (await wire.answer()).status == 200
        await is_refused_as_no_http(wire)


LONG_HEADS = (
    head("GET", "/healthz", "X: " + "x" * 40_000),
    head("GET", "/healthz", *(f"X-{n}: {n}" for n in range(5000))),
    head("GET", "/" + "x" * 40_000),
    b"GET /" + b"x" * 40_000,
    b"x" * 40_000,
    b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 10_000,
)


async def test_a_head_over_the_cap_is_a_431_and_the_end(door: Door) -> None:
    async def check(case: tuple[bytes, bytes]) -> None:
        async with connect(door.port) as wire:
            await wire.send(case[0] + case[1])
            if case[0]:
                assert (await wire.answer()).status in (200, 404)
            answer = await wire.answer()
            assert answer.status == 431 and answer.error["code"] == "headers_too_large"
            assert answer.headers["connection"] == "close"
            await is_over(wire)

    before = (b"", HEALTH, request("POST", "/api/v1/nope", b"x" * 1000))
    await every([(one, bomb) for one in before for bomb in LONG_HEADS], check)


async def test_requests_sent_ahead_are_answered_in_order(door: Door) -> None:
    sent = []
    for number in range(30):
        line = f"X-Request-Id: in-order-{number:04d}"
        sent.append(
            (
                request("POST", CHAT, VALID, line),
                request("GET", "/api/v1/nope", None, line),
                request("POST", CHAT, b"{", line),
                request("POST", CHAT, STREAMED, line),
                request("HEAD", "/healthz", None, line),
            )[number % 5]
        )
    async with connect(door.port) as wire:
        await wire.send(b"".join(sent))
        for number in range(30):
            answer = await wire.answer(bodiless=number % 5 == 4)
            assert answer.status == (200, 404, 400, 200, 200)[number % 5]
            assert answer.headers["x-request-id"] == f"in-order-{number:04d}"
        await goes_on(wire)


async def test_a_request_may_come_byte_by_byte(door: Door) -> None:
    async with connect(door.port) as wire:
        for data in (request(body=VALID), head("POST", CHAT, "Transfer-Encoding: chunked")):
            for number in range(len(data)):
                await wire.send(data[number : number + 1])
        for number in range(len(VALID)):
            await wire.send(chunked(VALID[number : number + 1]).removesuffix(b"0\r\n\r\n"))
        await wire.send(b"0\r\n\r\n")
        assert [(await wire.answer()).status for _ in range(2)] == [200, 200]


async def test_a_connection_is_kept_unless_the_client_says_otherwise(door: Door) -> None:
    async with connect(door.port) as wire:
        for _ in range(50):
            await wire.send(request(body=VALID))
            answer = await wire.answer()
            assert answer.status == 200 and "connection" not in answer.headers
        await wire.send(request("POST", CHAT, VALID, "Connection: close"))
        assert (await wire.answer()).headers["connection"] == "close"
        await is_over(wire)


@pytest.mark.parametrize("body", [VALID, STREAMED], ids=["whole", "streamed"])
@pytest.mark.parametrize("lines", [(), ("Connection: keep-alive",)], ids=["plain", "keep-alive"])
async def test_http_1_0_is_answered_without_chunks_and_closed(
    door: Door, upstream: FakeUpstream, body: bytes, lines: tuple[str, ...]
) -> None:
    upstream.plan(stream_of(["Hel", "lo"])) if body is STREAMED else None
    async with connect(door.port) as wire:
        await wire.send(request("POST", CHAT, body, *lines, version="HTTP/1.0"))
        answer = await wire.answer()
        assert answer.status == 200 and "transfer-encoding" not in answer.headers
        assert answer.headers.get("connection", "close") == "close"
        await is_over(wire)
    if body is STREAMED:
        assert text_of(parse_events(answer.body.decode())) == "Hello"
    else:
        assert int(answer.headers["content-length"]) == len(answer.body)


async def test_http_1_0_needs_no_host(door: Door) -> None:
    assert (await ask(door.port, b"GET /healthz HTTP/1.0\r\n\r\n")).status == 200


async def test_ids_are_made_unique_or_taken_from_the_client_when_safe(door: Door) -> None:
    seen = set()
    async with connect(door.port) as wire:
        for _ in range(200):
            await wire.send(HEALTH)
            seen.add((await wire.answer()).headers["x-request-id"])
        assert len(seen) == 200 and all(
            re.fullmatch("req_[0-9a-z]{4}[0-9a-f]{24}", one) for one in seen
        )
        for good in ("client-id-1", "01890b2e:77.a_b", "a" * 64, "00-4bf92f3577b34da6a3ce929d0e0e"):
            await wire.send(request("GET", "/healthz", None, f"X-Request-Id: {good}"))
            assert (await wire.answer()).headers["x-request-id"] == good
        for bad in (
            "short",
            "a" * 65,
            "with space",
            "<script>x",
            "\xe9\xe9\xe9\xe9\xe9\xe9\xe9\xe9",
            "",
        ):
            await wire.send(request("GET", "/healthz", None, f"X-Request-Id: {bad}"))
            assert (await wire.answer()).headers["x-request-id"].startswith("req_")
        await wire.send(request("GET", "/healthz", None, *["X-Request-Id: twice-sent"] * 2))
        assert (await wire.answer()).headers["x-request-id"].startswith("req_")


async def test_an_id_in_use_is_replaced(door: Door, upstream: FakeUpstream) -> None:
    hold = asyncio.Event()
    ending = [event(chunk(finish="stop")), event("[DONE]")]
    upstream.plan(streaming([event(chunk("x")), Pause(hold), *ending]))
    data = request("POST", CHAT, STREAMED, "X-Request-Id: the-same-id")
    async with connect(door.port) as first, connect(door.port) as second:
        await first.send(data)
        await upstream.request(0)
        await second.send(data)
        await upstream.request(1)
        assert len(door.gateway.services.engine.jobs) == 2
        hold.set()
        assert (await first.answer()).headers["x-request-id"] == "the-same-id"
        assert (await second.answer()).headers["x-request-id"].startswith("req_")


async def test_an_id_is_in_use_though_both_requests_began_at_once(
    door: Door, upstream: FakeUpstream
) -> None:
    hold = asyncio.Event()
    ending = [event(chunk(finish="stop")), event("[DONE]")]
    upstream.plan(streaming([event(chunk("x")), Pause(hold), *ending]))
    data = request("POST", CHAT, STREAMED, "X-Request-Id: the-same-id")
    async with connect(door.port) as first, connect(door.port) as second:
        for wire in (first, second):
            await wire.send(data[:-5])
        await eventually(lambda: door.gateway.server.open_connections >= 2)
        for wire in (first, second):
            await wire.send(HEALTH[:0] + data[-5:])
        answers = [wire.answer() for wire in (first, second)]
        await upstream.request(0)
        hold.set()
        found = [await answer for answer in answers]
        assert sorted(answer.status for answer in found) in ([200, 200], [200, 409])
        assert {answer.status: answer.headers["x-request-id"] for answer in found}[200]


async def test_accepted_sockets_never_wait_to_fill_a_packet(door: Door) -> None:
    def no_delay() -> list[int]:
        streams = door.gateway.server.connections
        return [s.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for s in streams]

    async with connect(door.port) as wire:
        await eventually(lambda: bool(no_delay()))
        assert all(no_delay())
        for _ in range(3):
            await wire.send(request(body=VALID))
            await wire.answer()
            assert all(no_delay())


async def test_a_client_that_has_sent_ahead_and_resets_is_noticed(
    door: Door, upstream: FakeUpstream
) -> None:
    upstream.plan(silence())
    async with connect(door.port) as wire:
        await wire.send(request(body=VALID) + b"G")
        seen = await upstream.request()
        on_close = struct.pack("ii", 1, 0)  # zero seconds of lingering: closing is a reset
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, on_close)
    await soon(seen.left.wait())
    await eventually(lambda: not door.gateway.services.engine.jobs)


async def test_a_client_that_closes_its_half_has_left(door: Door, upstream: FakeUpstream) -> None:
    upstream.plan(silence())
    async with connect(door.port) as wire:
        await wire.send(request(body=VALID))
        seen = await upstream.request()
        wire.writer.write_eof()
        await soon(seen.left.wait())
        await is_over(wire)
