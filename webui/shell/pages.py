"""Provide what every page uses: the shell's values, protecting headers, errors as pages."""

from __future__ import annotations

import html
import time
from importlib import resources
from typing import Any, ClassVar
from urllib.parse import quote

from tornado.template import Loader

from server.api.base import BaseHandler
from server.identity.authentication import EndedVisit, Principal, find_cookie
from webui.shell.assets import packaged_assets
from webui.shell.brand import brand_of
from webui.shell.csp import PAGE_HEADERS, SECURE_HEADERS
from webui.shell.texts import Language, around, choose_language, fill, languages
from webui.shell.visitor import VisitorHandler
from workers.errors import GatewayError, NotFound
from workers.units import KIB

TEMPLATES = Loader(str(resources.files("webui") / "templates"), whitespace="all")
FORM_BYTES = 64 * KIB
SMALL_FORM_BYTES = 16 * KIB
UNSURE = "?"
MAX_HERE_CHARS = 300
"""The longest address that the choice of a language leads back to."""
THEME_COOKIE = "roxy_theme"
TEXTS_COOKIE = "roxy_texts"
"""The visitor's language; `roxy_language` is the programming language of examples."""
THEME_COLOURS = {"light": "#f0f3f5", "dark": "#171b1f"}
"""The themes, and the colour of the bar in each: `--panel` of the style sheet, as sRGB."""
NOTICE_COOKIE = "roxy_notice"
"""Holds the mark of the notice that the visitor has closed."""
NAV = ("chat", "docs")
OWNER_NAV = (*NAV, "models", "keys", "usage", "requests", "live")
"""The sections that the navigation leads to."""


def icon(name: str) -> str:
    """Return an icon of the sprite as markup that screen readers skip."""
    path = html.escape(f"{packaged_assets().path('icons.svg')}#{name}")
    return f'<svg class="icon" aria-hidden="true"><use href="{path}"/></svg>'


class PageHandler(VisitorHandler):
    """A page; its errors are pages too."""

    access = "anyone"
    body_limit: ClassVar[int | None] = FORM_BYTES
    section: ClassVar[str] = ""
    """The entry of the navigation that is marked as current."""
    script_texts: ClassVar[tuple[str, ...]] = ()
    """The groups of texts that the scripts of the page use, beside the group `page`."""
    translated: ClassVar[bool] = False
    """Whether all texts of the page are in the catalogue; other pages are in English."""
    said: str = ""
    """The message of an error in the page's language; "": it is in English, as for the API."""
    ended: EndedVisit | None = None
    """Whose session has ended: such a page is theirs, and says so; they are no guest."""
    _language: Language | None = None

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
        """Return the values of `shell/base.html`; a cookie made for it goes into `headers`."""
        visitor = self.visitor()
        language = self.language()
        brand = brand_of(self.services.config.web)
        closed = find_cookie(self.request.headers, NOTICE_COOKIE)
        seen = brand.notice is not None and brand.notice.mark == closed
        uri = self.request.uri or "/"
        return {
            "locale": language,
            "texts": language.texts,
            "script_texts": language.for_scripts(("page", *self.script_texts)),
            "site": brand.name,
            "logo": brand.logo_path,
            "logo_size": brand.logo_size,
            "notice": None if seen else brand.notice,
            "asset": packaged_assets().path,
            "icon": icon,
            "theme": self.theme(),
            "theme_colours": tuple(THEME_COLOURS.items()),
            "xsrf": self.xsrf(headers),
            "visitor_tag": self.visitor_tag(),
            "ended": self.ended,
            "fill": fill,
            "around": around,
            "spoken": tuple(languages().values()) if self.translated else (),
            "here": uri if len(uri) <= MAX_HERE_CHARS else "/",
            "sign_in_path": self._sign_in_path(),
            "nav": [
                (name, path, label)
                for name, path, label in navigation(language.texts)
                if name in (OWNER_NAV if visitor is not None and visitor.is_owner else NAV)
            ],
            "section": self.section,
            "signed_in": visitor is not None and visitor.kind != "guest",
            "who": who(visitor, language.texts),
            "person": self.person(),
            "visitor": visitor,
        }

    def _sign_in_path(self) -> str:
        """Return the path of the sign-in page, which leads back to this page."""
        uri = self.request.uri or "/"
        leads_back = self.section and self.method == "GET" and 1 < len(uri) <= MAX_HERE_CHARS
        return f"/login?next={quote(uri)}" if leads_back else "/login"

    def language(self) -> Language:
        """Return the language of the page."""
        if self._language is None:
            headers = self.request.headers
            chosen = find_cookie(headers, TEXTS_COOKIE)
            accepted = headers.get("Accept-Language", "")
            self._language = choose_language(*((chosen, accepted) if self.translated else ("", "")))
        return self._language

    def visitor_tag(self) -> str:
        """Return what the page's calls state about whom it was made for.

        Browsers leave the session's cookie out when a link on another site leads here
        (SameSite=Strict, RFC 6265bis, 5.6.7.1): then the script loads the page once more.
        """
        if self.ended is not None:
            return self.ended.tag
        visitor = self.visitor()
        signed_in = visitor is not None and visitor.kind != "guest"
        if not signed_in and self.request.headers.get("Sec-Fetch-Site") == "cross-site":
            return UNSURE
        return self.services.authentication.page_tag(visitor)

    def person(self) -> str:
        """Return the mark of the person whose page it is; "" for guests."""
        if self.ended is not None:
            return self.ended.mark
        visitor = self.visitor()
        return visitor.mark if visitor is not None else ""

    async def find_ended(self) -> None:
        """Note whose session the browser's cookie names, if that has ended."""
        self.ended = await self.services.authentication.find_ended(
            self.request.headers, time.time(), secure=self.is_secure()
        )

    def theme(self) -> str:
        """Return the theme that the visitor has chosen, or "" for that of the system."""
        chosen = find_cookie(self.request.headers, THEME_COOKIE)
        return chosen if chosen in THEME_COLOURS else ""

    def render_error(self, error: GatewayError) -> tuple[bytes, str]:
        """Return the error as a page."""
        page, texts = TEMPLATES.load("shell/error.html"), self.language().texts
        values = self.shell({}) | {"error": error, "heading": heading_of(error, texts)}
        if not self.find_mark():
            values["spoken"] = ()  # an error sets no cookie, so the form would be refused
        message = self.said or message_of(error, texts)
        body = page.generate(**values, message=message, request_id=self.request_id)
        return body, PAGE_HEADERS["Content-Type"]

    def add_headers(self, headers: dict[str, str]) -> None:
        """Add the protecting headers to every page, error pages included."""
        headers.update(PAGE_HEADERS)
        if self.is_secure():
            headers.update(SECURE_HEADERS)


def navigation(texts: Any) -> list[tuple[str, str, str]]:
    """Return every section of the navigation: its name, path and label."""
    return [
        ("chat", "/", texts.shell.chat),
        ("docs", "/docs", texts.shell.docs),
        ("models", "/models", texts.shell.models),
        ("keys", "/keys", texts.shell.keys),
        ("usage", "/usage", texts.shell.usage),
        ("requests", "/requests", texts.shell.requests),
        ("live", "/live", texts.shell.live),
    ]


def heading_of(error: GatewayError, texts: Any) -> str:
    """Return the heading of an error's page."""
    headings = {
        400: texts.errors.invalid,
        401: texts.errors.sign_in_first,
        403: texts.errors.forbidden,
        404: texts.errors.not_found,
        405: texts.errors.method,
        409: texts.errors.conflict,
        413: texts.errors.too_large,
        429: texts.errors.too_many,
        503: texts.errors.unavailable,
    }
    return str(headings.get(error.status, texts.errors.wrong))


def message_of(error: GatewayError, texts: Any) -> str:
    """Return what people can do about an error of any page, or "" for other errors."""
    messages = {
        "invalid_api_key": texts.errors.signed_out,
        "session_ended": texts.errors.signed_out,
        "xsrf_refused": texts.errors.out_of_date,
        "permission_denied": texts.errors.owner_only,
        "request_too_large": texts.errors.form_too_large,
        "server_is_draining": texts.errors.try_later,
        "store_unavailable": texts.errors.try_later,
        "limits_unavailable": texts.errors.try_later,
        "server_error": texts.errors.internal,
    }
    return str(messages.get(error.own_code, ""))


def who(visitor: Principal | None, texts: Any) -> str:
    """Return the name of a visitor for display."""
    if visitor is None:
        return str(texts.shell.not_signed_in)
    if visitor.is_owner:
        return str(texts.shell.owner)
    return visitor.key.name if visitor.key is not None else str(texts.shell.guest)


class LostClientHandler(PageHandler):
    """A page at a path that API clients with a wrong base URL ask for, too.

    They get errors as JSON, because they would not show a page to their users. Only browsers name
    `text/html` in Accept: curl and most HTTP libraries send `*/*`, or no Accept at all.
    """

    def render_error(self, error: GatewayError) -> tuple[bytes, str]:
        """Return a page for browsers and the API's error for its clients."""
        return (
            BaseHandler.render_error(self, error)
            if self.by_a_client()
            else super().render_error(error)
        )

    def add_headers(self, headers: dict[str, str]) -> None:
        """Add the headers of pages, but for the error that is sent as JSON."""
        if not self.by_a_client():
            super().add_headers(headers)

    def refuse_clients(self) -> None:
        """Raise NotFound for API clients, whose base URL lacks the path of the API."""
        if self.by_a_client():
            raise NotFound(
                "Nothing is served at this path. The base URL of the API ends with /api/v1."
            )

    def by_a_client(self) -> bool:
        """Return True if the request was not sent by a browser that shows pages."""
        return "text/html" not in self.request.headers.get("Accept", "").lower()


class NoSuchPageHandler(LostClientHandler):
    """Any path outside the API that does not exist."""

    translated = True

    def refuse_head(self) -> None:
        """Refuse every method."""
        self.visitor()
        self.refuse_clients()
        self.said = self.language().texts.errors.no_page
        raise NotFound(self.said)
