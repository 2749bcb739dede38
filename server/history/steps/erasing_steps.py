"""Find and erase what is kept no longer: trash, old conversations, stray files, revoked keys."""

from __future__ import annotations

from typing import NamedTuple

from server.history.steps.sql_steps import Steps, lock_person

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
