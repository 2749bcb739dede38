"""/healthz and /readyz: whether the process is alive, and whether it can take work."""

from __future__ import annotations

import contextlib

from server.api.base import BaseHandler
from server.shapes.health_object import HealthObject
from workers.errors import StoreUnavailable


class HealthHandler(BaseHandler):
    """Liveness: the event loop runs."""

    access = "anyone"

    def get(self) -> None:
        """Answer 200 as long as the process runs."""
        self.reply_json(HealthObject("ok"))


class ReadyHandler(BaseHandler):
    """Readiness: the database can be written, and the gateway is not draining."""

    access = "anyone"

    async def get(self) -> None:
        """Answer 200, or 503 with the reasons."""
        if self.services.unready():
            # A gateway that gets no work writes nothing, so a failed store would stay failed.
            with contextlib.suppress(StoreUnavailable):
                await self.services.store.check_writable()
        reasons = self.services.unready()
        if reasons:
            self.reply_json(HealthObject("unavailable", reasons), 503, {"Retry-After": "1"})
        else:
            self.reply_json(HealthObject("ok"))
