"""Sign-in: any key, given once, becomes a session; sign-out ends it."""

from __future__ import annotations

import time
from typing import ClassVar

from server.auth import OWNER_SCOPE, presented_key, session_cookie_name
from server.secret import digest_of
from server.sessions import ABSOLUTE_S
from webui.pages import PageHandler
from workers.errors import InvalidKey

FORM_BYTES = 16 * 1024
LONGEST_NEXT = 2000


def own_path(wanted: str) -> str:
    """Give where to go after signing in: a path of this server, or the front page."""
    plain = wanted.isascii() and wanted.isprintable() and "\\" not in wanted
    if not plain or not wanted.startswith("/") or wanted.startswith("//"):
        return "/"
    return wanted[:LONGEST_NEXT]


class LoginHandler(PageHandler):
    """The sign-in page."""

    body_limit: ClassVar[int | None] = FORM_BYTES

    def get(self) -> None:
        """Show the form, or go on when somebody is signed in."""
        visitor = self.visitor()
        wanted = own_path(self.get_query_argument("next", "/"))
        if visitor is not None and visitor.kind != "guest":
            self.redirect_to(wanted)
        else:
            self.show("shell/login.html", wanted=wanted, problem="")

    async def post(self) -> None:
        """Turn a key into a session; a wrong one is told so, and counted."""
        fields = self.take_form()
        wanted = own_path(fields.get("next", "/"))
        services, address = self.services, self._guest_scope()
        services.attempts.check(address)
        secret = fields.get("key", "").strip()
        try:
            principal = services.authentication.principal_of(secret, time.time())
        except InvalidKey:
            services.attempts.note_failure(address)
            problem = "This key is not known here, or it is no longer good."
            self.show("shell/login.html", 401, wanted=wanted, problem=problem)
            return
        end_session(self)
        scope = OWNER_SCOPE if principal.is_owner else principal.scope
        session_id = await services.sessions.begin(scope, digest_of(secret))
        name = session_cookie_name(secure=self.is_secure())
        self.redirect_to(wanted, {"Set-Cookie": self.cookie(name, session_id, ABSOLUTE_S)})


class LogoutHandler(PageHandler):
    """The end of a session."""

    body_limit: ClassVar[int | None] = FORM_BYTES

    def post(self) -> None:
        """End it and go to the front page; without one, just go."""
        self.take_form()
        end_session(self)
        name = session_cookie_name(secure=self.is_secure())
        self.redirect_to("/", {"Set-Cookie": self.cookie(name, "", 0)})


def end_session(page: PageHandler) -> None:
    """End the session that a page was asked with, if there is one."""
    services, headers = page.services, page.request.headers
    visit = services.authentication.find_session(headers, time.time(), secure=page.is_secure())
    session = services.sessions.find(visit.cookie, time.time()) if visit is not None else None
    if session is not None and presented_key(headers) is None:
        services.sessions.end(session)
