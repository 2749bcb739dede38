"""A TCP wire between the gateway and a server, with the faults of real networks.

async with Partition(server.port) as wire:
    wire.drop()       # both ends keep their connections, and no byte arrives
    wire.heal()
    wire.cut()        # every connection breaks, also in the middle of a reply
    wire.delay()      # what is sent from now on over open connections waits ...
    wire.deliver()    # ... and arrives after all
"""

from __future__ import annotations

import asyncio
import contextlib

from support.network.loopback_server import LoopbackServer


class Partition(LoopbackServer):
    """Pass bytes on, or drop them. `swallow_replies` drops only what the server sends."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._server_port = port
        self._dropping = False
        self._cut_at: int | None = None
        self._on_time: set[asyncio.Event] = set()
        self.swallow_replies = False

    async def __aexit__(self, *exc_info: object) -> None:
        """Close everything and wait for it."""
        self.deliver()
        await super().__aexit__(*exc_info)

    @property
    def url(self) -> str:
        """Return the URL to use in place of the server's."""
        return f"redis://127.0.0.1:{self.port}"

    def drop(self) -> None:
        """Drop every byte in both directions from now on; new connections hang."""
        self._dropping = True

    def heal(self) -> None:
        """Pass bytes on again; what was dropped is lost, so old connections break."""
        self._dropping = self.swallow_replies = False
        self._cut_at = None
        self.cut()

    def delay(self) -> None:
        """Hold back what clients send on the connections that are open; new ones are on time."""
        for each in self._on_time:
            each.clear()

    def deliver(self) -> None:
        """Pass on what was held back, also on connections that the client has closed since."""
        for each in self._on_time:
            each.set()

    def cut_replies_after(self, size_bytes: int) -> None:
        """Break the connection after so many bytes of what the server sends from now on."""
        self._cut_at = size_bytes

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on both ways."""
        on_time = asyncio.Event()
        on_time.set()
        self._on_time.add(on_time)
        try:
            back, forth = await self.connect("127.0.0.1", self._server_port)
            await asyncio.gather(
                self._pass_on(reader, forth, on_time=on_time),
                self._pass_on(back, writer, replies=True),
            )
        finally:
            self._on_time.discard(on_time)

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        replies: bool = False,
        on_time: asyncio.Event | None = None,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if on_time is not None:
                    await on_time.wait()
                if self._dropping or (replies and self.swallow_replies):
                    continue
                if replies and self._cut_at is not None:
                    data, self._cut_at = data[: self._cut_at], self._cut_at - len(data)
                    writer.write(data)
                    if self._cut_at <= 0:
                        await writer.drain()
                        break
                    continue
                writer.write(data)
                await writer.drain()
        writer.close()
