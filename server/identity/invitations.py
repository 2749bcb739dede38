"""Invitations: links that sign a person in once, as the holder of a key.

    (made,) = await invitations.invite([key.id], lasts_s=7 * DAY_S, gives_key=True)
    made.token                          # for the link; the store has only its SHA-256
    await invitations.accept(token)     # a session, and the new secret if it gives one

An invitation does not hold the secret of its key, which is not known. One that gives the key
therefore rotates it when it is accepted: only the person who has accepted it knows the new secret.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from server.identity.sessions import Sessions
from server.keys.key_requests import INVITATION_S
from server.keys.key_ring import KeyRing
from server.keys.secret import digest_of, make_key_id, make_token
from server.store.key import Key, current_status
from server.store.rows import InvitationRow
from server.store.store import Store
from workers.errors import Conflict, NotFound

MAX_TOKEN_CHARS = 200
UNUSABLE = {
    "disabled": "This key is disabled, so its invitation would not work. Enable the key first.",
    "expired": "This key has expired, so its invitation would not work. Change its end first.",
    "revoked": "This key has been revoked permanently. Create a new one instead.",
}
"""Why no invitation is made for a key, by its status."""


class InvitationEnded(NotFound):
    """The link is unknown, was used or revoked, or has expired, or its key cannot be used."""

    summary = (
        "This invitation link is no longer valid: it works once and for a limited time. Ask for a"
        " new one."
    )


class KeyUnusable(InvitationEnded):
    """The key of the invitation is disabled or has expired."""

    summary = "The key of this invitation cannot be used now. Ask the owner."


class Made(NamedTuple):
    """A new invitation and the token of its link, which is kept nowhere."""

    invitation: InvitationRow
    token: str

    @property
    def path(self) -> str:
        """Return the path of the link."""
        return f"/invite/{self.token}"


class Accepted(NamedTuple):
    """What a person gets: a session, and the new secret of the key if the owner has chosen so."""

    key: Key
    session_id: str
    secret: str | None


class Invitations:
    """Make, list, accept and revoke invitations."""

    def __init__(self, store: Store, keys: KeyRing, sessions: Sessions) -> None:
        self._store = store
        self._keys = keys
        self._sessions = sessions

    async def invite(
        self, key_ids: Sequence[str], *, lasts_s: int = INVITATION_S, gives_key: bool
    ) -> list[Made]:
        """Make an invitation for each of the keys, all or none, in their order."""
        now = int(time.time())
        made = []
        for key_id in key_ids:
            token = make_token()
            invitation = InvitationRow(
                id="inv_" + make_key_id().removeprefix("key_"),
                digest=digest_of(token),
                key_id=key_id,
                created_at=now,
                expires_at=now + lasts_s,
                gives_key=gives_key,
            )
            made.append(Made(invitation, token))
        if made:
            await self._store.add_invitations([one.invitation for one in made])
        return made

    async def invite_holder(
        self, key_id: str, *, lasts_s: int, gives_key: bool
    ) -> tuple[Key, Made]:
        """Make an invitation for one key. Raises NotFound, and Conflict for one not in use."""
        key = await self._keys.get(key_id)
        status = current_status(key.status, key.expires_at, time.time())
        if status != "active":
            raise Conflict(UNUSABLE[status])
        (made,) = await self.invite([key.id], lasts_s=lasts_s, gives_key=gives_key)
        return key, made

    async def list(self) -> Sequence[InvitationRow]:
        """Return the invitations, the newest first; old ones are left out."""
        return await self._store.list_invitations()

    async def get(self, invitation_id: str) -> InvitationRow:
        """Return an invitation by its id. Raises NotFound."""
        row = await self._store.find_invitation(invitation_id)
        if row is None:
            raise NotFound("There is no invitation with this id.")
        return row

    async def revoke(self, invitation_id: str) -> None:
        """End an invitation; one that has ended stays as it is."""
        await self._store.end_invitation(invitation_id, "revoked", int(time.time()))

    async def find(self, token: str) -> tuple[InvitationRow, Key]:
        """Return an invitation that can be accepted, and its key. Raises InvitationEnded."""
        now = time.time()
        known = len(token) <= MAX_TOKEN_CHARS
        row = await self._store.find_invitation(digest_of(token)) if known else None
        if row is None or row.ending is not None or row.expires_at <= now:
            raise InvitationEnded
        try:
            key = await self._keys.get(row.key_id)
        except NotFound:
            raise InvitationEnded from None
        if current_status(key.status, key.expires_at, now) != "active":
            raise KeyUnusable
        return row, key

    async def accept(self, token: str) -> Accepted:
        """Use an invitation: of several callers at the same time, one. Raises InvitationEnded."""
        row, key = await self.find(token)
        if not await self._store.end_invitation(row.id, "used", int(time.time())):
            raise InvitationEnded
        secret = None
        if row.gives_key:
            try:
                key, secret = await self._keys.rotate(key.id)
            except Conflict:  # it was revoked at this moment
                raise InvitationEnded from None
        session_id = await self._sessions.begin(key.id, key.digest)
        return Accepted(key, session_id, secret)
