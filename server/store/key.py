"""API keys: their fields, what the owner chooses for a new one, and what can change later.

`server/keys/key_ring.py` holds them, `server/keys/key_requests.py` reads them from requests,
`server/shapes/key_object.py` shows them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, structs

LAST_SECOND = 253_402_300_799
"""The end of the year 9999, the last that `datetime` and ISO 8601 dates can express."""

Count = Annotated[int, Meta(ge=1, le=1_000_000_000_000)]
Money = Annotated[int, Meta(ge=1, le=1_000_000_000_000_000)]
Weight = Annotated[int, Meta(ge=1, le=100)]
Instant = Annotated[int, Meta(ge=0, le=LAST_SECOND)]
NOTE_LENGTH = 1000
Status = Literal["active", "disabled", "revoked"]
CurrentStatus = Literal["active", "disabled", "revoked", "expired"]
BudgetPeriod = Literal["day", "week", "month", "total"]


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of a key; None: no limit. Money is in micro-dollars per `budget_period` (UTC)."""

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    concurrent_requests: Count | None = None
    budget_microusd: Money | None = None
    budget_period: BudgetPeriod = "month"


COUNT_LIMITS = tuple(name for name in Limits.__struct_fields__ if not name.startswith("budget"))
"""The limits that are plain numbers."""


class LimitChanges(Struct, frozen=True, forbid_unknown_fields=True):
    """Changes to limits: UNSET keeps a limit, None removes it."""

    requests_per_minute: Count | UnsetType | None = UNSET
    tokens_per_minute: Count | UnsetType | None = UNSET
    concurrent_requests: Count | UnsetType | None = UNSET
    budget_microusd: Money | UnsetType | None = UNSET
    budget_period: BudgetPeriod | UnsetType = UNSET

    def apply(self, limits: Limits) -> Limits:
        """Return `limits` with these changes."""
        return structs.replace(limits, **_stated(self))


class Key(Struct, frozen=True):
    """One API key. Times are Unix seconds; `models` None allows every model.

    Digests are SHA-256. After a rotation the previous secret is accepted until `previous_until`.
    Every change increases `version` by 1. `note` is the owner's; key holders do not see it.
    """

    id: str
    name: str
    redacted: str
    digest: bytes
    created_at: int
    last_used_at: int | None = None
    expires_at: int | None = None
    status: Status = "active"
    models: tuple[str, ...] | None = None
    limits: Limits = Limits()
    weight: int = 1
    previous_digest: bytes | None = None
    previous_until: int | None = None
    version: int = 1
    note: str = ""


def current_status(status: Status, expires_at: int | None, now: float) -> CurrentStatus:
    """Return what a key is at `now` (Unix seconds): an active key past its expiry is "expired".

    The stored status stays "active" then, so a key whose expiry is moved is valid again.
    """
    if status == "active" and expires_at is not None and expires_at <= now:
        return "expired"
    return status


HIDDEN_FIELDS = ("digest", "previous_digest", "previous_until", "version")
PUBLIC_FIELDS = tuple(name for name in Key.__struct_fields__ if name not in HIDDEN_FIELDS)
"""The fields of a key that the API and the export show alike."""


def public_fields(key: Key) -> dict[str, Any]:
    """Return the values of PUBLIC_FIELDS by name."""
    return {name: getattr(key, name) for name in PUBLIC_FIELDS}


class NewKey(Struct, frozen=True):
    """What the owner chooses when creating a key."""

    name: str
    models: tuple[str, ...] | None = None
    expires_at: int | None = None
    weight: int = 1
    limits: Limits = Limits()
    note: str = ""


class KeyChanges(Struct, frozen=True):
    """Changes to a key: UNSET keeps a field, None clears it."""

    name: str | UnsetType = UNSET
    status: Literal["active", "disabled"] | UnsetType = UNSET
    models: tuple[str, ...] | UnsetType | None = UNSET
    expires_at: int | UnsetType | None = UNSET
    weight: int | UnsetType = UNSET
    limits: LimitChanges | UnsetType | None = UNSET
    note: str | UnsetType = UNSET

    def apply(self, key: Key) -> Key:
        """Return `key` with these changes."""
        stated = _stated(self)
        if self.limits is None:
            stated["limits"] = Limits()
        elif self.limits is not UNSET:
            stated["limits"] = self.limits.apply(key.limits)
        return structs.replace(key, **stated)


def _stated(changes: Struct) -> dict[str, object]:
    """Return the fields that are not UNSET."""
    return {
        name: value
        for name in changes.__struct_fields__
        if (value := getattr(changes, name)) is not UNSET
    }
