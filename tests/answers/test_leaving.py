"""A client that leaves stops its upstream call at once, wherever it was, and is accounted for."""

from __future__ import annotations

import asyncio
import json

import pytest
from support.fakes.upstream import FakeUpstream, Pause, chunk, event, silence, streaming
from support.front_door import OWNER, Door, request_body
from support.waiting import eventually, soon

from server.http.client_connection import AHEAD_BYTES


def raw_request(door: Door, extra: bytes = b"", **body: object) -> bytes:
    payload = json.dumps(request_body("Hi", **body)).encode()
    return (
        (
            f"POST /api/v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{door.port}\r\n"
            f"Authorization: Bearer {OWNER}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(payload)}\r\n\r\n"
        ).encode()
        + payload
        + extra
    )


async def leave_after(door: Door, upstream: FakeUpstream, request: bytes, number: int = 0) -> None:
    """Send a request, wait until the upstream has it, hang up, wait until the upstream hears."""
    _, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(request)
    seen = await upstream.request(number)
    writer.close()
    await writer.wait_closed()
    await soon(seen.left.wait())


async def test_leaving_before_the_first_token_stops_the_upstream(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(silence())
    await leave_after(door, upstream, raw_request(door, stream=True), 0)
    await leave_after(door, upstream, raw_request(door), 1)
    rows = await door.usage_rows(2)
    assert {row.status for row in rows} == {"cancelled"}
    assert {row.http_status for row in rows} == {499}
    assert all(row.estimated and row.prompt_tokens for row in rows)


async def test_leaving_in_the_middle_stops_the_upstream_and_settles_what_was_sent(
    upstream: FakeUpstream, door: Door
) -> None:
    hold = asyncio.Event()
    upstream.plan(streaming([event(chunk({"content": "x" * 40})), Pause(hold)]))
    async with door.stream() as response:
        assert "xxx" in await anext(response.aiter_text())
    await soon((await upstream.request()).left.wait())
    (row,) = await door.usage_rows()
    assert (row.status, row.completion_tokens, row.estimated) == ("cancelled", 10, True)


async def test_a_pipelining_client_is_noticed_too(upstream: FakeUpstream, door: Door) -> None:
    upstream.plan(silence())
    _, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(raw_request(door, extra=b"G"))
    seen = await upstream.request()
    writer.close()
    await writer.wait_closed()
    await soon(seen.left.wait())


@pytest.mark.gateway(settings="[stream]\nheartbeat_s = 600\n")
async def test_a_client_that_sends_more_ahead_than_is_read_is_noticed_too(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(silence())
    _, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(raw_request(door, extra=b"G" * 2 * AHEAD_BYTES, stream=True))
    seen = await upstream.request()
    writer.close()
    await writer.wait_closed()
    await soon(seen.left.wait())


@pytest.mark.gateway(max_concurrency=1)
async def test_a_queued_client_that_leaves_never_reaches_the_upstream(
    upstream: FakeUpstream, door: Door
) -> None:
    hold = asyncio.Event()
    upstream.plan(
        streaming(
            [
                event(chunk({"content": "x"})),
                Pause(hold),
                event(chunk(finish="stop")),
                event("[DONE]"),
            ]
        )
    )
    async with door.stream() as first:
        _, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(raw_request(door))
        engine = door.gateway.services.engine
        await eventually(lambda: len(engine.jobs) >= 2)
        writer.close()
        await writer.wait_closed()
        await eventually(lambda: len(engine.jobs) <= 1)
        hold.set()
        await first.aread()
    assert len(upstream.requests) == 1
    rows = await door.usage_rows(2)
    left = next(row for row in rows if row.status == "cancelled")
    assert left.prompt_tokens is None and left.cost_microusd == 0


async def test_a_reader_that_stalls_pauses_its_upstream_and_is_dropped(
    upstream: FakeUpstream, door: Door
) -> None:
    def endless() -> object:
        while True:
            yield event(chunk({"content": "x" * 16_000}))

    upstream.plan(streaming(endless()))  # type: ignore[arg-type]
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port, limit=1)
    writer.write(raw_request(door, stream=True))
    seen = await upstream.request()
    await eventually(lambda: any(one.writing() for one in door.gateway.server.connections))
    pass_s = door.hold_time_for_clients()

    def is_dropped() -> bool:
        pass_s(100.0)  # more than once: what the kernel takes at first counts as read
        return seen.left.is_set()

    await eventually(is_dropped)
    assert seen.sent_bytes < 32 * 1024 * 1024
    writer.transport.abort()
    del reader


@pytest.mark.gateway(settings="[stream]\nwrite_timeout_s = 600\nmin_read_bytes_per_s = 0\n")
async def test_a_client_that_neither_reads_nor_is_read_is_noticed_when_it_leaves(
    upstream: FakeUpstream, door: Door
) -> None:
    def endless() -> object:
        while True:
            yield event(chunk({"content": "x" * 16_000}))

    upstream.plan(streaming(endless()))  # type: ignore[arg-type]
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port, limit=1)
    writer.write(raw_request(door, extra=b"G" * 2 * AHEAD_BYTES, stream=True))
    seen = await upstream.request()
    await eventually(lambda: seen.sent_bytes > 32 * 16_000)
    writer.write_eof()
    await soon(seen.left.wait())
    writer.transport.abort()
    del reader


async def test_a_reader_that_resumes_gets_the_whole_stream(
    upstream: FakeUpstream, door: Door
) -> None:
    pieces = [event(chunk({"content": f"{number:06d}" + "x" * 4000})) for number in range(2000)]
    upstream.plan(streaming([*pieces, event(chunk(finish="stop")), event("[DONE]")]))
    async with door.stream() as response:
        await asyncio.sleep(0.3)  # not reading is the point of this test
        text = (await response.aread()).decode()
    numbers = [int(part[:6]) for part in text.split('"content":"')[1:]]
    assert numbers == list(range(2000))
    assert text.endswith("data: [DONE]\n\n")


@pytest.mark.gateway(max_concurrency=400)
async def test_a_thousand_clients_that_vanish_leave_nothing_behind(
    upstream: FakeUpstream, door: Door
) -> None:
    upstream.plan(silence())
    request = raw_request(door, stream=True)
    for round_number in range(3):
        writers = []
        for _ in range(300):
            _, writer = await asyncio.open_connection("127.0.0.1", door.port)
            writer.write(request)
            writers.append(writer)
        await upstream.request(300 * (round_number + 1) - 1)
        for writer in writers:
            writer.transport.abort()
        seen = upstream.requests[300 * round_number :]
        await soon(asyncio.gather(*(one.left.wait() for one in seen)))
    assert door.gateway.services.engine.jobs == {}
    await door.usage_rows(900)
