"""What every page is made with: the shell's values, the protecting headers, errors as pages."""

from __future__ import annotations

import html
from importlib import resources
from typing import ClassVar

from tornado.template import Loader

from server.auth import Principal, find_cookie
from server.handlers.base import BaseHandler
from server.handlers.visitor import VisitorHandler
from webui.assets import packaged_assets
from webui.csp import PAGE_HEADERS, SECURE_HEADERS
from workers.errors import GatewayError, NotFound

TEMPLATES = Loader(str(resources.files("webui") / "templates"), whitespace="all")
THEME_COOKIE = "roxy_theme"
THEMES = ("light", "dark")
NAV = (("Chat", "/"), ("Docs", "/docs"))
OWNER_NAV = (
    *NAV,
    ("Keys", "/keys"),
    ("Usage", "/usage"),
    ("Requests", "/requests"),
    ("Live", "/live"),
)

LOST_CLIENT = "There is nothing at this path. The API is under /api/v1: end the base URL with that."


def icon(name: str) -> str:
    """Give an icon of the sprite as markup; it says nothing to a screen reader."""
    path = html.escape(f"{packaged_assets().path('icons.svg')}#{name}")
    return f'<svg class="icon" aria-hidden="true"><use href="{path}"/></svg>'


class PageHandler(VisitorHandler):
    """A page; its errors are pages too."""

    access = "anyone"
    section: ClassVar[str] = ""
    """Which entry of the navigation is this page's."""

    def show(
        self,
        template: str,
        status: int = 200,
        headers: dict[str, str] | None = None,
        **values: object,
    ) -> None:
        """Render a template in the shell and answer with it."""
        headers = dict(headers or {})
        body = TEMPLATES.load(template).generate(**self.shell(headers), **values)
        self.reply(status, body, headers)

    def shell(self, headers: dict[str, str]) -> dict[str, object]:
        """Give what `shell/base.html` shows; a cookie that it makes is put into `headers`."""
        visitor = self.visitor()
        return {
            "asset": packaged_assets().path,
            "icon": icon,
            "theme": self.theme(),
            "xsrf": self.xsrf(headers),
            "nav": OWNER_NAV if visitor is not None and visitor.is_owner else NAV,
            "section": self.section,
            "signed_in": visitor is not None and visitor.kind != "guest",
            "who": who(visitor),
            "visitor": visitor,
        }

    def theme(self) -> str:
        """Give the theme that the visitor has chosen; "": the system's."""
        chosen = find_cookie(self.request.headers, THEME_COOKIE)
        return chosen if chosen in THEMES else ""

    def base_url(self) -> str:
        """Give the address of this gateway as clients are to use it."""
        request = self.request
        return self.services.config.server.base_url or f"{request.protocol}://{request.host}"

    def render_error(self, error: GatewayError) -> tuple[bytes, str]:
        """Give the error as a page."""
        page = TEMPLATES.load("shell/error.html")
        body = page.generate(**self.shell({}), error=error, request_id=self.request_id)
        return body, PAGE_HEADERS["Content-Type"]

    def add_headers(self, headers: dict[str, str]) -> None:
        """Give every page, error pages included, the same protection."""
        headers.update(PAGE_HEADERS)
        if self.is_secure():
            headers.update(SECURE_HEADERS)


class OwnerPageHandler(PageHandler):
    """A page of the owner's; guests are sent to sign in, key holders refused."""

    access = "owner"


def who(visitor: Principal | None) -> str:
    """Name a visitor as the page does."""
    if visitor is None:
        return "Nobody"
    if visitor.is_owner:
        return "Owner"
    return visitor.key.name if visitor.key is not None else "Guest"


class NoSuchPageHandler(PageHandler):
    """Any path outside /api that does not exist.

    Clients of the API come here with a wrong base URL, mostly `/v1`: they would show their users
    nothing of a page.
    """

    def prepare(self) -> None:
        """Refuse, whatever the method."""
        self._refuse(NotFound(LOST_CLIENT if self._by_a_client() else "There is no such page."))

    def render_error(self, error: GatewayError) -> tuple[bytes, str]:
        """Give browsers a page, and clients of the API its error."""
        return (
            BaseHandler.render_error(self, error)
            if self._by_a_client()
            else super().render_error(error)
        )

    def _by_a_client(self) -> bool:
        accept = self.request.headers.get("Accept", "")
        asks = self.method == "POST" or "application/json" in accept
        return asks and "text/html" not in accept
