"""A fair, bounded queue of jobs for one model.

The owner goes first. Every key has a lane (all guests share one), and lanes take weighted turns by
stride scheduling (Waldspurger and Weihl, 1995): serving a job advances its lane's `passed` by the
lane's stride (1/weight), and the lane with the smallest `passed` is next. A burst of one key delays
that key only. Strides are integers, because the places shown to clients must be exact. When
the queue is full, the newest job of the longest lane is refused in favour of a lane that is shorter
by two or more.

A job is served only when a slot of a deployment could be reserved for it (`seat`). A job whose
deployment has failed comes back to the front of its lane and keeps the rest of its patience. The
queue knows the tickets of jobs, which may run in other processes.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable, Iterator
from functools import cached_property

from workers.errors import GatewayError, Overloaded
from workers.run.ticket import Place, Ticket

OWNER_LANE = "owner"
FIRST_GUESS_S = 5.0
"""The assumed duration of a job until one has been measured."""
SMOOTHING = 0.1
"""Weight of the newest duration in their moving average."""
ONE_TURN = 1 << 20
"""The stride of a lane of weight 1: large enough that 1/weight is an integer with small error."""


class Lane:
    """The waiting jobs of one key (or of all guests), and its account of served turns."""

    __slots__ = ("jobs", "passed", "stride")

    def __init__(self, stride: int, passed: int) -> None:
        self.jobs: deque[Ticket] = deque()
        self.stride = stride
        self.passed = passed


def _passed(lane: Lane) -> int:
    return lane.passed


class FairQueue:
    """Serve jobs in fair order.

    `workers` is how many jobs can be served at the same time, `opens_at` the loop time before which
    none is served because every deployment cools down; both serve the estimate of the wait. What
    the first job cannot use, another may if the lane of the first is in `barred_lanes`. `seat`
    reserves a slot for a job, or returns False. `excuse` returns the error for a job that has
    waited too long, or None if the queue itself was the cause.
    """

    def __init__(
        self,
        max_waiting: int,
        workers: int,
        *,
        seat: Callable[[Ticket], bool] = lambda _job: True,
        excuse: Callable[[Ticket], GatewayError | None] = lambda _job: None,
    ) -> None:
        self.max_waiting = max_waiting
        self.workers = workers
        self.opens_at = 0.0
        self.barred_lanes: frozenset[str] = frozenset()
        self._seat = seat
        self._excuse = excuse
        self._returned = 0
        self._lanes: dict[str, Lane] = {}
        self._owner: deque[Ticket] = deque()
        self._waiting = 0
        self._turn = 0
        self._timers: dict[Ticket, asyncio.TimerHandle] = {}
        self._service_s = FIRST_GUESS_S
        self._measured = False
        self._moved_at: float | None = None

    def __len__(self) -> int:
        return self._waiting + len(self._owner)

    def __iter__(self) -> Iterator[Ticket]:
        """Iterate over the waiting jobs: the owner's, then lane by lane."""
        yield from self._owner
        for lane in sorted(self._lanes.values(), key=_passed):
            yield from lane.jobs

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        # Kept: until Python 3.12 each look-up is a system call (getpid).
        return asyncio.get_running_loop()

    def now(self) -> float:
        """Return the time of the loop."""
        return self._loop.time()

    def put(self, job: Ticket) -> None:
        """Queue a job.

        Raises Overloaded when its lane has no room, or when the expected wait is longer than the
        job's `max_wait_s`.
        """
        self._check_room(job)
        self._append(job)

    def put_back(self, job: Ticket) -> None:
        """Queue a job that was served before, at the front of its lane and whatever the room."""
        job.wait_again()
        self._append(job, front=True)

    def take(self) -> Ticket | None:
        """Take the next job that can be seated out of the queue, with its slot."""
        job = self._first()
        if job is None:
            return None
        if not self._seat(job):
            # What the first cannot use, no other can, except for one that has other needs.
            others = self if self._returned or job.lane in self.barred_lanes else ()
            job = next((one for one in others if one is not job and self._seat(one)), None)
        if job is not None:
            self._take_out(job)
        return job

    def remove(self, job: Ticket) -> None:
        """Remove a job that waits: it is served, or it has ended."""
        job.on_leave_queue = job.find_place = None
        self._stop_timer(job)
        self._returned -= job.tries is not None
        jobs = self._owner if job.lane == OWNER_LANE else self._lanes[job.lane].jobs
        jobs.remove(job)
        if job.lane != OWNER_LANE:
            self._waiting -= 1
            if not jobs:
                del self._lanes[job.lane]

    def place(self, job: Ticket) -> Place:
        """Return the place of a waiting job."""
        waiting = len(self)
        if job.lane == OWNER_LANE:
            ahead = self._owner.index(job)
        else:
            ahead = len(self._owner) + self._ahead_in_turns(job)
        return Place(ahead + 1, waiting, self.expected_wait_s(ahead))

    def expected_wait_s(self, ahead: int) -> float:
        """Estimate the wait behind `ahead` jobs from the durations of recent ones.

        While jobs run longer than those did, from the time since the last one began or ended: the
        average learns of a slow upstream only when a job ends.
        """
        still_s = 0.0
        if self._moved_at is not None:
            still_s = self.now() - self._moved_at
        service_s = max(self._service_s, still_s)
        workers = max(self.workers, 1)
        if self.opens_at:  # the first job waits for no other
            opens_s = max(self.opens_at - self.now(), 0.0)
            return opens_s + self._service_s * ahead / workers
        return max(service_s * (ahead + 1) / workers, still_s)

    def note_start(self) -> float:
        """Record that a job is served; return the time of the loop."""
        self._moved_at = now = self.now()
        return now

    def note_service(self, duration_s: float) -> None:
        """Record that a job has ended, and how long it was served."""
        self._moved_at = self.now()
        if not self._measured:
            self._measured = True
            self._service_s = duration_s
        else:
            self._service_s += SMOOTHING * (duration_s - self._service_s)

    def _check_room(self, job: Ticket) -> None:
        """Refuse a job that would wait too long or has no room.

        The wait is checked first, so that a job which is refused anyway displaces no other.
        """
        owner = job.lane == OWNER_LANE
        ahead = len(self._owner)
        if not owner:
            lane = self._lanes.get(job.lane)
            ahead += self._ahead_of(lane, len(lane.jobs) if lane else 0, ONE_TURN // job.weight)
        if self._measured and self.expected_wait_s(ahead) > job.max_wait_s:
            raise self._no_room(ahead)
        if owner and len(self._owner) >= self.max_waiting:
            raise self._no_room(ahead)
        if not owner and self._waiting >= self.max_waiting and not self._push_out(job):
            raise self._no_room(len(self))

    def _push_out(self, job: Ticket) -> bool:
        """Make room by refusing the newest job of the longest lane, if it stays as long."""
        lane = self._lanes.get(job.lane)
        length = len(lane.jobs) if lane is not None else 0
        longest = max(self._lanes.values(), key=lambda one: len(one.jobs), default=None)
        if longest is None or len(longest.jobs) < length + 2:
            return False
        newest = longest.jobs[-1]
        self.refuse(newest, self._no_room(len(self) - 1))
        return True

    def _no_room(self, ahead: int) -> Overloaded:
        # The jitter keeps clients that were refused together from coming back together.
        wait_s = max(self.expected_wait_s(ahead), 1.0) * random.uniform(1.0, 1.1)
        return Overloaded(
            f"Too many requests wait for this model. Try again in about {math.ceil(wait_s)} s.",
            retry_after_s=wait_s,
        )

    def _append(self, job: Ticket, *, front: bool = False) -> None:
        job.queued()
        self._returned += job.tries is not None
        job.on_leave_queue = self.remove
        job.find_place = self.place
        self._timers[job] = asyncio.get_running_loop().call_later(
            job.patience_s, self._waited_too_long, job
        )
        if job.lane == OWNER_LANE:
            (self._owner.appendleft if front else self._owner.append)(job)
            return
        stride = ONE_TURN // job.weight
        lane = self._lanes.get(job.lane)
        if lane is None:
            # From the present turn on: a lane that was away must not have saved turns up.
            lane = self._lanes[job.lane] = Lane(stride, self._turn + stride)
        lane.stride = stride
        (lane.jobs.appendleft if front else lane.jobs.append)(job)
        self._waiting += 1

    def _first(self) -> Ticket | None:
        """Return the job whose turn it is."""
        if self._owner:
            return self._owner[0]
        return min(self._lanes.values(), key=_passed).jobs[0] if self._lanes else None

    def _take_out(self, job: Ticket) -> None:
        """Remove a job that is served, and count its lane's turn."""
        if job.lane != OWNER_LANE:
            lane = self._lanes[job.lane]
            self._turn = max(self._turn, lane.passed)
            lane.passed += lane.stride
        self.remove(job)

    def _ahead_in_turns(self, job: Ticket) -> int:
        lane = self._lanes[job.lane]
        return self._ahead_of(lane, lane.jobs.index(job), lane.stride)

    def _ahead_of(self, lane: Lane | None, index: int, stride: int) -> int:
        """Count the jobs served before job `index` of a lane (None: a new lane), its own included.

        That job is served when the lane's `passed` is `last`; until then another lane is served
        once for each of its strides up to there.
        """
        passed = lane.passed if lane is not None else self._turn + stride
        last = passed + index * stride
        ahead = index
        for other in self._lanes.values():
            if other is lane:
                last -= 1  # of equal lanes the first is served first: see `min` in `_pop`
            else:
                turns = (last - other.passed) // other.stride + 1
                ahead += max(0, min(len(other.jobs), turns))
        return ahead

    def _waited_too_long(self, job: Ticket) -> None:
        self.refuse(job, self._excuse(job) or self._no_room(self.place(job).position - 1))

    def refuse(self, job: Ticket, error: GatewayError) -> None:
        """End the wait of a job with an error."""
        self.remove(job)
        job.refused(error)

    def _stop_timer(self, job: Ticket) -> None:
        timer = self._timers.pop(job, None)
        if timer is not None:
            timer.cancel()
