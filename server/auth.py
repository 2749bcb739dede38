"""Who asks: a request head becomes one principal before anything else is looked at.

Credentials come as `Authorization: Bearer KEY` or `x-api-key: KEY`. A call that presents a
credential stands or falls with it: a cookie never rescues a bad key. Without one, a same-origin
call with the web app's guest session is a guest; everything else is refused alike.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from server.keyring import KeyRing
from server.keys import Key
from workers.errors import InvalidKey

GUEST_COOKIE = "roxy_guest"
GUEST_SESSION_S = 7 * 24 * 3600
OWNER_SCOPE = "owner"


class Principal(msgspec.Struct, frozen=True):
    """Who asks. `scope` is what limits and usage are counted on; guests' carries their address."""

    kind: Literal["owner", "key", "guest"]
    scope: str
    key: Key | None = None

    @property
    def is_owner(self) -> bool:
        """Say whether everything is allowed."""
        return self.kind == "owner"

    @property
    def lane(self) -> str:
        """Name the queue lane: all guests share one."""
        return "guests" if self.kind == "guest" else self.scope

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
        return issued <= now + 60 and now - issued < GUEST_SESSION_S

    def _mac(self, value: str) -> str:
        return hmac.new(self._secret, value.encode(), hashlib.sha256).hexdigest()[:40]


def presented_key(headers: Mapping[str, str]) -> str | None:
    """Find the credential in a request's headers; None: there is none, "" or junk counts as one."""
    authorization = headers.get("Authorization")
    if authorization is not None:
        scheme, _, credential = authorization.partition(" ")
        return credential.strip() if scheme.lower() == "bearer" else ""
    return headers.get("X-Api-Key")


def same_origin(headers: Mapping[str, str]) -> bool:
    """Say whether a browser vouches that the call comes from a page of this server.

    Fetch Metadata (W3C) first; browsers without it send Origin with every POST.
    """
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("Origin")
    return origin is not None and urlsplit(origin).netloc == headers.get("Host")


def find_cookie(headers: Mapping[str, str], name: str) -> str | None:
    """Find one cookie; damaged cookie headers count as none."""
    try:
        cookie = SimpleCookie(headers.get("Cookie", "")).get(name)
    except CookieError:
        return None
    return cookie.value if cookie is not None else None


class Authentication:
    """Turn request heads into principals."""

    def __init__(self, keys: KeyRing, guests: GuestSessions | None) -> None:
        self._keys = keys
        self._guests = guests

    def authenticate(self, headers: Mapping[str, str], guest_scope: str, now: float) -> Principal:
        """Tell who asks; `guest_scope` is the scope of the caller's address. Raises InvalidKey."""
        secret = presented_key(headers)
        if secret is not None:
            key = self._keys.find(secret, now)
            if key is not None:
                return Principal("key", key.id, key)
            if self._keys.is_owner(secret):
                return OWNER
            raise InvalidKey
        guests = self._guests
        if guests is None or not same_origin(headers):
            raise InvalidKey
        if not guests.valid(find_cookie(headers, GUEST_COOKIE), now):
            raise InvalidKey
        return Principal("guest", guest_scope)
