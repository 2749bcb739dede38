"""Make, list, end and read read-only links, which show a copy of what there was."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from server.history.history_records import (
    AnswerRecord,
    ConversationRecord,
    MessageRecord,
    QuestionRecord,
    SharedFile,
    SharedMessage,
    SharedSnapshot,
    ShareLink,
    StoredFile,
    is_read_document,
)
from server.history.safe_files import RASTER_IMAGES
from server.history.steps.reading_steps import read_conversation
from server.history.steps.sql_steps import Steps, finish_write, lock_person, now_ms, pieces_of
from workers.errors import NotFound

ROOT = "root"
LINK_COLUMNS = "id, token, title, created, conversation, message"
LINKS = f"SELECT {LINK_COLUMNS} FROM history_shares WHERE person = ? ORDER BY created DESC, id"
LINKS_OF = "SELECT id FROM history_shares WHERE person = ? AND conversation = ?"
LINK_SIZE = "SELECT token, size FROM history_shares WHERE person = ? AND id = ?"
ADD_LINK = (
    "INSERT INTO history_shares"
    " (person, id, token, conversation, message, title, created, size, snapshot)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
END_LINK = "DELETE FROM history_shares WHERE person = ? AND id = ?"
END_FILES = "DELETE FROM history_share_files WHERE token = ?"
LIVE = (
    "JOIN history_conversations c ON c.person = s.person AND c.id = s.conversation"
    " AND c.deleted IS NULL"
)
"""Links of a conversation in the trash are dead; they work again when it comes back."""
SHARED = f"SELECT s.person, s.snapshot FROM history_shares s {LIVE} WHERE s.token = ?"
SHARED_FILE = (
    "SELECT f.type, f.content FROM history_share_files f"
    f" JOIN history_shares s ON s.token = f.token {LIVE} WHERE f.token = ? AND f.id = ?"
)
PICTURES = (
    "SELECT id, size FROM history_files WHERE person = ? AND conversation = ? AND type IN"
    f" ({', '.join(repr(kind) for kind in RASTER_IMAGES)}) AND id IN"
)
COPY_PICTURES = (
    "INSERT INTO history_share_files (token, id, type, content)"
    " SELECT ?, id, type, content FROM history_files WHERE person = ? AND id IN"
)
decode_snapshot = msgspec.json.Decoder(SharedSnapshot).decode


def shown_path(
    conversation: ConversationRecord, messages: Sequence[MessageRecord]
) -> list[MessageRecord]:
    """Return the messages that the page shows, from the first to the last."""
    children: dict[str, list[MessageRecord]] = {}
    for message in messages:
        children.setdefault(message.parent or ROOT, []).append(message)
    shown: list[MessageRecord] = []
    at, seen = ROOT, set[str]()
    while at not in seen and (below := children.get(at)):
        seen.add(at)
        chosen = conversation.choices.get(at)
        message = next((one for one in below if one.id == chosen), below[-1])
        shown.append(message)
        at = message.id
    return shown


def _one_answer(messages: Sequence[MessageRecord], message_id: str) -> list[MessageRecord]:
    """Return an answer with its question. Raises NotFound."""
    by_id = {message.id: message for message in messages}
    if message_id not in by_id:
        raise NotFound("There is no such message.", code="message_not_found")
    wanted = by_id[message_id]
    above = by_id.get(wanted.parent or "")
    with_question = isinstance(wanted, AnswerRecord) and isinstance(above, QuestionRecord)
    return [above, wanted] if above is not None and with_question else [wanted]


def share(person: str, link: ShareLink, quota_bytes: int) -> Steps[ShareLink]:
    """Make a link to a conversation, or to one message of it. Raises NotFound and HistoryFull."""
    before = yield from lock_person(person)
    whole = yield from read_conversation(person, link.conversation)
    if whole.conversation.deleted is not None:
        raise NotFound("This conversation is deleted.", code="conversation_not_found")
    if link.message is None:
        shown = shown_path(whole.conversation, whole.messages)
    else:
        shown = _one_answer(whole.messages, link.message)
    files = [file.id for one in shown if isinstance(one, QuestionRecord) for file in one.files]
    pictures: dict[str, int] = {}
    for marks, piece in pieces_of(list(dict.fromkeys(files))):
        rows = yield f"{PICTURES} ({marks})", (person, link.conversation, *piece)
        pictures |= {row[0]: int(row[1]) for row in rows}
    made = msgspec.structs.replace(link, title=whole.conversation.title, created=now_ms())
    snapshot = SharedSnapshot(made.title, made.created, [_shared(one, pictures) for one in shown])
    text = msgspec.json.encode(snapshot).decode()
    size = len(text.encode()) + sum(pictures.values())
    yield from finish_write(person, before, size, quota_bytes)
    yield (
        ADD_LINK,
        (
            person,
            made.id,
            made.token,
            made.conversation,
            made.message,
            made.title,
            made.created,
            size,
            text,
        ),
    )
    for marks, piece in pieces_of(list(pictures)):
        yield f"{COPY_PICTURES} ({marks})", (made.token, person, *piece)
    return made


def _shared(message: MessageRecord, pictures: dict[str, int]) -> SharedMessage:
    if isinstance(message, AnswerRecord):
        return SharedMessage("assistant", message.text, message.created, message.model)
    files = [
        SharedFile(file.id, file.name, file.size, file.id in pictures)
        for at, file in enumerate(message.files)
        if not is_read_document(message.files, at)
    ]
    return SharedMessage("user", message.text, message.created, files=files)


def list_links(person: str) -> Steps[list[ShareLink]]:
    """Read the links of a person, newest first."""
    return [ShareLink(*row) for row in (yield LINKS, (person,))]


def find_links(person: str, conversation: str) -> Steps[list[str]]:
    """Read the ids of the links to a conversation."""
    return [row[0] for row in (yield LINKS_OF, (person, conversation))]


def end_link(person: str, link: str) -> Steps[bool]:
    """End a link and delete its copy; False: there is none."""
    before = yield from lock_person(person)
    rows = yield LINK_SIZE, (person, link)
    if not rows:
        return False
    yield END_FILES, (rows[0][0],)
    yield END_LINK, (person, link)
    yield from finish_write(person, before, -int(rows[0][1]))
    return True


def read_shared(token: str) -> Steps[tuple[str, SharedSnapshot] | None]:
    """Read what a link shows, and whose it is; None: there is no such link."""
    rows = yield SHARED, (token,)
    return (rows[0][0], decode_snapshot(rows[0][1])) if rows else None


def read_shared_file(token: str, file_id: str) -> Steps[StoredFile | None]:
    """Read a picture of a link; None: there is none."""
    rows = yield SHARED_FILE, (token, file_id)
    return StoredFile("", rows[0][0], bytes(rows[0][1])) if rows else None
