"""Write and remove messages of one conversation, by the order of `server.history.merging`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Struct, structs

from server.history.folding import fold
from server.history.history_records import (
    LAST_MS,
    AnswerRecord,
    ConversationChange,
    MessageRecord,
    MessageRemoval,
)
from server.history.merging import (
    Verdict,
    comes_back,
    has_other_words,
    is_edited,
    is_new_to,
    judge,
    may_remove,
    plain,
    with_figures,
)
from server.history.steps.sql_steps import Steps, pieces_of, size_of
from workers.errors import InvalidRequest

MESSAGE = "SELECT id, parent, state, version, size, body FROM history_messages"
IN_CONVERSATION = f"{MESSAGE} WHERE person = ? AND conversation = ?"
PARENTS = "SELECT id, parent FROM history_messages WHERE person = ? AND conversation = ?"
PUT_MESSAGE = (
    "INSERT INTO history_messages"
    " (person, conversation, id, parent, state, created, version, changed, size, body, words)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (person, conversation, id) DO UPDATE SET"
    " parent = excluded.parent, state = excluded.state, created = excluded.created,"
    " version = excluded.version, changed = excluded.changed, size = excluded.size,"
    " body = excluded.body, words = excluded.words"
)
REMOVE_MESSAGE = (
    "UPDATE history_messages SET state = 'removed', version = version + 1, changed = ?, size = ?,"
    " body = ?, words = '' WHERE person = ? AND conversation = ? AND id = ?"
)
MOVE_CHILDREN = (
    "UPDATE history_messages SET parent = ?, changed = ?"
    " WHERE person = ? AND conversation = ? AND parent = ? AND state <> 'removed'"
)

message_decoder: msgspec.json.Decoder[MessageRecord] = msgspec.json.Decoder(MessageRecord)


class ChangedConversation(NamedTuple):
    """The conversation that is changed, and the number of the write."""

    person: str
    conversation: str
    number: int


class StoredMessage(NamedTuple):
    """A message with what the server keeps about it.

    `record` None: it was removed, by a person who had read it to event `seen` (None: to its end).
    """

    record: MessageRecord | None
    parent: str | None
    version: int
    size: int
    seen: int | None = None


class Prepared(NamedTuple):
    """A sent message as it is written."""

    record: MessageRecord
    body: str
    words: str


class WrittenMessages(Struct):
    """What became of the messages of a change; `grown` in bytes.

    `is_written_in`: there are words that were not there before, by a person or in a new answer.
    """

    versions: dict[str, int] = {}
    conflicts: list[MessageRecord] = []
    newer: list[MessageRecord] = []
    removed: list[str] = []
    grown: int = 0
    changed: bool = False
    is_written_in: bool = False


def prepare(change: ConversationChange) -> list[Prepared]:
    """Encode and fold the messages of a change: for long ones, outside the event loop."""
    return [_prepared(message) for message in change.messages]


def _prepared(message: MessageRecord) -> Prepared:
    body = msgspec.json.encode(structs.replace(plain(message), parent=None)).decode()
    texts = [message.text]
    if not isinstance(message, AnswerRecord):
        texts += [file.name for file in message.files]
    return Prepared(structs.replace(message, conversation=UNSET), body, fold("\n".join(texts)))


def stored_message(row: Sequence[Any]) -> StoredMessage:
    """Return a message as it was read."""
    _, parent, state, version, size, body = row
    if state == "removed":
        return StoredMessage(None, parent, version, size, int(body) if body else None)
    record = structs.replace(decode_message(body), parent=parent, version=version)
    return StoredMessage(record, parent, version, size)


def decode_message(body: str) -> MessageRecord:
    """Read a stored message."""
    try:
        return message_decoder.decode(body)
    except msgspec.ValidationError:  # earlier releases took times that no Date can be
        known = msgspec.json.decode(body)
        known["created"] = min(known["created"], LAST_MS)
        return message_decoder.decode(msgspec.json.encode(known))


def change_messages(
    place: ChangedConversation, prepared: Sequence[Prepared], remove: Sequence[str | MessageRemoval]
) -> Steps[WrittenMessages]:
    """Write messages, then remove some. Raises InvalidRequest for a parent that is no parent."""
    outcome = WrittenMessages()
    removals = {
        one.id: one
        for one in (MessageRemoval(one) if isinstance(one, str) else one for one in remove)
    }
    stored = yield from _read_stored(place, prepared, list(removals))
    yield from _write_messages(place, prepared, stored, outcome)
    yield from _remove_messages(place, removals, stored, outcome)
    return outcome


def _read_stored(
    place: ChangedConversation, prepared: Sequence[Prepared], removed: Sequence[str]
) -> Steps[dict[str, StoredMessage]]:
    """Read the stored messages that a change is about, and the removed ones above them."""
    stored: dict[str, StoredMessage] = {}
    ids = [one.record.id for one in prepared] + list(removed)
    ids += [one.record.parent for one in prepared if one.record.parent is not None]
    while wanted := [one for one in dict.fromkeys(ids) if one not in stored]:
        found: dict[str, StoredMessage] = {}
        for marks, piece in pieces_of(wanted):
            rows = yield f"{IN_CONVERSATION} AND id IN ({marks})", (*place[:2], *piece)
            found |= {row[0]: stored_message(row) for row in rows}
        stored |= found
        ids = [
            one.parent for one in found.values() if one.record is None and one.parent is not None
        ]
        ids = [one for one in ids if one not in wanted]
    return stored


def _left_above(parent: str | None, stored: dict[str, StoredMessage]) -> str | None:
    """Return the nearest message above that was not removed."""
    seen: set[str] = set()
    while parent is not None and parent in stored and stored[parent].record is None:
        if parent in seen:
            return None
        seen.add(parent)
        parent = stored[parent].parent
    return parent


# Writing


def _write_messages(
    place: ChangedConversation,
    prepared: Sequence[Prepared],
    stored: dict[str, StoredMessage],
    outcome: WrittenMessages,
) -> Steps[None]:
    written: list[tuple[Any, ...]] = []
    moved: dict[str, tuple[int, str | None]] = {}
    for index, one in enumerate(prepared):
        known = stored.get(one.record.id)
        filled = with_figures(None if known is None else known.record, one.record)
        is_filled = filled is not one.record
        # A removed parent that comes back below, in the same change, is there already.
        sent = structs.replace(filled, parent=_left_above(one.record.parent, stored))
        if known is not None and _is_settled(known, sent, outcome, is_filled=is_filled):
            if sent.parent != one.record.parent and known.record is not None:
                outcome.newer.append(known.record)  # written before, to another place
            continue
        final = _marked(known, _prepared(filled) if is_filled else one)
        record = structs.replace(plain(final.record), parent=sent.parent)
        version = _next_version(known, record)
        if known is None or known.parent != sent.parent:
            moved[sent.id] = (index, sent.parent)
        outcome.is_written_in |= is_new_to(None if known is None else known.record, record)
        outcome.versions[sent.id] = version
        size = size_of(final.body, sent.parent)
        outcome.grown += size - (0 if known is None else known.size)
        record = structs.replace(record, version=version)
        stored[sent.id] = StoredMessage(record, sent.parent, version, size)
        if is_filled or sent.parent != one.record.parent:
            outcome.newer.append(record)
        written.append(_row(place, stored[sent.id], record, final))
    if moved:
        yield from _check_parents(place, moved)
    if written:
        outcome.changed = True
        yield PUT_MESSAGE, written


def _is_settled(
    known: StoredMessage, sent: MessageRecord, outcome: WrittenMessages, *, is_filled: bool
) -> bool:
    """Return whether a message is not to be written, and note why.

    `is_filled`: it has figures of the stored one, which the device that has sent it lacks.
    """
    if known.record is None:
        if comes_back(sent, known.seen):
            return False
        outcome.removed.append(sent.id)
        return True
    verdict = judge(known.record, sent)
    if verdict is Verdict.WRITE:
        return False
    if verdict is Verdict.CONFLICT:
        outcome.conflicts.append(known.record)
    elif verdict is Verdict.OLDER or is_filled:
        outcome.newer.append(known.record)
    outcome.versions[sent.id] = known.version
    return True


def _marked(known: StoredMessage | None, sent: Prepared) -> Prepared:
    """Mark an answer as edited whose text an older page or a program has changed."""
    before, after = None if known is None else known.record, sent.record
    if not isinstance(before, AnswerRecord) or not isinstance(after, AnswerRecord):
        return sent
    is_same_reading = (before.job, before.seq, before.state) == (after.job, after.seq, after.state)
    if after.state == "open" or not is_same_reading or is_edited(after):
        return sent
    if before.text == after.text:
        return sent
    return _prepared(structs.replace(after, edited=True))


def _next_version(known: StoredMessage | None, sent: MessageRecord) -> int:
    """Return the version of a written message: it grows when what people read has changed."""
    if known is None:
        return 1
    same = known.record is not None and not has_other_words(known.record, sent)
    return known.version if same else known.version + 1


def _row(
    place: ChangedConversation, stored: StoredMessage, record: MessageRecord, final: Prepared
) -> tuple[Any, ...]:
    state = record.state if isinstance(record, AnswerRecord) else "asked"
    return (
        place.person,
        place.conversation,
        record.id,
        stored.parent,
        state,
        record.created,
        stored.version,
        place.number,
        stored.size,
        final.body,
        final.words,
    )


def _check_parents(
    place: ChangedConversation, moved: dict[str, tuple[int, str | None]]
) -> Steps[None]:
    """Refuse a message that would be below itself: a page could not show it."""
    rows = yield PARENTS, place[:2]
    parents = {row[0]: row[1] for row in rows}
    parents |= {message: parent for message, (_, parent) in moved.items()}
    for message, (index, _) in moved.items():
        if message in _above(message, parents):
            raise InvalidRequest(
                f"'messages[{index}].parent' must not be the message itself or one below it.",
                param=f"messages[{index}].parent",
            )


def _above(message: str, parents: dict[str, str | None]) -> Iterator[str]:
    """Return the messages above one, each once."""
    seen: set[str] = set()
    at = parents.get(message)
    while at is not None and at not in seen:
        yield at
        seen.add(at)
        at = parents.get(at)


# Removing


def _remove_messages(
    place: ChangedConversation,
    removals: dict[str, MessageRemoval],
    stored: dict[str, StoredMessage],
    outcome: WrittenMessages,
) -> Steps[None]:
    """Remove messages. Those below that the page does not know move up, so none is lost."""
    kept = _changed_since(removals, stored)
    for message, removal in removals.items():
        known = stored.get(message)
        if known is None or known.record is None:
            continue
        if message in kept:
            outcome.newer.append(known.record)
            outcome.versions[message] = known.version
            continue
        seen = "" if removal.base is UNSET else str(removal.seq)
        size = size_of(message, known.parent)
        outcome.changed = True
        outcome.grown += size - known.size
        yield (
            REMOVE_MESSAGE,
            (place.number, size, seen, place.person, place.conversation, message),
        )
        stored[message] = StoredMessage(None, known.parent, known.version + 1, size)
        above = _left_above(known.parent, stored)
        yield MOVE_CHILDREN, (above, place.number, *place[:2], message)


def _changed_since(
    removals: dict[str, MessageRemoval], stored: dict[str, StoredMessage]
) -> set[str]:
    """Return the messages that stay: the changed ones, and those above that they belong to."""
    kept: set[str] = set()
    for message, removal in removals.items():
        known = stored.get(message)
        if known is None or known.record is None or may_remove(known.record, removal):
            continue
        at: str | None = message
        while at is not None and at not in kept and at in removals and at in stored:
            kept.add(at)
            at = stored[at].parent
    return kept
