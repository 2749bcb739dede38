"""/healthz, /readyz and health: whether the process, the gateway and its upstreams work."""

from __future__ import annotations

import contextlib

from msgspec import UNSET

from server.api.base import BaseHandler
from server.api.streaming import PassableHandler
from server.shapes.health_object import HealthObject, health_everywhere
from workers.errors import StoreUnavailable


class HealthHandler(BaseHandler):
    """Liveness: the event loop runs."""

    access = "anyone"

    def get(self) -> None:
        """Answer 200 as long as the process runs."""
        self.reply_json(HealthObject("ok"))


class ReadyHandler(BaseHandler):
    """Readiness: usage can be saved, and the gateway is not draining."""

    access = "anyone"

    async def get(self) -> None:
        """Answer 200, with the shared stores that are away, or 503 with the reasons."""
        if self.services.unready():
            # A gateway that gets no work writes nothing, so a failed store would stay failed.
            with contextlib.suppress(StoreUnavailable):
                await self.services.store.check_writable()
        reasons = self.services.unready()
        if reasons:
            self.reply_json(HealthObject("unavailable", reasons), 503, {"Retry-After": "1"})
        else:
            self.reply_json(HealthObject("ok", away=self.services.away() or UNSET))


class UpstreamHealthHandler(PassableHandler):
    """How the models have answered lately, and which deployments are used."""

    access = "owner"

    async def get(self) -> None:
        """List every model of the catalog with its last hour and the state of its deployments."""
        self.reply_json(await health_everywhere(self.services, self.asked()))
