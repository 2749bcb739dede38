"""Erase conversations, and find what is kept no longer: trash, stray files, revoked keys.

A conversation is erased in several transactions, so that others can write in between.
"""

from __future__ import annotations

from typing import NamedTuple

from server.history.steps.sql_steps import Steps, finish_write, lock_person, now_ms
from workers.errors import ConversationChanged

AT_ONCE = 100
"""Conversations that are erased before the next look; each is a transaction of its own."""

EXPIRED = (
    "SELECT person, id FROM history_conversations WHERE updated < ?"
    f" ORDER BY updated LIMIT {AT_ONCE}"
)
TRASHED = (
    "SELECT person, id FROM history_conversations WHERE deleted IS NOT NULL AND deleted < ?"
    f" ORDER BY deleted LIMIT {AT_ONCE}"
)
STRAY = (
    "SELECT DISTINCT f.person, f.conversation FROM history_files f WHERE f.created < ?"
    " AND NOT EXISTS (SELECT 1 FROM history_conversations c"
    " WHERE c.person = f.person AND c.id = f.conversation)"
    f" LIMIT {AT_ONCE}"
)
OLD_ERASURES = "SELECT person, max(changed) FROM history_erased WHERE erased_at < ? GROUP BY person"
FORGET = "UPDATE history_people SET forgotten = ? WHERE person = ? AND forgotten < ?"
DROP_ERASURES = "DELETE FROM history_erased WHERE person = ? AND changed <= ?"
PEOPLE = "SELECT person, revoked_at FROM history_people WHERE person <> 'owner'"
NOTE_REVOKED = "UPDATE history_people SET revoked_at = ? WHERE person = ?"
ALL_CONVERSATIONS = (
    "SELECT id FROM history_conversations WHERE person = ?"
    " UNION SELECT conversation FROM history_files WHERE person = ?"
)
CONVERSATION_SIZE = "SELECT size, version FROM history_conversations WHERE person = ? AND id = ?"
DROP_MESSAGES = "DELETE FROM history_messages WHERE person = ? AND conversation = ?"
DROP_CONVERSATION = "DELETE FROM history_conversations WHERE person = ? AND id = ?"
SOME_FILE = "SELECT id, size FROM history_files WHERE person = ? AND conversation = ? LIMIT 1"
DROP_FILE = "DELETE FROM history_files WHERE person = ? AND id = ?"
DROP_FILE_WORDS = "DELETE FROM history_file_words WHERE person = ? AND file = ?"
ADD_ERASED = (
    "INSERT INTO history_erased (person, id, changed, erased_at) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (person, id) DO NOTHING"
)
DROP_PERSON = tuple(
    f"DELETE FROM {table} WHERE person = ?"
    for table in ("history_settings", "history_erased", "history_people")
)


class ConversationPlace(NamedTuple):
    """A conversation of a person."""

    person: str
    conversation: str


class KnownPerson(NamedTuple):
    """A person with a history, and when their key was first seen as revoked."""

    person: str
    revoked_at: int | None


def find_expired(
    trashed_before: int, strayed_before: int, updated_before: int | None
) -> Steps[list[ConversationPlace]]:
    """Find some of the conversations to erase; times in milliseconds since 1970."""
    found = list((yield TRASHED, (trashed_before,)))
    found += yield STRAY, (strayed_before,)
    if updated_before is not None:
        found += yield EXPIRED, (updated_before,)
    return [ConversationPlace(*row) for row in found]


def forget_erasures(before: int) -> Steps[None]:
    """Delete the records of old erasures: cursors from before them start again."""
    for person, changed in (yield OLD_ERASURES, (before,)):
        yield from lock_person(person)
        yield FORGET, (changed, person, changed)
        yield DROP_ERASURES, (person, changed)


def find_people() -> Steps[list[KnownPerson]]:
    """Read the key holders who have a history."""
    return [KnownPerson(*row) for row in (yield PEOPLE, ())]


def note_revoked(person: str, at: int | None) -> Steps[None]:
    """Keep when a key was first seen as revoked; None: it is valid."""
    yield NOTE_REVOKED, (at, person)


def drop_person(person: str) -> Steps[None]:
    """Delete what is left of a person whose conversations are erased."""
    for statement in DROP_PERSON:
        yield statement, (person,)


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
