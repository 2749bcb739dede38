"""Keep the files and the settings of a person, and erase what they delete."""

from __future__ import annotations

from typing import Any

import msgspec

from server.history.folding import MOST_FILE_LETTERS, fold_long
from server.history.history_records import HistorySettings, StoredFile
from server.history.steps.conversation_steps import IS_ERASED, decode_object, now_ms
from server.history.steps.sql_steps import PersonCounter, Steps, finish_write, lock_person, size_of
from workers.errors import ConversationChanged, ConversationErased, InvalidRequest, NotFound

PROMPT_PREFIX = "prompt-"
"""How the names of the settings begin that hold the prompts of a person."""

MEDIA = ("image/", "audio/", "video/", "font/")

FIND_FILE = "SELECT name, type, content FROM history_files WHERE person = ? AND id = ?"
FILE_PLACE = "SELECT size, conversation FROM history_files WHERE person = ? AND id = ?"
IS_USED = (
    "SELECT 1 FROM history_messages WHERE person = ? AND conversation = ?"
    " AND body LIKE ? ESCAPE '!'"
    " UNION ALL SELECT 1 FROM history_conversations WHERE person = ? AND id = ?"
    " AND details LIKE ? ESCAPE '!'"
)
PUT_FILE = (
    "INSERT INTO history_files (person, id, conversation, name, type, size, created, content)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (person, id) DO UPDATE SET"
    " conversation = excluded.conversation, name = excluded.name, type = excluded.type,"
    " size = excluded.size, created = excluded.created, content = excluded.content"
)
PUT_FILE_WORDS = (
    "INSERT INTO history_file_words (person, file, conversation, words) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (person, file) DO UPDATE SET"
    " conversation = excluded.conversation, words = excluded.words"
)
DROP_FILE_WORDS = "DELETE FROM history_file_words WHERE person = ? AND file = ?"
UNREAD_FILES = (
    "SELECT f.person, f.id FROM history_files f WHERE NOT EXISTS"
    " (SELECT 1 FROM history_file_words w WHERE w.person = f.person AND w.file = f.id) LIMIT 10"
)
FIND_SETTINGS = "SELECT value, version FROM history_settings WHERE person = ?"
PUT_SETTINGS = (
    "INSERT INTO history_settings (person, value, version, changed) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (person) DO UPDATE SET"
    " value = excluded.value, version = excluded.version, changed = excluded.changed"
)
ALL_CONVERSATIONS = (
    "SELECT id FROM history_conversations WHERE person = ?"
    " UNION SELECT conversation FROM history_files WHERE person = ?"
)
CONVERSATION_SIZE = "SELECT size, version FROM history_conversations WHERE person = ? AND id = ?"
DROP_MESSAGES = "DELETE FROM history_messages WHERE person = ? AND conversation = ?"
DROP_CONVERSATION = "DELETE FROM history_conversations WHERE person = ? AND id = ?"
SOME_FILE = "SELECT id, size FROM history_files WHERE person = ? AND conversation = ? LIMIT 1"
DROP_FILE = "DELETE FROM history_files WHERE person = ? AND id = ?"
ADD_ERASED = (
    "INSERT INTO history_erased (person, id, changed, erased_at) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (person, id) DO NOTHING"
)

# Files


def put_file(
    person: str, file_id: str, conversation: str, file: StoredFile, words: str, quota_bytes: int
) -> Steps[None]:
    """Keep a file with its folded text.

    Raises ConversationErased, HistoryFull, and InvalidRequest for a taken id.

    Its conversation may not exist yet: a file that is attached first is part of a draft. A file
    that another conversation names is not taken away from there.
    """
    before = yield from lock_person(person)
    if (yield IS_ERASED, (person, conversation)):
        raise ConversationErased
    known = yield FILE_PLACE, (person, file_id)
    if known and known[0][1] != conversation:
        yield from _check_unused(person, file_id, known[0][1])
    size = len(file.content) + size_of(file_id, file.name, file.type)
    yield from finish_write(
        person, before, size - (known[0][0] if known else 0), quota_bytes=quota_bytes
    )
    yield (
        PUT_FILE,
        (person, file_id, conversation, file.name, file.type, size, now_ms(), file.content),
    )
    yield PUT_FILE_WORDS, (person, file_id, conversation, words)


def fold_file(file: StoredFile) -> str:
    """Return the folded text of a file, "" of one that is no text. It takes a while."""
    if file.type.startswith(MEDIA) or b"\0" in file.content:
        return ""
    try:
        return fold_long(file.content.decode()[:MOST_FILE_LETTERS])
    except UnicodeDecodeError:
        return ""


def find_unread_files() -> Steps[list[tuple[str, str]]]:
    """Find files that were kept before their texts were searched, each as person and id."""
    return [(row[0], row[1]) for row in (yield UNREAD_FILES, ())]


def keep_file_words(person: str, file_id: str, words: str) -> Steps[None]:
    """Keep the folded text of a file, if the file is still there."""
    yield from lock_person(person)
    for _, conversation in (yield FILE_PLACE, (person, file_id)):
        yield PUT_FILE_WORDS, (person, file_id, conversation, words)


def _check_unused(person: str, file_id: str, conversation: str) -> Steps[None]:
    named = f'%"{file_id.replace("_", "!_")}"%'
    if (yield IS_USED, (person, conversation, named, person, conversation, named)):
        raise InvalidRequest(
            "This file belongs to another conversation. Use a new id for a copy.", param="id"
        )


def read_file_size(person: str, file_id: str) -> Steps[int]:
    """Read how many bytes a file counts in the quota. Raises NotFound."""
    rows = yield FILE_PLACE, (person, file_id)
    if not rows:
        raise _no_such_file()
    return int(rows[0][0])


def read_file(person: str, file_id: str) -> Steps[StoredFile]:
    """Read a file. Raises NotFound."""
    rows = yield FIND_FILE, (person, file_id)
    if not rows:
        raise _no_such_file()
    name, kind, content = rows[0]
    return StoredFile(name, kind, bytes(content))


def _no_such_file() -> NotFound:
    return NotFound("There is no such file.", code="file_not_found")


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


# Erasing: in several transactions, so that others can write in between


def find_conversations(person: str) -> Steps[list[str]]:
    """Read the ids of all conversations, those of which there are only files included."""
    return [row[0] for row in (yield ALL_CONVERSATIONS, (person, person))]


def erase_conversation(person: str, conversation: str, version: int | None) -> Steps[bool]:
    """Erase a conversation with its messages; False: there is none. Its files are dropped next.

    Raises ConversationChanged for another version than the one that is named.
    """
    before = yield from lock_person(person)
    rows = yield CONVERSATION_SIZE, (person, conversation)
    if not rows:
        return False
    if version is not None and rows[0][1] != version:
        raise ConversationChanged
    yield DROP_MESSAGES, (person, conversation)
    yield DROP_CONVERSATION, (person, conversation)
    number = yield from finish_write(person, before, -int(rows[0][0]))
    yield ADD_ERASED, (person, conversation, number, now_ms())
    return True


def drop_file(person: str, conversation: str) -> Steps[bool]:
    """Delete one file of a conversation; False: there is none left."""
    before = yield from lock_person(person)
    rows = yield SOME_FILE, (person, conversation)
    if not rows:
        return False
    file_id, size = rows[0]
    yield DROP_FILE, (person, file_id)
    yield DROP_FILE_WORDS, (person, file_id)
    yield from finish_write(person, before, -int(size))
    return True
