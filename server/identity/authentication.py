"""Find the principal of a request from its head, before anything else of it is read.

A key is presented as `Authorization: Bearer KEY` or `x-api-key: KEY`. A request with a key is
judged by the key alone: a cookie never makes up for a wrong one. A request without a key must come
from a page of this server; its cookie names a session or a guest, and a request that changes
something must also carry the page's XSRF token. All other requests get the same InvalidKey.

`Authorization: Basic` is ignored: a proxy in front that asks for a password passes it on. So is a
Bearer without a key beside an `x-api-key`: SDKs send one when their own setting is empty.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, NamedTuple

import msgspec
from msgspec import structs
from tornado.httputil import parse_cookie

from server.identity.client_addresses import is_this_machine
from server.identity.sessions import TAG_SEPARATOR, Sessions
from server.identity.visitor_tags import GUEST, VISITOR_HEADER, VisitorTags, tag_of
from server.keys.key_ring import KeyEnding, KeyRing
from server.keys.read_through import Unread, when_read
from server.keys.secret import digest_of, well_formed
from server.store.key import Key
from workers.errors import Forbidden, InvalidKey
from workers.units import DAY_S, MINUTE_S

GUEST_COOKIE = "roxy_guest"
GUEST_SESSION_S = 7 * DAY_S
SESSION_COOKIE = "roxy_session"
HOST_PREFIX = "__Host-"
"""Browsers accept such a cookie from this host itself and over TLS only (RFC 6265bis, 4.1.3.2)."""
XSRF_HEADER = "X-Roxy-Xsrf"
MARK_LENGTH = 16
OWNER_SCOPE = "owner"
GUEST_LANE = "guests"


SESSION_TAG = re.compile(r"\w{1,64}\.[0-9a-f]{16}", re.ASCII)
BASIC = re.compile(r"basic +[A-Za-z0-9+/]+=*", re.IGNORECASE)
"""RFC 7617, and nothing after it: Tornado joins two headers by a comma; Bearer may be second."""


PLACEHOLDERS = frozenset({"", "null", "undefined", "none"})
"""What programs send in place of a key that is not set, as JavaScript and Python print it."""
NO_KEY = (
    "The API key is missing. Send it as 'Authorization: Bearer KEY' or 'x-api-key: KEY'; the"
    " variable that should hold it may be empty."
)
NONE_SENT = "No API key was sent. Send one as 'Authorization: Bearer KEY' or 'x-api-key: KEY'."
INCORRECT = "Incorrect API key. Check that it is complete, and that it is a key of this server."
ENDINGS: Mapping[KeyEnding, str] = {
    "disabled": "This API key is disabled. Ask the owner of this server to enable it.",
    "expired": "This API key has expired. Ask the owner of this server for a new one.",
    "revoked": "This API key was revoked. Ask the owner of this server for a new one.",
    "replaced": "This API key was replaced by a new one. Use the new one.",
}


class Principal(msgspec.Struct, frozen=True):
    """Who sends a request: the owner, a key holder or a guest.

    `scope` is what limits and usage are counted on; a guest's contains the address. `browser` is
    the id in a guest's cookie: guests may share an address, but not their answers. `credential` is
    the SHA-256 of the secret that was presented: a key may have two, during a rotation.
    """

    kind: Literal["owner", "key", "guest"]
    scope: str
    key: Key | None = None
    browser: str = ""
    credential: bytes = b""

    @property
    def is_owner(self) -> bool:
        """True for the owner, who may do everything."""
        return self.kind == "owner"

    @property
    def sees_costs(self) -> bool:
        """True for those who answer for what is spent: guests get neither prices nor costs."""
        return self.kind != "guest"

    @property
    def lane(self) -> str:
        """Return the queue lane: all guests share one."""
        return GUEST_LANE if self.kind == "guest" else self.scope

    @property
    def holder(self) -> str:
        """Return whose jobs these are: the owner's, a key's, or one browser's."""
        return f"guest:{self.browser}" if self.kind == "guest" else self.scope

    @property
    def mark(self) -> str:
        """Return a mark that differs for each person and reveals nothing of them; "" for guests."""
        if self.kind == "guest":
            return ""
        return hashlib.sha256(f"roxy person {self.scope}".encode()).hexdigest()[:MARK_LENGTH]

    @property
    def weight(self) -> int:
        """Return the share of turns in the queue."""
        return self.key.weight if self.key is not None else 1

    @property
    def log_name(self) -> str:
        """Return the name for logs and usage, without a guest's address."""
        return "guest" if self.kind == "guest" else self.scope


OWNER = Principal("owner", OWNER_SCOPE)


class GuestSessions:
    """Issue and check the signed cookie that marks a browser of the web app.

    The cookie is `ID.ISSUED.MAC`: it proves only that a page of this gateway was opened, so
    nothing is stored for it. `secret` has 32 bytes and comes from the store, so that the cookies
    survive a restart.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def issue(self, now: float) -> str:
        """Return a new cookie value; `now` in Unix seconds."""
        value = f"{secrets.token_urlsafe(12)}.{int(now)}"
        return f"{value}.{self._mac(value)}"

    def valid(self, cookie: str | None, now: float) -> bool:
        """Return whether a cookie value was issued here, in the last week."""
        if not cookie or cookie.count(".") != 2:
            return False
        value, _, mac = cookie.rpartition(".")
        if not hmac.compare_digest(mac.encode(), self._mac(value).encode()):
            return False
        issued = int(value.rpartition(".")[2])
        # A minute of tolerance: the clock may have been set back since the cookie was issued.
        return issued <= now + MINUTE_S and now - issued < GUEST_SESSION_S

    def xsrf_token(self, cookie: str) -> str:
        """Return the token that pages send with every change; it is bound to one cookie value."""
        return hmac.new(self._secret, b"xsrf:" + cookie.encode(), hashlib.sha256).hexdigest()

    def tag_mac(self, value: bytes) -> str:
        """Return the MAC in the tag of a page's visitor."""
        return hmac.new(self._secret, b"visitor:" + value, hashlib.sha256).hexdigest()[:16]

    def _mac(self, value: str) -> str:
        return hmac.new(self._secret, value.encode(), hashlib.sha256).hexdigest()[:40]


def presented_key(headers: Mapping[str, str]) -> str | None:
    """Return the key in a request's headers, or None if there is none.

    A credential that cannot be a key is returned too, as "": a cookie does not make up for it.
    """
    authorization = headers.get("Authorization")
    key = headers.get("X-Api-Key")
    if authorization is not None and not BASIC.fullmatch(authorization):
        scheme, _, credential = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return ""
        credential = credential.strip()
        if credential.lower() not in PLACEHOLDERS:
            return credential
        key = key or ""
    return "" if key is not None and key.lower() in PLACEHOLDERS else key


def from_own_page(headers: Mapping[str, str], *, safe: bool) -> bool:
    """Return whether the browser states that a page of this server sent the request.

    Fetch Metadata (W3C) decides if it is there. On plain HTTP, except for loopback, browsers omit
    it. Then Origin decides for methods that are not `safe`; it is "null" for forms of pages with
    `Referrer-Policy: no-referrer`, for which the XSRF token decides. A GET carries neither header;
    its cookie suffices, since SameSite=Strict keeps it from requests of other sites.
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
    """Return one cookie, or None; cookies of other servers on this host are ignored."""
    header = headers.get("Cookie")
    return parse_cookie(header).get(name) if header else None


def session_cookie_name(*, secure: bool) -> str:
    """Return the name of the cookie with a session's id; `secure`: clients use TLS."""
    return f"{HOST_PREFIX}{SESSION_COOKIE}" if secure else SESSION_COOKIE


def guest_cookie_name(*, secure: bool) -> str:
    """Return the name of the cookie that marks a guest's browser; `secure`: clients use TLS."""
    return f"{HOST_PREFIX}{GUEST_COOKIE}" if secure else GUEST_COOKIE


class EndedKey(InvalidKey):
    """A secret that was valid; only who has it learns why it is not accepted now."""

    def __init__(self, ending: KeyEnding) -> None:
        super().__init__(ENDINGS[ending])
        self.ending = ending


class Visit(NamedTuple):
    """The principal of a browser, and the cookie that names it."""

    principal: Principal
    cookie: str


class EndedVisit(NamedTuple):
    """Whose session has ended: the tag of their pages, and the state of the key that ended it.

    `why` is "revoked", "disabled" or "expired", else "". `mark` is that of their Principal.
    """

    tag: str
    why: str
    mark: str


class Authentication:
    """Find the principals of requests."""

    def __init__(
        self, keys: KeyRing, guests: GuestSessions, sessions: Sessions, *, guests_welcome: bool
    ) -> None:
        self._keys = keys
        self._guests = guests
        self._sessions = sessions
        self._guests_welcome = guests_welcome
        self._tags = VisitorTags(keys, guests.tag_mac, guests_welcome=guests_welcome)

    def authenticate(
        self,
        headers: Mapping[str, str],
        guest_scope: Callable[[], str],
        now: float,
        *,
        safe: bool,
        secure: Callable[[], bool],
    ) -> Principal:
        """Return the principal of a request. Raises InvalidKey, Forbidden, Unread.

        `guest_scope` returns the scope of the client's address; `safe`: the method changes nothing;
        `secure` returns whether clients use TLS. A call of a page that was made for another
        principal raises Unread; its `read` raises SessionEnded, after reading the reason.
        """
        secret = presented_key(headers)
        if secret is not None:
            if not secret:
                raise InvalidKey(NO_KEY)
            if self._keys.owner.is_command(secret) and is_this_machine(guest_scope(), headers):
                return OWNER
            return self.principal_of(secret, now)
        if not from_own_page(headers, safe=safe):
            raise InvalidKey(NONE_SENT)
        visit = self.visit(headers, guest_scope, now, secure=secure())
        page = headers.get(VISITOR_HEADER)
        present = None if visit is None else _tag_scope(visit.principal)
        if page and not self._tags.fits(page, present):
            raise Unread(lambda: self._tags.refuse(page, present))
        if visit is None:
            raise InvalidKey(NONE_SENT)
        if not safe:
            self.check_token(visit.cookie, headers.get(XSRF_HEADER))
        return visit.principal

    def principal_of(self, secret: str, now: float) -> Principal:
        """Return the principal of a secret. Raises InvalidKey, EndedKey, Unread.

        The checksum refuses a mistyped or made-up key before any look-up. The owner key is compared
        in any case: one that was set with ROXY_ADMIN_API_KEY need not have the form of a secret.
        """
        ending: KeyEnding | None = None
        if well_formed(secret):
            key = self._keys.find(secret, now)
            if key is not None:
                return Principal("key", key.id, key, credential=digest_of(secret))
            ending = self._keys.why_ended(digest_of(secret), now)
        if self._keys.owner.is_owner(secret):
            return OWNER
        raise EndedKey(ending) if ending is not None else InvalidKey(INCORRECT)

    def is_current(self, principal: Principal, now: float) -> bool:
        """Return whether `confirm` would return the same principal, as far as memory says."""
        key = principal.key
        return key is None or self._keys.is_current(key, principal.credential, now)

    async def confirm(self, principal: Principal, now: float) -> Principal:
        """Return the principal with its key as it is now. Raises EndedKey, InvalidKey."""
        if principal.key is None:
            return principal
        key = await when_read(lambda: self._keys.find_digest(principal.credential, now))
        if key is None:
            ending = self._keys.why_ended(principal.credential, now)
            raise EndedKey(ending) if ending is not None else InvalidKey(INCORRECT)
        return principal if key is principal.key else structs.replace(principal, key=key)

    def page_tag(self, visitor: Principal | None) -> str:
        """Return the tag of a page made for a visitor, "" for one who may not use the API."""
        if visitor is not None and visitor.kind != "guest":
            return tag_of(visitor.scope, visitor.credential, mac=self._guests.tag_mac)
        return GUEST if self._guests_welcome else ""

    def visit(
        self,
        headers: Mapping[str, str],
        guest_scope: Callable[[], str],
        now: float,
        *,
        secure: bool,
    ) -> Visit | None:
        """Find the principal of a browser by its cookies: a session, else a guest, else None.

        Raises Unread.
        """
        session = self.find_session(headers, now, secure=secure)
        if session is not None:
            return session
        cookie = find_cookie(headers, guest_cookie_name(secure=secure))
        if not self._guests_welcome or cookie is None or not self._guests.valid(cookie, now):
            return None
        return Visit(Principal("guest", guest_scope(), browser=cookie.partition(".")[0]), cookie)

    def find_session(self, headers: Mapping[str, str], now: float, *, secure: bool) -> Visit | None:
        """Find the session that a browser's cookie names, if its key is valid. Raises Unread."""
        cookie = find_cookie(headers, session_cookie_name(secure=secure))
        session = self._sessions.find(cookie, now) if cookie else None
        if session is None or cookie is None:
            return None
        if session.principal == OWNER_SCOPE:  # first: the store has no key for it
            if self._keys.owner.is_owner_digest(session.credential):
                return Visit(OWNER, cookie)
        else:
            key = self._keys.find_digest(session.credential, now)
            if key is not None and key.id == session.principal:
                return Visit(Principal("key", key.id, key, credential=session.credential), cookie)
        self._sessions.end(session)
        return None

    async def find_ended(
        self, headers: Mapping[str, str], now: float, *, secure: bool
    ) -> EndedVisit | None:
        """Return whose session the browser's cookie names, if that has ended.

        The person has not signed out: that deletes the cookie.
        """
        cookie = find_cookie(headers, session_cookie_name(secure=secure)) or ""
        tag = cookie.partition(TAG_SEPARATOR)[2]
        if not SESSION_TAG.fullmatch(tag) or presented_key(headers) is not None:
            return None
        find = partial(self.find_session, headers, now, secure=secure)
        if await when_read(find) is not None:
            return None
        person = Principal("key", tag.partition(".")[0])
        return EndedVisit(tag, await self._tags.why_ended(tag), person.mark)

    def check_token(self, cookie: str, token: str | None) -> None:
        """Raise Forbidden unless a page has sent back the token that belongs to its cookie."""
        expected = self._guests.xsrf_token(cookie)
        # As bytes: compare_digest raises TypeError for text that is not ASCII.
        if not hmac.compare_digest((token or "").encode(), expected.encode()):
            raise Forbidden(
                "This page is out of date. Reload it and try again.",
                code="xsrf_refused",
            )


def _tag_scope(principal: Principal) -> str:
    return GUEST if principal.kind == "guest" else principal.scope
