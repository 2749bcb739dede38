"""What a scheduler knows of a job: whose it is, how long it may wait, and what it has tried.

In one process a job is its own ticket. With several, the process that holds the queues has a
ticket for each job of the others (`server/nodes/`).
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import msgspec

from workers.catalog.catalog import Deployment, Model
from workers.errors import GatewayError, UpstreamError
from workers.run.deployment_state import Slot
from workers.run.retries import Tries


class Place(msgspec.Struct, frozen=True):
    """The place of a waiting job in its queue: `position` counts from 1, the wait is estimated."""

    position: int
    waiting: int
    expected_wait_s: float


class Ticket(ABC):
    """A request to be served by a deployment of a model.

    `lane` is the queue's lane ("owner", a key id, "guests"), `weight` the lane's share,
    `max_wait_s` how long it may wait. `only` is the id of the one deployment to try, "" for any.
    `status_s`: an error within this time is a status that the client can read, with its wait.
    The scheduler sets `slot`, and `assigned` with it: the deployment that serves the request now.
    It calls `granted`, `queued` and `refused`, which subclasses define.
    """

    def __init__(
        self,
        ticket_id: str,
        model: Model,
        *,
        lane: str,
        weight: int = 1,
        max_wait_s: float = 120.0,
        only: str = "",
        status_s: float = math.inf,
    ) -> None:
        self.id = ticket_id
        self.model = model
        self.lane = lane
        self.weight = weight
        self.max_wait_s = max_wait_s
        self.status_s = status_s
        self.slot: Slot | None = None
        self.assigned: Deployment | None = None
        self.granted_at = 0.0
        self.only = only
        self.tries = Tries(only) if only else None
        self.failure: UpstreamError | None = None
        self.on_leave_queue: Callable[[Ticket], None] | None = None
        self.find_place: Callable[[Ticket], Place] | None = None
        self._loop = asyncio.get_running_loop()
        self.created = self._loop.time()
        self._picked_up: float | None = None
        self._returned_at: float | None = None
        self._waited_again_s = 0.0

    @abstractmethod
    def granted(self) -> None:
        """Begin to be served: `assigned` is set."""

    @abstractmethod
    def queued(self) -> None:
        """Wait in the queue."""

    @abstractmethod
    def refused(self, error: GatewayError) -> None:
        """End with an error: it waits no longer and has no slot."""

    @property
    def waited_s(self) -> float:
        """How long it has waited for a worker or a deployment, in seconds."""
        now = self._loop.time()
        waited_s = (now if self._picked_up is None else self._picked_up) - self.created
        if self._returned_at is not None:
            waited_s += now - self._returned_at
        return waited_s + self._waited_again_s

    @property
    def patience_s(self) -> float:
        """How long it may still wait, in seconds."""
        return max(self.max_wait_s - self.waited_s, 0.0)

    @property
    def cooling_patience_s(self) -> float:
        """How long it may still wait while every deployment cools, in seconds.

        A 429 or 503 that states the wait is worth more than a stream that has begun with status 200
        and ends in an error: clients try again by themselves.
        """
        left_s = self.created + self.status_s - self._loop.time()
        return min(self.patience_s, left_s) if left_s > 0 else self.patience_s

    def wait_again(self) -> None:
        """Record that it waits for another deployment, or for the same one to recover."""
        self._returned_at = self._loop.time()

    def stop_waiting(self) -> None:
        """Record that it waits no longer; idempotent."""
        now = self._loop.time()
        if self._picked_up is None:
            self._picked_up = now
        elif self._returned_at is not None:
            self._waited_again_s += now - self._returned_at
            self._returned_at = None
