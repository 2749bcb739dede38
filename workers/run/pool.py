"""Workers: asyncio tasks that carry jobs upstream, one answer at a time.

Every model has its own workers, started when needed and as many as its deployments'
`max_concurrency`. A worker gets a job that the scheduler has given a slot of a deployment. When the
attempt fails, the scheduler decides whether the job gets another slot, waits again or ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping

from workers.catalog.catalog import Deployment, Model
from workers.catalog.quirks import Learnt
from workers.errors import (
    Conflict,
    Draining,
    GatewayError,
    UpstreamError,
    UpstreamRejected,
    UpstreamTimeout,
)
from workers.providers.formats import address_hint
from workers.run.attempt import Attempts
from workers.run.clock import StreamSettings
from workers.run.job import Job, JobEnded
from workers.run.retries import is_repeatable
from workers.run.scheduler import Scheduler
from workers.transport.transport import Transport

log = logging.getLogger("roxy.workers")


class ModelPool:
    """The workers of one model."""

    def __init__(
        self, model: Model, transport: Transport, scheduler: Scheduler, stream: StreamSettings
    ) -> None:
        self.model = model
        self.size = model.max_concurrency
        self._scheduler = scheduler
        self._attempts = Attempts(transport, scheduler, stream.with_clocks(model.clocks))
        self._loop = asyncio.get_running_loop()
        self._workers: set[asyncio.Task[None]] = set()
        self._idle: list[asyncio.Future[Job | None]] = []
        self._asking = False
        """True while a worker frees the slot of its job: it takes the next one itself."""
        self._next: Job | None = None
        self._closed = False

    @property
    def learnt(self) -> Mapping[str, Learnt]:
        """What the refusals of deployments have taught, by their ids."""
        return self._attempts.learnt

    @property
    def idle_workers(self) -> int:
        """How many workers wait for a job."""
        return len(self._idle)

    def carry(self, job: Job) -> None:
        """Pass a job that has its slot to a worker: the one that asks, an idle one or a new one."""
        if self._asking:
            self._asking, self._next = False, job
            return
        while self._idle:
            worker = self._idle.pop()
            if not worker.done():
                worker.set_result(job)
                return
        task = self._loop.create_task(self._work(job), name=f"worker {self.model.id}")
        self._workers.add(task)
        task.add_done_callback(self._workers.discard)

    async def close(self) -> None:
        """End the workers after the jobs that they carry."""
        self._closed = True
        for idle in self._idle:
            if not idle.done():
                idle.set_result(None)
        self._idle.clear()
        if self._workers:
            await asyncio.wait(self._workers)

    async def _work(self, job: Job | None) -> None:
        """Carry jobs one at a time until the pool is closed."""
        while job is not None:
            try:
                await self._carry(job)
            except Exception:
                log.exception("job %s failed in the gateway", job.id)
                job.close("cut" if job.committed else "failed", GatewayError())
                self._leave(job)
            del job  # an idle worker must not keep the last request's body alive
            job = await self._take()

    async def _take(self) -> Job | None:
        """Wait for the next job; return None when this worker is not needed any more."""
        self._asking = False
        job, self._next = self._next, None
        if job is not None:
            return job
        if self._closed:
            return None
        if len(self._workers) > self.size:
            worker = asyncio.current_task()
            assert worker is not None
            self._workers.discard(worker)  # at once: the next one that asks must not end as well
            return None
        idle: asyncio.Future[Job | None] = self._loop.create_future()
        self._idle.append(idle)
        try:
            return await idle
        except asyncio.CancelledError:
            if idle in self._idle:
                self._idle.remove(idle)
            elif not idle.cancelled() and (job := idle.result()) is not None:
                self.carry(job)
            raise

    def _leave(
        self, job: Job, error: GatewayError | None = None, *, answered: bool = False
    ) -> None:
        self._asking = True
        self._scheduler.leave(job, error, answered=answered)

    async def _carry(self, job: Job) -> None:
        """Have one attempt made, and tell the scheduler how it went."""
        deployment = job.assigned
        if not job.ended:
            job.pick_up()  # the reader may find here that its client has left
        if job.ended or deployment is None:
            self._leave(job)
            return
        try:
            await self._attempts.run(job, deployment)
        except JobEnded as ended:
            ended.with_traceback(None)  # breaks a cycle: its frames hold the exchange
            self._leave(job)
        except GatewayError as error:
            error.with_traceback(None)
            self._note_failure(job, deployment, error)
        else:
            self._leave(job, answered=True)

    def _note_failure(self, job: Job, deployment: Deployment, error: GatewayError) -> None:
        """Decide what follows a failed attempt: the end of the job, or another attempt."""
        if isinstance(error, UpstreamError):
            # The upstream's message about the request may quote it, so it is not logged.
            why = "rejected" if isinstance(error, UpstreamRejected) else error.reason
            if error.upstream_words:
                why = f'{why.partition(". ")[0].rstrip(".")}: "{error.upstream_words}"'
            if error.upstream_status:
                why = f"HTTP {error.upstream_status}: {why}"
            if error.own_fault == "base_url":
                why = f"{why.rstrip('.')}. {address_hint(deployment.provider, deployment.base_url)}"
            log.info("job %s: %s failed: %s (%s)", job.id, deployment.id, error.own_code, why)
            may_follow = not job.ended and not job.committed and job.affords_another
            if error.retryable and may_follow:
                repeatable = is_repeatable(error, reached=job.attempt_reached)
                self._asking = True
                self._scheduler.retry(job, error, repeatable=repeatable)
                return
        self._leave(job, error)
        if job.committed:
            job.close("timed_out" if isinstance(error, UpstreamTimeout) else "cut", error)
        else:
            job.close("failed", error)


class Engine:
    """The workers of all models, and every job that has not ended.

    `on_forgotten` is called with the id of a job that has ended.
    """

    def __init__(self, transport: Transport, stream: StreamSettings, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.jobs: dict[str, Job] = {}
        self.draining = False
        self.leaving = False
        """Set before the drain: requests are served, and each answer ends its connection."""
        self.on_forgotten: Callable[[str], None] = lambda _request_id: None
        self._transport = transport
        self._stream = stream
        self._pools: dict[str, ModelPool] = {}
        self._emptied: asyncio.Event | None = None

    def __iter__(self) -> Iterator[ModelPool]:
        return iter(self._pools.values())

    def pool(self, model: Model) -> ModelPool:
        """Return the pool of a model, made on first use."""
        pool = self._pools.get(model.id)
        if pool is None:
            pool = self._pools[model.id] = ModelPool(
                model, self._transport, self.scheduler, self._stream
            )
        return pool

    def learnt(self, model_id: str) -> Mapping[str, Learnt]:
        """Return what the refusals of a model's deployments have taught, by their ids."""
        pool = self._pools.get(model_id)
        return pool.learnt if pool is not None else {}

    def submit(self, job: Job) -> Awaitable[None] | None:
        """Accept a job; what is returned is awaited until it is served, queued or refused.

        Raises Overloaded, Draining, NoDeployment, Conflict, UpstreamError.
        """
        if self.draining:
            raise Draining
        if job.id in self.jobs:
            raise Conflict("Another request with this X-Request-Id has not ended yet.")
        job.on_granted = self.pool(job.model).carry
        decided = self.scheduler.submit(job)
        self.jobs[job.id] = job
        job.on_end = self._forget
        return decided

    def _forget(self, job: Job) -> None:
        self.jobs.pop(job.id, None)
        self.on_forgotten(job.id)
        if self._emptied is not None and not self.jobs:
            self._emptied.set()

    async def drain(self, timeout_s: float) -> None:
        """Refuse new jobs, wait for the accepted ones, and end them after `timeout_s`."""
        self.draining = self.leaving = True
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
        self.scheduler.close()
        for pool in self._pools.values():
            await pool.close()
