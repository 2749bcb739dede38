"""Keep the settings of a person, of which the prompts are some."""

from __future__ import annotations

from typing import Any

import msgspec

from server.history.history_records import HistorySettings
from server.history.steps.reading_steps import decode_object
from server.history.steps.sql_steps import PersonCounter, Steps, finish_write, lock_person

PROMPT_PREFIX = "prompt-"
"""How the names of the settings begin that hold the prompts of a person."""

FIND_SETTINGS = "SELECT value, version FROM history_settings WHERE person = ?"
PUT_SETTINGS = (
    "INSERT INTO history_settings (person, value, version, changed) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (person) DO UPDATE SET"
    " value = excluded.value, version = excluded.version, changed = excluded.changed"
)


def read_settings(person: str) -> Steps[HistorySettings]:
    """Read the settings of a person; version 0: there are none."""
    rows = yield FIND_SETTINGS, (person,)
    return HistorySettings(decode_object(rows[0][0]), rows[0][1]) if rows else NO_SETTINGS


NO_SETTINGS = HistorySettings({}, 0)


def put_settings(person: str, settings: HistorySettings) -> Steps[tuple[bool, HistorySettings]]:
    """Replace the settings of the version that is named; else return False and the stored ones."""
    before = yield from lock_person(person)
    stored = yield from read_settings(person)
    if stored.value == settings.value:
        return True, stored
    if stored.version != settings.version:
        return False, stored
    return True, (yield from _replace_settings(person, before, stored, settings.value))


def forget_prompts(person: str) -> Steps[bool]:
    """Erase the prompts of a person; False: there are none.

    Their names stay, without values: so the person's other devices learn of it.
    """
    before = yield from lock_person(person)
    stored = yield from read_settings(person)
    found = [
        name
        for name, value in stored.value.items()
        if name.startswith(PROMPT_PREFIX) and value is not None
    ]
    if found:
        value = stored.value | dict.fromkeys(found)
        yield from _replace_settings(person, before, stored, value)
    return bool(found)


def _replace_settings(
    person: str, before: PersonCounter, stored: HistorySettings, value: dict[str, Any]
) -> Steps[HistorySettings]:
    """Write settings. They count in the size of the history, but are kept in a full one, too."""
    old, new = (msgspec.json.encode(one) for one in (stored.value, value))
    number = yield from finish_write(person, before, len(new) - (len(old) if stored.version else 0))
    yield PUT_SETTINGS, (person, new.decode(), stored.version + 1, number)
    return HistorySettings(value, stored.version + 1)
