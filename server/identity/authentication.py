"""Who asks: a request head becomes one principal before anything else is looked at.

Credentials come as `Authorization: Bearer KEY` or `x-api-key: KEY`. A call that presents a
credential stands or falls with it: a cookie never rescues a bad key. Without one, a call from a
page of this server is whose session its cookie names, or a guest's; what changes something must
carry the page's XSRF token too. Everything else is refused alike.

`Authorization: Basic` is a password of a proxy in front, which passes it on: no credential of ours.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import msgspec
from msgspec import structs
from tornado.httputil import parse_cookie

from server.identity.sessions import Sessions
from server.keys.key_ring import KeyRing
from server.keys.secret import digest_of
from server.store.key import Key
from workers.errors import Forbidden, InvalidKey
from workers.units import DAY_S, MINUTE_S

GUEST_COOKIE = "roxy_guest"
GUEST_SESSION_S = 7 * DAY_S
SESSION_COOKIE = "roxy_session"
HOST_PREFIX = "__Host-"
"""Browsers take such a cookie from this very host over TLS only (RFC 6265bis, 4.1.3.2)."""
XSRF_HEADER = "X-Roxy-Xsrf"
OWNER_SCOPE = "owner"
GUEST_LANE = "guests"


BASIC = re.compile(r"basic +[A-Za-z0-9+/]+=*", re.IGNORECASE)
"""RFC 7617, and nothing after it: two headers come joined by a comma, and Bearer may be second."""


class Principal(msgspec.Struct, frozen=True):
    """Who asks. `scope` is what limits and usage are counted on; guests' carries their address.

    `browser` is the id in a guest's cookie: guests may share an address, but not their answers.
    `credential` is the SHA-256 of the secret that a key's holder came by: a key may have two.
    """

    kind: Literal["owner", "key", "guest"]
    scope: str
    key: Key | None = None
    browser: str = ""
    credential: bytes = b""

    @property
    def is_owner(self) -> bool:
        """Say whether everything is allowed."""
        return self.kind == "owner"

    @property
    def lane(self) -> str:
        """Name the queue lane: all guests share one."""
        return GUEST_LANE if self.kind == "guest" else self.scope

    @property
    def holder(self) -> str:
        """Name whose jobs these are: the owner's, a key's, or one browser's."""
        return f"guest:{self.browser}" if self.kind == "guest" else self.scope

    @property
    def weight(self) -> int:
        """Give the share of turns in the queue."""
        return self.key.weight if self.key is not None else 1

    @property
    def log_name(self) -> str:
        """Name the principal for logs and usage, without a guest's address."""
        return "guest" if self.kind == "guest" else self.scope


OWNER = Principal("owner", OWNER_SCOPE)


class GuestSessions:
    """Issue and check the signed cookie that marks a browser of the web app.

    The cookie is `ID.ISSUED.MAC`: it proves only that this gateway's page was opened, so nothing is
    stored for it. `secret` (32 bytes) is kept in the store, or sessions end with every restart.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def issue(self, now: float) -> str:
        """Make a cookie value; `now` in Unix seconds."""
        value = f"{secrets.token_urlsafe(12)}.{int(now)}"
        return f"{value}.{self._mac(value)}"

    def valid(self, cookie: str | None, now: float) -> bool:
        """Say whether a cookie value is ours and not older than a week."""
        if not cookie or cookie.count(".") != 2:
            return False
        value, _, mac = cookie.rpartition(".")
        if not hmac.compare_digest(mac.encode(), self._mac(value).encode()):
            return False
        issued = int(value.rpartition(".")[2])
        return issued <= now + MINUTE_S and now - issued < GUEST_SESSION_S

    def xsrf_token(self, cookie: str) -> str:
        """Give the token that pages send back with every change: bound to one cookie's value."""
        return hmac.new(self._secret, b"xsrf:" + cookie.encode(), hashlib.sha256).hexdigest()

    def _mac(self, value: str) -> str:
        return hmac.new(self._secret, value.encode(), hashlib.sha256).hexdigest()[:40]


def presented_key(headers: Mapping[str, str]) -> str | None:
    """Find the credential in a request's headers; None: there is none, "" or junk counts as one."""
    authorization = headers.get("Authorization")
    if authorization is not None and not BASIC.fullmatch(authorization):
        scheme, _, credential = authorization.partition(" ")
        return credential.strip() if scheme.lower() == "bearer" else ""
    return headers.get("X-Api-Key")


def from_own_page(headers: Mapping[str, str], *, safe: bool) -> bool:
    """Say whether a browser vouches that the call comes from a page of this server.

    Fetch Metadata (W3C) first. Browsers leave it away on plain HTTP but for loopback; then there is
    Origin with everything that is not `safe` ("null" for the forms of pages that send no referrer,
    where the XSRF token decides), and nothing with a GET: that the cookie came along must do, since
    it is SameSite=Strict.
    """
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("Origin")
    if origin is None:
        return safe
    host = headers.get("Host")
    return origin == "null" or (bool(host) and origin.partition("://")[2] == host)


def find_cookie(headers: Mapping[str, str], name: str) -> str | None:
    """Find one cookie, whatever else other servers on this host have left in the header."""
    header = headers.get("Cookie")
    return parse_cookie(header).get(name) if header else None


def session_cookie_name(*, secure: bool) -> str:
    """Name the cookie that holds a session's id; `secure`: clients come over TLS."""
    return f"{HOST_PREFIX}{SESSION_COOKIE}" if secure else SESSION_COOKIE


def guest_cookie_name(*, secure: bool) -> str:
    """Name the cookie that marks a guest's browser; `secure`: clients come over TLS."""
    return f"{HOST_PREFIX}{GUEST_COOKIE}" if secure else GUEST_COOKIE


class Visit(NamedTuple):
    """Who a browser is, and the cookie that says so."""

    principal: Principal
    cookie: str


class Authentication:
    """Turn request heads into principals."""

    def __init__(
        self, keys: KeyRing, guests: GuestSessions, sessions: Sessions, *, guests_welcome: bool
    ) -> None:
        self._keys = keys
        self._guests = guests
        self._sessions = sessions
        self._guests_welcome = guests_welcome

    def authenticate(
        self,
        headers: Mapping[str, str],
        guest_scope: Callable[[], str],
        now: float,
        *,
        safe: bool,
        secure: Callable[[], bool],
    ) -> Principal:
        """Tell who asks. Raises InvalidKey, Forbidden.

        `guest_scope` names the caller's address, `safe` says whether the method changes nothing,
        `secure` whether clients come over TLS.
        """
        secret = presented_key(headers)
        if secret is not None:
            return self.principal_of(secret, now)
        if not from_own_page(headers, safe=safe):
            raise InvalidKey
        visit = self.visit(headers, guest_scope, now, secure=secure())
        if visit is None:
            raise InvalidKey
        if not safe:
            self.check_token(visit.cookie, headers.get(XSRF_HEADER))
        return visit.principal

    def principal_of(self, secret: str, now: float) -> Principal:
        """Tell whose key this is. Raises InvalidKey."""
        key = self._keys.find(secret, now)
        if key is not None:
            return Principal("key", key.id, key, credential=digest_of(secret))
        if self._keys.is_owner(secret):
            return OWNER
        raise InvalidKey

    def confirm(self, principal: Principal, now: float) -> Principal:
        """Look at a key again after a wait, as it is now. Raises InvalidKey when it has ended."""
        if principal.key is None:
            return principal
        key = self._keys.find_digest(principal.credential, now)
        if key is None:
            raise InvalidKey
        return principal if key is principal.key else structs.replace(principal, key=key)

    def visit(
        self,
        headers: Mapping[str, str],
        guest_scope: Callable[[], str],
        now: float,
        *,
        secure: bool,
    ) -> Visit | None:
        """Tell who a browser is by its cookies alone: a session, else a guest."""
        session = self.find_session(headers, now, secure=secure)
        if session is not None:
            return session
        cookie = find_cookie(headers, guest_cookie_name(secure=secure))
        if not self._guests_welcome or cookie is None or not self._guests.valid(cookie, now):
            return None
        return Visit(Principal("guest", guest_scope(), browser=cookie.partition(".")[0]), cookie)

    def find_session(self, headers: Mapping[str, str], now: float, *, secure: bool) -> Visit | None:
        """Find the session that a browser presents, if its key is still good."""
        cookie = find_cookie(headers, session_cookie_name(secure=secure))
        session = self._sessions.find(cookie, now) if cookie else None
        if session is None or cookie is None:
            return None
        key = self._keys.find_digest(session.credential, now)
        if key is not None and key.id == session.principal:
            return Visit(Principal("key", key.id, key, credential=session.credential), cookie)
        if session.principal == OWNER_SCOPE and self._keys.is_owner_digest(session.credential):
            return Visit(OWNER, cookie)
        self._sessions.end(session)
        return None

    def check_token(self, cookie: str, token: str | None) -> None:
        """Raise Forbidden unless a page has sent back the token that belongs to its cookie."""
        expected = self._guests.xsrf_token(cookie)
        if not hmac.compare_digest((token or "").encode(), expected.encode()):
            raise Forbidden(
                f"This page is out of date: reload it and try again. ({XSRF_HEADER} is missing or"
                " belongs to another session.)",
                code="xsrf_refused",
            )
