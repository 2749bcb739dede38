"""A wire between a gateway and a store that loses what a test says."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Literal, Self

from support.network.ports import free_port

Mode = Literal["through", "silent", "loses answers"]


class UnreliableWire:
    """Pass connections on to `port` of this machine.

    `mode` "silent": nothing passes, in neither way, as when packets are lost; new connections are
    accepted. "loses answers": what the client sends arrives, and the connection breaks instead of
    the answer. `cut` breaks all connections; `listens` False refuses new ones.
    """

    def __init__(self, port: int) -> None:
        self.mode: Mode = "through"
        self.port = free_port()
        self._target = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Listen."""
        await self.listen()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close everything and wait for it."""
        self.refuse()
        self.cut()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def listen(self) -> None:
        """Accept connections, at the same port as before."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    def refuse(self) -> None:
        """Refuse new connections until `listen`."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def cut(self) -> None:
        """Break every connection at once."""
        for writer in self._writers:
            writer.transport.abort()

    def url(self, url: str) -> str:
        """Return the URL of a store with the wire in between."""
        return url.replace(f":{self._target}", f":{self.port}")

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _task: writer.transport.abort())
        with contextlib.suppress(OSError, asyncio.CancelledError):
            back, forth = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers |= {writer, forth}
            try:
                await asyncio.gather(
                    self._pass_on(reader, forth), self._pass_on(back, writer, answers=True)
                )
            finally:
                self._writers -= {writer, forth}
                for one in (writer, forth):
                    one.transport.abort()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False
    ) -> None:
        # uvloop raises RuntimeError for a write to a transport that was aborted.
        with contextlib.suppress(OSError, RuntimeError):
            while data := await reader.read(65536):
                if self.mode == "loses answers" and answers:
                    break
                if self.mode != "silent":
                    writer.write(data)
                    await writer.drain()
        # The end of one way ends the other, too.
        for one in tuple(self._writers):
            if one is writer:
                one.transport.abort()
        if answers:
            raise ConnectionResetError
