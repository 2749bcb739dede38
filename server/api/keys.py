"""Handle the keys and invitations API (owner only), and `key`, the caller's own key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec

from server.api.base import BaseHandler
from server.http.query import read_number, refuse_unknown
from server.keys.key_requests import (
    default_limits,
    parse_invitation,
    parse_key_changes,
    parse_new_key,
    parse_rotation,
)
from server.shapes.invitation_object import (
    InvitationList,
    invitation_object,
    invitation_with_link,
)
from server.shapes.key_object import (
    caller,
    deleted_key,
    key_list,
    key_object,
    key_with_secret,
)
from server.store.key import Key
from server.store.rows import KeyQuery
from workers.errors import InvalidRequest

PARAMETERS = ("limit", "after", "search")
MAX_KEYS = 1000


class KeysHandler(BaseHandler):
    """All keys.

    Parameters of GET: `limit` (1000 by default and at most), `after` (the id of a key), `search`.
    """

    access = "owner"

    async def get(self) -> None:
        """List keys, revoked ones too, oldest first, without their secrets.

        A page has up to `limit` keys; while `has_more` is true, `after` with `last_id` gets the
        next one. `search` lists the keys whose name, note, redacted secret or id
        contains a text.
        """
        refuse_unknown(self.request.query_arguments, PARAMETERS)
        limit = read_number("limit", self._argument("limit"), MAX_KEYS) or MAX_KEYS
        after = self._argument("after")
        if after is not None and not (await self.services.keys.find_all((after,))):
            raise InvalidRequest("There is no key with this id.", param="after")
        query = KeyQuery(search=self._argument("search") or "", after=after, limit=limit + 1)
        keys = await self.services.keys.list(query)
        # In a thread: encoding a thousand keys would hold up the answers that are streaming.
        self.reply(200, await asyncio.to_thread(_encode, keys, limit))

    def _argument(self, name: str) -> str | None:
        return self.get_query_argument(name, None) or None

    async def post(self) -> None:
        """Create a key and return its secret, which no later answer shows again."""
        new = parse_new_key(
            self.take_body(),
            defaults=default_limits(self.services.config.keys),
            catalog_models=self.services.catalog.models,
        )
        key, secret = await self.services.keys.create(new)
        self.reply_json(key_with_secret(key, secret), 201)


def _encode(keys: Sequence[Key], limit: int) -> bytes:
    """Encode one page; a key beyond `limit` tells that there is another."""
    return msgspec.json.encode(key_list(keys[:limit], has_more=len(keys) > limit))


class KeyHandler(BaseHandler):
    """One key."""

    access = "owner"

    async def get(self, key_id: str) -> None:
        """Return the key without its secret."""
        self.reply_json(key_object(await self.services.keys.get(key_id)))

    async def patch(self, key_id: str) -> None:
        """Change the members that the body names; disabling a key stops its running requests."""
        models = self.services.catalog.models
        changes = parse_key_changes(self.take_body(), catalog_models=models)
        self.reply_json(key_object(await self.services.keys.change(key_id, changes)))

    async def delete(self, key_id: str) -> None:
        """Revoke the key permanently; it stays in the list, as revoked."""
        self.reply_json(deleted_key(await self.services.keys.revoke(key_id)))


class RotateHandler(BaseHandler):
    """A new secret for a key."""

    access = "owner"

    async def post(self, key_id: str) -> None:
        """Replace the secret; the old one stays valid for the `grace_s` seconds of the body."""
        key, secret = await self.services.keys.rotate(key_id, parse_rotation(self.take_body()))
        self.reply_json(key_with_secret(key, secret, key.previous_until))


class InvitationsHandler(BaseHandler):
    """Links that sign a person in once, as the holder of a key."""

    access = "owner"

    async def get(self) -> None:
        """List the newest 1,000 invitations, the newest first, without their links.

        Invitations are listed until 30 days after they have expired.
        """
        rows = await self.services.invitations.list()
        keys = await self.services.keys.find_all({row.key_id for row in rows})
        now = time.time()
        self.reply_json(
            InvitationList(
                object="list",
                data=[invitation_object(row, keys.get(row.key_id), now) for row in rows],
            )
        )

    async def post(self) -> None:
        """Make an invitation and return its link, `url`, which no later answer shows again.

        With `gives_key`, the person who uses it gets a new secret of the key, and the current
        secret ends at that moment. Opening the link does not use it up; its button does.
        """
        new = parse_invitation(self.take_body())
        key, made = await self.services.invitations.invite_holder(
            new.key_id, lasts_s=new.expires_in_s, gives_key=new.gives_key
        )
        url = f"{self.base_url()}{made.path}"
        self.reply_json(invitation_with_link(made.invitation, key, time.time(), url), 201)


class InvitationHandler(BaseHandler):
    """One invitation."""

    access = "owner"

    async def get(self, invitation_id: str) -> None:
        """Return the invitation without its link; `status` tells whether it was used."""
        await self._describe(invitation_id)

    async def delete(self, invitation_id: str) -> None:
        """Revoke the invitation; one that was used, or has expired, stays as it is."""
        await self.services.invitations.revoke(invitation_id)
        await self._describe(invitation_id)

    async def _describe(self, invitation_id: str) -> None:
        row = await self.services.invitations.get(invitation_id)
        keys = await self.services.keys.find_all((row.key_id,))
        self.reply_json(invitation_object(row, keys.get(row.key_id), time.time()))


class OwnKeyHandler(BaseHandler):
    """The caller's own key."""

    async def get(self) -> None:
        """Return the caller, and what is left of each limit."""
        assert self.principal is not None
        standing = await self.services.admission.standing(self.principal)
        self.reply_json(caller(self.principal, standing))
