"""A fair, bounded queue of jobs for one model.

The owner goes first. Every key has a lane (all guests share one), and lanes take weighted turns by
stride scheduling (Waldspurger and Weihl, 1995): serving a job advances its lane's `passed` by the
lane's stride (1/weight), and the lane with the smallest `passed` is next. A burst of one key delays
that key only. Strides are integers, because the places shown to clients must be exact. When
the queue is full, the newest job of the longest lane is refused in favour of a lane that is shorter
by two or more.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque

from workers.errors import Overloaded
from workers.run.job import Job, Place

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
        self.jobs: deque[Job] = deque()
        self.stride = stride
        self.passed = passed


class FairQueue:
    """Hand jobs to workers in fair order; `workers` is how many there can be."""

    def __init__(self, max_waiting: int, workers: int) -> None:
        self.max_waiting = max_waiting
        self.workers = workers
        self._lanes: dict[str, Lane] = {}
        self._owner: deque[Job] = deque()
        self._waiting = 0
        self._turn = 0
        self._idle: list[asyncio.Future[Job | None]] = []
        self._timers: dict[Job, asyncio.TimerHandle] = {}
        self._service_s = FIRST_GUESS_S
        self._measured = False
        self._moved_at: float | None = None
        self._closed = False

    def __len__(self) -> int:
        return self._waiting + len(self._owner)

    @property
    def idle_workers(self) -> int:
        """How many workers wait for a job."""
        return len(self._idle)

    def put(self, job: Job) -> None:
        """Hand a job to an idle worker, or queue it.

        Raises Overloaded when its lane has no room, or when the expected wait is longer than the
        job's `max_wait_s`.
        """
        if not self._hand_over(job):
            self._check_room(job)
            self._append(job)

    async def get(self) -> Job | None:
        """Wait for the next job; return None when the queue is closed."""
        if self._closed:
            return None
        job = self._pop()
        if job is None:
            idle: asyncio.Future[Job | None] = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            try:
                job = await idle
            except asyncio.CancelledError:
                self._forget_worker(idle)
                raise
        else:
            self.note_start()
        return job

    def remove(self, job: Job) -> None:
        """Remove a job that ended while it waited."""
        self._stop_timer(job)
        jobs = self._owner if job.lane == OWNER_LANE else self._lanes[job.lane].jobs
        jobs.remove(job)
        if job.lane != OWNER_LANE:
            self._waiting -= 1
            if not jobs:
                del self._lanes[job.lane]

    def place(self, job: Job) -> Place:
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
            still_s = asyncio.get_running_loop().time() - self._moved_at
        service_s = max(self._service_s, still_s)
        return max(service_s * (ahead + 1) / max(self.workers, 1), still_s)

    def note_start(self) -> None:
        """Record that a worker is given a job, at once: the next job may come before it runs."""
        self._moved_at = asyncio.get_running_loop().time()

    def note_service(self, duration_s: float) -> None:
        """Record that a worker has ended a job, and how long it was busy with it."""
        self._moved_at = asyncio.get_running_loop().time()
        if not self._measured:
            self._measured = True
            self._service_s = duration_s
        else:
            self._service_s += SMOOTHING * (duration_s - self._service_s)

    def close(self) -> None:
        """Release idle workers; the caller has ended the queued jobs."""
        self._closed = True
        for idle in self._idle:
            if not idle.done():
                idle.set_result(None)
        self._idle.clear()

    def _hand_over(self, job: Job) -> bool:
        while self._idle:
            worker = self._idle.pop()
            if not worker.done():
                worker.set_result(job)
                self.note_start()
                return True
        return False

    def _forget_worker(self, idle: asyncio.Future[Job | None]) -> None:
        """Remove a cancelled worker; a job it was just given goes to another."""
        if idle in self._idle:
            self._idle.remove(idle)
            return
        job = None if idle.cancelled() else idle.result()
        if job is not None and not job.ended and not self._hand_over(job):
            self._append(job)

    def _check_room(self, job: Job) -> None:
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

    def _push_out(self, job: Job) -> bool:
        """Make room by refusing the newest job of the longest lane, if it stays as long."""
        lane = self._lanes.get(job.lane)
        length = len(lane.jobs) if lane is not None else 0
        longest = max(self._lanes.values(), key=lambda one: len(one.jobs), default=None)
        if longest is None or len(longest.jobs) < length + 2:
            return False
        newest = longest.jobs[-1]
        newest.close("refused", self._no_room(len(self) - 1))
        return True

    def _no_room(self, ahead: int) -> Overloaded:
        # The jitter keeps clients that were refused together from coming back together.
        wait_s = max(self.expected_wait_s(ahead), 1.0) * random.uniform(1.0, 1.1)
        return Overloaded(
            f"Too many requests wait for this model. Try again in about {math.ceil(wait_s)} s.",
            retry_after_s=wait_s,
        )

    def _append(self, job: Job) -> None:
        job.state = "queued"
        job.on_leave_queue = self.remove
        job.find_place = self.place
        self._timers[job] = asyncio.get_running_loop().call_later(
            job.max_wait_s, self._waited_too_long, job
        )
        if job.lane == OWNER_LANE:
            self._owner.append(job)
            return
        stride = ONE_TURN // job.weight
        lane = self._lanes.get(job.lane)
        if lane is None:
            # From the present turn on: a lane that was away must not have saved turns up.
            lane = self._lanes[job.lane] = Lane(stride, self._turn + stride)
        lane.stride = stride
        lane.jobs.append(job)
        self._waiting += 1

    def _pop(self) -> Job | None:
        if self._owner:
            job = self._owner.popleft()
        elif self._lanes:
            name, lane = min(self._lanes.items(), key=lambda item: item[1].passed)
            job = lane.jobs.popleft()
            self._waiting -= 1
            self._turn = lane.passed
            lane.passed += lane.stride
            if not lane.jobs:
                del self._lanes[name]
        else:
            return None
        self._stop_timer(job)
        job.on_leave_queue = job.find_place = None
        return job

    def _ahead_in_turns(self, job: Job) -> int:
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

    def _waited_too_long(self, job: Job) -> None:
        if job.state == "queued":
            job.close("refused", self._no_room(self.place(job).position - 1))

    def _stop_timer(self, job: Job) -> None:
        timer = self._timers.pop(job, None)
        if timer is not None:
            timer.cancel()
