"""The clocks of one attempt: first content, gap and total, with a single lazily re-armed timer.

A read only notes the time; the timer looks at the note when it fires and sleeps on. While the
reader is slow and the upstream therefore paused, the gap clock stands still; it begins anew when
the upstream is let go on.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from workers.errors import UpstreamTimeout
from workers.run.channel import Channel

WHOLE_FACTOR = 5
"""An answer that is not streamed comes in one piece, so it gets this many first-content times."""


class Times(Protocol):
    """The settings a clock reads, in seconds; a total of 0 means none."""

    @property
    def first_content_timeout_s(self) -> float:
        """From the request to the first content."""

    @property
    def gap_timeout_s(self) -> float:
        """Between two reads once there was content."""

    @property
    def total_timeout_s(self) -> float:
        """From the request to the end."""


class Abortable(Protocol):
    """What a clock stops when it runs out."""

    def abort(self, error: Exception) -> None:
        """Stop at once; idempotent."""


class Clock:
    """Abort an exchange when one of its clocks runs out."""

    __slots__ = (
        "_channel",
        "_content",
        "_exchange",
        "_first_s",
        "_last",
        "_loop",
        "_started",
        "_timer",
        "_times",
    )

    def __init__(
        self, times: Times, channel: Channel, exchange: Abortable, *, streamed: bool
    ) -> None:
        self._content = False
        self._times = times
        self._channel = channel
        self._exchange = exchange
        self._first_s = times.first_content_timeout_s * (1 if streamed else WHOLE_FACTOR)
        self._loop = asyncio.get_running_loop()
        self._started = self._last = self._loop.time()
        self._timer = self._loop.call_at(self._due()[0], self._fire)

    def touch(self) -> None:
        """Note that the upstream has sent something."""
        self._last = self._loop.time()

    def note_content(self) -> None:
        """Note that the client was given something: from here on the gap clock counts."""
        if not self._content:
            self._content = True
            self._timer.cancel()
            self._timer = self._loop.call_at(self._due()[0], self._fire)

    def stop(self) -> None:
        """Stop watching."""
        self._timer.cancel()

    def _due(self) -> tuple[float, str, float]:
        """Tell when the next clock runs out, its name and its length in seconds."""
        if self._content:
            last = max(self._last, self._channel.resumed_at)
            due = (last + self._times.gap_timeout_s, "gap", self._times.gap_timeout_s)
        else:
            due = (self._started + self._first_s, "first_content", self._first_s)
        total_s = self._times.total_timeout_s
        return min(due, (self._started + total_s, "total", total_s)) if total_s else due

    def _fire(self) -> None:
        now = self._loop.time()
        if self._channel.held_back:
            self._last = now
        at, name, length_s = self._due()
        if at <= now:
            self._exchange.abort(UpstreamTimeout(name, length_s))
        else:
            self._timer = self._loop.call_at(at, self._fire)
