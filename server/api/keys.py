"""The keys API (owner only), and what any caller may know of the key in hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import structs

from server.accounting.counters import Standing
from server.api.base import BaseHandler
from server.keys.key_requests import describe, parse_key_changes, parse_new_key, parse_rotation
from server.store.key import Limits
from workers.errors import InvalidRequest


class OwnerHandler(BaseHandler):
    """A handler for the owner."""

    access = "owner"

    def check_models(self, models: Sequence[str] | None) -> None:
        """Refuse an allow list that names a model the catalog does not have."""
        for index, model_id in enumerate(models or ()):
            if model_id not in self.services.catalog.models:
                raise InvalidRequest(
                    f"There is no model {model_id!r}. GET /api/v1/models lists what there is.",
                    param=f"models[{index}]",
                )


class KeysHandler(OwnerHandler):
    """All keys."""

    def get(self) -> None:
        """List them, revoked ones too; secrets are never shown again."""
        self.reply_json(
            {"object": "list", "data": [describe(key) for key in self.services.keys.list()]}
        )

    async def post(self) -> None:
        """Create one; its secret is in this answer and nowhere else."""
        default = self.services.config.keys.requests_per_minute
        new = parse_new_key(self.take_body(), defaults=Limits(requests_per_minute=default or None))
        self.check_models(new.models)
        key, secret = await self.services.keys.create(new)
        self.reply_json(describe(key) | {"key": secret}, 201, {"Cache-Control": "no-store"})


class KeyHandler(OwnerHandler):
    """One key."""

    def get(self, key_id: str) -> None:
        """Describe it."""
        self.reply_json(describe(self.services.keys.get(key_id)))

    async def patch(self, key_id: str) -> None:
        """Change what the body names; disabling ends its running requests."""
        changes = parse_key_changes(self.take_body())
        if isinstance(changes.models, tuple):
            self.check_models(changes.models)
        self.reply_json(describe(await self.services.keys.change(key_id, changes)))

    async def delete(self, key_id: str) -> None:
        """Revoke it for good; it stays in the list, as revoked."""
        key = await self.services.keys.revoke(key_id)
        self.reply_json(describe(key) | {"deleted": True})


class RotateHandler(OwnerHandler):
    """A new secret for a key."""

    async def post(self, key_id: str) -> None:
        """Rotate; `grace_s` in the body keeps the old secret good for so many seconds."""
        key, secret = await self.services.keys.rotate(key_id, parse_rotation(self.take_body()))
        self.reply_json(
            describe(key) | {"key": secret, "previous_valid_until": key.previous_until},
            headers={"Cache-Control": "no-store"},
        )


class OwnKeyHandler(BaseHandler):
    """What is left on the caller's own key."""

    def get(self) -> None:
        """Describe the caller and what is left of each limit."""
        assert self.principal is not None
        principal = self.principal
        about = (
            describe(principal.key)
            if principal.key
            else {"id": principal.log_name, "object": "key"}
        )
        standing = None if principal.is_owner else self.services.admission.standing(principal)
        self.reply_json(
            about | {"kind": principal.kind, "remaining": remaining(standing) if standing else None}
        )


def remaining(standing: Standing) -> dict[str, Any]:
    """Tell what is left of every limit there is; resets are in seconds, None: never."""
    left: dict[str, Any] = {}
    for name in ("requests", "requests_day", "tokens"):
        meter = getattr(standing, name)
        if meter is not None:
            left[name] = {
                "limit": meter.limit,
                "remaining": meter.remaining,
                "reset_s": round(meter.reset_s, 3),
            }
    if standing.concurrent_limit is not None:
        left["concurrent_requests"] = {
            "limit": standing.concurrent_limit,
            "running": standing.running,
        }
    if standing.budget is not None:
        left["budget"] = structs.asdict(standing.budget)
    return left
