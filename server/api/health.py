"""/healthz and /readyz: is the process alive, and should it be sent work."""

from __future__ import annotations

import contextlib

from server.api.base import BaseHandler
from server.shapes.health_object import HealthObject
from workers.errors import StoreUnavailable


class HealthHandler(BaseHandler):
    """Alive: the loop answers."""

    access = "anyone"

    def get(self) -> None:
        """Answer 200 as long as the process runs."""
        self.reply_json(HealthObject("ok"))


class ReadyHandler(BaseHandler):
    """Ready: migrated, able to write, not draining."""

    access = "anyone"

    async def get(self) -> None:
        """Answer 200, or 503 with the reasons."""
        if self.services.unready():
            # Whoever is not sent work has nothing to write, and would never learn that it could.
            with contextlib.suppress(StoreUnavailable):
                await self.services.store.check_writable()
        reasons = self.services.unready()
        if reasons:
            self.reply_json(HealthObject("unavailable", reasons), 503, {"Retry-After": "1"})
        else:
            self.reply_json(HealthObject("ok"))
