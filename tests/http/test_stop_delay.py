"""While a gateway leaves, open connections are served and new ones are refused."""

from __future__ import annotations

import asyncio

import pytest
from support.fakes.upstream import FakeUpstream, Pause, chunk, event, streaming
from support.front_door import MODEL, OWNER, Door, parse_events, text_of
from support.waiting import PATIENCE_S, soon

pytestmark = pytest.mark.gateway(settings=f"[server]\nstop_delay_s = {PATIENCE_S * 2}\n")

BODY = f'{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "Hi"}}]}}'
CHAT = (
    "POST /api/v1/chat/completions HTTP/1.1\r\nHost: roxy\r\nContent-Type: application/json\r\n"
    f"Authorization: Bearer {OWNER}\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}"
).encode()


class Kept:
    """A kept-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def get(self, path: str) -> str:
        """Send a request and return the answer's head, in lower case."""
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: roxy\r\n\r\n".encode())
        return await self.head()

    async def head(self) -> str:
        """Read the head of an answer."""
        return (await soon(self.reader.readuntil(b"\r\n\r\n"))).decode().lower()

    async def rest(self) -> bytes:
        """Read until the gateway closes, and close."""
        read = await soon(self.reader.read())
        self.writer.close()
        await self.writer.wait_closed()
        return read


async def kept_alive(door: Door) -> Kept:
    """Open a connection that has had one answer."""
    kept = Kept(*await asyncio.open_connection("127.0.0.1", door.port))
    head = await kept.get("/healthz")
    assert head.startswith("http/1.1 200") and "connection: close" not in head
    await soon(kept.reader.readexactly(int(head.partition("content-length: ")[2].split()[0])))
    return kept


async def refuses(door: Door) -> None:
    """Wait until the gateway refuses new connections."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", door.port)
            except OSError:
                return
            writer.close()
            await asyncio.sleep(0.005)  # the listening socket closes in another turn of the loop


async def test_an_open_connection_gets_one_more_answer_and_a_new_one_is_refused(
    door: Door,
) -> None:
    kept, probing = await kept_alive(door), await kept_alive(door)
    leaving = asyncio.create_task(door.gateway.drain())
    await refuses(door)
    head = await probing.get("/readyz")
    assert head.startswith("http/1.1 503") and b"draining" in await probing.rest()
    kept.writer.write(CHAT)
    head = await kept.head()
    assert head.startswith("http/1.1 200") and "connection: close" in head
    assert b"chat.completion" in await kept.rest()
    await soon(leaving)  # long before the delay has passed: no connection is left


async def test_a_request_that_is_arriving_is_served(door: Door) -> None:
    kept = await kept_alive(door)
    kept.writer.write(CHAT[:-5])
    leaving = asyncio.create_task(door.gateway.drain())
    await refuses(door)
    kept.writer.write(CHAT[-5:])
    assert (await kept.head()).startswith("http/1.1 200")
    assert b"chat.completion" in await kept.rest()
    await soon(leaving)


async def test_a_stream_ends_whole_and_then_its_connection(
    upstream: FakeUpstream, door: Door
) -> None:
    hold = asyncio.Event()
    first, last = event(chunk({"content": "first "})), event(chunk({"content": "last"}))
    upstream.plan(
        streaming([first, Pause(hold), last, event(chunk(finish="stop")), event("[DONE]")])
    )
    stream = asyncio.create_task(door.stream_text())
    await upstream.request()
    leaving = asyncio.create_task(door.gateway.drain())
    await refuses(door)
    hold.set()
    events = parse_events(await stream)
    assert text_of(events) == "first last" and events[-1] == "[DONE]"
    await soon(leaving)


@pytest.mark.gateway(settings="[server]\nstop_delay_s = 0.05\n")
async def test_an_idle_connection_is_closed_when_the_delay_has_passed(door: Door) -> None:
    kept = await kept_alive(door)
    await soon(door.gateway.drain())
    assert await kept.rest() == b""


@pytest.mark.gateway(settings="[server]\nstop_delay_s = 0.05\n")
async def test_an_idle_connection_does_not_outlast_the_delay_while_an_answer_runs(
    upstream: FakeUpstream, door: Door
) -> None:
    hold = asyncio.Event()
    pieces: list[bytes | Pause] = [event(chunk({"content": "long"})), Pause(hold)]
    upstream.plan(streaming([*pieces, event(chunk(finish="stop")), event("[DONE]")]))
    kept = await kept_alive(door)
    stream = asyncio.create_task(door.stream_text())
    await upstream.request()
    leaving = asyncio.create_task(door.gateway.drain())
    assert await kept.rest() == b""
    assert not stream.done()
    hold.set()
    assert text_of(parse_events(await stream)) == "long"
    await soon(leaving)
