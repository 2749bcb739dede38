"""Handle the keys API (owner only), and `key`, which describes the caller's own key."""

from __future__ import annotations

from server.api.base import BaseHandler
from server.keys.key_requests import (
    default_limits,
    parse_key_changes,
    parse_new_key,
    parse_rotation,
)
from server.shapes.key_object import (
    KeyList,
    caller,
    deleted_key,
    key_object,
    key_with_secret,
)


class KeysHandler(BaseHandler):
    """All keys."""

    access = "owner"

    def get(self) -> None:
        """List the keys, revoked ones too, without their secrets."""
        self.reply_json(
            KeyList(object="list", data=[key_object(key) for key in self.services.keys.list()])
        )

    async def post(self) -> None:
        """Create a key and return its secret, which no later answer shows again."""
        new = parse_new_key(
            self.take_body(),
            defaults=default_limits(self.services.config.keys),
            catalog_models=self.services.catalog.models,
        )
        key, secret = await self.services.keys.create(new)
        self.reply_json(key_with_secret(key, secret), 201)


class KeyHandler(BaseHandler):
    """One key."""

    access = "owner"

    def get(self, key_id: str) -> None:
        """Return the key without its secret."""
        self.reply_json(key_object(self.services.keys.get(key_id)))

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


class OwnKeyHandler(BaseHandler):
    """The caller's own key."""

    def get(self) -> None:
        """Return the caller, and what is left of each limit."""
        assert self.principal is not None
        standing = self.services.admission.standing(self.principal)
        self.reply_json(caller(self.principal, standing))
