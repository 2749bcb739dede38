"""A corporate proxy: it tunnels CONNECT, forwards absolute-form requests and may ask for a login.

async with ForwardProxy(login="user:secret") as proxy:
... proxy.url, proxy.seen ...
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from typing import Self
from urllib.parse import urlsplit

LOGIN_WANTED = (
    b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n"
    b"content-type: text/html\r\ncontent-length: 6\r\n\r\ndenied"
)
ESTABLISHED = b"HTTP/1.0 200 Connection established\r\nProxy-agent: Fake/1.0\r\n\r\n"


class ForwardProxy:
    """A proxy on a loopback port; `seen` holds the heads that it was sent.

    `login` is "user:password". With `refusal`, it answers everything with these bytes and closes.
    """

    def __init__(
        self, *, login: str = "", refusal: bytes = b"", established: bytes = ESTABLISHED
    ) -> None:
        self.seen: list[bytes] = []
        self.address = ""
        self._login = login
        self._refusal = refusal
        self._established = established
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close everything and wait for it."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def url(self) -> str:
        """Return the URL with the login."""
        return f"http://{self._login}@{self.address}" if self._login else f"http://{self.address}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.seen.append(head)
            answer = self._refusal or (b"" if self._may(head) else LOGIN_WANTED)
            if answer:
                writer.write(answer)
                await writer.drain()
            else:
                await self._pass(head, reader, writer)
        writer.close()

    def _may(self, head: bytes) -> bool:
        wanted = b"basic " + base64.b64encode(self._login.encode()).lower()
        return not self._login or b"proxy-authorization: " + wanted in head.lower()

    async def _pass(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        method, target, version = head.split(b"\r\n")[0].split(b" ")
        if method == b"CONNECT":
            host, _, port = target.decode().rpartition(":")
            first = b""
        else:
            parts = urlsplit(target.decode())
            host, port = parts.hostname or "", str(parts.port or 80)
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            kept = [
                line for line in head.split(b"\r\n")[1:] if not line.lower().startswith(b"proxy-")
            ]
            first = b"\r\n".join([b" ".join([method, path.encode(), version]), *kept])
        back, forth = await asyncio.open_connection(host.strip("[]"), int(port))
        self._writers.add(forth)
        if first:
            forth.write(first)
        else:
            writer.write(self._established)
        await asyncio.gather(_relay(reader, forth), _relay(back, writer))


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
