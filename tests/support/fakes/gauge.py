"""Count how many requests an upstream carries at the same time."""

from __future__ import annotations

import asyncio
import random

from support.fakes.upstream import Answer, FakeUpstream, Pause, Request, chunk, event, streaming


class Leaving(asyncio.Event):
    """Lets an answer go on after a moment, and counts it as ended before its last bytes."""

    def __init__(self, gauge: Gauge) -> None:
        super().__init__()
        self._gauge = gauge

    async def wait(self) -> bool:  # type: ignore[override]
        """Wait for a moment."""
        await asyncio.sleep(random.random() * 0.01)
        self._gauge.now -= 1
        return True


class Gauge:
    """Counts the requests that an upstream carries at the same time."""

    def __init__(self, upstream: FakeUpstream) -> None:
        self.now = self.most = 0
        upstream.plan(self._answer)

    def _answer(self, _request: Request) -> Answer:
        self.now += 1
        self.most = max(self.most, self.now)
        first = event(chunk("Hi"))
        rest = event(chunk(finish="stop")) + event("[DONE]")
        return streaming([first, Pause(Leaving(self)), rest])
