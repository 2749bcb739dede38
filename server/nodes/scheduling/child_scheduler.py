"""Ask the keeper for slots: the scheduler of a process that does not hold the queues."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Iterable, Sequence

from server.nodes.fault import error_of, fault_of
from server.nodes.link import Link
from server.nodes.procedure import Service
from server.nodes.scheduling.schedule_messages import (
    CONTENT,
    GRANTED,
    LEAVE,
    OFFER,
    PLACES,
    REFUSED,
    REPORT,
    RETRY,
    SUBMIT,
    AttemptFailed,
    ContentCame,
    ModelOffered,
    Places,
    SlotGranted,
    TicketLeft,
    TicketRefused,
    TicketSent,
)
from workers.catalog.catalog import Deployment, Model
from workers.errors import Draining, GatewayError, UpstreamError, UpstreamUnavailable
from workers.run.deployment_state import DeploymentReport
from workers.run.scheduler import ModelReport
from workers.run.ticket import Place, Ticket


class SentTicket:
    """A ticket that the keeper has; `decided` ends when it has answered for the first time."""

    __slots__ = ("decided", "number", "place", "probing", "ticket")

    def __init__(self, number: int, ticket: Ticket, decided: asyncio.Future[None]) -> None:
        self.number = number
        self.ticket = ticket
        self.decided = decided
        self.place: Place | None = None
        self.probing = False

    def note_decided(self) -> None:
        """End the wait of the caller of `submit`."""
        if not self.decided.done():
            self.decided.set_result(None)


class ChildScheduler:
    """A `Scheduler` whose queues and slots are those of the keeper.

    `answer` adds what the keeper sends to the service of the link; `connect` begins.
    """

    def __init__(self) -> None:
        self._link: Link | None = None
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._sent: dict[int, SentTicket] = {}
        self._of: dict[Ticket, SentTicket] = {}

    def answer(self, service: Service) -> None:
        """Handle what the keeper sends."""
        service.answer_at_once(GRANTED, self._granted)
        service.answer_at_once(REFUSED, self._refused)
        service.answer_at_once(PLACES, self._placed)

    def connect(self, link: Link, models: Iterable[Model]) -> None:
        """Use the link to the keeper, who is sent the models that this process serves."""
        self._link = link
        link.on_lost(self._lost)
        link.report(OFFER, [_offered(model) for model in models])

    def submit(self, ticket: Ticket) -> Awaitable[None]:
        """Send a ticket; what is returned ends when it is served or queued, or raises a refusal."""
        link = self._link
        if link is None or link.is_lost:
            raise Draining
        decided: asyncio.Future[None] = self._loop.create_future()
        sent = SentTicket(next(self._numbers), ticket, decided)
        self._sent[sent.number] = self._of[ticket] = sent
        ticket.on_leave_queue = self.leave
        link.report(
            SUBMIT,
            TicketSent(
                sent.number,
                ticket.model.id,
                ticket.lane,
                ticket.weight,
                ticket.patience_s,
                ticket.only,
                ticket.status_s,
            ),
        )
        return decided

    def note_content(self, ticket: Ticket) -> None:
        """Report the first content of an attempt where the deployment is being probed."""
        sent = self._of.get(ticket)
        if sent is not None and sent.probing and self._link is not None:
            sent.probing = False
            self._link.report(CONTENT, ContentCame(sent.number))

    def leave(
        self, ticket: Ticket, error: GatewayError | None = None, *, answered: bool = False
    ) -> None:
        """Free what a ticket holds; idempotent."""
        sent = self._forget(ticket)
        if sent is None or self._link is None:
            return
        fault = fault_of(error) if error is not None else None
        self._link.report(LEAVE, TicketLeft(sent.number, answered, fault))
        sent.note_decided()  # its caller finds that the job has ended

    def retry(self, ticket: Ticket, error: UpstreamError, *, repeatable: bool) -> None:
        """Report a failed attempt; the job waits until the keeper has decided."""
        sent = self._of.get(ticket)
        if sent is None or self._link is None or self._link.is_lost:
            self.leave(ticket)
            ticket.refused(error)
            return
        ticket.assigned, sent.place = None, None
        ticket.wait_again()
        ticket.on_leave_queue = self.leave
        ticket.queued()
        self._link.report(RETRY, AttemptFailed(sent.number, fault_of(error), repeatable))

    async def report(self, models: Iterable[Model]) -> Sequence[ModelReport]:
        """Ask the keeper what waits and which deployments are used."""
        asked = list(models)
        if self._link is None:
            raise Draining
        reports = await self._link.call(REPORT, [model.id for model in asked])
        return [_fitted(*pair) for pair in zip(asked, reports, strict=True)]

    def close(self) -> None:
        """Do nothing: the keeper has the timers."""

    def _granted(self, grant: SlotGranted) -> None:
        sent = self._sent.get(grant.number)
        if sent is None:  # it has left meanwhile, which the keeper will read
            return
        ticket = sent.ticket
        deployment = _deployment_of(ticket.model, grant.deployment)
        if deployment is None:
            self._withdraw(ticket, UpstreamUnavailable())
            return
        sent.probing = grant.probing
        ticket.assigned = deployment
        ticket.on_leave_queue = ticket.find_place = None
        sent.note_decided()
        ticket.granted()

    def _refused(self, refusal: TicketRefused) -> None:
        sent = self._sent.get(refusal.number)
        if sent is not None:
            self._forget(sent.ticket)
            self._end(sent, error_of(refusal.fault))

    def _placed(self, places: Places) -> None:
        for number, place in places.places:
            sent = self._sent.get(number)
            if sent is None or sent.ticket.assigned is not None:
                continue
            sent.place = place
            sent.ticket.find_place = self._place
            if not sent.decided.done():
                sent.ticket.queued()
                sent.note_decided()

    def _place(self, ticket: Ticket) -> Place:
        place = self._of[ticket].place
        assert place is not None
        return place

    def _withdraw(self, ticket: Ticket, error: GatewayError) -> None:
        """Return a grant that cannot be used."""
        sent = self._of[ticket]
        if self._link is not None:
            self._link.report(LEAVE, TicketLeft(sent.number))
        self._forget(ticket)
        self._end(sent, error)

    def _forget(self, ticket: Ticket) -> SentTicket | None:
        sent = self._of.pop(ticket, None)
        if sent is not None:
            del self._sent[sent.number]
            ticket.assigned = ticket.on_leave_queue = ticket.find_place = None
        return sent

    def _end(self, sent: SentTicket, error: GatewayError) -> None:
        """Pass a refusal to who waits for the decision, else to the ticket."""
        if sent.decided.done():
            sent.ticket.refused(error)
        else:
            sent.decided.set_exception(error)

    def _lost(self) -> None:
        """End what waits: the keeper has ended. What is being answered continues to its end."""
        for sent in list(self._sent.values()):
            if sent.ticket.assigned is None:
                self._forget(sent.ticket)
                self._end(sent, Draining())


def _offered(model: Model) -> ModelOffered:
    live = model.live_deployments()
    rows = [(one.id, one.order, one.weight, one.max_concurrency) for one in live]
    return ModelOffered(model.id, rows, model.missing_secrets())


def _deployment_of(model: Model, deployment_id: str) -> Deployment | None:
    return next((one for one in model.deployments if one.id == deployment_id), None)


def _fitted(model: Model, report: ModelReport) -> ModelReport:
    """Return a report with the deployments of a model, which may be of another configuration."""
    known = {one.id: one for one in report.deployments}
    states = [
        known.get(one.id) or DeploymentReport(one.id, "ready", None, 0.0, 0, 0, one.max_concurrency)
        for one in model.deployments
    ]
    return ModelReport(model.id, report.waiting, report.expected_wait_s, tuple(states))
