"""The pages: the front page, and a small one for every path that does not exist.

Pages carry no script and no inline style, so that the strictest Content-Security-Policy holds.
"""

from __future__ import annotations

import time
from importlib import resources

from tornado.httputil import HTTPHeaders
from tornado.template import Loader

from server.auth import GUEST_COOKIE, GUEST_SESSION_S, find_cookie
from server.handlers.base import BaseHandler
from workers.errors import GatewayError, NotFound

HTML = "text/html; charset=utf-8"
PAGE_HEADERS = {
    "Content-Type": HTML,
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}
TEMPLATES = Loader(str(resources.files("webui") / "templates"))
STYLE = (resources.files("webui") / "static" / "site.css").read_bytes()


class PageHandler(BaseHandler):
    """A page; its errors are pages too."""

    access = "anyone"

    def show(
        self,
        template: str,
        status: int = 200,
        headers: dict[str, str] | None = None,
        **values: object,
    ) -> None:
        """Render a template and answer with it."""
        self.reply(
            status, TEMPLATES.load(template).generate(**values), PAGE_HEADERS | (headers or {})
        )

    def render_error(self, error: GatewayError) -> tuple[bytes, str]:
        """Give the error as a page."""
        return TEMPLATES.load("error.html").generate(error=error, request_id=self.request_id), HTML

    def answer_headers(self) -> HTTPHeaders:
        """Give every page, error pages included, the same protection."""
        headers = super().answer_headers()
        for name, value in PAGE_HEADERS.items():
            headers[name] = value
        return headers


class HomeHandler(PageHandler):
    """The front page: where the API is, what it serves, and a first command to try."""

    def get(self) -> None:
        """Show it; the browser becomes a guest if guests are welcome."""
        headers = {}
        now = time.time()
        enabled = self.services.config.guests.enabled
        if enabled and not self.services.guests.valid(
            find_cookie(self.request.headers, GUEST_COOKIE), now
        ):
            secure = "; Secure" if self.request.protocol == "https" else ""
            headers["Set-Cookie"] = (
                f"{GUEST_COOKIE}={self.services.guests.issue(now)}; Path=/;"
                f" Max-Age={GUEST_SESSION_S}; HttpOnly; SameSite=Strict{secure}"
            )
        base_url = (
            self.services.config.server.base_url or f"{self.request.protocol}://{self.request.host}"
        )
        self.show(
            "home.html", headers=headers, base_url=base_url, models=list(self.services.catalog)
        )


class StyleHandler(BaseHandler):
    """The one style sheet."""

    access = "anyone"

    def get(self) -> None:
        """Send it from memory."""
        self.reply(
            200, STYLE, {"Content-Type": "text/css; charset=utf-8", "Cache-Control": "max-age=300"}
        )


class NoSuchPageHandler(PageHandler):
    """Any path outside /api that does not exist."""

    def prepare(self) -> None:
        """Refuse, whatever the method."""
        self._refuse(NotFound("There is no such page."))
