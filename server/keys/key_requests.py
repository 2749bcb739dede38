"""Read and check the bodies that the keys API, the form of a key and the command line send.

A body is checked as a whole before anything changes: unknown fields, types, ranges and names.
`InvalidRequest.param` is the path of the field. Allow lists are checked against `catalog_models`.
"""

from __future__ import annotations

import json
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Container
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from server.config.settings import Keys
from server.store.key import (
    NOTE_LENGTH,
    Instant,
    KeyChanges,
    LimitChanges,
    Limits,
    NewKey,
    Weight,
)
from workers.errors import InvalidRequest
from workers.units import DAY_S, MINUTE_S

ModelName = Annotated[str, Meta(min_length=1, max_length=200)]
ModelNames = Annotated[list[ModelName], Meta(min_length=1, max_length=1000)]

BIDI_CONTROLS = frozenset(
    "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
NAME_LENGTH = 100
MAX_GRACE_S = 30 * DAY_S
MIN_INVITATION_S = MINUTE_S
MAX_INVITATION_S = 90 * DAY_S
INVITATION_S = 7 * DAY_S
"""How long an invitation lasts unless the owner chooses."""


COUNT_RULE = "a whole number, 1 or more, or null for no limit"
RULES = {
    "name": f"a string of 1 to {NAME_LENGTH} characters",
    "status": "active or disabled",
    "models": "a list of 1 to 1000 model ids, or null for all models",
    "models[]": "the id of a model: a string of 1 to 200 characters",
    "expires_at": "a time in Unix seconds, or null",
    "weight": "a whole number from 1 to 100",
    "limits": "an object, or null for no limits",
    "limits.budget_period": "day, week, month or total",
    "note": f"a string of up to {NOTE_LENGTH:,} characters",
    "key_id": "the id of a key, as GET /api/v1/keys shows it",
    "gives_key": "true or false",
    "expires_in_s": f"a whole number of seconds from {MIN_INVITATION_S} to {MAX_INVITATION_S}",
    "grace_s": f"a whole number of seconds from 0 to {MAX_GRACE_S}",
}
"""What the fields of a body must be, to follow "It must be"; counts have COUNT_RULE."""


class _NewKey(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    models: ModelNames | None = None
    expires_at: Instant | None = None
    weight: Weight = 1
    limits: LimitChanges | UnsetType | None = UNSET
    note: str = ""


class _KeyChanges(Struct, frozen=True, forbid_unknown_fields=True):
    name: str | UnsetType = UNSET
    status: Literal["active", "disabled"] | UnsetType = UNSET
    models: ModelNames | UnsetType | None = UNSET
    expires_at: Instant | UnsetType | None = UNSET
    weight: Weight | UnsetType = UNSET
    limits: LimitChanges | UnsetType | None = UNSET
    note: str | UnsetType = UNSET


class _Rotation(Struct, frozen=True, forbid_unknown_fields=True):
    grace_s: Annotated[int, Meta(ge=0, le=MAX_GRACE_S)] = 0


class NewInvitation(Struct, frozen=True, forbid_unknown_fields=True):
    """An invitation to make. `gives_key`: its person gets a new secret; the current one ends."""

    key_id: str
    expires_in_s: Annotated[int, Meta(ge=MIN_INVITATION_S, le=MAX_INVITATION_S)] = INVITATION_S
    gives_key: bool = False


Body = TypeVar("Body", _NewKey, _KeyChanges, _Rotation, NewInvitation)

NEW_KEY = msgspec.json.Decoder(_NewKey)
KEY_CHANGES = msgspec.json.Decoder(_KeyChanges)
ROTATION = msgspec.json.Decoder(_Rotation)
NEW_INVITATION = msgspec.json.Decoder(NewInvitation)


def default_limits(settings: Keys) -> Limits:
    """Return the limits of new keys where a request states none."""
    return Limits(requests_per_minute=settings.requests_per_minute or None)


def parse_new_key(
    body: bytes,
    *,
    defaults: Limits | None = None,
    catalog_models: Container[str] | None = None,
    now: float | None = None,
) -> NewKey:
    """Read a POST body. A limit that is absent takes its default; null means no limit."""
    sent = _decode(NEW_KEY, body)
    limits = defaults or Limits()
    if sent.limits is None:
        limits = Limits()
    elif sent.limits is not UNSET:
        limits = sent.limits.apply(limits)
    return NewKey(
        name=_name(sent.name),
        models=_models(sent.models, catalog_models),
        expires_at=_expiry(sent.expires_at, now),
        weight=sent.weight,
        limits=limits,
        note=_note(sent.note),
    )


def parse_key_changes(
    body: bytes, *, catalog_models: Container[str] | None = None, now: float | None = None
) -> KeyChanges:
    """Read a PATCH body: absent leaves a field as it is, null clears it."""
    sent = _decode(KEY_CHANGES, body)
    return KeyChanges(
        name=UNSET if sent.name is UNSET else _name(sent.name),
        status=sent.status,
        models=UNSET if sent.models is UNSET else _models(sent.models, catalog_models),
        expires_at=UNSET if sent.expires_at is UNSET else _expiry(sent.expires_at, now),
        weight=sent.weight,
        limits=sent.limits,
        note=UNSET if sent.note is UNSET else _note(sent.note),
    )


def parse_rotation(body: bytes) -> int:
    """Read a rotation's body and return how many seconds the old secret stays valid."""
    return _decode(ROTATION, body or b"{}").grace_s


def parse_invitation(body: bytes) -> NewInvitation:
    """Read the body of a new invitation."""
    return _decode(NEW_INVITATION, body)


def _decode(decoder: msgspec.json.Decoder[Body], body: bytes) -> Body:
    try:
        body.decode()  # msgspec does not check the encoding of what it skips
        decoded = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), decoder.type) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if not body.strip():
            raise InvalidRequest("The request body is empty. Send a JSON object.") from error
        raise InvalidRequest("The body is not valid JSON in UTF-8.") from error
    # msgspec keeps the last of repeated fields, so the body is read once more; it is small.
    json.loads(body, object_pairs_hook=_refuse_repeats)
    return decoded


def _refuse_repeats(members: list[tuple[str, Any]]) -> None:
    """Raise InvalidRequest for a repeated field: JSON decoders would silently take the last."""
    for name, times in Counter(name for name, _ in members).most_common(1):
        if times > 1:
            raise InvalidRequest(f"'{name}' occurs more than once. Send it once.", param=name)


def _invalid(message: str, body: type[Struct]) -> InvalidRequest:
    """Return msgspec's message, "what - at `$.path`", as an error with its own `param`."""
    what, _, path = message.partition(" - at `$")
    param = path.removesuffix("`").removeprefix(".")
    unnamed = re.search(r"(?:unknown|required) field `(.*)`$", what, re.DOTALL)
    if unnamed:
        param = f"{param}.{unnamed[1]}" if param else unnamed[1]
    param = param[:200]
    if "unknown field" in what:
        inner = LimitChanges if param.startswith("limits.") else body
        known = ", ".join(inner.__struct_fields__)
        return InvalidRequest(
            f"There is no field '{param}' here. The fields are: {known}.", param=param
        )
    if "missing required" in what:
        return InvalidRequest(f"'{param}' is required.", param=param)
    place = re.sub(r"\[\d+\]", "[]", param)
    rule = RULES.get(place) or (COUNT_RULE if place.startswith("limits.") else "an object")
    return InvalidRequest(
        f"Invalid value for '{param or 'body'}'. It must be {rule}.", param=param or None
    )


def _name(sent: str) -> str:
    name = sent.strip()
    if not 1 <= len(name) <= NAME_LENGTH:
        raise InvalidRequest(f"'name' must have 1 to {NAME_LENGTH} characters.", param="name")
    if any(_unprintable(character) for character in name):
        raise InvalidRequest("'name' must not contain control characters.", param="name")
    return name


def _note(sent: str) -> str:
    note = sent.replace("\r\n", "\n").strip()
    if len(note) > NOTE_LENGTH:
        raise InvalidRequest(f"'note' must have up to {NOTE_LENGTH:,} characters.", param="note")
    if any(_unprintable(character) for character in note.replace("\n", "").replace("\t", "")):
        raise InvalidRequest("'note' must not contain control characters.", param="note")
    return note


def _unprintable(character: str) -> bool:
    # Not the whole category Cf: U+200D, which joins emoji sequences, belongs to it.
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in BIDI_CONTROLS


def _models(
    sent: list[str] | None, catalog_models: Container[str] | None
) -> tuple[str, ...] | None:
    if sent is None:
        return None
    models = tuple(dict.fromkeys(sent))
    for index, model_id in enumerate(models):
        if catalog_models is not None and model_id not in catalog_models:
            raise InvalidRequest(
                f"There is no model {model_id!r}. GET /api/v1/models lists what there is.",
                param=f"models[{index}]",
            )
    return models


def _expiry(sent: int | None, now: float | None) -> int | None:
    if sent is not None and sent <= (time.time() if now is None else now):
        raise InvalidRequest(
            "'expires_at' must lie in the future, in Unix seconds, or be null.", param="expires_at"
        )
    return sent
