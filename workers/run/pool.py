"""Workers: asyncio tasks that carry jobs upstream, one answer at a time.

Every model has its own fair queue and its own workers, started when needed and as many as its
deployments' `max_concurrency`, so that a slow model cannot occupy the workers of another. A worker
gets a job together with a slot of a deployment. When the deployment fails and another one is full
or cools down for less time than the job may wait, the job goes back to the queue.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator

from workers.catalog.catalog import Model
from workers.errors import (
    Conflict,
    Draining,
    GatewayError,
    NoDeployment,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from workers.run.attempt import Attempts
from workers.run.clock import StreamSettings
from workers.run.deployment_state import DeploymentState, Slot
from workers.run.job import Job, JobEnded
from workers.run.queue import FairQueue
from workers.run.retries import RetryBudget, Tries, is_repeatable
from workers.run.routing import Routing, no_deployment_message, worse
from workers.transport.transport import Transport

log = logging.getLogger("roxy.workers")


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
        self.queue = FairQueue(max_waiting, self.size, seat=self._seat, excuse=self._excuse)
        self._routing = routing
        self._attempts = Attempts(transport, routing, stream.with_clocks(model.clocks))
        self._budget = RetryBudget()
        self._workers: set[asyncio.Task[None]] = set()
        self._pauses: set[asyncio.TimerHandle] = set()

    def submit(self, job: Job) -> None:
        """Hand a job to a worker or queue it.

        Raises NoDeployment, Overloaded, and while all deployments cool for longer than the job may
        wait, the error that they cool for.
        """
        if self.size == 0:
            raise NoDeployment(no_deployment_message(self.model))
        if len(self._workers) < self.size and not self.queue.idle_workers and self._seat(job):
            self._start_worker(job)  # with the job: a new worker first runs in the next loop turn
            return
        if self.queue.opens_at:
            refusal = self._excuse(job)
            if refusal is not None:
                raise refusal
        self.queue.put(job)

    def pump(self) -> None:
        """Serve waiting jobs while there is room: a slot was freed, or a state has changed."""
        while len(self.queue):
            if self.queue.idle_workers:
                if not self.queue.serve():
                    return
            elif len(self._workers) < self.size:
                job = self.queue.take()
                if job is None:
                    return
                self._start_worker(job)
            else:
                return

    def note_change(self) -> None:
        """Handle that a deployment cools, may be probed, or is ready: end hopeless waits, serve."""
        self.queue.workers = self._routing.capacity(self.model)
        wait_s = self._routing.wait_s(self.model) or 0.0
        self.queue.opens_at = asyncio.get_running_loop().time() + wait_s if wait_s else 0.0
        for job in list(self.queue):
            error = self._excuse(job)
            if error is not None:
                job.close("failed" if job.attempt_count else "refused", error)
        self.pump()

    async def close(self) -> None:
        """Close the queue and wait until the workers have finished their jobs."""
        for timer in self._pauses:
            timer.cancel()
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
                self._leave_slot(job)
            del job  # an idle worker must not keep the last request's body alive
            job = await self.queue.get()

    async def _carry(self, job: Job) -> None:
        """Try deployments until one answers, the job has to wait again, or none is left."""
        started = asyncio.get_running_loop().time()
        if job.tries is None:
            self._budget.note_request()
        if not job.ended:
            job.pick_up()
        while (slot := job.slot) is not None and not job.ended:
            failure = await self._try(job, slot)
            self._leave_slot(job)
            if failure is not None and self._waits_after(job, failure):
                return
        self._leave_slot(job)
        self.queue.note_service(asyncio.get_running_loop().time() - started)

    async def _try(self, job: Job, slot: Slot) -> GatewayError | None:
        """Have one attempt made; return its error, or None if the job has ended."""
        try:
            await self._attempts.run(job, slot)
        except JobEnded as ended:
            ended.with_traceback(None)  # breaks a cycle: its frames hold the exchange
        except GatewayError as error:
            error.with_traceback(None)
            self._routing.note_error(slot, error)
            if isinstance(error, UpstreamError):
                # The upstream's message about the request may quote it, so it is not logged.
                why = "rejected" if isinstance(error, UpstreamRejected) else error.reason
                if error.upstream_status:
                    why = f"HTTP {error.upstream_status}: {why}"
                name, code = slot.deployment.id, error.own_code
                log.info("job %s: %s failed: %s (%s)", job.id, name, code, why)
            return error
        else:
            self._routing.note_success(slot)
        return None

    def _waits_after(self, job: Job, error: GatewayError) -> bool:
        """Decide what follows a failed attempt; return whether the job waits in the queue again.

        Otherwise it has a slot of another deployment, or it is closed.
        """
        if job.ended:
            return False
        if job.committed:
            job.close("timed_out" if isinstance(error, UpstreamTimeout) else "cut", error)
            return False
        if not isinstance(error, UpstreamError) or not error.retryable:
            job.close("failed", error)
            return False
        tries = job.tries = job.tries or Tries()
        assert job.deployment is not None
        repeatable = is_repeatable(error, reached=job.attempt_reached)
        tries.note_failure(job.deployment.id, repeatable=repeatable)
        job.failure = worse(job.failure, error)
        if self._seat(job):
            return False
        if self._may_wait(job, tries):
            self.queue.put_back(job)
            self.pump()
            return True
        job.close("failed", self._last_error(job))
        return False

    def _may_wait(self, job: Job, tries: Tries) -> bool:
        """Return whether a deployment can be tried within the job's patience.

        Another one first; the same one again only if the retry budget allows it.
        """
        patience_s = job.patience_s
        wait_s = self._routing.wait_s(self.model, tries)
        if wait_s is not None and wait_s < patience_s:
            return True
        if not tries.repeatable:
            return False
        tries.grant(self._routing.now())
        wait_s = self._routing.wait_s(self.model, tries)
        if wait_s is None or wait_s >= patience_s or not self._budget.take():
            tries.again = False
            return False
        self._pump_after(tries.not_before - self._routing.now())
        return True

    def _seat(self, job: Job) -> bool:
        """Reserve a slot for a job; False: nothing that it may use has room."""
        job.slot = self._routing.take(self.model, job.tries)
        return job.slot is not None

    def _leave_slot(self, job: Job) -> None:
        if job.slot is not None:
            job.leave_slot()
            self.pump()

    def _pump_after(self, wait_s: float) -> None:
        def pump() -> None:
            self._pauses.discard(timer)
            self.pump()

        # A little later: the clock of the routing and that of the loop are read at other times.
        timer = asyncio.get_running_loop().call_later(wait_s + 0.01, pump)
        self._pauses.add(timer)

    def _excuse(self, job: Job) -> GatewayError | None:
        """Return the error of a job whose deployments cool for longer than it may wait, or None."""
        wait_s = self._routing.wait_s(self.model, job.tries)
        hopeless = wait_s is None or 0 < wait_s >= job.patience_s
        return self._last_error(job) if hopeless else None

    def _last_error(self, job: Job) -> GatewayError:
        """Return the error for the client when no deployment is left: the one with a wait first."""
        refusal, failure = self._routing.refusal(self.model), job.failure
        if refusal is None:
            return failure or UpstreamUnavailable()
        if isinstance(failure, UpstreamRateLimited) and failure.retry_after_s is not None:
            return min(failure, refusal, key=lambda error: error.retry_after_s or math.inf)
        return refusal


class Engine:
    """The pools of all models, and every job that has not ended."""

    def __init__(self, transport: Transport, stream: StreamSettings, max_waiting: int) -> None:
        self.routing = Routing()
        self.routing.on_change = self._note_change
        self.jobs: dict[str, Job] = {}
        self.draining = False
        self.leaving = False
        """Set before the drain: requests are served, and each answer ends its connection."""
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
        """Accept a job. Raises Overloaded, Draining, NoDeployment, Conflict, UpstreamError."""
        if self.draining:
            raise Draining
        if job.id in self.jobs:
            raise Conflict("Another request with this X-Request-Id has not ended yet.")
        self.pool(job.model).submit(job)
        self.jobs[job.id] = job
        job.on_end = self._forget

    def _note_change(self, state: DeploymentState) -> None:
        """Have the pool of a deployment whose state has changed look at its waiting jobs."""
        for pool in self._pools.values():
            if state.deployment in pool.model.deployments:
                pool.note_change()

    def _forget(self, job: Job) -> None:
        self.jobs.pop(job.id, None)
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
        self.routing.close()
        for pool in self._pools.values():
            await pool.close()
