"""Send a job's frames to the client: as an event stream, or as one whole answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from tornado.httputil import HTTPConnection

from server.http.answer_head import CHUNKED, LAST_CHUNK, chunk
from workers.errors import GatewayError
from workers.run.job import JobState
from workers.run.ticket import Place

HEARTBEAT = b": hb\n\n"
CONNECTING = b": connecting\n\n"
RETRYING = b": retrying\n\n"
QUEUE_UPDATE_S = 1.0


def error_event(error: GatewayError) -> bytes:
    """Return the event that ends a stream which cannot be completed."""
    return b"data: " + error.encoded() + b"\n\n"


class Followed(Protocol):
    """What a reply follows: a job, or an attachment to the log of one."""

    on_progress: Callable[[], None] | None

    @property
    def state(self) -> JobState:
        """Return the state of the job."""

    @property
    def attempt_count(self) -> int:
        """Return how many deployments were tried."""

    def place(self) -> Place | None:
        """Return the job's place in the queue, or None if it no longer waits."""

    def resume(self) -> None:
        """Resume: the client has read everything."""


class StreamReply:
    """Write a job's frames to the client as server-sent events.

    The head is sent with the first frames, heartbeat or update. Before it, an error becomes an HTTP
    status (`done` raises it); after it, one error event. `stream_head` returns the head when it is
    needed. `finish` ends the answer in the same call as the last write, since a client that closes
    as soon as it has read the end has not left early; it gets the error that
    was sent as an event, or None. Without `chunked`, the end of the connection
    ends the stream (HTTP/1.0). At most one write is outstanding; its future shows whether the
    client keeps up. With `updates`, comments report the job's place in the queue, then that it
    connects, then that it is retried.
    """

    def __init__(
        self,
        connection: HTTPConnection,
        source: Followed,
        stream_head: Callable[[], bytes],
        finish: Callable[[GatewayError | None], None],
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
        self._last_update = b""
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self.started = False
        self._full = False
        self._last_write = self._loop.time()
        self._timer = self._loop.call_later(self._interval_s, self._beat)
        if updates:
            source.on_progress = self._note_progress
            if source.state == "queued":
                self._send_update()

    def write(self, frames: bytes) -> bool:
        """Send frames in one write; False when the client does not keep up."""
        return self._send(chunk(frames) if self._chunked else frames)

    def end(self, error: GatewayError | None, last: bytes = b"") -> None:
        """End the stream; `done` raises an error that comes before the head, for the handler."""
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
        self._finish(error)
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
        """Send a heartbeat if nothing else was sent; the write also detects dead connections."""
        now = self._loop.time()
        if not self._full:
            if self._updates:
                self._send_update()
            # 0.999: a timer may fire early by the resolution of the loop's clock.
            if now - self._last_write >= self._heartbeat_s * 0.999:
                self.write(HEARTBEAT)
        wait_s = self._interval_s
        if not self._updates and not self._full:
            wait_s = max(self._last_write + self._heartbeat_s - now, 0.01)
        self._timer = self._loop.call_later(wait_s, self._beat)

    def _note_progress(self) -> None:
        """Send a change at once, unless the head is not sent: an error may still be a status."""
        if self.started and not self._full:
            self._send_update()

    def _send_update(self) -> None:
        """Send the job's state as a comment, which SSE parsers skip; only places are repeated."""
        place = self._source.place()
        if place is not None:
            text = (
                f": queued position={place.position} waiting={place.waiting}"
                f" expected_wait_s={place.expected_wait_s:.1f}\n\n"
            )
            self.write(text.encode())
        elif self._source.state == "connecting":
            update = RETRYING if self._source.attempt_count > 1 else CONNECTING
            if update != self._last_update:
                self._last_update = update
                self.write(update)


class WholeReply:
    """Collect a job's answer; `done` returns the body or raises the error."""

    def __init__(self) -> None:
        self._frames: list[bytes] = []
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def write(self, frames: bytes) -> bool:
        """Keep a piece of the body."""
        self._frames.append(frames)
        return True

    def end(self, error: GatewayError | None, last: bytes = b"") -> None:
        """Complete `done` with the body, or with the error."""
        if self.done.done():
            return
        if error is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(b"".join(self._frames) + last)
