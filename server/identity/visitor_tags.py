"""The tag that says whom a page was made for, and the refusal when somebody else asks now.

A page is made for one principal, but its calls are made by the one that its browser's cookies name
at that time: another one after a sign-out in another tab, a guest after the end of a session. Each
call of a page carries the page's tag, and is refused when the principal is another one.

The tag is `guest`, or the scope of an owner or key and a MAC over it and the credential. Only the
scopes are compared; the MAC is checked before the state of a key is named in a refusal.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from typing import NoReturn

from server.keys.key_ring import KeyRing
from server.store.key import Key, current_status
from workers.errors import NotFound, SessionEnded, StoreUnavailable

GUEST = "guest"
VISITOR_HEADER = "X-Roxy-Visitor"
SIGNED_IN = "You have signed in since this page was opened. Reload the page to continue."
OTHER_KEY = "This browser is now signed in with another key. Reload the page to continue."
TOO_OLD = "This page was open for a long time. Reload the page to continue."
NO_GUESTS = "Guest access is turned off. Sign in with a key to chat."
REASONS = {
    "revoked": "Your key was revoked. Ask the owner of this server for a new key.",
    "disabled": "Your key is disabled. Ask the owner of this server to enable it.",
    "expired": "Your key has expired. Ask the owner of this server for a new key.",
}


class VisitorTags:
    """Make and check tags. `mac` returns a short MAC of bytes with a secret of this gateway."""

    def __init__(self, keys: KeyRing, mac: Callable[[bytes], str], *, guests_welcome: bool) -> None:
        self._keys = keys
        self._mac = mac
        self._guests_welcome = guests_welcome

    def fits(self, tag: str, present: str | None) -> bool:
        """Return whether a page with this tag was made for `present`: a scope, GUEST or None."""
        return tag.partition(".")[0] == present

    async def why_ended(self, tag: str) -> str:
        """Return the state of the key in a tag that ended its sessions; "": another reason."""
        scope, _, mac = tag.partition(".")
        try:
            return self._state(await self._keys.get(scope), mac)
        except (NotFound, StoreUnavailable):
            return ""

    async def refuse(self, tag: str, present: str | None) -> NoReturn:
        """Raise SessionEnded with the reason why the page's principal is not the present one."""
        scope = tag.partition(".")[0]
        if present not in (GUEST, None):
            raise _changed(SIGNED_IN if scope == GUEST else OTHER_KEY)
        if scope == GUEST:
            raise _changed(TOO_OLD) if self._guests_welcome else SessionEnded(NO_GUESTS)
        raise SessionEnded(REASONS.get(await self.why_ended(tag)))

    def _state(self, key: Key, mac: str) -> str:
        digests = (key.digest, key.previous_digest or key.digest)
        macs = [self._mac(key.id.encode() + digest) for digest in digests]
        if not any(hmac.compare_digest(mac.encode(), one.encode()) for one in macs):
            return ""
        state = current_status(key.status, key.expires_at, time.time())
        return state if state in REASONS else ""


def tag_of(scope: str, credential: bytes, *, mac: Callable[[bytes], str]) -> str:
    """Return the tag of the owner or a key."""
    return f"{scope}.{mac(scope.encode() + credential)}"


def _changed(message: str) -> SessionEnded:
    """Return the error of a page that works again when it is reloaded."""
    return SessionEnded(message, code="session_changed")
