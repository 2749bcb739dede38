"""The upstream of bytes leaves no connection open, whenever it is closed."""

from __future__ import annotations

import asyncio
import contextlib

from support.fakes.raw_upstream import Peer, RawUpstream
from support.waiting import PATIENCE_S


class Hasty(RawUpstream):
    """An upstream that is closed while it accepts: its scripts end before they begin."""

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super()._accept(reader, writer)
        for script in self._scripts:
            script.cancel()


async def test_a_connection_is_closed_whose_script_has_not_begun() -> None:
    begun: list[Peer] = []

    async def hang(peer: Peer) -> None:
        begun.append(peer)
        await peer.gone()

    async with Hasty(hang) as upstream, asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection(upstream.host, upstream.port)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    assert len(upstream.peers) == 1
    assert not begun
