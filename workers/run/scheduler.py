"""Decide which job is served next and by which deployment, without carrying it.

Every model has its own fair queue and the slots of its deployments, so that a slow model cannot
occupy what another needs. `LocalScheduler` decides for the jobs of its own process, or for tickets
that other processes have sent: then there is one queue, one set of slots and one state of each
deployment over all of them.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Iterable, Sequence
from typing import Protocol

from msgspec import Struct

from workers.catalog.catalog import Model
from workers.errors import (
    GatewayError,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamUnavailable,
)
from workers.run.deployment_state import DeploymentReport, DeploymentState
from workers.run.queue import OWNER_LANE, FairQueue
from workers.run.retries import RetryBudget, Tries
from workers.run.routing import Routing, worse
from workers.run.ticket import Ticket


class ModelReport(Struct, frozen=True):
    """What waits for a model now; `expected_wait_s` is the estimate for a new request."""

    id: str
    waiting: int
    expected_wait_s: float
    deployments: tuple[DeploymentReport, ...]


class Scheduler(Protocol):
    """Decide which jobs get slots of deployments.

    A ticket that was submitted ends with exactly one `leave`, unless it was refused.
    """

    def submit(self, ticket: Ticket) -> Awaitable[None] | None:
        """Grant a ticket a slot, or queue it.

        The result is None if that was decided at once; otherwise await it for the decision. Raises
        NoDeployment, Overloaded, and while all deployments cool for longer than the job may wait,
        the error that they cool for. A later refusal is passed to `ticket.refused`.
        """

    def note_content(self, ticket: Ticket) -> None:
        """Record that the first content of an attempt has come; idempotent."""

    def leave(
        self, ticket: Ticket, error: GatewayError | None = None, *, answered: bool = False
    ) -> None:
        """Free what a ticket holds: its place in the queue, or its slot; idempotent.

        `error` is how its attempt has failed; `answered`: it was answered to its end.
        """

    def retry(self, ticket: Ticket, error: UpstreamError, *, repeatable: bool) -> None:
        """Free the slot of a failed attempt; then grant another one, queue or refuse the ticket.

        `repeatable`: the same deployment may get the request again.
        """

    async def report(self, models: Iterable[Model]) -> Sequence[ModelReport]:
        """Return what waits and which deployments are used, one report per model."""

    def close(self) -> None:
        """Stop the timers; all tickets have left."""


class ModelSchedule:
    """The queue of one model, its retry budget, and the rules for waiting."""

    def __init__(self, model: Model, routing: Routing, max_waiting: int) -> None:
        self.model = model
        self.queue = FairQueue(
            max_waiting, model.max_concurrency, seat=self._seat, excuse=self._excuse
        )
        self._routing = routing
        self._budget = RetryBudget()
        self._pauses: set[asyncio.TimerHandle] = set()

    def submit(self, ticket: Ticket) -> None:
        """Serve or queue a ticket; see `Scheduler.submit`."""
        woken = bool(ticket.only) and self._routing.wake(ticket.only)
        seated = self._seat(ticket)
        if seated:
            self._grant(ticket)
        if woken:
            self.note_change()
        if seated:
            return
        if self.queue.opens_at or self.queue.barred_lanes or ticket.only:
            refusal = self._excuse(ticket)
            if refusal is not None:
                raise refusal
        self.queue.put(ticket)

    def pump(self) -> None:
        """Serve waiting tickets while there is room: a slot was freed, or a state has changed."""
        while len(self.queue):
            ticket = self.queue.take()
            if ticket is None:
                return
            self._grant(ticket)

    def note_change(self) -> None:
        """Handle that a deployment cools, may be probed, or is ready: end hopeless waits, serve."""
        self.queue.workers = self._routing.capacity(self.model)
        self.queue.barred_lanes = self._routing.barred_lanes(self.model)
        wait_s = self._routing.wait_s(self.model) or 0.0
        self.queue.opens_at = asyncio.get_running_loop().time() + wait_s if wait_s else 0.0
        for ticket in list(self.queue):
            error = self._excuse(ticket)
            if error is not None:
                self.queue.refuse(ticket, error)
        self.pump()

    def leave(self, ticket: Ticket, error: GatewayError | None, *, answered: bool) -> None:
        """Free what a ticket holds; see `Scheduler.leave`."""
        if ticket.on_leave_queue is not None:
            ticket.on_leave_queue(ticket)
        slot = ticket.slot
        if slot is None:
            return
        if error is not None:
            self._routing.note_error(slot, error)
        elif answered:
            self._routing.note_success(slot)
        ticket.slot = ticket.assigned = None
        slot.free()
        self.pump()
        self._note_service(ticket)

    def retry(self, ticket: Ticket, error: UpstreamError, *, repeatable: bool) -> None:
        """Decide what follows a failed attempt; see `Scheduler.retry`."""
        slot = ticket.slot
        assert slot is not None
        self._routing.note_error(slot, error)
        self._free(ticket)
        tries = ticket.tries = ticket.tries or Tries()
        tries.note_failure(slot.deployment.id, repeatable=repeatable)
        ticket.failure = worse(ticket.failure, error)
        if self._seat(ticket):
            ticket.granted()
        elif self._may_wait(ticket, tries):
            self.queue.put_back(ticket)
            self.pump()
        else:
            self._note_service(ticket)
            ticket.refused(self._last_error(ticket))

    def report(self, model: Model) -> ModelReport:
        """Return what waits and which deployments are used."""
        states = [self._routing.report(one) for one in model.deployments]
        waiting, wait_s = len(self.queue), 0.0
        size = model.max_concurrency
        # A model without slots is not configured: its requests are refused, and none waits.
        if size and (waiting or sum(one.busy for one in states) >= size):
            wait_s = self.queue.expected_wait_s(waiting)
        return ModelReport(model.id, waiting, wait_s, tuple(states))

    def close(self) -> None:
        """Stop the timers."""
        for timer in self._pauses:
            timer.cancel()

    def _grant(self, ticket: Ticket) -> None:
        if ticket.tries is None:
            self._budget.note_request()
        ticket.granted_at = self.queue.note_start()
        ticket.granted()

    def _free(self, ticket: Ticket) -> None:
        slot, ticket.slot, ticket.assigned = ticket.slot, None, None
        assert slot is not None
        slot.free()
        self.pump()

    def _note_service(self, ticket: Ticket) -> None:
        self.queue.note_service(self.queue.now() - ticket.granted_at)

    def _may_wait(self, ticket: Ticket, tries: Tries) -> bool:
        """Return whether a deployment can be tried within the job's patience.

        Another one first; the same one again only if the retry budget allows it.
        """
        wait_s = self._routing.wait_s(ticket.model, tries, _witness(ticket))
        if _fits(ticket, wait_s):
            return True
        if not tries.repeatable:
            return False
        tries.grant(self._routing.now())
        wait_s = self._routing.wait_s(ticket.model, tries, _witness(ticket))
        if not _fits(ticket, wait_s) or not self._budget.take():
            tries.again = False
            return False
        self._pump_after(tries.not_before - self._routing.now())
        return True

    def _seat(self, ticket: Ticket) -> bool:
        """Reserve a slot for a ticket; False: nothing that it may use has room."""
        slot = ticket.slot = self._routing.take(ticket.model, ticket.tries, _witness(ticket))
        if slot is None:
            return False
        ticket.assigned = slot.deployment
        return True

    def _pump_after(self, wait_s: float) -> None:
        def pump() -> None:
            self._pauses.discard(timer)
            self.pump()

        # A little later: the clock of the routing and that of the loop are read at other times.
        timer = asyncio.get_running_loop().call_later(wait_s + 0.01, pump)
        self._pauses.add(timer)

    def _excuse(self, ticket: Ticket) -> GatewayError | None:
        """Return the error of a job whose deployments cool for longer than it may wait, or None."""
        wait_s = self._routing.wait_s(ticket.model, ticket.tries, _witness(ticket))
        hopeless = wait_s != 0 and not _fits(ticket, wait_s)
        return self._last_error(ticket) if hopeless else None

    def _last_error(self, ticket: Ticket) -> GatewayError:
        """Return the error for the client when no deployment is left: the one with a wait first."""
        failure, refusal = ticket.failure, self._routing.refusal(ticket.model, _witness(ticket))
        if refusal is None:
            return failure or UpstreamUnavailable()
        if isinstance(failure, UpstreamRateLimited) and failure.retry_after_s is not None:
            return min(failure, refusal, key=lambda error: error.retry_after_s or math.inf)
        return refusal


def _fits(ticket: Ticket, wait_s: float | None) -> bool:
    """Return whether a ticket may wait for so long; 0: only for room. None: for ever."""
    if wait_s is None:
        return False
    return wait_s < (ticket.cooling_patience_s if wait_s else ticket.patience_s)


def _witness(ticket: Ticket) -> str:
    """Return the lane that a failure of a ticket is put down to; "": the owner's count for all."""
    return "" if ticket.lane == OWNER_LANE else ticket.lane


class LocalScheduler:
    """The schedules of all models, in this process."""

    def __init__(self, max_waiting: int) -> None:
        self.routing = Routing()
        self.routing.on_change = self._note_change
        self._max_waiting = max_waiting
        self._schedules: dict[str, ModelSchedule] = {}

    def schedule(self, model: Model) -> ModelSchedule:
        """Return the schedule of a model, made on first use."""
        schedule = self._schedules.get(model.id)
        if schedule is None:
            schedule = ModelSchedule(model, self.routing, self._max_waiting)
            self._schedules[model.id] = schedule
        return schedule

    def adopt(self, models: Iterable[Model]) -> None:
        """Use the models of a new configuration; waiting tickets keep theirs."""
        for model in models:
            for deployment in model.deployments:
                self.routing.adopt(deployment)
            schedule = self._schedules.get(model.id)
            if schedule is not None and model.max_concurrency:
                schedule.model = model
                schedule.note_change()

    def submit(self, ticket: Ticket) -> None:
        """Serve or queue a ticket; decided at once."""
        self.schedule(ticket.model).submit(ticket)

    def note_content(self, ticket: Ticket) -> None:
        """Record that the first content of an attempt has come; idempotent."""
        if ticket.slot is not None:
            self.routing.note_content(ticket.slot)

    def leave(
        self, ticket: Ticket, error: GatewayError | None = None, *, answered: bool = False
    ) -> None:
        """Free what a ticket holds; idempotent."""
        self.schedule(ticket.model).leave(ticket, error, answered=answered)

    def retry(self, ticket: Ticket, error: UpstreamError, *, repeatable: bool) -> None:
        """Free the slot of a failed attempt; then grant another one, queue or refuse the ticket."""
        self.schedule(ticket.model).retry(ticket, error, repeatable=repeatable)

    async def report(self, models: Iterable[Model]) -> Sequence[ModelReport]:
        """Return what waits and which deployments are used, one report per model."""
        return [self.schedule(model).report(model) for model in models]

    def close(self) -> None:
        """Stop the timers; all tickets have left."""
        self.routing.close()
        for schedule in self._schedules.values():
            schedule.close()

    def _note_change(self, state: DeploymentState) -> None:
        """Have the schedule of a deployment whose state has changed look at its waiting jobs."""
        for schedule in self._schedules.values():
            if any(one.id == state.deployment.id for one in schedule.model.deployments):
                schedule.note_change()
