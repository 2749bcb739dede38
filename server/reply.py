"""The client's side of a job's channel: an event stream, or one whole answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tornado import httputil

from workers.errors import GatewayError
from workers.job import Job

HEARTBEAT = b": hb\n\n"
QUEUE_UPDATE_S = 1.0
OK = httputil.ResponseStartLine("HTTP/1.1", 200, "OK")


def error_event(error: GatewayError) -> bytes:
    """Give the event that ends a stream which has begun and cannot be completed."""
    return b"data: " + error.encoded() + b"\n\n"


class StreamReply:
    """Write a job's frames to the client as server-sent events.

    The head leaves with the first frames, the first heartbeat or the first queue update; until then
    an error is an HTTP status (`done` raises it), afterwards one error event. `stream_head` gives
    the headers when they are needed. One write is outstanding at most: its future tells whether the
    client keeps up.
    """

    def __init__(
        self,
        connection: httputil.HTTPConnection,
        job: Job,
        stream_head: Callable[[], httputil.HTTPHeaders],
        *,
        heartbeat_s: float,
        queue_updates: bool,
    ) -> None:
        self._connection = connection
        self._job = job
        self._stream_head = stream_head
        self._interval_s = min(QUEUE_UPDATE_S, heartbeat_s) if queue_updates else heartbeat_s
        self._heartbeat_s = heartbeat_s
        self._queue_updates = queue_updates
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self.started = False
        self._full = False
        self._last_write = self._loop.time()
        self._timer = self._loop.call_later(self._interval_s, self._beat)
        if queue_updates:
            self._update_queue()

    def write(self, frames: bytes) -> bool:
        """Send frames in one write; False when the client does not keep up."""
        self._last_write = self._loop.time()
        if self.started:
            written = self._connection.write(frames)
        else:
            self.started = True
            written = self._connection.write_headers(OK, self._stream_head(), frames)
        if written.done():
            return True
        self._full = True
        written.add_done_callback(self._drained)
        return False

    def end(self, error: GatewayError | None) -> None:
        """Finish the stream; an error before anything was sent is left to the handler."""
        self._timer.cancel()
        if self.done.done():
            return
        if error is None or self.started:
            if error is not None:
                self.write(error_event(error))
            self.done.set_result(None)
        else:
            self.done.set_exception(error)

    def _drained(self, written: asyncio.Future[None]) -> None:
        self._full = False
        if not written.cancelled() and written.exception() is None:
            self._job.channel.resume()

    def _beat(self) -> None:
        """Send a heartbeat when nothing else was sent for long enough; also finds dead clients."""
        now = self._loop.time()
        if not self._full:
            if self._queue_updates and self._job.state in ("queued", "connecting"):
                self._update_queue()
            elif now - self._last_write >= self._heartbeat_s * 0.999:
                self.write(HEARTBEAT)
        wait_s = self._interval_s
        if not self._queue_updates:
            wait_s = max(self._last_write + self._heartbeat_s - now, 0.01)
        self._timer = self._loop.call_later(wait_s, self._beat)

    def _update_queue(self) -> None:
        """Tell the job's place as a comment; parsers skip it."""
        place = self._job.place()
        if place is not None:
            text = (
                f": queued position={place.position} waiting={place.waiting}"
                f" expected_wait_s={place.expected_wait_s:.1f}\n\n"
            )
            self.write(text.encode())


class WholeReply:
    """Gather a job's answer; `done` gives the body or raises the error."""

    def __init__(self) -> None:
        self._frames: list[bytes] = []
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def write(self, frames: bytes) -> bool:
        """Keep a piece."""
        self._frames.append(frames)
        return True

    def end(self, error: GatewayError | None) -> None:
        """Give the whole, or the error."""
        if self.done.done():
            return
        if error is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(b"".join(self._frames))
