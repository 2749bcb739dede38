"""The access log: a line for every request, and never a key."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from pathlib import Path

import pytest
from support.fakes.upstream import FakeUpstream, events_of, streaming
from support.front_door import OWNER, bearer, front_door, request_body
from support.waiting import PATIENCE_S

from server.log import set_up_logging

STREAMS = 200


async def test_a_key_that_was_put_into_a_path_is_not_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with FakeUpstream() as upstream, front_door(tmp_path, upstream) as door:
        secret = await door.mint()
        assert (await door.get(f"/api/v1/keys/{secret}")).status_code == 404
    lines = capsys.readouterr().out
    assert "404 GET /api/v1/keys/roxy_***" in lines
    assert secret not in lines


async def test_a_client_that_closes_at_the_end_of_a_stream_has_had_it_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with FakeUpstream() as upstream, front_door(tmp_path, upstream) as door:
        request = stream_request()
        streams = (asyncio.to_thread(read_to_the_end, door.port, request) for _ in range(STREAMS))
        await asyncio.gather(*streams)
    lines = [line for line in capsys.readouterr().out.splitlines() if "POST" in line]
    assert len(lines) == STREAMS
    assert [line for line in lines if " 200 POST " not in line] == []


async def test_a_stream_that_ends_with_an_error_has_its_code_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with FakeUpstream() as upstream, front_door(tmp_path, upstream) as door:
        upstream.plan(streaming(events_of(["partial"], finish=None, done=False), end="cut"))
        assert "upstream_disconnected" in await door.stream_text()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "POST" in line]
    assert " 200 POST " in line and line.endswith(" error=upstream_disconnected")


def stream_request() -> bytes:
    """Write a request for a stream."""
    body = json.dumps(request_body(stream=True)).encode()
    head = f"POST /api/v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {OWNER}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def read_to_the_end(port: int, request: bytes) -> None:
    """Read a stream in a thread, and close the connection with its last byte."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as client:
        client.sendall(request)
        read = b""
        while not read.endswith(b"\r\n0\r\n\r\n"):
            read += client.recv(65536)


@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("/x/" + "a" * 170 + "{}", "X-Nothing"),
        ("/x", "X-Request-Id"),
        ("/x", "X-Stainless-Retry-Count"),
    ],
)
async def test_not_even_the_beginning_of_a_key_is_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str, header: str
) -> None:
    async with FakeUpstream() as upstream, front_door(tmp_path, upstream) as door:
        secret = await door.mint()
        headers = bearer(OWNER) | {header: secret}
        for said in (secret, secret.replace("_", "%5F")):
            answer = await door.client.get(path.format(said), headers=headers)
            assert answer.headers["x-request-id"] != secret
    assert secret[5:25] not in capsys.readouterr().out


def test_the_log_has_its_times_in_utc() -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        set_up_logging("info", "text")
        (handler,) = root.handlers
        record = logging.LogRecord("roxy", logging.INFO, "", 0, "ready", None, None)
        record.created = 86_400.5
        assert handler.format(record) == "1970-01-02T00:00:00Z INFO roxy: ready"
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
