"""Change conversations with their messages: all of a change or nothing."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, Struct, structs

from server.history.folding import fold
from server.history.history_records import (
    ChatDraft,
    ConversationChange,
    ConversationDetails,
    ConversationRecord,
    ConversationSaved,
    ConversationSet,
    ConversationTexts,
)
from server.history.steps.message_steps import (
    ChangedConversation,
    Prepared,
    WrittenMessages,
    change_messages,
)
from server.history.steps.reading_steps import CONVERSATION, conversation_of
from server.history.steps.sql_steps import (
    PersonCounter,
    Steps,
    finish_write,
    lock_person,
    now_ms,
    size_of,
)
from workers.errors import ConversationErased, HistoryFull
from workers.units import MIB, MINUTE_S

MAX_CONVERSATION_BYTES = 32 * MIB
"""The longest conversation: a page must be able to read it in one answer."""
TOO_LONG = "This conversation is too long to be saved. Start a new one to continue."
IS_ERASED = "SELECT 1 FROM history_erased WHERE person = ? AND id = ?"
PUT_CONVERSATION = (
    "INSERT INTO history_conversations (person, id, title, created, updated, pinned, model,"
    " deleted, version, changed, size, details, words)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (person, id) DO UPDATE SET"
    " title = excluded.title, created = excluded.created, updated = excluded.updated,"
    " pinned = excluded.pinned, model = excluded.model, deleted = excluded.deleted,"
    " version = excluded.version, changed = excluded.changed, size = excluded.size,"
    " details = excluded.details, words = excluded.words"
)


class _Target(Struct):
    """A conversation that is being changed, with the sum of its sizes."""

    record: ConversationRecord
    size: int
    is_new: bool


def save(
    person: str,
    conversation: str,
    change: ConversationChange,
    prepared: Sequence[Prepared],
    quota_bytes: int,
) -> Steps[ConversationSaved]:
    """Write a change of a conversation, all of it or nothing.

    Raises ConversationErased and HistoryFull. What other devices wrote meanwhile is no error: see
    `ConversationSaved`.
    """
    before = yield from lock_person(person)
    if (yield IS_ERASED, (person, conversation)):
        raise ConversationErased
    target = yield from _find_target(person, conversation, change.set)
    outcome = yield from change_messages(
        ChangedConversation(person, conversation, before.seq + 1), prepared, change.remove
    )
    asked, set_conflicts = _without_conflicts(
        target, _without_late_deletion(target.record, change), change.set_base
    )
    record = _with_members(target.record, asked, outcome)
    record, draft_conflict = _with_draft(record, change)
    if _is_gone_on_with(target.record, record, outcome) and asked.deleted is UNSET:
        record = structs.replace(record, deleted=None)
    number = before.seq
    if outcome.changed or target.is_new or record != target.record:
        record = structs.replace(record, version=target.record.version + 1)
        number = yield from _write_conversation(
            person, before, target, record, outcome.grown, quota_bytes
        )
    return ConversationSaved(
        record,
        outcome.versions,
        number,
        number != before.seq,
        outcome.conflicts,
        set_conflicts,
        outcome.newer,
        outcome.removed,
        draft_conflict,
    )


def _find_target(person: str, conversation: str, first: ConversationSet) -> Steps[_Target]:
    rows = yield CONVERSATION, (person, conversation)
    if rows:
        return _Target(conversation_of(rows[0]), rows[0][9], is_new=False)
    now = now_ms()
    created = now if first.created is UNSET else min(first.created, now)
    record = ConversationRecord(
        id=conversation,
        title="",
        created=created,
        updated=created,
        pinned=False,
        model="",
        deleted=None,
        version=0,
        system="",
        parameters={},
        choices={},
        draft=None,
        draft_version=0,
        extra={},
    )
    return _Target(record, 0, is_new=True)


def _without_late_deletion(
    record: ConversationRecord, change: ConversationChange
) -> ConversationSet:
    """Return the members to set, without the deletion of a conversation that has changed since."""
    if change.set.deleted in (UNSET, None) or record.deleted is not None:
        return change.set
    if change.deleted_base in (UNSET, record.version):
        return change.set
    return structs.replace(change.set, deleted=UNSET)


def _without_conflicts(
    target: _Target, asked: ConversationSet, base: ConversationTexts
) -> tuple[ConversationSet, ConversationTexts]:
    """Return the members to set, without texts made from other stored ones, and what is stored."""
    stored: dict[str, str] = {}
    for name in () if target.is_new else ("title", "system"):
        known, sent, seen = (getattr(one, name) for one in (target.record, asked, base))
        if sent is not UNSET and seen is not UNSET and known not in (sent, seen):
            stored[name] = known
    conflicts = ConversationTexts(**stored)
    return structs.replace(asked, **dict.fromkeys(stored, UNSET)), conflicts


def _with_members(
    record: ConversationRecord, asked: ConversationSet, outcome: WrittenMessages
) -> ConversationRecord:
    """Return the record with the members that a change sets."""
    given = {
        name: value
        for name in ("title", "pinned", "model", "system", "parameters", "deleted", "created")
        if (value := getattr(asked, name)) is not UNSET
    }
    for name in ("title", "model"):  # PostgreSQL's text cannot hold NUL
        if name in given:
            given[name] = given[name].replace("\0", " ")
    if given.get("deleted") is not None:  # by this clock: the trash is emptied after a day
        given["deleted"] = record.deleted or now_ms()
    if asked.choices is not UNSET:
        choices = record.choices | asked.choices
        given["choices"] = {at: child for at, child in choices.items() if child is not None}
    if asked.extra is not UNSET:
        extra = record.extra | asked.extra
        given["extra"] = {name: value for name, value in extra.items() if value is not None}
    if asked.updated is not UNSET:
        latest = now_ms() + MINUTE_S * 1000
        given["updated"] = max(record.updated, min(asked.updated, latest))
    elif outcome.changed:
        given["updated"] = max(record.updated, now_ms())
    return structs.replace(record, **given)


def _is_gone_on_with(
    before: ConversationRecord, after: ConversationRecord, outcome: WrittenMessages
) -> bool:
    """Return whether a change brings words: of somebody who does not know of a deletion."""
    if outcome.is_written_in or (after.system.strip() and after.system != before.system):
        return True
    draft = after.draft
    return draft is not None and draft != before.draft and bool(draft.text.strip() or draft.files)


def _with_draft(
    record: ConversationRecord, change: ConversationChange
) -> tuple[ConversationRecord, ChatDraft | None]:
    """Return the record with the draft of a change, or the stored draft that conflicts with it."""
    if change.draft is UNSET or change.draft == record.draft:
        return record, None
    if change.draft_base not in (UNSET, record.draft_version):
        return record, record.draft or ChatDraft()
    version = record.draft_version + 1
    return structs.replace(record, draft=change.draft, draft_version=version), None


def _write_conversation(
    person: str,
    before: PersonCounter,
    target: _Target,
    record: ConversationRecord,
    grown: int,
    quota_bytes: int,
) -> Steps[int]:
    details = _details(record)
    old = 0 if target.is_new else _size_of_record(target.record, _details(target.record))
    grown += _size_of_record(record, details) - old
    size = target.size + grown
    if grown > 0 and size > MAX_CONVERSATION_BYTES:
        raise HistoryFull(TOO_LONG)
    number = yield from finish_write(person, before, grown, quota_bytes)
    words = fold(f"{record.title}\n{record.system}")
    yield (
        PUT_CONVERSATION,
        (
            person,
            record.id,
            record.title,
            record.created,
            record.updated,
            int(record.pinned),
            record.model,
            record.deleted,
            record.version,
            number,
            size,
            details,
            words,
        ),
    )
    return number


def _details(record: ConversationRecord) -> str:
    fields = ConversationDetails.__struct_fields__
    details = ConversationDetails(**{name: getattr(record, name) for name in fields})
    return msgspec.json.encode(details).decode()


def _size_of_record(record: ConversationRecord, details: str) -> int:
    return size_of(record.id, record.title, record.model, details)
