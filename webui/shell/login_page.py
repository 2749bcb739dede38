"""Serve the sign-in page, which turns a key into a session, and sign-out."""

from __future__ import annotations

import time

from server.identity.authentication import OWNER_SCOPE, presented_key, session_cookie_name
from server.identity.sessions import ABSOLUTE_S
from server.keys.secret import digest_of
from server.keys.unread import when_read
from webui.shell.pages import SMALL_FORM_BYTES, PageHandler
from workers.errors import InvalidKey

LONGEST_NEXT = 2000


def own_path(wanted: str) -> str:
    """Return the path to go to after signing in, or "/" for anything but a local path."""
    # Browsers read "//host" and "/\host" as another host (WHATWG URL, relative slash state).
    plain = wanted.isascii() and wanted.isprintable() and "\\" not in wanted
    if not plain or not wanted.startswith("/") or wanted.startswith("//"):
        return "/"
    return wanted[:LONGEST_NEXT]


class LoginHandler(PageHandler):
    """The sign-in page."""

    body_limit = SMALL_FORM_BYTES

    def get(self) -> None:
        """Show the form, or redirect a visitor who is signed in already."""
        visitor = self.visitor()
        wanted = own_path(self.get_query_argument("next", "/"))
        if visitor is not None and visitor.kind != "guest":
            self.redirect_to(wanted)
        else:
            self.show("shell/login.html", wanted=wanted, problem="")

    async def post(self) -> None:
        """Turn a key into a session; a wrong key is counted and the form is shown again."""
        fields = self.take_form()
        wanted = own_path(fields.get("next", "/"))
        services, address = self.services, self.client_scope()
        services.wrong_sign_ins.check(address)
        secret = fields.get("key", "").strip()
        try:
            principal = await when_read(
                lambda: services.authentication.principal_of(secret, time.time())
            )
        except InvalidKey:
            services.wrong_sign_ins.add(address)
            problem = "This key is invalid or has expired."
            self.show("shell/login.html", 401, wanted=wanted, problem=problem)
            return
        await end_session(self)
        scope = OWNER_SCOPE if principal.is_owner else principal.scope
        session_id = await services.sessions.begin(scope, digest_of(secret))
        name = session_cookie_name(secure=self.is_secure())
        self.redirect_to(wanted, {"Set-Cookie": self.cookie(name, session_id, ABSOLUTE_S)})


class LogoutHandler(PageHandler):
    """The end of a session."""

    body_limit = SMALL_FORM_BYTES

    async def post(self) -> None:
        """End the session, if there is one, and redirect to the front page."""
        self.take_form()
        await end_session(self)
        name = session_cookie_name(secure=self.is_secure())
        self.redirect_to("/", {"Set-Cookie": self.cookie(name, "", 0)})


async def end_session(page: PageHandler) -> None:
    """End the session of the page's request, if there is one."""
    services, headers = page.services, page.request.headers
    visit = services.authentication.find_session(headers, time.time(), secure=page.is_secure())
    session = services.sessions.find(visit.cookie, time.time()) if visit is not None else None
    if session is not None and presented_key(headers) is None:
        await services.sessions.sign_out(session)
