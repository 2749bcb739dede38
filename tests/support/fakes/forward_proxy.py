"""A corporate proxy: it tunnels CONNECT, forwards absolute-form requests and may ask for a login.

async with ForwardProxy(login="user:secret") as proxy:
... proxy.url, proxy.seen ...
"""

from __future__ import annotations

import asyncio
import base64
from urllib.parse import urlsplit

from support.network.loopback_server import LoopbackServer, pass_on

LOGIN_WANTED = (
    b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n"
    b"content-type: text/html\r\ncontent-length: 6\r\n\r\ndenied"
)
ESTABLISHED = b"HTTP/1.0 200 Connection established\r\nProxy-agent: Fake/1.0\r\n\r\n"


class ForwardProxy(LoopbackServer):
    """A proxy on a loopback port; `seen` holds the heads that it was sent.

    `login` is "user:password". With `refusal`, it answers everything with these bytes and closes.
    """

    def __init__(
        self, *, login: str = "", refusal: bytes = b"", established: bytes = ESTABLISHED
    ) -> None:
        super().__init__()
        self.seen: list[bytes] = []
        self._login = login
        self._refusal = refusal
        self._established = established

    @property
    def address(self) -> str:
        """Return the host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Return the URL with the login."""
        return f"http://{self._login}@{self.address}" if self._login else f"http://{self.address}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, or pass it on with all that follows it."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.seen.append(head)
        answer = self._refusal or (b"" if self._may(head) else LOGIN_WANTED)
        if answer:
            writer.write(answer)
            await writer.drain()
        else:
            await self._pass(head, reader, writer)

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
        back, forth = await self.connect(host.strip("[]"), int(port))
        if first:
            forth.write(first)
        else:
            writer.write(self._established)
        await asyncio.gather(pass_on(reader, forth), pass_on(back, writer))
