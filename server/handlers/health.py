"""/healthz and /readyz: is the process alive, and should it be sent work."""

from __future__ import annotations

from server.handlers.base import BaseHandler


class HealthHandler(BaseHandler):
    """Alive: the loop answers."""

    access = "anyone"

    def get(self) -> None:
        """Answer 200 as long as the process runs."""
        self.reply_json({"status": "ok"})


class ReadyHandler(BaseHandler):
    """Ready: migrated, able to write, not draining."""

    access = "anyone"

    def get(self) -> None:
        """Answer 200, or 503 with the reasons."""
        reasons = self.services.unready()
        if reasons:
            self.reply_json(
                {"status": "unavailable", "reasons": reasons}, 503, {"Retry-After": "1"}
            )
        else:
            self.reply_json({"status": "ok"})
