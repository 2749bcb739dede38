"""Jobs as the tests of the engine make them, and the two ends that a job hangs between."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from support.waiting import PATIENCE_S

from workers.catalog.catalog import Deployment, Model
from workers.errors import GatewayError
from workers.request.chat_request import ChatRequest, parse_chat
from workers.run.clock import StreamSettings
from workers.run.job import Job, Outcome
from workers.run.queue import FairQueue
from workers.transport.transport import UpstreamExchange

BODY = b'{"model":"test/one","stream":true,"messages":[{"role":"user","content":"Hi"}]}'
MODEL = Model(id="test/one", name="One")
LONG = 1000.0
NOW = 5_000.0
"""What the clock of a `ClockedQueue` says at first, in seconds."""
_numbers = itertools.count(1)


class ClockedQueue(FairQueue):
    """A queue with a clock that the test moves: its estimates say nothing about the machine."""

    at = NOW

    def now(self) -> float:
        """Return the time."""
        return self.at


def make_deployment(
    name: str = "a",
    *,
    order: int = 1,
    weight: int = 1,
    room: int = 64,
    base_url: str = "http://127.0.0.1:1/v1",
) -> Deployment:
    """Make a deployment that needs no secret."""
    return Deployment(
        id=f"test/one@{name}",
        provider="openai",
        base_url=base_url,
        upstream_model="one",
        order=order,
        weight=weight,
        max_concurrency=room,
    )


def stream_settings(
    first_content_timeout_s: float = LONG,
    gap_timeout_s: float = LONG,
    total_timeout_s: float = 0.0,
    usage_wait_s: float = 0.0,
    tools_gap_timeout_s: float = 0.001,
) -> StreamSettings:
    """Return settings with clocks that are long where nothing else is given, in seconds."""
    return StreamSettings(
        first_content_timeout_s=first_content_timeout_s,
        gap_timeout_s=gap_timeout_s,
        tools_gap_timeout_s=tools_gap_timeout_s,
        total_timeout_s=total_timeout_s,
        usage_wait_s=usage_wait_s,
        max_event_bytes=1 << 20,
    )


def make_request(body: bytes = BODY) -> ChatRequest:
    """Parse a chat request."""
    return parse_chat(body)


def make_job(
    lane: str = "key_a",
    *,
    weight: int = 1,
    max_wait_s: float = 1000.0,
    model: Model = MODEL,
    only: str = "",
    settle: Callable[[Outcome], None] | None = None,
) -> Job:
    """Make an admitted job."""
    return Job(
        f"job_{next(_numbers)}",
        make_request(),
        model,
        lane=lane,
        weight=weight,
        max_wait_s=max_wait_s,
        only=only,
        settle=settle if settle is not None else lambda _outcome: None,
    )


class Client:
    """A reader that keeps what it is given; while `slow` it can take no more after each write."""

    def __init__(self, *, slow: bool = False) -> None:
        self.slow = slow
        self.writes: list[bytes] = []
        self.ends: list[GatewayError | None] = []
        self.fault: Exception | None = None
        self.ended = asyncio.Event()

    def write(self, frames: bytes) -> bool:
        """Keep frames, or raise the fault."""
        if self.fault is not None:
            raise self.fault
        assert not self.ends, "a write after the end"
        self.writes.append(frames)
        return not self.slow

    def end(self, error: GatewayError | None, last: bytes = b"") -> None:
        """Keep the end, and the last frames like any."""
        if last:
            self.writes.append(last)
        self.ends.append(error)
        self.ended.set()

    async def end_of_answer(self) -> bytes:
        """Wait for the end and give all that came."""
        async with asyncio.timeout(PATIENCE_S):
            await self.ended.wait()
        return b"".join(self.writes)

    @property
    def told(self) -> GatewayError:
        """Return the error that the client received."""
        (error,) = self.ends
        assert error is not None
        return error


class Tap(UpstreamExchange):
    """An exchange without an upstream: it records the calls."""

    def __init__(self, *, sent: bool = True) -> None:
        super().__init__(_refuse_to_connect, b"", b"")
        self.sent = sent
        self.calls: list[str] = []
        self.error: Exception | None = None
        self.aborted = asyncio.Event()

    def pause(self) -> None:
        """Note that reading stopped."""
        self.calls.append("pause")

    def resume(self) -> None:
        """Note that reading goes on."""
        self.calls.append("resume")

    def abort(self, error: Exception) -> None:
        """Note the first error."""
        self.calls.append("abort")
        if self.error is None:
            self.error = error
        self.aborted.set()


def _refuse_to_connect(_: UpstreamExchange) -> asyncio.Task[None]:
    raise AssertionError("an exchange without an upstream opens no connection")


async def take(queue: FairQueue) -> Job:
    """Take the next job that waits, like a worker."""
    assert len(queue), "nothing waits"
    job = queue.take()
    queue.note_start()
    assert isinstance(job, Job)
    job.pick_up()
    return job


async def drained(queue: FairQueue) -> list[Job]:
    """Take everything that waits, in the order it is served."""
    return [await take(queue) for _ in range(len(queue))]


def fill(queue: FairQueue, lanes: str, weights: dict[str, int] | None = None) -> list[Job]:
    """Queue one job for every letter, each letter a lane."""
    jobs = [make_job(lane, weight=(weights or {}).get(lane, 1)) for lane in lanes]
    for job in jobs:
        queue.put(job)
    return jobs


def lanes_of(jobs: list[Job]) -> str:
    """Spell the lanes of jobs; the owner is O."""
    return "".join("O" if job.lane == "owner" else job.lane for job in jobs)


def rest(queue: FairQueue) -> tuple[int, int, int]:
    """Count what a queue still holds: jobs, lanes, timers."""
    return len(queue), len(queue._lanes), len(queue._timers)


async def served_lanes(queue: FairQueue) -> str:
    return lanes_of(await drained(queue))
