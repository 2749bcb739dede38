"""Read conversations with their messages, and what has changed since a cursor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import structs

from server.history.history_records import (
    ConversationDetails,
    ConversationRecord,
    ConversationSummary,
    HistoryChanges,
    HistorySettings,
    ListedConversation,
    OpenConversation,
    WholeConversation,
)
from server.history.steps.message_steps import IN_CONVERSATION, stored_message
from server.history.steps.sql_steps import Steps, find_person
from workers.errors import NotFound

LISTED = ListedConversation.__struct_fields__
"""The first columns of each row with a conversation."""
SUMMARY = (
    f"SELECT {', '.join(f'c.{column}' for column in LISTED)},"
    " CASE WHEN EXISTS (SELECT 1 FROM history_messages m WHERE m.person = c.person"
    " AND m.conversation = c.id AND m.state = 'open') THEN 1 ELSE 0 END, c.changed"
    " FROM history_conversations c WHERE c.person = ? AND c.changed > ?"
    " ORDER BY c.changed LIMIT ?"
)
ERASED = "SELECT id, changed FROM history_erased WHERE person = ? AND changed > ? ORDER BY changed"
SETTINGS = "SELECT value, version FROM history_settings WHERE person = ? AND changed > ?"
CONVERSATION = (
    f"SELECT {', '.join(LISTED)}, details, size, changed"
    " FROM history_conversations WHERE person = ? AND id = ?"
)
ALL_MESSAGES = f"{IN_CONVERSATION} AND state <> 'removed' ORDER BY created, id"
CHANGED_MESSAGES = f"{IN_CONVERSATION} AND changed > ? ORDER BY created, id"

decode_details = msgspec.json.Decoder(ConversationDetails).decode
decode_object = msgspec.json.Decoder(dict[str, Any]).decode


def read_changes(person: str, since: int, opened: str | None, limit: int) -> Steps[HistoryChanges]:
    """Read what has changed after a cursor. A negative one continues a whole list."""
    known = yield from find_person(person)
    whole = since <= 0
    after = abs(since)
    reset = after > known.seq or (not whole and after < known.forgotten)
    if reset:
        whole, after = True, 0
    rows = yield SUMMARY, (person, after, limit + 1)
    more = len(rows) > limit
    last = int(rows[limit - 1][9]) if more else known.seq
    conversations = [
        ConversationSummary(**_listed(row), answering=bool(row[8])) for row in rows[:limit]
    ]
    erased = yield ERASED, (person, after)
    settings = yield SETTINGS, (person, after)
    shown = None
    if opened is not None:
        shown = yield from _read_open(person, opened, after)
    return HistoryChanges(
        cursor=-last if more and whole else last,
        more=more,
        reset=reset,
        conversations=conversations,
        erased=[row[0] for row in erased if row[1] <= last],
        open=shown,
        settings=_settings(settings[0]) if settings else None,
        used_bytes=known.used_bytes,
        quota_bytes=0,
    )


def _listed(row: Sequence[Any]) -> dict[str, Any]:
    """Return the members of a conversation that are the first columns of a row."""
    members = dict(zip(LISTED, row, strict=False))
    return members | {"pinned": bool(members["pinned"])}


def _settings(row: Sequence[Any]) -> HistorySettings:
    return HistorySettings(decode_object(row[0]), row[1])


def _read_open(person: str, conversation: str, after: int) -> Steps[OpenConversation | None]:
    rows = yield CONVERSATION, (person, conversation)
    if not rows or rows[0][10] <= after:
        return None
    found = yield CHANGED_MESSAGES, (person, conversation, after)
    messages = [stored_message(row).record for row in found]
    return OpenConversation(
        conversation_of(rows[0]),
        [message for message in messages if message is not None],
        [row[0] for row in found if row[2] == "removed"],
    )


def read_conversation(person: str, conversation: str) -> Steps[WholeConversation]:
    """Read a conversation with its messages. Raises NotFound."""
    known = yield from find_person(person)
    rows = yield CONVERSATION, (person, conversation)
    if not rows:
        raise no_such_conversation()
    found = yield ALL_MESSAGES, (person, conversation)
    messages = [record for row in found if (record := stored_message(row).record) is not None]
    return WholeConversation(conversation_of(rows[0]), messages, known.seq)


def no_such_conversation() -> NotFound:
    """Return the error for a conversation that a person does not have."""
    return NotFound("There is no such conversation.", code="conversation_not_found")


def conversation_of(row: Sequence[Any]) -> ConversationRecord:
    """Return a conversation as it was read."""
    details = decode_details(row[8])
    return ConversationRecord(**_listed(row), **structs.asdict(details))
