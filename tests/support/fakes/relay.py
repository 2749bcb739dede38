"""A wire between a browser and the gateway that a test can cut."""

from __future__ import annotations

import asyncio

from support.network.loopback_server import LoopbackServer, pass_on


class Relay(LoopbackServer):
    """Pass every connection on to `port`; `cut` breaks all that are open, and later ones work."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._gateway_port = port

    @property
    def url(self) -> str:
        """Return the address to visit in place of the gateway's."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on both ways."""
        try:
            back, forth = await self.connect("127.0.0.1", self._gateway_port)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(pass_on(reader, forth), pass_on(back, writer))
