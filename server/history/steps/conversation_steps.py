"""Read and change conversations with their messages."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Struct, structs

from server.history.folding import fold
from server.history.history_records import (
    AnswerRecord,
    ChatDraft,
    ConversationChange,
    ConversationDetails,
    ConversationRecord,
    ConversationSaved,
    ConversationSet,
    ConversationSummary,
    HistoryChanges,
    HistorySettings,
    MessageRecord,
    OpenConversation,
    WholeConversation,
)
from server.history.merging import Verdict, judge, plain
from server.history.steps.asking import (
    Ledgered,
    Steps,
    find_person,
    finish_write,
    lock_person,
    pieces_of,
)
from workers.errors import ConversationErased, HistoryFull, NotFound
from workers.units import MIB, MINUTE_S

MOST_CONVERSATION_BYTES = 32 * MIB
"""The longest conversation: a page must be able to read it in one answer."""
TOO_LONG = "This conversation is too long to be saved. Start a new one to continue."

SUMMARY = (
    "SELECT c.id, c.title, c.created, c.updated, c.pinned, c.model, c.deleted, c.version,"
    " CASE WHEN EXISTS (SELECT 1 FROM history_messages m WHERE m.person = c.person"
    " AND m.conversation = c.id AND m.state = 'open') THEN 1 ELSE 0 END, c.changed"
    " FROM history_conversations c WHERE c.person = ? AND c.changed > ?"
    " ORDER BY c.changed LIMIT ?"
)
ERASED = "SELECT id, changed FROM history_erased WHERE person = ? AND changed > ? ORDER BY changed"
SETTINGS = "SELECT value, version FROM history_settings WHERE person = ? AND changed > ?"
CONVERSATION = (
    "SELECT id, title, created, updated, pinned, model, deleted, version, details, size, changed"
    " FROM history_conversations WHERE person = ? AND id = ?"
)
IS_ERASED = "SELECT 1 FROM history_erased WHERE person = ? AND id = ?"
MESSAGE = "SELECT id, parent, state, version, size, body FROM history_messages"
IN_CONVERSATION = f"{MESSAGE} WHERE person = ? AND conversation = ?"
ALL_MESSAGES = f"{IN_CONVERSATION} AND state <> 'removed' ORDER BY created, id"
CHANGED_MESSAGES = f"{IN_CONVERSATION} AND changed > ? ORDER BY created, id"
PUT_MESSAGE = (
    "INSERT INTO history_messages"
    " (person, conversation, id, parent, state, created, version, changed, size, body, words)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (person, conversation, id) DO UPDATE SET"
    " parent = excluded.parent, state = excluded.state, created = excluded.created,"
    " version = excluded.version, changed = excluded.changed, size = excluded.size,"
    " body = excluded.body, words = excluded.words"
)
REMOVE_MESSAGE = (
    "UPDATE history_messages SET state = 'removed', version = version + 1, changed = ?, size = 0,"
    " body = '', words = '' WHERE person = ? AND conversation = ? AND id = ?"
)
MOVE_CHILDREN = (
    "UPDATE history_messages SET parent = ?, version = version + 1, changed = ?"
    " WHERE person = ? AND conversation = ? AND parent = ? AND state <> 'removed'"
)
PUT_CONVERSATION = (
    "INSERT INTO history_conversations (person, id, title, created, updated, pinned, model,"
    " deleted, version, changed, size, details, words)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (person, id) DO UPDATE SET"
    " title = excluded.title, created = excluded.created, updated = excluded.updated,"
    " pinned = excluded.pinned, model = excluded.model, deleted = excluded.deleted,"
    " version = excluded.version, changed = excluded.changed, size = excluded.size,"
    " details = excluded.details, words = excluded.words"
)

decode_message = msgspec.json.Decoder(MessageRecord).decode
decode_details = msgspec.json.Decoder(ConversationDetails).decode
decode_object = msgspec.json.Decoder(dict[str, Any]).decode


class StoredMessage(NamedTuple):
    """A message with what the server keeps about it; `record` None: it was removed."""

    record: MessageRecord | None
    parent: str | None
    version: int
    size: int


class Prepared(NamedTuple):
    """A sent message as it is written."""

    record: MessageRecord
    body: str
    words: str

    @property
    def size(self) -> int:
        """Return the bytes that it takes of the quota."""
        return len(self.body.encode())


def prepare(change: ConversationChange) -> list[Prepared]:
    """Encode and fold the messages of a change: for long ones, outside the event loop."""
    return [_prepared(message) for message in change.messages]


def _prepared(message: MessageRecord) -> Prepared:
    body = msgspec.json.encode(structs.replace(plain(message), parent=None)).decode()
    texts = [message.text]
    if not isinstance(message, AnswerRecord):
        texts += [file.name for file in message.files]
    return Prepared(structs.replace(message, conversation=UNSET), body, fold("\n".join(texts)))


def now_ms() -> int:
    """Return the time in milliseconds since 1970."""
    return int(time.time() * 1000)


# Reading


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
    conversations = [_summary(row) for row in rows[:limit]]
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


def _summary(row: Sequence[Any]) -> ConversationSummary:
    return ConversationSummary(
        id=row[0],
        title=row[1],
        created=row[2],
        updated=row[3],
        pinned=bool(row[4]),
        model=row[5],
        deleted=row[6],
        version=row[7],
        answering=bool(row[8]),
    )


def _settings(row: Sequence[Any]) -> HistorySettings:
    return HistorySettings(decode_object(row[0]), row[1])


def _read_open(person: str, conversation: str, after: int) -> Steps[OpenConversation | None]:
    rows = yield CONVERSATION, (person, conversation)
    if not rows or rows[0][10] <= after:
        return None
    found = yield CHANGED_MESSAGES, (person, conversation, after)
    messages = [_stored(row).record for row in found]
    return OpenConversation(
        _conversation(rows[0]),
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
    messages = [record for row in found if (record := _stored(row).record) is not None]
    return WholeConversation(_conversation(rows[0]), messages, known.seq)


def no_such_conversation() -> NotFound:
    """Return the error for a conversation that a person does not have."""
    return NotFound("There is no such conversation.", code="conversation_not_found")


def _stored(row: Sequence[Any]) -> StoredMessage:
    _, parent, state, version, size, body = row
    if state == "removed":
        return StoredMessage(None, parent, version, size)
    record = structs.replace(decode_message(body), parent=parent, version=version)
    return StoredMessage(record, parent, version, size)


def _conversation(row: Sequence[Any]) -> ConversationRecord:
    details = decode_details(row[8])
    return ConversationRecord(
        id=row[0],
        title=row[1],
        created=row[2],
        updated=row[3],
        pinned=bool(row[4]),
        model=row[5],
        deleted=row[6],
        version=row[7],
        **{name: getattr(details, name) for name in details.__struct_fields__},
    )


# Changing


class _Target(Struct):
    """A conversation that is being changed, with the sum of its sizes."""

    record: ConversationRecord
    size: int
    is_new: bool


class _Outcome(Struct):
    """What became of the messages of a change; `grown` in bytes."""

    number: int
    versions: dict[str, int] = {}
    conflicts: list[MessageRecord] = []
    newer: list[MessageRecord] = []
    removed: list[str] = []
    grown: int = 0
    changed: bool = False


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
    outcome = _Outcome(before.seq + 1)
    stored = yield from _read_stored(person, conversation, prepared, change.remove)
    yield from _write_messages(person, conversation, prepared, stored, outcome)
    yield from _remove_messages(person, conversation, change.remove, stored, outcome)
    record, draft_conflict = _with_changes(target.record, change, touched=outcome.changed)
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
        outcome.conflicts,
        outcome.newer,
        outcome.removed,
        draft_conflict,
    )


def _find_target(person: str, conversation: str, first: ConversationSet) -> Steps[_Target]:
    rows = yield CONVERSATION, (person, conversation)
    if rows:
        return _Target(_conversation(rows[0]), rows[0][9], is_new=False)
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


def _read_stored(
    person: str, conversation: str, prepared: Sequence[Prepared], removed: Sequence[str]
) -> Steps[dict[str, StoredMessage]]:
    """Read the stored messages that a change is about, and the removed ones above them."""
    stored: dict[str, StoredMessage] = {}
    ids = [one.record.id for one in prepared] + list(removed)
    ids += [one.record.parent for one in prepared if one.record.parent is not None]
    while wanted := [one for one in dict.fromkeys(ids) if one not in stored]:
        found: dict[str, StoredMessage] = {}
        for marks, piece in pieces_of(wanted):
            rows = yield f"{IN_CONVERSATION} AND id IN ({marks})", (person, conversation, *piece)
            found |= {row[0]: _stored(row) for row in rows}
        stored |= found
        ids = [
            one.parent for one in found.values() if one.record is None and one.parent is not None
        ]
        ids = [one for one in ids if one not in wanted]
    return stored


def _place(parent: str | None, stored: dict[str, StoredMessage]) -> str | None:
    """Return the nearest message above that was not removed."""
    seen: set[str] = set()
    while parent is not None and parent in stored and stored[parent].record is None:
        if parent in seen:
            return None
        seen.add(parent)
        parent = stored[parent].parent
    return parent


def _write_messages(
    person: str,
    conversation: str,
    prepared: Sequence[Prepared],
    stored: dict[str, StoredMessage],
    outcome: _Outcome,
) -> Steps[None]:
    written: list[tuple[Any, ...]] = []
    for one in prepared:
        sent = structs.replace(one.record, parent=_place(one.record.parent, stored))
        known = stored.get(sent.id)
        if known is not None and known.record is None and sent.base is not UNSET:
            outcome.removed.append(sent.id)
            continue
        if known is not None and known.record is not None:
            verdict = judge(known.record, sent)
            if verdict is Verdict.CONFLICT:
                outcome.conflicts.append(known.record)
            elif verdict is Verdict.OLDER:
                outcome.newer.append(known.record)
            if verdict is not Verdict.WRITE:
                outcome.versions[sent.id] = known.version
                continue
        version = 1 if known is None else known.version + 1
        state = sent.state if isinstance(sent, AnswerRecord) else "asked"
        outcome.versions[sent.id] = version
        outcome.grown += one.size - (0 if known is None else known.size)
        stored[sent.id] = StoredMessage(
            structs.replace(plain(sent), version=version), sent.parent, version, one.size
        )
        written.append(
            (
                person,
                conversation,
                sent.id,
                sent.parent,
                state,
                sent.created,
                version,
                outcome.number,
                one.size,
                one.body,
                one.words,
            )
        )
    if written:
        outcome.changed = True
        yield PUT_MESSAGE, written


def _remove_messages(
    person: str,
    conversation: str,
    removed: Sequence[str],
    stored: dict[str, StoredMessage],
    outcome: _Outcome,
) -> Steps[None]:
    """Remove messages. Those below that the page does not know move up, so none is lost."""
    for message in dict.fromkeys(removed):
        known = stored.get(message)
        if known is None or known.record is None:
            continue
        outcome.changed = True
        outcome.grown -= known.size
        yield REMOVE_MESSAGE, (outcome.number, person, conversation, message)
        stored[message] = StoredMessage(None, known.parent, known.version + 1, 0)
        above = _place(known.parent, stored)
        yield MOVE_CHILDREN, (above, outcome.number, person, conversation, message)


def _with_changes(
    record: ConversationRecord, change: ConversationChange, *, touched: bool
) -> tuple[ConversationRecord, ChatDraft | None]:
    """Return the record with the members and the draft of a change, and a conflicting draft."""
    asked = change.set
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
    elif touched:
        given["updated"] = max(record.updated, now_ms())
    conflict = None
    if change.draft is not UNSET and change.draft != record.draft:
        if change.draft_base in (UNSET, record.draft_version):
            given |= {"draft": change.draft, "draft_version": record.draft_version + 1}
        else:
            conflict = record.draft or ChatDraft()
    return structs.replace(record, **given), conflict


def _write_conversation(
    person: str,
    before: Ledgered,
    target: _Target,
    record: ConversationRecord,
    grown: int,
    quota_bytes: int,
) -> Steps[int]:
    details = _details(record)
    old = 0 if target.is_new else _size_of(_details(target.record))
    grown += _size_of(details) - old
    size = target.size + grown
    if grown > 0 and size > MOST_CONVERSATION_BYTES:
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


def _size_of(text: str) -> int:
    return len(text.encode())
