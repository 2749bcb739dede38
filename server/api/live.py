"""Handle `live` (owner only): what runs and waits at this moment."""

from __future__ import annotations

from server.api.streaming import PassableHandler
from server.shapes.live_object import live_everywhere


class LiveHandler(PassableHandler):
    """Running and waiting requests, workers and deployments."""

    access = "owner"

    async def get(self) -> None:
        """List every model of the catalog with its jobs, the running ones first."""
        self.reply_json(await live_everywhere(self.services, self.asked()))
