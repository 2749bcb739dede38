"""Notice that the process at the other end of a link hangs: it lives, and answers nothing.

A child and its keeper ask each other. A keeper kills a child that hangs, because connections still
wait at its socket, and starts another one. A child whose keeper hangs ends, so that `/healthz` is
no longer answered and whatever runs the gateway starts it again.
"""

from __future__ import annotations

import asyncio

from server.nodes.link import Link
from server.nodes.procedure import Procedure, procedure
from workers.errors import GatewayError

PULSE: Procedure[None, None] = procedure("pulse", None)
TICK_S = 1.0
SILENT_TICKS = 15
"""A process that has not answered for so many ticks hangs."""


async def wait_until_silent(link: Link) -> bool:
    """Return True when the other process hangs, False when the link is lost.

    Ticks are counted, not the time: after a pause of the whole machine, or of all processes of a
    container, both ends find one tick more, and not that the other one was silent.
    """
    loop = asyncio.get_running_loop()
    while not link.is_lost:
        asked = loop.create_task(link.call(PULSE, None), name="pulse")
        try:
            for _ in range(SILENT_TICKS):
                await asyncio.wait([asked], timeout=TICK_S)
                if asked.done():
                    break
            else:
                return True
        finally:
            asked.cancel()
        if not isinstance(asked.exception(), GatewayError):
            await asyncio.sleep(TICK_S)
    return False
