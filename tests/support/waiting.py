"""Wait for what must happen, on a machine of any speed.

A test waits for an event or a state and never asserts how long that took: `PATIENCE_S` only ends a
test that hangs. Figures of time belong to `tests/bench`.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

PATIENCE_S = 120.0
"""How long a test waits for what must happen."""

T = TypeVar("T")
P = ParamSpec("P")


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


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Return when `condition` holds, for states that have to be asked for."""
    pause_s = 0.005
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():
            await asyncio.sleep(pause_s)
            pause_s = min(1.5 * pause_s, 0.1)


class _IdleTime(selectors.DefaultSelector):
    """Count the time that a loop would sleep, without sleeping."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        ready = super().select(0)
        if not ready:
            self.now += timeout
        return ready


class _IdleLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._idle = _IdleTime()
        super().__init__(self._idle)

    def time(self) -> float:
        return self._idle.now


def in_idle_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test of timers on a loop whose time passes only while it has nothing to do.

    Such a test takes no time and finds every timer exact, however busy the machine is. What it
    tests reads the loop's time, and uses no sockets or threads.
    """

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=_IdleLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run
