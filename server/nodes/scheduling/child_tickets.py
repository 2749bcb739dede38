"""Schedule the jobs of children: the keeper's side of `schedule_messages`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

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
from workers.errors import GatewayError, ModelNotFound, UpstreamError
from workers.run.scheduler import LocalScheduler, ModelReport
from workers.run.ticket import Place, Ticket

PLACES_INTERVAL_S = 1.0
"""How often the places of waiting jobs are sent; replies show them as often."""
PLACES_SHARE = 20
"""Computing the places takes at most one part in so many of the keeper's time."""


class ChildTicket(Ticket):
    """The ticket of a job of a child."""

    def __init__(self, tickets: ChildTickets, sent: TicketSent, model: Model) -> None:
        super().__init__(
            str(sent.number),
            model,
            lane=sent.lane,
            weight=sent.weight,
            max_wait_s=sent.patience_s,
            only=sent.only,
            status_s=sent.status_s,
        )
        self.number = sent.number
        self.shown: Place | None = None
        self._tickets = tickets

    def granted(self) -> None:
        """Send the child the deployment to ask."""
        self.stop_waiting()
        self._tickets.grant(self)

    def queued(self) -> None:
        """Send the place shortly."""
        self.shown = None
        self._tickets.note_waiting(self)

    def refused(self, error: GatewayError) -> None:
        """Send the child the error."""
        self._tickets.refuse(self, error)


class ChildTickets:
    """The tickets of one child. When its link is lost, they leave at once.

    The child offers the models of its configuration: while children are replaced, those of several
    configurations have jobs in one queue. `answer` adds what the child sends to the service of the
    link; `connect` begins.
    """

    def __init__(self, scheduler: LocalScheduler) -> None:
        self._scheduler = scheduler
        self._models: dict[str, Model] = {}
        self._link: Link | None = None
        self._loop = asyncio.get_running_loop()
        self._tickets: dict[int, ChildTicket] = {}
        self._waiting: set[ChildTicket] = set()
        self._timer: asyncio.TimerHandle | None = None

    def answer(self, service: Service) -> None:
        """Handle what the child sends."""
        service.answer_at_once(OFFER, self._offer)
        service.answer_at_once(SUBMIT, self._submit)
        service.answer_at_once(CONTENT, self._note_content)
        service.answer_at_once(LEAVE, self._leave)
        service.answer_at_once(RETRY, self._retry)
        service.answer(REPORT, self._report)

    def connect(self, link: Link) -> None:
        """Use the link to the child."""
        self._link = link
        link.on_lost(self.close)

    def close(self) -> None:
        """Free everything that the child has: its places first, so that it is granted nothing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for ticket in sorted(self._tickets.values(), key=lambda one: one.slot is not None):
            self._scheduler.leave(ticket)
        self._tickets.clear()
        self._waiting.clear()

    def grant(self, ticket: ChildTicket) -> None:
        """Send a grant."""
        self._waiting.discard(ticket)
        slot = ticket.slot
        assert slot is not None
        probing = slot.state.word == "probing"
        if self._link is not None:
            self._link.report(GRANTED, SlotGranted(ticket.number, slot.deployment.id, probing))

    def refuse(self, ticket: ChildTicket, error: GatewayError) -> None:
        """Send a refusal."""
        self._waiting.discard(ticket)
        self._tickets.pop(ticket.number, None)
        if self._link is not None:
            self._link.report(REFUSED, TicketRefused(ticket.number, fault_of(error)))

    def note_waiting(self, ticket: ChildTicket) -> None:
        """Have the place of a ticket sent after the message that is handled now, then renewed."""
        self._waiting.add(ticket)
        self._loop.call_soon(self._send_places, (ticket,))
        if self._timer is None:
            self._timer = self._loop.call_later(PLACES_INTERVAL_S, self._renew_places)

    def _offer(self, offered: Sequence[ModelOffered]) -> None:
        self._models = {one.id: _model_of(one) for one in offered}
        self._scheduler.adopt(self._models.values())

    def _submit(self, sent: TicketSent) -> None:
        model = self._models.get(sent.model)
        if model is None:
            fault = fault_of(ModelNotFound(sent.model))
            if self._link is not None:
                self._link.report(REFUSED, TicketRefused(sent.number, fault))
            return
        ticket = self._tickets[sent.number] = ChildTicket(self, sent, model)
        try:
            self._scheduler.submit(ticket)
        except GatewayError as error:
            self.refuse(ticket, error)

    def _note_content(self, came: ContentCame) -> None:
        ticket = self._tickets.get(came.number)
        if ticket is not None:
            self._scheduler.note_content(ticket)

    def _leave(self, left: TicketLeft) -> None:
        ticket = self._tickets.pop(left.number, None)
        if ticket is None:  # it was refused meanwhile
            return
        self._waiting.discard(ticket)
        error = error_of(left.fault) if left.fault is not None else None
        self._scheduler.leave(ticket, error, answered=left.answered)

    def _retry(self, failed: AttemptFailed) -> None:
        ticket = self._tickets.get(failed.number)
        if ticket is None or ticket.slot is None:
            return
        error = error_of(failed.fault)
        if isinstance(error, UpstreamError):
            self._scheduler.retry(ticket, error, repeatable=failed.repeatable)
        else:
            self.refuse(ticket, error)
            self._scheduler.leave(ticket, error)

    async def _report(self, names: Sequence[str]) -> Sequence[ModelReport]:
        empty = ModelReport("", 0, 0.0, ())
        known = [self._models[name] for name in names if name in self._models]
        reports = {one.id: one for one in await self._scheduler.report(known)}
        return [reports.get(name, empty) for name in names]

    def _renew_places(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        began = time.monotonic()
        self._send_places(list(self._waiting))
        wait_s = max(PLACES_INTERVAL_S, (time.monotonic() - began) * PLACES_SHARE)
        self._timer = self._loop.call_later(wait_s, self._renew_places)

    def _send_places(self, tickets: Sequence[ChildTicket]) -> None:
        """Send the places that have changed."""
        changed = []
        for ticket in tickets:
            if ticket not in self._waiting or ticket.find_place is None:
                continue
            place = ticket.find_place(ticket)
            rounded = Place(place.position, place.waiting, round(place.expected_wait_s, 1))
            if rounded != ticket.shown:
                ticket.shown = rounded
                changed.append((ticket.number, place))
        if changed and self._link is not None:
            self._link.report(PLACES, Places(changed))


def _model_of(offered: ModelOffered) -> Model:
    """Return a model with what a scheduler needs: its live deployments, and what others need."""
    deployments = [
        Deployment(
            id=name,
            provider="",
            base_url="",
            upstream_model="",
            order=order,
            weight=weight,
            max_concurrency=most,
        )
        for name, order, weight, most in offered.deployments
    ]
    lacking = [
        Deployment(id="", provider="", base_url="", upstream_model="", secret_env=variable)
        for variable in offered.missing
    ]
    return Model(id=offered.id, name=offered.id, deployments=(*deployments, *lacking))
