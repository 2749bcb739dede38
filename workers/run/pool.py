"""Workers: asyncio tasks that carry jobs upstream, one answer at a time.

Every model has its own fair queue and its own workers, started when needed and as many as its
deployments' `max_concurrency`, so that a slow model cannot occupy the workers of another. A worker
opens an exchange, attaches the job's channel and is woken once, at the end; the bytes pass in the
callback of the upstream's socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping

from workers.base_url import joined_url
from workers.catalog.catalog import Deployment, Model
from workers.errors import (
    Conflict,
    Draining,
    GatewayError,
    NoDeployment,
    UpstreamError,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from workers.providers.formats import TRANSLATORS
from workers.providers.translator import Translator, UpstreamRequest
from workers.run.clock import Clock, StreamSettings
from workers.run.job import Job, JobEnded
from workers.run.queue import FairQueue
from workers.run.routing import Routing, no_deployment_message, worse
from workers.transport.transport import Transport, UpstreamExchange
from workers.units import KIB, MIB

log = logging.getLogger("roxy.workers")

REJECTION_BYTES = 64 * KIB
"""How much of an upstream's error answer is read to find its message."""
WHOLE_BYTES = 64 * MIB
"""The largest answer that is not streamed."""


TOOL_FIELDS = ("tools", "functions")
"""Members of a request that offer tools; the second is OpenAI's older one."""
NO_TOOLS = (b"null", b"[]")


class Relay:
    """The sink of a streamed exchange: it passes the answer through the translator to the job."""

    __slots__ = ("_clock", "_exchange", "_job", "_translator")

    def __init__(
        self, job: Job, translator: Translator, clock: Clock, exchange: UpstreamExchange
    ) -> None:
        self._job = job
        self._translator = translator
        self._clock = clock
        self._exchange = exchange

    def release(self) -> None:
        """Drop the exchange, which may hold this relay: a cycle would wait for the collector."""
        del self._exchange, self._clock

    def feed(self, data: bytes) -> None:
        """Translate the bytes of one read and pass them on; the exchange's sink."""
        self._clock.touch()
        frames = self._translator.feed(data)
        if self._translator.done:
            self._job.finish(frames)
            self._exchange.release()  # the client does not wait for the end of the framing
            return
        if frames:
            self._clock.note_content()
            self._job.push(frames)
        if self._translator.finished:
            self._note_finished()
        if self._translator.failure is not None:
            raise self._translator.failure

    def _note_finished(self) -> None:
        """Handle that only the usage and the end mark can follow."""
        self._clock.note_finished()
        if self._job.ended:
            self._job.note_usage()
            if not self._job.owes_usage:
                self._exchange.release()


class ModelPool:
    """The queue and the workers of one model."""

    def __init__(
        self,
        model: Model,
        transport: Transport,
        routing: Routing,
        stream: StreamSettings,
        max_waiting: int,
    ) -> None:
        self.model = model
        self.size = model.max_concurrency
        self.queue = FairQueue(max_waiting, self.size)
        self._transport = transport
        self._routing = routing
        self._stream = stream
        self._workers: set[asyncio.Task[None]] = set()

    def submit(self, job: Job) -> None:
        """Hand a job to a worker or queue it. Raises Overloaded, NoDeployment."""
        if self.size == 0:
            raise NoDeployment(no_deployment_message(self.model))
        if len(self._workers) < self.size and not self.queue.idle_workers:
            self._start_worker(job)  # with the job: a new worker first runs in the next loop turn
        else:
            self.queue.put(job)

    async def close(self) -> None:
        """Close the queue and wait until the workers have finished their jobs."""
        self.queue.close()
        if self._workers:
            await asyncio.wait(self._workers)

    def _start_worker(self, job: Job) -> None:
        self.queue.note_start()
        task = asyncio.get_running_loop().create_task(
            self._work(job), name=f"worker {self.model.id}"
        )
        self._workers.add(task)
        task.add_done_callback(self._workers.discard)

    async def _work(self, job: Job | None) -> None:
        """Carry jobs one at a time until the queue is closed."""
        while job is not None:
            try:
                await self._carry(job)
            except Exception:
                log.exception("job %s failed in the gateway", job.id)
                job.close("cut" if job.committed else "failed", GatewayError())
            del job  # an idle worker must not keep the last request's body alive
            job = await self.queue.get()

    async def _carry(self, job: Job) -> None:
        """Try deployments in order until one answers, and close the job if none does."""
        if job.ended:
            return
        job.pick_up()
        started = asyncio.get_running_loop().time()
        try:
            failure = await self._try_deployments(job)
        except GatewayError as error:  # not an upstream's: no deployment, or not translatable
            failure = error
        if failure is not None:
            if not job.committed:
                job.close("failed", failure)
            else:
                job.close("timed_out" if isinstance(failure, UpstreamTimeout) else "cut", failure)
        self.queue.note_service(asyncio.get_running_loop().time() - started)

    async def _try_deployments(self, job: Job) -> GatewayError | None:
        failure: UpstreamError | None = None
        for deployment in self._routing.candidates(self.model):
            if job.ended:
                return None
            self._routing.take(deployment)
            try:
                await self._attempt(job, deployment)
                return None
            except JobEnded as ended:
                ended.with_traceback(None)  # breaks a cycle: its frames hold the exchange
                return None
            except UpstreamError as error:
                error.with_traceback(None)
                # The upstream's message about the request may quote it, so it is not logged.
                why = "rejected" if isinstance(error, UpstreamRejected) else error.reason
                code = error.own_code
                log.info("job %s: %s failed: %s (%s)", job.id, deployment.id, code, why)
                failure = worse(failure, error)
                if job.committed or not error.retryable:
                    return error
            finally:
                self._routing.give_back(deployment)
        return failure or UpstreamUnavailable()  # no failure: no deployment had room

    async def _attempt(self, job: Job, deployment: Deployment) -> None:
        """Have the job answered by one deployment. Raises UpstreamError, or JobEnded."""
        translator = TRANSLATORS[deployment.provider](
            job.request, job.model, deployment, self._stream.max_event_bytes
        )
        exchange = self._open(deployment, translator.request())
        clock = Clock(
            self._stream,
            job.channel,
            exchange,
            streamed=job.request.stream,
            tools=offers_tools(job.request.fields),
        )
        relay = Relay(job, translator, clock, exchange)
        job.begin(deployment, translator, exchange, usage_wait_s=self._stream.usage_wait_s)
        try:
            head = await exchange.head()
            if head.status >= 300:
                # Of larger pages (a proxy's HTML, a request echoed back) the status still counts.
                page = await exchange.read_beginning(REJECTION_BYTES) if head.status >= 400 else b""
                raise translator.rejection(head.status, head.headers, page)
            translator.check_head(head.status, head.headers)
            if job.request.stream:
                exchange.follow(relay.feed)
                await self._end_of_stream(exchange, translator)
                if not translator.done:  # the relay finishes a job whose answer has an end mark
                    job.finish(translator.finish())
            else:
                job.finish(translator.whole(await self._whole_body(exchange, clock)))
        except GatewayError as error:
            exchange.abort(error)
            job.note_failure(error)
            raise
        finally:
            clock.stop()
            exchange.release()
            relay.release()

    async def _end_of_stream(self, exchange: UpstreamExchange, translator: Translator) -> None:
        """Wait for the end of a stream. Raises UpstreamError, or JobEnded.

        An answer whose every choice has finished is complete, however its connection ends.
        """
        try:
            await exchange.end()
        except UpstreamError as error:
            if not translator.finished or translator.failure is not None:
                raise
            error.with_traceback(None)

    async def _whole_body(self, exchange: UpstreamExchange, clock: Clock) -> bytes:
        """Read the body of a whole answer; each read starts the first-content clock again.

        Slow upstreams pad it with white space meanwhile. Raises UpstreamError, or JobEnded.
        """
        pieces: list[bytes] = []
        room = WHOLE_BYTES
        while data := await exchange.pull():
            clock.touch()
            room -= len(data)
            if room < 0:
                exchange.abort(UpstreamError("The upstream's answer is too large."))
            pieces.append(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _open(self, deployment: Deployment, request: UpstreamRequest) -> UpstreamExchange:
        url = joined_url(deployment.base_url, request.path)
        head = self._transport.request_head("POST", url, request.headers)
        return self._transport.exchange(url, head, request.body, deployment.route)


def offers_tools(fields: Mapping[str, bytes]) -> bool:
    """Return whether a request lets the model call tools, whose arguments may come in one piece."""
    return any(bytes(fields.get(name, b"null")) not in NO_TOOLS for name in TOOL_FIELDS)


class Engine:
    """The pools of all models, and every job that has not ended."""

    def __init__(self, transport: Transport, stream: StreamSettings, max_waiting: int) -> None:
        self.routing = Routing()
        self.jobs: dict[str, Job] = {}
        self.draining = False
        self._transport = transport
        self._stream = stream
        self._max_waiting = max_waiting
        self._pools: dict[str, ModelPool] = {}
        self._emptied: asyncio.Event | None = None

    def __iter__(self) -> Iterator[ModelPool]:
        return iter(self._pools.values())

    def pool(self, model: Model) -> ModelPool:
        """Return the pool of a model, made on first use."""
        pool = self._pools.get(model.id)
        if pool is None:
            pool = self._pools[model.id] = ModelPool(
                model, self._transport, self.routing, self._stream, self._max_waiting
            )
        return pool

    def submit(self, job: Job) -> None:
        """Accept a job. Raises Overloaded, Draining, NoDeployment, Conflict."""
        if self.draining:
            raise Draining
        if job.id in self.jobs:
            raise Conflict("Another request with this X-Request-Id has not ended yet.")
        self.pool(job.model).submit(job)
        self.jobs[job.id] = job
        job.on_end = self._forget

    def _forget(self, job: Job) -> None:
        self.jobs.pop(job.id, None)
        if self._emptied is not None and not self.jobs:
            self._emptied.set()

    async def drain(self, timeout_s: float) -> None:
        """Refuse new jobs, wait for the accepted ones, and end them after `timeout_s`."""
        self.draining = True
        if self.jobs:
            self._emptied = self._emptied or asyncio.Event()
            try:
                await asyncio.wait_for(self._emptied.wait(), timeout_s)
            except TimeoutError:
                for job in list(self.jobs.values()):
                    job.close(
                        "drained",
                        Draining("The gateway is stopping; the answer was not completed."),
                    )

    async def aclose(self) -> None:
        """End all jobs and wait for the workers."""
        await self.drain(0.0)
        for pool in self._pools.values():
            await pool.close()
