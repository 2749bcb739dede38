"""One admitted chat request, from admission to its only end.

A job is made by a handler, waits in a fair queue, is carried upstream by a worker and ends exactly
once: `close` tells the reader, stops the upstream exchange, and hands the `Outcome` to whoever
settles it (the ledger), whatever the ending was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from workers.catalog.catalog import Deployment, Model
from workers.errors import GatewayError
from workers.providers.translator import Translator
from workers.request.chat_request import ChatRequest, Usage
from workers.run.channel import Channel

Ending = Literal["finished", "failed", "cut", "cancelled", "timed_out", "drained", "refused"]
State = Literal["new", "queued", "connecting", "streaming", "done"]


class Attempt(msgspec.Struct, frozen=True):
    """A deployment that was tried; `start_ms` counts from the making of the job.

    `ending` is "answered", "cancelled" or the gateway's own word for the error that ended it.
    """

    deployment: str
    start_ms: int
    duration_ms: int
    ending: str


class Outcome(msgspec.Struct, frozen=True):
    """How a job ended, as the ledger needs it.

    `usage` is what the upstream told (None: nothing); `output_bytes` the generated text seen, for
    an estimate; `prompt_sent` whether an upstream took the request; times are in seconds.
    `attempts` is empty when nothing is to be told: none was begun, or the only one answered.
    """

    ending: Ending
    usage: Usage | None = None
    output_bytes: int = 0
    prompt_sent: bool = False
    deployment: str | None = None
    error: GatewayError | None = None
    ttft_s: float | None = None
    duration_s: float = 0.0
    queued_s: float = 0.0
    attempts: tuple[Attempt, ...] = ()


class Upstream(Protocol):
    """What a job needs of the exchange that carries it: `workers.transport.transport.Exchange`."""

    @property
    def sent(self) -> bool:
        """Say whether the whole request has been given to the upstream's socket."""

    def abort(self, error: Exception) -> None:
        """Stop at once, in whatever phase; idempotent."""

    def pause(self) -> None:
        """Stop reading from the upstream's socket; idempotent."""

    def resume(self) -> None:
        """Read on; idempotent."""


class JobEnded(Exception):
    """The exchange was aborted because its job had already ended."""


class Place(msgspec.Struct, frozen=True):
    """Where a waiting job stands: `position` counts from 1; the wait is an estimate."""

    position: int
    waiting: int
    expected_wait_s: float


class Job:
    """An admitted request plus its channel, deadline and lease.

    `lane` is whose turn it takes ("owner", a key id, "guests"), `weight` that lane's share,
    `holder` whose job it is (the lane's, if nothing is said), `credential` what they showed for it
    (opaque here). `max_wait_s` is how long it may wait in the queue. `settle` is called once with
    the outcome, `on_progress` when its state has changed before the first content.
    """

    def __init__(
        self,
        job_id: str,
        request: ChatRequest,
        model: Model,
        *,
        lane: str,
        holder: str = "",
        credential: bytes = b"",
        weight: int = 1,
        max_wait_s: float = 120.0,
        settle: Callable[[Outcome], None],
    ) -> None:
        self.id = job_id
        self.request = request
        self.model = model
        self.lane = lane
        self.holder = holder or lane
        self.credential = credential
        self.weight = weight
        self.max_wait_s = max_wait_s
        self.state: State = "new"
        self.channel = Channel()
        self.attempts = 0
        self.deployment: Deployment | None = None
        self._settle = settle
        self._loop = asyncio.get_running_loop()
        self.created = self._loop.time()
        self._picked_up: float | None = None
        self._first_frame: float | None = None
        self._exchange: Upstream | None = None
        self._begun = 0.0
        self._failures: tuple[Attempt, ...] = ()
        self._translator: Translator | None = None
        self.on_end: Callable[[Job], None] | None = None
        self.on_leave_queue: Callable[[Job], None] | None = None
        self.find_place: Callable[[Job], Place] | None = None
        self.on_progress: Callable[[], None] | None = None

    @property
    def ended(self) -> bool:
        """Say whether `close` has run."""
        return self.state == "done"

    @property
    def committed(self) -> bool:
        """Say whether the client has been given content, after which no retry is possible."""
        return self._first_frame is not None

    @property
    def output_bytes(self) -> int:
        """Give how much text has been generated so far."""
        return self._translator.output_bytes if self._translator is not None else 0

    def place(self) -> Place | None:
        """Tell where the job waits, or None when it does not wait any more."""
        if self.state == "queued" and self.find_place is not None:
            return self.find_place(self)
        return None

    def pick_up(self) -> None:
        """Note that a worker has taken the job."""
        self._picked_up = self._loop.time()
        self.state = "connecting"
        if self.on_progress is not None:
            self.on_progress()

    def resume(self) -> None:
        """Go on: the client can take more."""
        self.channel.resume()

    def begin(self, deployment: Deployment, translator: Translator, exchange: Upstream) -> None:
        """Note the attempt that now carries the job; `exchange` is aborted when the job ends."""
        self.attempts += 1
        self._begun = self._loop.time()
        self.deployment = deployment
        self._translator = translator
        self._exchange = exchange
        self.channel.draw_from(exchange)
        if self.attempts > 1 and self.on_progress is not None:
            self.on_progress()

    def note_failure(self, error: GatewayError) -> None:
        """Note that the attempt has failed; another may begin."""
        self._failures = (*self._failures, self._attempt(error.own_code, self._loop.time()))

    def push(self, frames: bytes) -> None:
        """Pass whole frames on to the reader; the first ones commit the job."""
        if not frames or self.state == "done":
            return
        if self._first_frame is None:
            self._commit()
        self.channel.push(frames)

    def finish(self, last: bytes) -> None:
        """End well, with the last frames."""
        if self._first_frame is None and self.state != "done":
            self._commit()
        self.close("finished", last=last)

    def cancel(self) -> None:
        """End the job because its client has left; what still waits for it is dropped."""
        self.close("cancelled")
        self.channel.abandon()

    def close(
        self, ending: Ending, error: GatewayError | None = None, *, last: bytes = b""
    ) -> None:
        """End the job, once: later calls do nothing. `error` is what the reader is told."""
        if self.state == "done":
            return
        if self.state == "queued" and self.on_leave_queue is not None:
            self.on_leave_queue(self)
        self.state = "done"
        outcome = self._outcome(ending, error)
        exchange, self._exchange = self._exchange, None
        if exchange is not None and ending != "finished":
            exchange.abort(JobEnded())
        self.request.fields.clear()  # it holds the whole body
        self.on_leave_queue = self.find_place = self.on_progress = None
        try:
            self._settle(outcome)
        finally:
            if self.on_end is not None:
                self.on_end(self)
            self.channel.end(error, last)

    def _commit(self) -> None:
        self._first_frame = self._loop.time()
        self.state = "streaming"
        self.request.fields.clear()  # it holds the whole body

    def _attempt(self, ending: str, now: float) -> Attempt:
        assert self.deployment is not None
        start_ms = int((self._begun - self.created) * 1000)
        took_ms = int((now - self._begun) * 1000)
        return Attempt(self.deployment.id, start_ms, took_ms, ending)

    def _attempts(
        self, ending: Ending, error: GatewayError | None, now: float
    ) -> tuple[Attempt, ...]:
        """Tell what was tried; an attempt that has not failed by itself ends with the job."""
        failures = self._failures
        if len(failures) == self.attempts or (ending == "finished" and not failures):
            return failures
        if ending == "finished":
            told = "answered"
        else:
            told = error.own_code if error is not None and ending != "cancelled" else "cancelled"
        return (*failures, self._attempt(told, now))

    def _outcome(self, ending: Ending, error: GatewayError | None) -> Outcome:
        now = self._loop.time()
        translator, first = self._translator, self._first_frame
        return Outcome(
            ending=ending,
            usage=translator.usage if translator is not None else None,
            output_bytes=translator.output_bytes if translator is not None else 0,
            prompt_sent=self.committed or (self._exchange is not None and self._exchange.sent),
            deployment=self.deployment.id if self.deployment is not None else None,
            error=error,
            ttft_s=first - self.created if first is not None else None,
            duration_s=now - self.created,
            queued_s=(self._picked_up or now) - self.created,
            attempts=self._attempts(ending, error, now),
        )
