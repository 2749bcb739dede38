"""Speak HTTP byte by byte: send whatever a test likes, read whole answers back.

    async with connect(door.port) as wire:
        await wire.send(request("GET", "/healthz"))
        answer = await wire.answer()

Every answer read is checked for what all of them owe: an `x-request-id`, no `Server` header, a
`Content-Type`, a `Cache-Control` and a `Referrer-Policy`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from support.front_door import OWNER
from support.schemas import validate_error
from support.waiting import PATIENCE_S

CHAT = "/api/v1/chat/completions"
Case = TypeVar("Case")


@dataclass(frozen=True)
class Answer:
    """One answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    head: bytes
    version: str = "HTTP/1.1"

    @property
    def json(self) -> Any:
        """Decode the body."""
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        """Return the error that the body holds, which must have OpenAI's shape."""
        assert self.headers["content-type"].startswith("application/json"), self
        body = self.json
        validate_error(body)
        assert set(body) == {"error"}
        assert set(body["error"]) == {"message", "type", "param", "code"}
        return body["error"]


class Wire:
    """One connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    @property
    def socket(self) -> socket.socket:
        """Return the socket, for its options."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        return sock

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, *, bodiless: bool = False, timeout_s: float = PATIENCE_S) -> Answer:
        """Read the next answer; `bodiless` is for those to HEAD."""
        async with asyncio.timeout(timeout_s):
            head = await self._reader.readuntil(b"\r\n\r\n")
            status_line, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
            version, status, _ = status_line.split(" ", 2)
            headers = dict(_header(line) for line in lines)
            assert len(headers) == len(lines), f"a header came twice: {lines}"
            if status == "100":
                return Answer(100, headers, b"", head)
            body = b"" if bodiless else await self._body(headers)
        assert "x-request-id" in headers, lines
        assert "content-type" in headers, lines
        assert "server" not in headers, lines
        assert headers["referrer-policy"] == "no-referrer", lines
        assert "cache-control" in headers, lines
        return Answer(int(status), headers, body, head, version)

    async def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            assert "content-length" not in headers
            return b"".join([part async for part in self._chunks()])
        if "content-length" in headers:
            return await self._reader.readexactly(int(headers["content-length"]))
        return await self._reader.read()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            yield await self._reader.readexactly(size)
            assert await self._reader.readexactly(2) == b"\r\n"
        assert await self._reader.readexactly(2) == b"\r\n"

    async def more(self) -> bytes:
        """Read whatever comes next."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._reader.read(65536)

    async def rest(self, timeout_s: float = PATIENCE_S) -> bytes:
        """Read until the gateway closes the connection; a reset is an end too."""
        parts = bytearray()
        async with asyncio.timeout(timeout_s):
            with contextlib.suppress(ConnectionError):
                while part := await self._reader.read(65536):
                    parts += part
        return bytes(parts)


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(": ")
    assert name and value, f"no header: {line!r}"
    return name.lower(), value


@contextlib.asynccontextmanager
async def connect(
    port: int, tls: ssl.SSLContext | None = None, *, source: str | None = None
) -> AsyncIterator[Wire]:
    """Open a connection for a block, from `source`; what is unsent at its end is dropped."""
    name = "localhost" if tls else None
    # Only with a `source`: to bind a port first takes the kernel 1.5 ms once many have been used.
    local = (source, 0) if source else None
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=tls, server_hostname=name, local_addr=local
    )
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ask(
    port: int, data: bytes, *, bodiless: bool = False, source: str | None = None
) -> Answer:
    """Send bytes on a connection of their own and read one answer."""
    async with connect(port, source=source) as wire:
        await wire.send(data)
        return await wire.answer(bodiless=bodiless)


def head(
    method: str = "POST",
    path: str = CHAT,
    *lines: str,
    key: str | None = OWNER,
    version: str = "HTTP/1.1",
) -> bytes:
    """Write a request's head: a Host, the key, then `lines` as they are."""
    credential = [f"Authorization: Bearer {key}"] if key else []
    whole = [f"{method} {path} {version}", "Host: gateway.test", *credential, *lines]
    return ("\r\n".join(whole) + "\r\n\r\n").encode("latin-1")


def request(
    method: str = "POST",
    path: str = CHAT,
    body: bytes | None = None,
    *lines: str,
    key: str | None = OWNER,
    version: str = "HTTP/1.1",
) -> bytes:
    """Write a whole request, with a Content-Length when it has a body."""
    if body is None:
        return head(method, path, *lines, key=key, version=version)
    length = f"Content-Length: {len(body)}"
    lines = ("Content-Type: application/json", length, *lines)
    return head(method, path, *lines, key=key, version=version) + body


def chunked(*pieces: bytes) -> bytes:
    """Write pieces as a chunked body, with its end."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


async def every(cases: Iterable[Case], check: Callable[[Case], Awaitable[object]]) -> None:
    """Check every case and fail with all that break the rule."""
    faults = []
    for case in cases:
        try:
            await check(case)
        except (AssertionError, EOFError, OSError, TimeoutError) as error:
            faults.append(f"{ascii(case)[:200]}: {type(error).__name__} {str(error)[:600]}")
    assert not faults, f"{len(faults)} cases:\n" + "\n".join(faults)
