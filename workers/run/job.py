"""One admitted chat request, from admission to its end.

A handler makes a job, it waits in a fair queue, a worker carries it upstream, and it ends exactly
once: `close` ends the answer for the reader, stops the upstream exchange and passes the `Outcome`
to the ledger, whatever the ending.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from workers.catalog.catalog import Deployment, Model
from workers.errors import GatewayError, UpstreamError, UpstreamTimeout
from workers.providers.translator import Translator
from workers.request.chat_request import ChatRequest
from workers.request.token_usage import Usage
from workers.run.channel import Channel
from workers.run.ticket import Place, Ticket
from workers.transport.transport import UpstreamExchange

Ending = Literal["finished", "failed", "cut", "cancelled", "timed_out", "drained", "refused"]
"""How a job ended. Its usage row has the same word in the column and JSON member `status`."""
OWN_CLOCKS = ("first_content", "gap", "total")
"""The clocks of the gateway that run while an upstream works on a prompt."""
TRAILER_SHARE = 0.1
"""For which share of `usage_wait_s` a usage is waited for that may follow the end mark."""
JobState = Literal["new", "queued", "connecting", "streaming", "done"]
"""Where a job is on its way."""


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One try to have the request answered by one deployment.

    `start_ms` counts from the creation of the job. `ending` is "answered", "cancelled" or the code
    of the error that ended it (`GatewayError.own_code`). After an error of the upstream `reason` is
    what of the deployment's configuration it refuses, `status` that of its rejection and `message`
    its own words, or what went wrong with the connection; each is missing where there is none.
    """

    deployment: str
    start_ms: int
    duration_ms: int
    ending: str
    reason: str = ""
    status: int = 0
    message: str = ""


class FailedUse(NamedTuple):
    """What an attempt has used that failed before its first content, as its upstream reports it."""

    usage: Usage
    stated_cost_microusd: int | None


class Outcome(msgspec.Struct, frozen=True):
    """How a job ended, as the ledger needs it.

    `usage` is what the upstream reported (None: nothing), `output_bytes` the size of the generated
    text, for an estimate, `prompt_sent` whether an upstream has received the request.
    `reached_upstream`: an attempt has sent bytes of the request. `timed_out_prompts` counts the
    attempts that a clock ended after the whole prompt was sent and before the first content: their
    upstreams may charge for the prompt. `failed_uses` is what failed attempts have reported.
    Times are in seconds. `attempts` is empty when none was begun, or when the first one answered.
    `stated_cost_microusd` is what the upstream says that the answer costs, where that counts.
    `complete`: every choice has finished, so that a reported usage is that of the whole answer.
    """

    ending: Ending
    usage: Usage | None = None
    output_bytes: int = 0
    prompt_sent: bool = False
    reached_upstream: bool = False
    timed_out_prompts: int = 0
    deployment: str | None = None
    error: GatewayError | None = None
    ttft_s: float | None = None
    duration_s: float = 0.0
    queued_s: float = 0.0
    attempts: tuple[Attempt, ...] = ()
    stated_cost_microusd: int | None = None
    complete: bool = False
    failed_uses: tuple[FailedUse, ...] = ()


class OwedUsage(NamedTuple):
    """The outcome of a job whose usage is waited for, and the usage that was known before."""

    outcome: Outcome
    known: Usage | None
    timer: asyncio.TimerHandle


class JobEnded(Exception):
    """The reason for aborting the exchange of a job that has ended."""


class Job(Ticket):
    """An admitted request with its channel and its settlement. It is its own ticket.

    `holder` is whose job it is (default: the lane), `credential` what the holder presented (opaque
    here). `budgeted`: money for one attempt is reserved. `settle` is called once with the outcome,
    `free_body` each time when the request's body is dropped (at least once), `on_granted` when a
    deployment is to be asked, `on_progress` when the state changes before the first content.
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
        budgeted: bool = False,
        weight: int = 1,
        max_wait_s: float = 120.0,
        only: str = "",
        status_s: float = math.inf,
        settle: Callable[[Outcome], None],
        free_body: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            job_id,
            model,
            lane=lane,
            weight=weight,
            max_wait_s=max_wait_s,
            only=only,
            status_s=status_s,
        )
        self.request = request
        self.holder = holder or lane
        self.credential = credential
        self.state: JobState = "new"
        self.channel = Channel()
        self.attempt_count = 0
        self.deployment: Deployment | None = None
        self._budgeted = budgeted
        self._settle = settle
        self._free_body = free_body
        self._first_frame: float | None = None
        self._exchange: UpstreamExchange | None = None
        self._begun = 0.0
        self._failures: tuple[Attempt, ...] = ()
        self._reached = False
        self._usage_wait_s = 0.0
        self._owed: OwedUsage | None = None
        self._timed_out_prompts = 0
        self._failed_uses: tuple[FailedUse, ...] = ()
        self._translator: Translator | None = None
        self.on_granted: Callable[[Job], None] | None = None
        self.on_end: Callable[[Job], None] | None = None
        self.on_progress: Callable[[], None] | None = None

    @property
    def ended(self) -> bool:
        """True if `close` has run."""
        return self.state == "done"

    @property
    def committed(self) -> bool:
        """True if the client was sent content, after which no retry is possible."""
        return self._first_frame is not None

    @property
    def affords_another(self) -> bool:
        """False if a failed attempt has spent of a budget what is reserved for one attempt."""
        return not self._budgeted or all(use.stated_cost_microusd == 0 for use in self._failed_uses)

    @property
    def output_bytes(self) -> int:
        """The size of the generated text so far."""
        return self._translator.output_bytes if self._translator is not None else 0

    def place(self) -> Place | None:
        """Return the job's place in the queue, or None when it does not wait."""
        if self.state == "queued" and self.find_place is not None:
            return self.find_place(self)
        return None

    def granted(self) -> None:
        """Be carried to the assigned deployment."""
        if self.on_granted is not None:
            self.on_granted(self)

    def queued(self) -> None:
        """Wait in the queue."""
        self.state = "queued"

    def refused(self, error: GatewayError) -> None:
        """End: no deployment can be asked in time."""
        tried = self.attempt_count and isinstance(error, UpstreamError)
        self.close("failed" if tried else "refused", error)

    @property
    def attempt_reached(self) -> bool:
        """True if the last attempt has sent bytes of the request."""
        return self._exchange is not None and self._exchange.connected_at is not None

    def wait_again(self) -> None:
        """Record that the job waits for another deployment, or for the same one to recover."""
        super().wait_again()
        self._exchange = None  # its failed attempt has sent nothing that counts

    def pick_up(self) -> None:
        """Record that a worker has taken the job."""
        self.stop_waiting()
        self.state = "connecting"
        if self.on_progress is not None:
            self.on_progress()

    def resume(self) -> None:
        """Continue writing: the client can take more."""
        self.channel.resume()

    def begin(
        self,
        deployment: Deployment,
        translator: Translator,
        exchange: UpstreamExchange,
        *,
        usage_wait_s: float = 0.0,
    ) -> None:
        """Record the attempt that carries the job; `close` aborts its exchange.

        `usage_wait_s` is how long a finished answer without its usage may outlast its reader.
        """
        self.attempt_count += 1
        self._begun = self._loop.time()
        self.deployment = deployment
        self._translator = translator
        self._exchange = exchange
        self._usage_wait_s = usage_wait_s
        self.channel.draw_from(exchange)
        if self.attempt_count > 1 and self.on_progress is not None:
            self.on_progress()

    def note_failure(self, error: GatewayError) -> None:
        """Record that the attempt has failed; another may begin."""
        exchange, translator = self._exchange, self._translator
        if exchange is not None and exchange.connected_at is not None:
            self._reached = True
            timed_out = isinstance(error, UpstreamTimeout) and error.clock in OWN_CLOCKS
            if self.state == "done" or self.committed:
                pass  # the outcome has the usage of this attempt
            elif translator is not None and translator.usage is not None:
                used = translator.usage.filled(self.request.prompt_estimate, 0)
                use = FailedUse(used, translator.stated_cost_microusd)
                self._failed_uses = (*self._failed_uses, use)
            elif timed_out and exchange.sent:
                self._timed_out_prompts += 1
        self._failures = (*self._failures, self._attempt(error.own_code, self._loop.time(), error))

    def push(self, frames: bytes) -> None:
        """Pass whole frames to the reader; the first ones commit the job."""
        if not frames or self.state == "done":
            return
        if self._first_frame is None:
            self._commit()
        self.channel.push(frames)

    def finish(self, last: bytes, *, usage_may_follow: bool = False) -> None:
        """End the job as finished, with the last frames.

        The usage of some upstreams follows the end mark: the job is settled shortly after.
        """
        if self._first_frame is None and self.state != "done":
            self._commit()
        self.close("finished", last=last, usage_may_follow=usage_may_follow)

    def cancel(self) -> None:
        """End the job because its client has left; drop the frames that wait."""
        self.close("cancelled")
        self.channel.abandon()

    def close(
        self,
        ending: Ending,
        error: GatewayError | None = None,
        *,
        last: bytes = b"",
        usage_may_follow: bool = False,
    ) -> None:
        """End the job; later calls do nothing. The reader gets `error`.

        A job that is cancelled after its last choice has finished is settled later, with the usage
        that its upstream still has to send: leaving early must not be cheaper than staying. A later
        ending settles it at once.
        """
        if self.state == "done":
            if ending != "cancelled":
                self.settle_owed(keep_connection=ending == "finished")
            return
        if self.on_leave_queue is not None:
            self.on_leave_queue(self)
        self.state = "done"
        outcome = self._outcome(ending, error)  # reads the exchange, so before it is dropped
        wait_s = self._usage_wait_s
        if usage_may_follow:
            wait_s *= TRAILER_SHARE
        if wait_s > 0 and (usage_may_follow or (ending == "cancelled" and self._lacks_usage)):
            self._wait_for_usage(outcome, wait_s)
            self.channel.end(error, last)
            return
        exchange, self._exchange = self._exchange, None
        # The worker releases a finished exchange, so that its connection is kept.
        if exchange is not None and ending != "finished":
            exchange.abort(JobEnded())
        # Even if settling raises, the engine must forget the job and the reader must get its end.
        try:
            self._forget_callers()
            self._settle(outcome)
        finally:
            if self.on_end is not None:
                self.on_end(self)
            self.channel.end(error, last)

    def so_far(self, error: GatewayError) -> Outcome:
        """Return the outcome that the job would have if an error cut it now."""
        return self._outcome("cut", error)

    def note_usage(self) -> None:
        """Settle a job that has waited for nothing but its usage, if this has come."""
        owed, translator = self._owed, self._translator
        if owed is not None and translator is not None and translator.usage is not owed.known:
            self.settle_owed(keep_connection=True)

    def settle_owed(self, *, keep_connection: bool = False) -> None:
        """Settle a job whose usage was waited for, with what has come; idempotent."""
        owed, self._owed = self._owed, None
        if owed is None:
            return
        owed.timer.cancel()
        exchange, self._exchange = self._exchange, None
        if exchange is not None and not keep_connection:
            exchange.abort(JobEnded())
        assert self._translator is not None
        translator = self._translator
        outcome = replace(
            owed.outcome,
            usage=translator.usage,
            stated_cost_microusd=translator.stated_cost_microusd,
            output_bytes=translator.output_bytes,
        )
        try:
            self._settle(outcome)
        finally:
            if self.on_end is not None:
                self.on_end(self)

    @property
    def owes_usage(self) -> bool:
        """True if the job has ended for its reader and is settled when its usage has come."""
        return self._owed is not None

    @property
    def _lacks_usage(self) -> bool:
        """True if every choice has finished, and only usage and the end mark have not come."""
        translator = self._translator
        return (
            self._exchange is not None
            and translator is not None
            and translator.finished
            and not translator.done
        )

    def _wait_for_usage(self, outcome: Outcome, wait_s: float) -> None:
        """Keep the exchange for some seconds, without a reader."""
        assert self._translator is not None
        assert self._exchange is not None
        self._forget_callers()
        timer = self._loop.call_later(wait_s, self.settle_owed)
        self._owed = OwedUsage(outcome, self._translator.usage, timer)
        self._exchange.resume()  # a reader that fell behind may have paused it

    def _forget_callers(self) -> None:
        self._drop_body()
        self.on_leave_queue = self.find_place = self.on_progress = self.on_granted = None

    def _commit(self) -> None:
        self._first_frame = self._loop.time()
        self.state = "streaming"
        self._drop_body()

    def _drop_body(self) -> None:
        """Free the memory of the request's body: no other attempt will need it."""
        self.request.fields.clear()
        self._free_body()

    def _attempt(self, ending: str, now: float, error: GatewayError | None = None) -> Attempt:
        assert self.deployment is not None
        start_ms = int((self._begun - self.created) * 1000)
        took_ms = int((now - self._begun) * 1000)
        if not isinstance(error, UpstreamError):
            return Attempt(self.deployment.id, start_ms, took_ms, ending)
        why = (error.own_fault, error.upstream_status, error.details)
        return Attempt(self.deployment.id, start_ms, took_ms, ending, *why)

    def _attempts(
        self, ending: Ending, error: GatewayError | None, now: float
    ) -> tuple[Attempt, ...]:
        """Return the attempts; one that has not failed by itself ends with the job."""
        failures = self._failures
        if len(failures) == self.attempt_count or (ending == "finished" and not failures):
            return failures
        if ending == "finished":
            word = "answered"
        else:
            word = error.own_code if error is not None and ending != "cancelled" else "cancelled"
        return (*failures, self._attempt(word, now, error))

    def _outcome(self, ending: Ending, error: GatewayError | None) -> Outcome:
        now = self._loop.time()
        translator, first, exchange = self._translator, self._first_frame, self._exchange
        if first is None and len(self._failures) == self.attempt_count:
            translator = None  # what a failed attempt has used is among `failed_uses`
        return Outcome(
            ending=ending,
            usage=translator.usage if translator is not None else None,
            stated_cost_microusd=(
                translator.stated_cost_microusd if translator is not None else None
            ),
            output_bytes=translator.output_bytes if translator is not None else 0,
            prompt_sent=self.committed or (exchange is not None and exchange.sent),
            reached_upstream=self._reached
            or self.committed
            or (exchange is not None and exchange.connected_at is not None),
            timed_out_prompts=self._timed_out_prompts,
            failed_uses=self._failed_uses,
            deployment=self.deployment.id if self.deployment is not None else None,
            error=error,
            ttft_s=first - self.created if first is not None else None,
            duration_s=now - self.created,
            queued_s=self.waited_s,
            attempts=self._attempts(ending, error, now),
            complete=translator is not None and translator.finished,
        )
