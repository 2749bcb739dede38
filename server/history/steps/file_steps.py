"""Keep the files of a person, with the texts that the search finds."""

from __future__ import annotations

from server.history.folding import MAX_FILE_CHARS, fold_long
from server.history.history_records import StoredFile
from server.history.steps.changing_steps import IS_ERASED
from server.history.steps.sql_steps import Steps, finish_write, lock_person, now_ms, size_of
from workers.errors import ConversationErased, InvalidRequest, NotFound

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
UNREAD_FILES = (
    "SELECT f.person, f.id FROM history_files f WHERE NOT EXISTS"
    " (SELECT 1 FROM history_file_words w WHERE w.person = f.person AND w.file = f.id) LIMIT 10"
)


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
        return fold_long(file.content.decode()[:MAX_FILE_CHARS])
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
