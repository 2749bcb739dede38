"""The clocks of one attempt: first content, gap and total, with a single timer.

A read only records the time: re-arming a timer per read would cost more than the read. When the
timer fires, it compares the record and is set again for the rest. While a slow reader keeps the
upstream paused, the gap clock stands still; it starts again when the upstream is resumed.
"""

from __future__ import annotations

import asyncio

import msgspec

from workers.errors import UpstreamTimeout
from workers.run.channel import Channel
from workers.transport.transport import UpstreamExchange

WHOLE_FACTOR = 5
"""A whole answer comes in one piece, so its first content may take this many times longer."""


class StreamSettings(msgspec.Struct, frozen=True):
    """The limits of an answer: its clocks in seconds (`total_timeout_s` 0: none), and a size.

    `first_content_timeout_s` runs from the request to the first content, `gap_timeout_s` between
    two reads after that, `total_timeout_s` from the request to the end. `usage_wait_s` is how long
    the usage of a finished answer is waited for without a reader. `max_event_bytes` is no clock: it
    stands here because the worker gives it to the translator of the same answer.
    """

    first_content_timeout_s: float
    gap_timeout_s: float
    total_timeout_s: float
    usage_wait_s: float
    max_event_bytes: int


class Clock:
    """Abort an exchange when one of its clocks runs out."""

    __slots__ = (
        "_channel",
        "_content",
        "_exchange",
        "_first_s",
        "_last",
        "_loop",
        "_settings",
        "_started",
        "_timer",
    )

    def __init__(
        self,
        settings: StreamSettings,
        channel: Channel,
        exchange: UpstreamExchange,
        *,
        streamed: bool,
    ) -> None:
        self._content = False
        self._settings = settings
        self._channel = channel
        self._exchange = exchange
        self._first_s = settings.first_content_timeout_s * (1 if streamed else WHOLE_FACTOR)
        self._loop = asyncio.get_running_loop()
        self._started = self._last = self._loop.time()
        self._timer = self._loop.call_at(self._due()[0], self._fire)

    def touch(self) -> None:
        """Record that the upstream has sent something."""
        self._last = self._loop.time()

    def note_content(self) -> None:
        """Record that the client was sent content: from now on the gap clock counts."""
        if not self._content:
            self._content = True
            self._timer.cancel()
            self._timer = self._loop.call_at(self._due()[0], self._fire)

    def stop(self) -> None:
        """Stop watching."""
        self._timer.cancel()

    def _due(self) -> tuple[float, str, float]:
        """Return when the next clock runs out, its name and its length in seconds."""
        if self._content:
            last = max(self._last, self._channel.resumed_at)
            due = (last + self._settings.gap_timeout_s, "gap", self._settings.gap_timeout_s)
        else:
            due = (self._started + self._first_s, "first_content", self._first_s)
        total_s = self._settings.total_timeout_s
        # Tuples compare by their first member, the loop time.
        return min(due, (self._started + total_s, "total", total_s)) if total_s else due

    def _fire(self) -> None:
        now = self._loop.time()
        if self._channel.held_back:
            self._last = now  # the upstream is silent because it is paused
        at, name, length_s = self._due()
        if at <= now:
            self._exchange.abort(UpstreamTimeout(name, length_s))
        else:
            self._timer = self._loop.call_at(at, self._fire)
