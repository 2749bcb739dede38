"""Return the names of the keys and models in the owner's lists, as filters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import urlencode

from server.store.key import Key
from workers.errors import InvalidRequest

NOT_KEYS = {"owner": "Owner", "guest": "Guests"}
"""Callers without a key of their own, by the key id of their rows."""


class SelectOption(NamedTuple):
    """One option of a select element."""

    value: str
    label: str
    chosen: bool


class People:
    """All callers whose requests may be on record, by the key id of their rows."""

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
        """Return the name; keys that share a name get their redacted secret added."""
        return self._names.get(key_id, key_id)

    def state(self, key_id: str) -> str:
        """Return "revoked" for a revoked key, else ""."""
        return "revoked" if key_id in self._gone else ""

    def label(self, key_id: str) -> str:
        """Return the name and the state."""
        return ", ".join(part for part in (self.name(key_id), self.state(key_id)) if part)

    def check(self, key_id: str) -> None:
        """Raise InvalidRequest for a filter with an unknown key id."""
        if key_id and key_id not in self:
            raise InvalidRequest(
                "There is no key with this id. Use 'owner' or 'guest' for requests without a key.",
                param="key",
            )

    def choices(self, chosen: str) -> list[SelectOption]:
        """Return the options of a select element, those without a key first."""
        keys = sorted(set(self._names) - set(NOT_KEYS), key=lambda one: self.name(one).casefold())
        return [SelectOption(one, self.label(one), one == chosen) for one in (*NOT_KEYS, *keys)]


def model_choices(known: Iterable[str], chosen: str) -> list[SelectOption]:
    """Return the options for models; the chosen one too when it has left the catalog."""
    models = sorted({*known, chosen} - {""})
    return [SelectOption(one, one, one == chosen) for one in models]


def link(path: str, **parameters: object) -> str:
    """Return a path with the parameters that have a value."""
    stated = {name: str(value) for name, value in parameters.items() if value not in (None, "")}
    return f"{path}?{urlencode(stated)}" if stated else path
