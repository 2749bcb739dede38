"""Identify the visitor of a page, and check that forms come from pages of this server."""

from __future__ import annotations

import time
from urllib.parse import parse_qsl, quote

from server.api.base import SAFE_METHODS, BaseHandler
from server.identity.authentication import (
    GUEST_SESSION_S,
    Principal,
    Visit,
    find_cookie,
    from_own_page,
    guest_cookie_name,
    presented_key,
    session_cookie_name,
)
from server.identity.sessions import ABSOLUTE_S
from server.keys.read_through import Unread
from workers.errors import Forbidden, GatewayError, InvalidKey, InvalidRequest

FORM = "application/x-www-form-urlencoded"
MAX_FIELDS = 1100


class SignInFirst(Forbidden):
    """A redirect to the sign-in page, and from there back to the wanted page."""

    status = 303

    def __init__(self, wanted: str) -> None:
        super().__init__()
        self.wanted = wanted

    def headers(self) -> dict[str, str]:
        """Return the location of the sign-in page."""
        return super().headers() | {"Location": f"/login?next={quote(self.wanted, safe='/')}"}


class VisitorHandler(BaseHandler):
    """A page or a form. `access` "owner" sends guests to sign in and refuses key holders."""

    cross_origin = False
    _visit: Visit | None = None
    _looked = False
    _mark = ""

    def visitor(self) -> Principal | None:
        """Return the principal, or None for an anonymous visitor."""
        visit = self._find_visit()
        return visit.principal if visit is not None else None

    def refuse_head(self) -> None:
        """Find the visitor first, whom pages show even if they are refused."""
        self.visitor()
        super().refuse_head()

    def write_failure(self, error: GatewayError) -> None:
        """Write an error; a visitor that cannot be read from the store counts as not signed in."""
        try:
            self.visitor()
        except Unread:
            self._looked = True
        super().write_failure(error)

    def xsrf(self, headers: dict[str, str]) -> str:
        """Return the token that the page's forms and scripts send back.

        It is bound to a cookie; a browser without one gets a guest's cookie in `headers`.
        """
        if not self._mark:
            self._mark = self.find_mark() or self._make_mark(headers)
        return self.services.guests.xsrf_token(self._mark)

    def take_form(self) -> dict[str, str]:
        """Return the fields of a form; of repeated fields the last one counts.

        Raises Forbidden when the form does not come from a page of this server, and InvalidRequest.
        """
        if self.request.headers.get("Content-Type", "").partition(";")[0].strip() != FORM:
            raise InvalidRequest(f"Send a form as {FORM}.")
        try:
            # parse_qsl raises ValueError for more fields than max_num_fields, too.
            text = self.take_body().decode()
            fields = dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS))
        except ValueError as error:
            raise InvalidRequest("The form is not valid: it must be URL-encoded UTF-8.") from error
        if presented_key(self.request.headers) is None:
            if not from_own_page(self.request.headers, safe=False):
                raise Forbidden(
                    "This form was not sent by a page of this server.", code="xsrf_refused"
                )
            token = fields.get("xsrf")
            self.services.authentication.check_token(self.find_mark() or "", token)
        return fields

    def redirect_to(self, path: str, headers: dict[str, str] | None = None) -> None:
        """Redirect the browser; with 303 it sends a GET, whatever the method was."""
        self.reply(303, b"", {"Location": path} | (headers or {}))

    def _authenticate(self) -> Principal:
        visitor = self.visitor()
        if visitor is not None and not (self.access == "owner" and visitor.kind == "guest"):
            return visitor
        if self.method in SAFE_METHODS:  # after a redirect, a form would be lost
            raise SignInFirst(self.request.uri or "/")
        raise InvalidKey

    def _find_visit(self) -> Visit | None:
        if not self._looked:
            headers, now = self.request.headers, time.time()
            authentication = self.services.authentication
            secret = presented_key(headers)
            if secret is None:
                self._visit = authentication.visit(
                    headers, self.client_scope, now, secure=self.is_secure()
                )
            else:
                try:
                    self._visit = Visit(authentication.principal_of(secret, now), "")
                except InvalidKey:
                    self._visit = None
            self._looked = True
        return self._visit

    def find_mark(self) -> str:
        """Return the cookie that tokens are bound to: the session's, else the guest's."""
        visit = self._find_visit()
        if visit is not None and visit.cookie:
            return visit.cookie
        name = guest_cookie_name(secure=self.is_secure())
        cookie = find_cookie(self.request.headers, name)
        if cookie is not None and self.services.guests.valid(cookie, time.time()):
            return cookie
        return ""

    def _make_mark(self, headers: dict[str, str]) -> str:
        cookie = self.services.guests.issue(time.time())
        name = guest_cookie_name(secure=self.is_secure())
        headers["Set-Cookie"] = self.cookie(name, cookie, GUEST_SESSION_S)
        return cookie

    def become(self, visit: Visit) -> None:
        """Answer for another visitor from here on: forms of the answer belong to their session."""
        self._visit, self._looked, self._mark = visit, True, visit.cookie

    def session_cookie(self, session_id: str) -> str:
        """Return the cookie that keeps a session in the browser; "" ends it."""
        name = session_cookie_name(secure=self.is_secure())
        return self.cookie(name, session_id, ABSOLUTE_S if session_id else 0)

    def cookie(self, name: str, value: str, max_age_s: int) -> str:
        """Return a cookie that scripts cannot read and other sites cannot use."""
        # The prefix __Host- demands Path=/, Secure and no Domain (RFC 6265bis, 4.1.3.2).
        secure = "; Secure" if self.is_secure() else ""
        return f"{name}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}"
