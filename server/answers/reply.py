"""The client's side of a job's channel: an event stream, or one whole answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from tornado.httputil import HTTPConnection

from server.http.answer_head import CHUNKED, LAST_CHUNK, chunk
from workers.errors import GatewayError
from workers.run.job import JobState, Place

HEARTBEAT = b": hb\n\n"
CONNECTING = b": connecting\n\n"
RETRYING = b": retrying\n\n"
QUEUE_UPDATE_S = 1.0


def error_event(error: GatewayError) -> bytes:
    """Give the event that ends a stream which has begun and cannot be completed."""
    return b"data: " + error.encoded() + b"\n\n"


class Followed(Protocol):
    """What a reply follows: a job, or a place in the log of one."""

    on_progress: Callable[[], None] | None

    @property
    def state(self) -> JobState:
        """Give the state of the job."""

    @property
    def attempts(self) -> int:
        """Give how many deployments were tried."""

    def place(self) -> Place | None:
        """Tell where the job waits, or None when it does not wait any more."""

    def resume(self) -> None:
        """Go on: the client can take more."""


class StreamReply:
    """Write a job's frames to the client as server-sent events.

    The head leaves with the first frames, the first heartbeat or the first update; until then an
    error is an HTTP status (`done` raises it), afterwards one error event. `stream_head` gives the
    head when it is needed, `finish` ends the answer: with its last bytes, for a client that closes
    as soon as it has them has not left early. Without `chunked` the end of the connection ends the
    stream. One write is outstanding at most: its future tells whether the client keeps up. With
    `updates` comments tell the job's place in the queue, then that it is being connected, then that
    it is retried.
    """

    def __init__(
        self,
        connection: HTTPConnection,
        source: Followed,
        stream_head: Callable[[], bytes],
        finish: Callable[[], None],
        *,
        chunked: bool,
        heartbeat_s: float,
        updates: bool,
    ) -> None:
        self._connection = connection
        self._source = source
        self._stream_head = stream_head
        self._finish = finish
        self._chunked = chunked
        self._interval_s = min(QUEUE_UPDATE_S, heartbeat_s) if updates else heartbeat_s
        self._heartbeat_s = heartbeat_s
        self._updates = updates
        self._told = b""
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self.started = False
        self._full = False
        self._last_write = self._loop.time()
        self._timer = self._loop.call_later(self._interval_s, self._beat)
        if updates:
            source.on_progress = self._note_progress
            if source.state == "queued":
                self._tell_state()

    def write(self, frames: bytes) -> bool:
        """Send frames in one write; False when the client does not keep up."""
        return self._send(chunk(frames) if self._chunked else frames)

    def end(self, error: GatewayError | None, last: bytes = b"") -> None:
        """Finish the stream; an error before anything was sent is left to the handler."""
        self._timer.cancel()
        if self.done.done():
            return
        if error is not None and not self.started:
            self.done.set_exception(error)
            return
        if error is not None:
            if self._updates and error.retry_after_s is not None:
                last += b": retry_after_s=%.1f\n\n" % error.retry_after_s
            last += error_event(error)
        if self._chunked:
            last = (chunk(last) if last else b"") + LAST_CHUNK
        if last:
            self._send(last)
        self._finish()
        self.done.set_result(None)

    def _send(self, data: bytes) -> bool:
        self._last_write = self._loop.time()
        if not self.started:
            self.started = True
            framing = CHUNKED if self._chunked else b""
            data = b"%b%b\r\n%b" % (self._stream_head(), framing, data)
        written = self._connection.write(data)
        if written.done():
            return True
        self._full = True
        written.add_done_callback(self._drained)
        return False

    def _drained(self, written: asyncio.Future[None]) -> None:
        self._full = False
        if not written.cancelled() and written.exception() is None:
            self._source.resume()

    def _beat(self) -> None:
        """Send a heartbeat when nothing else was sent for long enough; also finds dead clients."""
        now = self._loop.time()
        if not self._full:
            if self._updates:
                self._tell_state()
            if now - self._last_write >= self._heartbeat_s * 0.999:
                self.write(HEARTBEAT)
        wait_s = self._interval_s
        if not self._updates:
            wait_s = max(self._last_write + self._heartbeat_s - now, 0.01)
        self._timer = self._loop.call_later(wait_s, self._beat)

    def _note_progress(self) -> None:
        """Tell a change at once, unless it were the first thing said: it may end in a status."""
        if self.started and not self._full:
            self._tell_state()

    def _tell_state(self) -> None:
        """Tell where the job is, as a comment; parsers skip it. Only places are told repeatedly."""
        place = self._source.place()
        if place is not None:
            text = (
                f": queued position={place.position} waiting={place.waiting}"
                f" expected_wait_s={place.expected_wait_s:.1f}\n\n"
            )
            self.write(text.encode())
        elif self._source.state == "connecting":
            told = RETRYING if self._source.attempts > 1 else CONNECTING
            if told != self._told:
                self._told = told
                self.write(told)


class WholeReply:
    """Gather a job's answer; `done` gives the body or raises the error."""

    def __init__(self) -> None:
        self._frames: list[bytes] = []
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def write(self, frames: bytes) -> bool:
        """Keep a piece."""
        self._frames.append(frames)
        return True

    def end(self, error: GatewayError | None, last: bytes = b"") -> None:
        """Give the whole, or the error."""
        if self.done.done():
            return
        if error is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(b"".join(self._frames) + last)
