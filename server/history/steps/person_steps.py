"""Keep the files and the settings of a person, and erase what they delete."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from server.history.history_records import HistorySettings, StoredFile
from server.history.steps.asking import Ledgered, Steps, finish_write, lock_person, pieces_of
from server.history.steps.conversation_steps import IS_ERASED, decode_object, now_ms
from workers.errors import ConversationErased, NotFound

FIND_FILE = "SELECT name, type, content FROM history_files WHERE person = ? AND id = ?"
FILE_SIZE = "SELECT size FROM history_files WHERE person = ? AND id = ?"
PUT_FILE = (
    "INSERT INTO history_files (person, id, conversation, name, type, size, created, content)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (person, id) DO UPDATE SET"
    " conversation = excluded.conversation, name = excluded.name, type = excluded.type,"
    " size = excluded.size, created = excluded.created, content = excluded.content"
)
FIND_SETTINGS = "SELECT value, version FROM history_settings WHERE person = ?"
PUT_SETTINGS = (
    "INSERT INTO history_settings (person, value, version, changed) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (person) DO UPDATE SET"
    " value = excluded.value, version = excluded.version, changed = excluded.changed"
)
CONVERSATIONS = "SELECT id, size FROM history_conversations WHERE person = ?"
SIZES = (
    "SELECT coalesce(sum(size), 0) FROM history_conversations WHERE person = ? AND id IN ({0})",
    "SELECT coalesce(sum(size), 0) FROM history_files WHERE person = ? AND conversation IN ({0})",
    "SELECT coalesce(sum(size), 0) FROM history_shares WHERE person = ? AND conversation IN ({0})",
)
DELETIONS = (
    (
        "DELETE FROM history_share_files WHERE token IN"
        " (SELECT token FROM history_shares WHERE person = ? AND conversation IN ({0}))"
    ),
    "DELETE FROM history_shares WHERE person = ? AND conversation IN ({0})",
    "DELETE FROM history_files WHERE person = ? AND conversation IN ({0})",
    "DELETE FROM history_messages WHERE person = ? AND conversation IN ({0})",
    "DELETE FROM history_conversations WHERE person = ? AND id IN ({0})",
)
ADD_ERASED = (
    "INSERT INTO history_erased (person, id, changed, erased_at) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (person, id) DO NOTHING"
)

# Files


def put_file(
    person: str, file_id: str, conversation: str, file: StoredFile, quota_bytes: int
) -> Steps[None]:
    """Keep a file. Raises ConversationErased and HistoryFull.

    Its conversation may not exist yet: a file that is attached first is part of a draft.
    """
    before = yield from lock_person(person)
    if (yield IS_ERASED, (person, conversation)):
        raise ConversationErased
    known = yield FILE_SIZE, (person, file_id)
    size = len(file.content)
    yield from finish_write(
        person, before, size - (known[0][0] if known else 0), quota_bytes=quota_bytes
    )
    yield (
        PUT_FILE,
        (person, file_id, conversation, file.name, file.type, size, now_ms(), file.content),
    )


def read_file(person: str, file_id: str) -> Steps[StoredFile]:
    """Read a file. Raises NotFound."""
    rows = yield FIND_FILE, (person, file_id)
    if not rows:
        raise NotFound("There is no such file.", code="file_not_found")
    name, kind, content = rows[0]
    return StoredFile(name, kind, bytes(content))


# Settings


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
    number = yield from finish_write(person, before, 0)
    text = msgspec.json.encode(settings.value).decode()
    yield PUT_SETTINGS, (person, text, stored.version + 1, number)
    return True, HistorySettings(settings.value, stored.version + 1)


# Erasing


def erase(person: str, conversation: str) -> Steps[int]:
    """Erase a conversation with its messages, files and links; return how many there were."""
    before = yield from lock_person(person)
    return (yield from _erase_some(person, before, [conversation]))


def erase_all(person: str) -> Steps[int]:
    """Erase all conversations, files and links of a person; return how many conversations."""
    before = yield from lock_person(person)
    rows = yield CONVERSATIONS, (person,)
    files = yield (
        "SELECT DISTINCT conversation FROM history_files WHERE person = ?",
        (person,),
    )
    ids = list(dict.fromkeys([row[0] for row in rows] + [row[0] for row in files]))
    return (yield from _erase_some(person, before, ids))


def _erase_some(person: str, before: Ledgered, ids: Sequence[str]) -> Steps[int]:
    known: list[str] = []
    freed = 0
    for marks, piece in pieces_of(ids):
        values = (person, *piece)
        rows = yield f"{CONVERSATIONS} AND id IN ({marks})", values
        known += [row[0] for row in rows]
        for statement in SIZES:
            rows = yield statement.format(marks), values
            freed += int(rows[0][0])
        for statement in DELETIONS:
            yield statement.format(marks), values
    if known or freed:
        number = yield from finish_write(person, before, -freed)
        at = now_ms()
        if known:
            yield ADD_ERASED, [(person, conversation, number, at) for conversation in known]
    return len(known)
