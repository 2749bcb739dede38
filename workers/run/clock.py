"""The clocks of one attempt: first content, gap and total, with a single timer.

Silence of a model is not the death of its upstream. Before the first content, every byte (a
comment, a role, a progress event) starts the first-content clock again, up to `REARM_FACTOR` times
its length in all. Once every choice has finished, bytes start nothing again: only the usage and the
end mark can follow, and comments alone must not keep the answer open.

A read only records the time: re-arming a timer per read would cost more than the read. When the
timer fires, it compares the record and is set again for the rest. While a slow reader keeps the
upstream paused, the gap clock stands still; it starts again when the upstream is resumed.
"""

from __future__ import annotations

import asyncio

import msgspec
from msgspec.structs import replace

from workers.catalog.quirks import Clocks
from workers.errors import UpstreamTimeout
from workers.run.channel import Channel
from workers.transport.transport import UpstreamExchange

REARM_FACTOR = 3
"""How many times its length the first-content clock may last while bytes come."""
WHOLE_FACTOR = 5
"""A whole answer comes in one piece, so its first content may take this many times longer."""


class StreamSettings(msgspec.Struct, frozen=True):
    """The limits of an answer: its clocks in seconds (`total_timeout_s` 0: none), and a size.

    `first_content_timeout_s` runs from the request or the last byte to the first content,
    `gap_timeout_s` between two reads after that (`tools_gap_timeout_s` if that is longer and the
    request offers tools), `total_timeout_s` from the request to the end. `usage_wait_s` is how long
    the usage of a finished answer is waited for without a reader. `max_event_bytes` is no clock: it
    stands here because the worker gives it to the translator of the same answer.
    """

    first_content_timeout_s: float
    gap_timeout_s: float
    tools_gap_timeout_s: float
    total_timeout_s: float
    usage_wait_s: float
    max_event_bytes: int

    def with_clocks(self, clocks: Clocks) -> StreamSettings:
        """Return the settings with a model's own clocks; its own gap holds with tools too."""
        own: dict[str, float] = {}
        if clocks.first_content_timeout_s is not None:
            own["first_content_timeout_s"] = clocks.first_content_timeout_s
        if clocks.gap_timeout_s is not None:
            own["gap_timeout_s"] = own["tools_gap_timeout_s"] = clocks.gap_timeout_s
        if clocks.total_timeout_s is not None:
            own["total_timeout_s"] = clocks.total_timeout_s
        return replace(self, **own) if own else self


class Clock:
    """Abort an exchange when one of its clocks runs out."""

    __slots__ = (
        "_channel",
        "_content",
        "_exchange",
        "_finished_at",
        "_first_s",
        "_gap_s",
        "_last",
        "_loop",
        "_max_first_s",
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
        tools: bool = False,
    ) -> None:
        self._content = False
        self._finished_at: float | None = None
        self._settings = settings
        self._channel = channel
        self._exchange = exchange
        tools_s = settings.tools_gap_timeout_s if tools else 0.0
        self._gap_s = max(settings.gap_timeout_s, tools_s)
        self._first_s = settings.first_content_timeout_s
        if not streamed:
            self._first_s = max(self._first_s * WHOLE_FACTOR, tools_s)
        self._max_first_s = self._first_s * REARM_FACTOR
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
            self._set_timer()

    def note_finished(self) -> None:
        """Record that every choice has finished: from now on no byte starts a clock again."""
        if self._finished_at is None:
            self._finished_at = self._loop.time()
            self._set_timer()

    def stop(self) -> None:
        """Stop watching."""
        self._timer.cancel()

    def _set_timer(self) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_at(self._due()[0], self._fire)

    def _due(self) -> tuple[float, str, float]:
        """Return when the next clock runs out, its name and its length in seconds."""
        if self._finished_at is not None:
            gap_s = self._settings.gap_timeout_s
            due = (max(self._finished_at, self._channel.resumed_at) + gap_s, "gap", gap_s)
        elif self._content:
            due = (max(self._last, self._channel.resumed_at) + self._gap_s, "gap", self._gap_s)
        else:
            first = (self._last + self._first_s, "first_content", self._first_s)
            max_s = self._max_first_s
            due = min(first, (self._started + max_s, "first_content", max_s))
        total_s = self._settings.total_timeout_s
        # Tuples compare by their first member, the loop time.
        return min(due, (self._started + total_s, "total", total_s)) if total_s else due

    def _fire(self) -> None:
        now = self._loop.time()
        if self._channel.held_back:
            self._last = now  # the upstream is silent because it is paused
            if self._finished_at is not None:
                self._finished_at = now
        at, name, length_s = self._due()
        if at <= now:
            self._exchange.abort(UpstreamTimeout(name, length_s))
        else:
            self._timer = self._loop.call_at(at, self._fire)
