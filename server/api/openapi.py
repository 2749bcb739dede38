"""GET openapi.json: the description of this API for programs."""

from __future__ import annotations

from server.api.base import BaseHandler


class OpenApiHandler(BaseHandler):
    """The OpenAPI 3.1 document of this gateway."""

    access = "anyone"

    def get(self) -> None:
        """Send the document; it changes only with the version and the catalog."""
        self.reply(200, self.services.openapi(), {"Cache-Control": "no-cache"})
