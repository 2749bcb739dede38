"""Whose requests and of which model: the choices that the owner's lists offer, and their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import urlencode

from server.store.key import Key
from workers.errors import InvalidRequest

NOT_KEYS = {"owner": "Owner", "guest": "Guests"}
"""Those whose requests are on record without a key of their own."""


class Choice(NamedTuple):
    """One option of a select."""

    value: str
    label: str
    chosen: bool


class People:
    """Everybody whose requests may be on record, by the id that stands in the rows."""

    def __init__(self, keys: Sequence[Key]) -> None:
        taken = Counter([*NOT_KEYS.values(), *(key.name for key in keys)])
        self._names = dict(NOT_KEYS)
        self._gone = {key.id for key in keys if key.status == "revoked"}
        for key in keys:
            several = taken[key.name] > 1
            self._names[key.id] = f"{key.name} ({key.redacted})" if several else key.name

    def __contains__(self, key_id: str) -> bool:
        return key_id in self._names

    def name(self, key_id: str) -> str:
        """Name somebody; of keys with the same name each has its redacted secret beside it."""
        return self._names.get(key_id, key_id)

    def state(self, key_id: str) -> str:
        """Say what is to be known of a key beside its name; mostly nothing."""
        return "revoked" if key_id in self._gone else ""

    def label(self, key_id: str) -> str:
        """Name somebody with what is to be known."""
        return ", ".join(part for part in (self.name(key_id), self.state(key_id)) if part)

    def check(self, key_id: str) -> None:
        """Refuse a filter for somebody there never was."""
        if key_id and key_id not in self:
            raise InvalidRequest(
                "There is no key with this id; 'owner' and 'guest' stand for those without one.",
                param="key",
            )

    def choices(self, chosen: str) -> list[Choice]:
        """List everybody for a select, first those without a key."""
        keys = sorted(set(self._names) - set(NOT_KEYS), key=lambda one: self.name(one).casefold())
        return [Choice(one, self.label(one), one == chosen) for one in (*NOT_KEYS, *keys)]


def model_choices(known: Iterable[str], chosen: str) -> list[Choice]:
    """List models for a select; the chosen one too when it has left the catalog."""
    models = sorted({*known, chosen} - {""})
    return [Choice(one, one, one == chosen) for one in models]


def link(path: str, **parameters: object) -> str:
    """Write a path with those parameters that have a value."""
    stated = {name: str(value) for name, value in parameters.items() if value not in (None, "")}
    return f"{path}?{urlencode(stated)}" if stated else path
