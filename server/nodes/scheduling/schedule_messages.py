"""Declare the messages between a child and its keeper about jobs that wait for a slot.

All but `REPORT` are reports: both ends handle them in their order, so a ticket is always in one
state. A child numbers its tickets; a grant of a number that it has given up is one that crossed its
`LEAVE`, with which the keeper frees the slot.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

from server.nodes.fault import Fault
from server.nodes.procedure import Procedure, procedure
from workers.run.scheduler import ModelReport
from workers.run.ticket import Place


class ModelOffered(Struct, array_like=True, frozen=True):
    """A model that a child serves, as far as its deployments are chosen and counted.

    `missing` are the variables that would make more of its deployments usable.
    """

    id: str
    deployments: Sequence[tuple[str, int, int, int]]
    missing: Sequence[str]


class TicketSent(Struct, array_like=True, frozen=True):
    """A job asks for a slot: the name of its model, its lane and how long it may wait.

    `only` is the one deployment that may serve it, "" for any; `status_s` as in `Ticket`.
    """

    number: int
    model: str
    lane: str
    weight: int
    patience_s: float
    only: str = ""
    status_s: float = math.inf


class ContentCame(Struct, array_like=True, frozen=True):
    """The first content of an attempt has come; sent only where a deployment is being probed."""

    number: int


class TicketLeft(Struct, array_like=True, frozen=True):
    """A job needs nothing any more; `fault` is how its attempt has failed."""

    number: int
    answered: bool = False
    fault: Fault | None = None


class AttemptFailed(Struct, array_like=True, frozen=True):
    """An attempt has failed and another may follow."""

    number: int
    fault: Fault
    repeatable: bool


class SlotGranted(Struct, array_like=True, frozen=True):
    """A job may use a deployment; `probing`: the child reports its first content."""

    number: int
    deployment: str
    probing: bool


class TicketRefused(Struct, array_like=True, frozen=True):
    """A job ends with an error."""

    number: int
    fault: Fault


class Places(Struct, array_like=True, frozen=True):
    """The places of waiting jobs, where they have changed."""

    places: Sequence[tuple[int, Place]]


OFFER: Procedure[Sequence[ModelOffered], None] = procedure("offer", list[ModelOffered])
"""The first message of a child: its live deployments, each with order, weight and most requests."""
SUBMIT: Procedure[TicketSent, None] = procedure("submit", TicketSent)
CONTENT: Procedure[ContentCame, None] = procedure("content", ContentCame)
LEAVE: Procedure[TicketLeft, None] = procedure("leave", TicketLeft)
RETRY: Procedure[AttemptFailed, None] = procedure("retry", AttemptFailed)
GRANTED: Procedure[SlotGranted, None] = procedure("granted", SlotGranted)
REFUSED: Procedure[TicketRefused, None] = procedure("refused", TicketRefused)
PLACES: Procedure[Places, None] = procedure("places", Places)
REPORT: Procedure[Sequence[str], Sequence[ModelReport]] = procedure(
    "report", list[str], list[ModelReport]
)
