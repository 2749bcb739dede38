r"""An upstream on the level of bytes: a script per connection that sends, cuts, hangs or is deaf.

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", b"ok")

    async with RawUpstream(script) as upstream:
        ... upstream.url ...

The connection closes when its script returns. A script that fails for another reason than a peer
that left fails the test.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

Script = Callable[["Peer"], Awaitable[None]]

READ_AHEAD = 16 * 1024
"""Bytes that a peer takes off its socket before anybody asks for them, halved."""


class Peer:
    """One accepted connection; `number` counts from 1, `sent_bytes` is what the socket took."""

    def __init__(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        self.requests: list[bytes] = []
        self.sent_bytes = 0
        self._reader = reader
        self._writer = writer

    async def head(self) -> bytes:
        """Read the head of a request."""
        return await self._reader.readuntil(b"\r\n\r\n")

    async def request(self) -> bytes:
        """Read one whole request, framed by its Content-Length."""
        head = await self.head()
        size = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                size = int(line.split(b":")[1])
        request = head + await self._reader.readexactly(size)
        self.requests.append(request)
        return request

    async def send(self, *pieces: bytes) -> None:
        """Send pieces, each in its own write."""
        for piece in pieces:
            if self._writer.transport.is_closing():
                raise ConnectionResetError("the other side left")
            self._writer.write(piece)
            await self._writer.drain()
            self.sent_bytes += len(piece)

    async def flood(self, piece: bytes) -> None:
        """Send the same piece until the other side leaves."""
        while True:
            await self.send(piece)
            await asyncio.sleep(0)  # a TLS transport may drop what is written and never wait

    async def gone(self) -> None:
        """Wait until the other side has left; what it sends is read and dropped."""
        with suppress(OSError):
            while await self._reader.read(64 * 1024):
                pass

    def cut(self) -> None:
        """Reset the connection."""
        sock = self._writer.get_extra_info("socket")
        if sock is not None:  # else it is gone already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def vanish(self) -> None:
        """Close the socket at once, under TLS without a close_notify."""
        self._writer.transport.abort()


class RawUpstream:
    """A server on an unused loopback port that runs `script` for every connection.

    `host` and `port` are given to listen on another loopback address, on the port of another one.
    """

    def __init__(
        self,
        script: Script,
        *,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.peers: list[Peer] = []
        self.url = ""
        self.host = host
        self.port = port
        self._script = script
        self._tls = tls
        self._scripts: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []
        self._server: asyncio.Server | None = None

    @property
    def open(self) -> int:
        """Count the connections whose script has not returned."""
        return len(self._scripts)

    @property
    def requests(self) -> list[bytes]:
        """Return every whole request, by connection."""
        return [request for peer in self.peers for request in peer.requests]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._accept, self.host, self.port, ssl=self._tls, limit=READ_AHEAD, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()
        for script in self._scripts:
            script.cancel()
        if self._scripts:
            await asyncio.wait(self._scripts)
        await self._server.wait_closed()
        if self._failures and error[0] is None:
            raise self._failures[0]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(len(self.peers) + 1, reader, writer)
        self.peers.append(peer)
        task = asyncio.get_running_loop().create_task(self._run(peer, writer))
        self._scripts.add(task)
        task.add_done_callback(self._scripts.discard)
        # A task that is cancelled before its first step never comes to its `finally`.
        task.add_done_callback(lambda _task: writer.transport.abort())

    async def _run(self, peer: Peer, writer: asyncio.StreamWriter) -> None:
        try:
            await self._script(peer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the other side left
        except Exception as error:  # noqa: BLE001 - raised when the server closes
            self._failures.append(error)
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            with suppress(OSError):
                writer.close()
                await writer.wait_closed()


def always(*pieces: bytes) -> Script:
    """Script a peer that answers every request with these pieces."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(*pieces)

    return script


def once(*pieces: bytes, then: str = "close") -> Script:
    """Script a peer that answers one request with these pieces, and closes, cuts or hangs."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*pieces)
        if then == "cut":
            peer.cut()
        elif then == "hang":
            await peer.gone()

    return script


@contextmanager
def deaf_upstream(host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Return the URL of a socket that listens with a full backlog: connecting to it hangs."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(0)
        for filler in (first, second):
            filler.settimeout(0)
            filler.connect_ex(listener.getsockname())
        yield f"http://{host}:{listener.getsockname()[1]}"


def answer(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """Return the bytes of an answer framed by Content-Length."""
    lines = [b"HTTP/1.1 " + status, b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*pieces: bytes) -> bytes:
    """Return pieces in chunked framing, without its end."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def descriptors() -> int:
    """Count this process's open descriptors."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
