"""The events of one answer, kept so that readers can leave, come back and be several.

An `AnswerLog` is the reader of a job's channel. It numbers the answer's events from 1 and passes
them on to the attached readers. A reader that attaches later gets the events after the number it
names, then follows. A slow reader never pauses the upstream: it reads from the log.

Full segments are compressed (about ten to one, because chunks repeat each other), except large
events, which are mostly pictures in base64: compressing 7 MB of it would stop the loop for a second
and save a quarter. Above `max_bytes` the oldest events are dropped.
"""

from __future__ import annotations

import asyncio
import zlib
from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple

from workers.errors import AnswerGone, Conflict, GatewayError, InvalidRequest, Stopped
from workers.run.channel import Reader
from workers.run.job import Job, JobState
from workers.run.ticket import Place
from workers.units import KIB

SEGMENT_BYTES = 64 * KIB
"""Size of a segment: zlib compresses it at level 1 in less than a millisecond."""
LARGE_BYTES = 256 * KIB
"""A segment that ends with frames of one write above this size is not compressed."""
MAX_READERS = 16
EVENT_END = b"\n\n"


class Segment(NamedTuple):
    """Events, compressed or not, with the numbers of the first and the last."""

    first: int
    last: int
    held: bytes
    compressed: bool

    def events(self) -> bytes:
        """Return the events as they were written."""
        return zlib.decompress(self.held) if self.compressed else self.held


class AnswerLog:
    """Keep the answer of a job and pass it to all attached readers.

    `on_growth` is called with the change of the held size in bytes. With `grace_s` the job is
    stopped after so many seconds without a reader; without, it runs to its end. `last` is the
    number of the last event, not counting the error event that may end the answer.
    """

    def __init__(
        self, max_bytes: int, on_growth: Callable[[int], None], grace_s: float | None = None
    ) -> None:
        self.last = 0
        self.size_bytes = 0
        self.ended = False
        self.error: GatewayError | None = None
        self.job: Job | None = None
        self._max_bytes = max_bytes
        self._on_growth = on_growth
        self._grace_s = grace_s
        self._grace: asyncio.TimerHandle | None = None
        self._sealed: list[Segment] = []
        self._open: list[bytes] = []
        self._open_first = 1
        self._open_bytes = 0
        self._attached: list[Attachment] = []

    @property
    def first(self) -> int:
        """The number of the oldest event that is kept, or of the next one if none is."""
        return self._sealed[0].first if self._sealed else self._open_first

    @property
    def last_event(self) -> int:
        """The number of the last event, including the error event that ended the answer."""
        return self.last + (self.error is not None)

    def carry(self, job: Job) -> None:
        """Read the answer of a job until it ends."""
        self.job = job
        job.on_progress = self._report_progress
        job.channel.attach(self)

    @property
    def attached(self) -> tuple[Attachment, ...]:
        """The present readers."""
        return tuple(self._attached)

    def attach(self, after: int, credential: bytes = b"") -> Attachment:
        """Add a reader that has seen the events up to number `after`.

        `credential` is the one that the reader presented, as in `Job`.
        Raises InvalidRequest, AnswerGone, or Conflict when there are too many readers.
        """
        if after > self.last_event:
            raise InvalidRequest(
                f"'after' must be at most {self.last_event}, the last event there is.",
                param="after",
            )
        if after < self.first - 1:
            raise AnswerGone
        if len(self._attached) >= MAX_READERS:
            raise Conflict("Too many readers follow this answer.")
        attachment = Attachment(self, after, credential)
        self._attached.append(attachment)
        self._stop_grace()
        return attachment

    def detach(self, attachment: Attachment) -> None:
        """Remove a reader; the grace period begins when it was the last."""
        if attachment in self._attached:
            self._attached.remove(attachment)
        if self._grace_s is not None and not self._attached and not self.ended:
            loop = asyncio.get_running_loop()
            self._stop_grace()
            self._grace = loop.call_later(self._grace_s, self._abandon)

    def write(self, frames: bytes) -> bool:
        """Append events of the job and pass them on; True, because there is always room."""
        large = len(frames) > LARGE_BYTES
        self.last += frames.count(EVENT_END)
        self._open.append(frames)
        self._open_bytes += len(frames)
        self._grow(len(frames))
        for attachment in tuple(self._attached):  # a copy: a reader may detach meanwhile
            attachment.pass_on(frames)
        if self._open_bytes >= SEGMENT_BYTES:
            self._seal(compressed=not large)
            # The newest segment stays: a reader that keeps up must be able to continue.
            while self.size_bytes > self._max_bytes and len(self._sealed) > 1:
                self.drop_oldest()
        return True

    def end(self, error: GatewayError | None, last: bytes = b"") -> None:
        """Append the last events and end the answer for all readers."""
        if last:
            self.write(last)
        self.ended = True
        self.error = error
        self.job = None
        self._stop_grace()
        if self._open:
            self._seal()
        for attachment in tuple(self._attached):
            attachment.finish()

    def close(self) -> None:
        """Stop the timer; the log must not be used any more."""
        self._stop_grace()

    def drop_oldest(self) -> bool:
        """Drop the oldest full segment; return False when there is none."""
        if not self._sealed:
            return False
        self._grow(-len(self._sealed.pop(0).held))
        return True

    def after(self, seen: int) -> tuple[int, bytes]:
        """Return some of the events after number `seen`, and the number of the last of them.

        Raises AnswerGone when the next event is no longer kept.
        """
        if seen < self.first - 1:
            raise AnswerGone
        index = bisect_right(self._sealed, seen, key=lambda segment: segment.last)
        if index < len(self._sealed):
            segment = self._sealed[index]
            return segment.last, _without(segment.events(), seen - segment.first + 1)
        return self.last, _without(b"".join(self._open), seen - self._open_first + 1)

    def _seal(self, *, compressed: bool = True) -> None:
        events = self._open[0] if len(self._open) == 1 else b"".join(self._open)
        held = zlib.compress(events, 1) if compressed else events
        self._sealed.append(Segment(self._open_first, self.last, held, compressed))
        self._grow(len(held) - self._open_bytes)
        self._open.clear()
        self._open_bytes = 0
        self._open_first = self.last + 1

    def _grow(self, size: int) -> None:
        self.size_bytes += size
        self._on_growth(size)

    def _report_progress(self) -> None:
        for attachment in tuple(self._attached):
            if attachment.on_progress is not None:
                attachment.on_progress()

    def _stop_grace(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None

    def _abandon(self) -> None:
        if self.job is not None:
            why = "The answer was stopped because it had no reader left."
            self.job.close("cancelled", Stopped(why, code="abandoned"))


class Attachment:
    """One reader of a log. It replaces the job in what the reader needs of one."""

    def __init__(self, log: AnswerLog, after: int, credential: bytes = b"") -> None:
        self.credential = credential
        self.on_progress: Callable[[], None] | None = None
        self._log = log
        self._seen = after
        self._full = False
        self._reader: Reader | None = None

    @property
    def state(self) -> JobState:
        """The state of the job."""
        return self._log.job.state if self._log.job is not None else "done"

    @property
    def attempt_count(self) -> int:
        """How many deployments were tried."""
        return self._log.job.attempt_count if self._log.job is not None else 0

    def place(self) -> Place | None:
        """Return the job's place in the queue, or None when it does not wait."""
        return self._log.job.place() if self._log.job is not None else None

    def begin(self, reader: Reader) -> None:
        """Send a reader the events it has not seen, then each new one."""
        self._reader = reader
        self.resume()

    def leave(self) -> None:
        """Detach a reader whose client has left; idempotent."""
        self.end(None)

    def resume(self) -> None:
        """Continue sending: the reader can take more."""
        self._full = False
        try:
            while self._reader is not None and not self._full and self._seen < self._log.last:
                self._seen, events = self._log.after(self._seen)
                self._full = not self._reader.write(events)
        except AnswerGone as error:
            self.end(error)
            return
        if self._log.ended:
            self.finish()

    def pass_on(self, frames: bytes) -> None:
        """Send the reader new events, unless it has not taken the earlier ones yet."""
        if self._reader is not None and not self._full:
            self._seen = self._log.last
            self._full = not self._reader.write(frames)

    def finish(self) -> None:
        """End the answer for a reader that has all events.

        The error counts as an event: a reader that has seen it gets an end without one.
        """
        if not self._full:
            self.end(self._log.error if self._seen <= self._log.last else None)

    def end(self, error: GatewayError | None) -> None:
        """Detach the reader and end its answer; idempotent."""
        reader, self._reader = self._reader, None
        self.on_progress = None
        self._log.detach(self)
        if reader is not None:
            reader.end(error)


def _without(events: bytes, count: int) -> bytes:
    """Return `events` without the first `count`."""
    start = 0
    for _ in range(count):
        start = events.index(EVENT_END, start) + len(EVENT_END)
    return events[start:]
