"""Wait for what must happen, on a machine of any speed.

A test waits for an event or a state and never asserts how long that took: `PATIENCE_S` only ends a
test that hangs. Figures of time belong to `tests/bench`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

PATIENCE_S = 60.0
"""How long a test waits for what must happen."""

T = TypeVar("T")


async def soon(awaitable: Awaitable[T]) -> T:
    """Return what `awaitable` gives. Raises TimeoutError when it hangs."""
    return await asyncio.wait_for(awaitable, PATIENCE_S)


async def eventually(condition: Callable[[], object]) -> None:
    """Return when `condition` holds, for states that no event announces."""
    pause_s = 0.001
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(pause_s)
            pause_s = min(1.5 * pause_s, 0.025)  # a long wait leaves the processor to others
