"""Handle `live` (owner only): what runs and waits at this moment."""

from __future__ import annotations

from server.api.base import BaseHandler
from server.shapes.live_object import live_object


class LiveHandler(BaseHandler):
    """Running and waiting requests, workers and deployments."""

    access = "owner"

    async def get(self) -> None:
        """List every model of the catalog with its jobs, the running ones first."""
        self.reply_json(await live_object(self.services))
