"""The bytes of one answer between its upstream and its reader: pushed, bounded, never awaited.

While the reader keeps up, each read upstream becomes one write to the reader. Otherwise bytes wait
here, and above `HIGH_WATER` the upstream's socket is paused until all of them were written. No task
is woken per frame.
"""

from __future__ import annotations

import asyncio
import math
from typing import Protocol

from workers.errors import GatewayError
from workers.transport.transport import UpstreamExchange
from workers.units import KIB

HIGH_WATER = 128 * KIB
"""Bytes that may wait for a slow reader; with more the upstream's socket is paused."""


class Reader(Protocol):
    """The client's side of a channel: an event stream, a whole answer or an `AnswerLog`."""

    def write(self, frames: bytes) -> bool:
        """Write frames. False: full; the reader calls `Channel.resume` when it can take more."""

    def end(self, error: GatewayError | None, last: bytes = b"") -> None:
        """Write the last frames and end the answer; called once."""


class Channel:
    """The frames of one answer. Ending it never waits; frames that still wait are written later."""

    def __init__(self) -> None:
        self._reader: Reader | None = None
        self._exchange: UpstreamExchange | None = None
        self._waiting: list[bytes] = []
        self.waiting_bytes = 0
        self._full = False
        self._paused = False
        self._ended = False
        self._error: GatewayError | None = None
        self._last = b""
        self.resumed_at = -math.inf
        """Loop time at which the upstream was last resumed after a pause."""

    @property
    def held_back(self) -> bool:
        """True if the upstream is paused because the reader does not keep up."""
        return self._paused

    def draw_from(self, exchange: UpstreamExchange) -> None:
        """Set the exchange to pause when the reader falls behind."""
        self._exchange = exchange
        self._paused = False

    def attach(self, reader: Reader) -> None:
        """Set the reader and write to it what has waited so far."""
        self._reader = reader
        self.resume()

    def push(self, frames: bytes) -> None:
        """Write frames to the reader, or keep them while it is full."""
        if self._reader is not None and not self._full:
            self._full = not self._reader.write(frames)
            return
        self._waiting.append(frames)
        self.waiting_bytes += len(frames)
        if self.waiting_bytes > HIGH_WATER and not self._paused and self._exchange is not None:
            self._paused = True
            self._exchange.pause()

    def resume(self) -> None:
        """Write what waits: the reader can take more."""
        self._full = False
        try:
            if self._waiting and self._reader is not None:
                frames = b"".join(self._waiting)
                self._drop_waiting()
                self._full = not self._reader.write(frames)
        finally:  # an exception of the reader must not leave the upstream paused for ever
            if not self._full:
                self._resume_upstream()

    def end(self, error: GatewayError | None = None, last: bytes = b"") -> None:
        """Close the channel; the reader gets the end after everything that waits."""
        if self._ended:
            return
        self._ended = True
        self._error = error
        self._last = last
        self._exchange = None
        if not self._waiting:
            self._end_reader()

    def abandon(self) -> None:
        """Close the channel and drop what waits, because the reader has left."""
        self._drop_waiting()
        self._last = b""
        self.end()
        self._end_reader()

    def _resume_upstream(self) -> None:
        if self._paused and self._exchange is not None:
            self._paused = False
            self.resumed_at = asyncio.get_running_loop().time()
            self._exchange.resume()
        if self._ended and not self._waiting:
            self._end_reader()

    def _drop_waiting(self) -> None:
        self._waiting.clear()
        self.waiting_bytes = 0

    def _end_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.end(self._error, self._last)
