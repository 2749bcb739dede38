"""The bytes of one answer between its upstream and its reader: pushed, bounded, never awaited.

What arrived in one read upstream leaves in one write to the reader while the reader keeps up. When
it does not, bytes wait here, and past `HIGH_WATER` the upstream's socket is paused until they left.
Nothing wakes up per frame.
"""

from __future__ import annotations

import asyncio
import math
from typing import Protocol

from workers.errors import GatewayError
from workers.units import KIB

HIGH_WATER = 128 * KIB
"""Bytes that may wait for a slow reader before the upstream's socket is paused."""


class Reader(Protocol):
    """The client's side of a channel."""

    def write(self, frames: bytes) -> bool:
        """Take frames; False: full, `Channel.resume` will be called when more can be taken."""

    def end(self, error: GatewayError | None, last: bytes = b"") -> None:
        """Take the last frames and learn that no more will come; called once."""


class Source(Protocol):
    """The upstream's side of a channel."""

    def pause(self) -> None:
        """Stop reading; idempotent."""

    def resume(self) -> None:
        """Read on; idempotent."""


class Channel:
    """One answer on its way. Closing never waits; what waits unread at the end still leaves."""

    def __init__(self) -> None:
        self._reader: Reader | None = None
        self._source: Source | None = None
        self._waiting: list[bytes] = []
        self._size = 0
        self._full = False
        self._paused = False
        self._ended = False
        self._error: GatewayError | None = None
        self._last = b""
        self.resumed_at = -math.inf
        """When the upstream was last let go on after a pause, in loop time."""

    @property
    def held_back(self) -> bool:
        """Say whether the upstream is paused because the reader does not keep up."""
        return self._paused

    @property
    def waiting_bytes(self) -> int:
        """Give how many bytes wait for the reader."""
        return self._size

    def draw_from(self, source: Source) -> None:
        """Name the source to pause when the reader falls behind."""
        self._source = source
        self._paused = False

    def attach(self, reader: Reader) -> None:
        """Name the reader; what has waited so far goes to it at once."""
        self._reader = reader
        self.resume()

    def push(self, frames: bytes) -> None:
        """Pass frames on, or keep them while the reader is full."""
        if self._reader is not None and not self._full:
            self._full = not self._reader.write(frames)
            return
        self._waiting.append(frames)
        self._size += len(frames)
        if self._size > HIGH_WATER and not self._paused and self._source is not None:
            self._paused = True
            self._source.pause()

    def resume(self) -> None:
        """Go on writing: the reader can take more."""
        self._full = False
        try:
            if self._waiting and self._reader is not None:
                frames = b"".join(self._waiting)
                self._drop_waiting()
                self._full = not self._reader.write(frames)
        finally:  # what a broken reader raises must not leave the upstream paused for ever
            if not self._full:
                self._go_on()

    def end(self, error: GatewayError | None = None, last: bytes = b"") -> None:
        """Close the channel with its last frames; the reader is told once everything has left."""
        if self._ended:
            return
        self._ended = True
        self._error = error
        self._last = last
        self._source = None
        if not self._waiting:
            self._tell_end()

    def abandon(self) -> None:
        """Close the channel and drop what waits: the reader has left and will take no more."""
        self._drop_waiting()
        self._last = b""
        self.end()
        self._tell_end()

    def _go_on(self) -> None:
        if self._paused and self._source is not None:
            self._paused = False
            self.resumed_at = asyncio.get_running_loop().time()
            self._source.resume()
        if self._ended and not self._waiting:
            self._tell_end()

    def _drop_waiting(self) -> None:
        self._waiting.clear()
        self._size = 0

    def _tell_end(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.end(self._error, self._last)
