"""The events of one answer, kept so that its readers can leave, come back and be several.

An `AnswerLog` is the reader of a job's channel. It numbers the answer's events from 1 and passes
them on to whoever is attached; a reader that attaches later is given what came after the number it
names, then follows. The upstream is never held back: who falls behind reads from the log.

What is full is compressed (events repeat each other: some ten to one), and past `max_bytes` the
oldest events go.
"""

from __future__ import annotations

import asyncio
import zlib
from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple

from workers.errors import AnswerGone, Conflict, GatewayError, InvalidRequest, Stopped
from workers.run.channel import Reader
from workers.run.job import Job, Place, State
from workers.units import KIB

SEGMENT_BYTES = 64 * KIB
"""Compressed in one go, in less than a millisecond."""
MAX_READERS = 16
EVENT_END = b"\n\n"


class Segment(NamedTuple):
    """Some events, the first and the last by number, compressed."""

    first: int
    last: int
    packed: bytes


class AnswerLog:
    """Keep what a job answers and fan it out.

    `on_growth` is told how many bytes more (or fewer) are held. With `grace_s` the job is stopped
    when nobody has been attached for so many seconds; without, it runs to its end. `last` is the
    number of the last event that came, not counting the error event that may end the answer.
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
        """Give the number of the oldest event that is still here (or is yet to come)."""
        return self._sealed[0].first if self._sealed else self._open_first

    @property
    def last_event(self) -> int:
        """Give the number of the last event, the error event that ended the answer included."""
        return self.last + (self.error is not None)

    def carry(self, job: Job) -> None:
        """Become the reader of a job, until it ends."""
        self.job = job
        job.on_progress = self._tell_progress
        job.channel.attach(self)

    @property
    def attached(self) -> tuple[Attachment, ...]:
        """Give the places of those who read now."""
        return tuple(self._attached)

    def attach(self, after: int, credential: bytes = b"") -> Attachment:
        """Make a place for a reader that has seen the events up to number `after`.

        `credential` is what the reader showed, as a job has it.
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
        """Forget a reader; without any, the grace begins."""
        if attachment in self._attached:
            self._attached.remove(attachment)
        if self._grace_s is not None and not self._attached and not self.ended:
            loop = asyncio.get_running_loop()
            self._stop_grace()
            self._grace = loop.call_later(self._grace_s, self._abandon)

    def write(self, frames: bytes) -> bool:
        """Take events of the job; there is always room."""
        self.last += frames.count(EVENT_END)
        self._open.append(frames)
        self._open_bytes += len(frames)
        self._grow(len(frames))
        for attachment in tuple(self._attached):
            attachment.pass_on(frames)
        if self._open_bytes >= SEGMENT_BYTES:
            self._seal()
            while self.size_bytes > self._max_bytes and len(self._sealed) > 1:
                self.drop_oldest()
        return True

    def end(self, error: GatewayError | None, last: bytes = b"") -> None:
        """Take the last events and tell everybody that no more will come."""
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
        """Stop the clock; the log is not used any more."""
        self._stop_grace()

    def drop_oldest(self) -> bool:
        """Forget the oldest compressed events; False: there are none."""
        if not self._sealed:
            return False
        self._grow(-len(self._sealed.pop(0).packed))
        return True

    def after(self, seen: int) -> tuple[int, bytes]:
        """Give the next events after number `seen`, a piece at a time, and the last one's number.

        Raises AnswerGone when the next one is not here any more.
        """
        if seen < self.first - 1:
            raise AnswerGone
        index = bisect_right(self._sealed, seen, key=lambda segment: segment.last)
        if index < len(self._sealed):
            segment = self._sealed[index]
            events = zlib.decompress(segment.packed)
            return segment.last, _without(events, seen - segment.first + 1)
        return self.last, _without(b"".join(self._open), seen - self._open_first + 1)

    def _seal(self) -> None:
        packed = zlib.compress(b"".join(self._open), 1)
        self._sealed.append(Segment(self._open_first, self.last, packed))
        self._grow(len(packed) - self._open_bytes)
        self._open.clear()
        self._open_bytes = 0
        self._open_first = self.last + 1

    def _grow(self, size: int) -> None:
        self.size_bytes += size
        self._on_growth(size)

    def _tell_progress(self) -> None:
        for attachment in tuple(self._attached):
            if attachment.on_progress is not None:
                attachment.on_progress()

    def _stop_grace(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None

    def _abandon(self) -> None:
        if self.job is not None:
            why = "Nobody was left to read this answer, so it was stopped."
            self.job.close("cancelled", Stopped(why, code="abandoned"))


class Attachment:
    """One reader's place in a log; it stands in for the job that the reader follows."""

    def __init__(self, log: AnswerLog, after: int, credential: bytes = b"") -> None:
        self.credential = credential
        self.on_progress: Callable[[], None] | None = None
        self._log = log
        self._seen = after
        self._full = False
        self._reader: Reader | None = None

    @property
    def state(self) -> State:
        """Give the state of the job."""
        return self._log.job.state if self._log.job is not None else "done"

    @property
    def attempts(self) -> int:
        """Give how many deployments were tried."""
        return self._log.job.attempts if self._log.job is not None else 0

    def place(self) -> Place | None:
        """Tell where the job waits."""
        return self._log.job.place() if self._log.job is not None else None

    def begin(self, reader: Reader) -> None:
        """Give a reader what it has not seen, then everything that comes."""
        self._reader = reader
        self.resume()

    def leave(self) -> None:
        """Follow no more: the reader is told the end, but it has left; idempotent."""
        self.end(None)

    def resume(self) -> None:
        """Go on: the reader can take more."""
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
        """Give the reader what has just come, unless it is still busy with what came before."""
        if self._reader is not None and not self._full:
            self._seen = self._log.last
            self._full = not self._reader.write(frames)

    def finish(self) -> None:
        """Tell the reader the end, if it has everything; the error is an event, seen or not."""
        if not self._full:
            self.end(self._log.error if self._seen <= self._log.last else None)

    def end(self, error: GatewayError | None) -> None:
        """Follow no more and tell the reader so; idempotent."""
        reader, self._reader = self._reader, None
        self.on_progress = None
        self._log.detach(self)
        if reader is not None:
            reader.end(error)


def _without(events: bytes, count: int) -> bytes:
    """Leave out the first `count` events."""
    start = 0
    for _ in range(count):
        start = events.index(EVENT_END, start) + len(EVENT_END)
    return events[start:]
