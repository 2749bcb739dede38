"""GET openapi.json: this API, described for machines."""

from __future__ import annotations

from server.api.base import BaseHandler


class OpenApiHandler(BaseHandler):
    """The OpenAPI 3.1 document of this gateway."""

    access = "anyone"

    def get(self) -> None:
        """Send it; it changes with the version and the catalog only."""
        self.reply(200, self.services.openapi(), {"Cache-Control": "no-cache"})
