"""The key object of the API, and what a caller may know about its own key.

A class whose name ends in `Object` stands in the OpenAPI document without that ending; the domain
class has the plain name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from server.accounting.counters import Budget, Standing
from server.accounting.limits import Meter
from server.identity.authentication import Principal
from server.store.key import Key, Limits, Status, public_fields


class KeyObject(Struct, frozen=True, kw_only=True):
    """A key, without its secret. `models` null: every model. `note` is the owner's own."""

    id: str
    object: Literal["key"]
    name: str
    redacted: str
    created_at: int
    last_used_at: int | None
    expires_at: int | None
    status: Status
    models: tuple[str, ...] | None
    limits: Limits
    weight: int
    note: str


class KeyWithSecret(KeyObject, frozen=True, kw_only=True):
    """A key with its new secret, `key`, which no other answer holds."""

    key: str
    previous_valid_until: int | UnsetType | None = UNSET


class DeletedKey(KeyObject, frozen=True, kw_only=True):
    """A key that has been revoked."""

    deleted: bool


class KeyList(Struct, frozen=True, kw_only=True):
    """A page of the keys; the ids are null where there are none."""

    object: Literal["list"]
    data: list[KeyObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class MeterObject(Struct, frozen=True):
    """What is left of one limit, and the seconds until all of it is available again."""

    limit: int
    remaining: int
    reset_s: float


class Running(Struct, frozen=True):
    """How many requests may run at the same time, and how many run."""

    limit: int
    running: int


class Remaining(Struct, frozen=True, kw_only=True):
    """What is left of every limit that applies."""

    requests: MeterObject | UnsetType = UNSET
    requests_day: MeterObject | UnsetType = UNSET
    tokens: MeterObject | UnsetType = UNSET
    concurrent_requests: Running | UnsetType = UNSET
    budget: Budget | UnsetType = UNSET


class Caller(Struct, frozen=True, kw_only=True):
    """The caller; key holders see their key's members, and `remaining` is null for the owner."""

    id: str
    object: Literal["key"]
    name: str | UnsetType = UNSET
    redacted: str | UnsetType = UNSET
    created_at: int | UnsetType = UNSET
    last_used_at: int | UnsetType | None = UNSET
    expires_at: int | UnsetType | None = UNSET
    status: Status | UnsetType = UNSET
    models: tuple[str, ...] | UnsetType | None = UNSET
    limits: Limits | UnsetType = UNSET
    weight: int | UnsetType = UNSET
    kind: Literal["owner", "key", "guest"]
    remaining: Remaining | None


def key_object(key: Key) -> KeyObject:
    """Return a key as the API shows it."""
    return KeyObject(object="key", **public_fields(key))


def key_list(keys: Sequence[Key], *, has_more: bool) -> KeyList:
    """Return a page of keys as the API shows it."""
    return KeyList(
        object="list",
        data=[key_object(key) for key in keys],
        first_id=keys[0].id if keys else None,
        last_id=keys[-1].id if keys else None,
        has_more=has_more,
    )


def key_with_secret(
    key: Key, secret: str, previous_valid_until: int | UnsetType | None = UNSET
) -> KeyWithSecret:
    """Return a new or rotated key with its secret."""
    return KeyWithSecret(
        object="key", **public_fields(key), key=secret, previous_valid_until=previous_valid_until
    )


def deleted_key(key: Key) -> DeletedKey:
    """Return a key that has just been revoked."""
    return DeletedKey(object="key", **public_fields(key), deleted=True)


def caller(principal: Principal, standing: Standing) -> Caller:
    """Return the caller and what is left of each limit."""
    left = None if principal.is_owner else remaining(standing)
    if principal.key is None:
        return Caller(id=principal.log_name, object="key", kind=principal.kind, remaining=left)
    fields = public_fields(principal.key)
    del fields["note"]  # the owner's words about the holder
    return Caller(object="key", **fields, kind=principal.kind, remaining=left)


def remaining(standing: Standing) -> Remaining:
    """Return what is left of every limit that applies; resets are in seconds, null for never."""
    return Remaining(
        requests=_meter(standing.requests),
        requests_day=_meter(standing.requests_day),
        tokens=_meter(standing.tokens),
        concurrent_requests=UNSET
        if standing.concurrent_limit is None
        else Running(standing.concurrent_limit, standing.running),
        budget=standing.budget or UNSET,
    )


def _meter(meter: Meter | None) -> MeterObject | UnsetType:
    if meter is None:
        return UNSET
    return MeterObject(meter.limit, meter.remaining, round(meter.reset_s, 3))
