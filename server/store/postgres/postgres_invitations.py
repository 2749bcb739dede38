"""Invitations in PostgreSQL: the statements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import structs

from server.store.postgres.postgres_keys import plain_text
from server.store.row_values import INVITATION_COLUMNS
from server.store.rows import InvitationRow
from server.store.store import INVITATIONS_KEPT_S, INVITATIONS_LISTED

if TYPE_CHECKING:
    from server.store.postgres.connector import Connection

ADD_INVITATION = (
    f"INSERT INTO invitations ({INVITATION_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
)
FIND_INVITATION = f"SELECT {INVITATION_COLUMNS} FROM invitations WHERE sha256 = $1"
INVITATION_OF_ID = f"SELECT {INVITATION_COLUMNS} FROM invitations WHERE id = $1"
LIST_INVITATIONS = (
    f"SELECT {INVITATION_COLUMNS} FROM invitations"
    f" ORDER BY created_at DESC, id DESC LIMIT {INVITATIONS_LISTED}"
)
END_INVITATION = (
    "UPDATE invitations SET ending = $1, ended_at = $2"
    " WHERE id = $3 AND ending IS NULL AND expires_at > $2"
)


async def insert_invitations(db: Connection, rows: Sequence[InvitationRow]) -> None:
    """Insert invitations and delete old ones."""
    before = max(one.created_at for one in rows) - INVITATIONS_KEPT_S
    await db.execute("DELETE FROM invitations WHERE expires_at < $1", before)
    await db.executemany(ADD_INVITATION, [structs.astuple(one) for one in rows])


async def read_invitation(db: Connection, mark: bytes | str) -> InvitationRow | None:
    """Find an invitation by its digest (bytes) or its id; None: there is none."""
    if isinstance(mark, bytes):
        row = await db.fetchrow(FIND_INVITATION, mark)
    else:
        row = await db.fetchrow(INVITATION_OF_ID, plain_text(mark))
    return InvitationRow(*row.values()) if row is not None else None
