"""The invitation object of the API."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from server.store.key import Key, current_status
from server.store.rows import InvitationRow

InvitationStatus = Literal["open", "blocked", "used", "revoked", "expired"]


class InvitationObject(Struct, frozen=True, kw_only=True):
    """An invitation, without its link. `blocked`: its key is disabled, revoked or has expired."""

    id: str
    object: Literal["invitation"]
    key_id: str
    key_name: str | None
    gives_key: bool
    status: InvitationStatus
    created_at: int
    expires_at: int
    ended_at: int | None


class InvitationWithLink(InvitationObject, frozen=True, kw_only=True):
    """A new invitation with its link, `url`, which no other answer holds."""

    url: str


class InvitationList(Struct, frozen=True, kw_only=True):
    """The newest 1,000 invitations."""

    object: Literal["list"]
    data: list[InvitationObject]


def invitation_status(row: InvitationRow, key: Key | None, now: float) -> InvitationStatus:
    """Return whether an invitation can be used, and if not, why."""
    if row.ending is not None:
        return row.ending
    if row.expires_at <= now:
        return "expired"
    usable = key is not None and current_status(key.status, key.expires_at, now) == "active"
    return "open" if usable else "blocked"


def invitation_object(row: InvitationRow, key: Key | None, now: float) -> InvitationObject:
    """Return an invitation as the API shows it; `key` is its key, None if that is unknown."""
    return InvitationObject(
        object="invitation",
        id=row.id,
        key_id=row.key_id,
        key_name=key.name if key is not None else None,
        gives_key=row.gives_key,
        status=invitation_status(row, key, now),
        created_at=row.created_at,
        expires_at=row.expires_at,
        ended_at=row.ended_at,
    )


def invitation_with_link(row: InvitationRow, key: Key, now: float, url: str) -> InvitationWithLink:
    """Return a new invitation with its link."""
    shown = invitation_object(row, key, now)
    return InvitationWithLink(
        **{name: getattr(shown, name) for name in shown.__struct_fields__}, url=url
    )
