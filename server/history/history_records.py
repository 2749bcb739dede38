"""The records of the chat history, as browsers send and get them.

They are those of the page's own database (`webui/static/js/chat/state/types.js`). Times are in
milliseconds since 1970. `version` is made by the server: 1 for a new record. What a page keeps with
a record beyond these fields belongs into `extra`, which the server does not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType, field

from workers.units import KIB, MIB

RecordId: TypeAlias = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]
LAST_MS = 8_640_000_000_000_000
"""The last time that a `Date` of JavaScript can be (ECMA-262, 21.4.1.1)."""
Millis: TypeAlias = Annotated[int, Meta(ge=0, le=LAST_MS)]
Whole: TypeAlias = Annotated[int, Meta(ge=-(2**53), le=2**53)]
Amount: TypeAlias = Whole | float
Name: TypeAlias = Annotated[str, Meta(max_length=1000)]
Title: TypeAlias = Annotated[str, Meta(max_length=500)]
Text: TypeAlias = Annotated[str, Meta(max_length=4 * MIB)]
SystemPrompt: TypeAlias = Annotated[str, Meta(max_length=256 * KIB)]
State: TypeAlias = Literal["open", "done", "stopped", "failed", "interrupted"]

MAX_MESSAGES = 5000
"""Messages in one request."""
MAX_FILES = 200
"""Files of one message."""


class FileRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """A file of a message, without its content. `size` is in bytes."""

    id: RecordId
    name: Name
    type: Name
    size: Annotated[int, Meta(ge=0, le=2**53)]
    kind: Annotated[str, Meta(max_length=32)] = "other"
    conversation: RecordId | UnsetType = UNSET
    extra: dict[str, Any] | UnsetType = UNSET


def is_read_document(files: Sequence[FileRecord], at: int) -> bool:
    """Return True for a document that stands before its text, which is shown and sent instead.

    The page does the same (`isRead` in `state/records.js`).
    """
    file, after = files[at], files[at + 1 : at + 2]
    marked = isinstance(file.extra, dict) and file.extra.get("source") is True
    return marked and any(text.kind == "text" and text.name == file.name for text in after)


Files: TypeAlias = Annotated[tuple[FileRecord, ...], Meta(max_length=MAX_FILES)]


class ChatDraft(Struct, frozen=True, forbid_unknown_fields=True):
    """What is typed and not sent."""

    text: Text = ""
    files: Files = ()


class AnswerFailure(Struct, frozen=True, forbid_unknown_fields=True):
    """Why an answer failed. `retry_after` is in seconds."""

    message: Annotated[str, Meta(max_length=10_000)] = ""
    code: Name = field(default="")
    status: Whole = 0
    retry_after: Amount | None = field(default=None, name="retryAfter")


class AnswerStats(Struct, frozen=True, forbid_unknown_fields=True):
    """What an answer used: tokens, micro-dollars, seconds, tokens per second; null: unknown."""

    prompt: Amount | None = None
    completion: Amount | None = None
    reasoning: Amount | None = None
    estimated: bool = False
    cost: Amount | None = None
    ttft: Amount | None = None
    duration: Amount | None = None
    queued: Amount | None = None
    speed: Amount | None = None


class QuestionRecord(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="user", kw_only=True
):
    """What a person has asked. `base` is the version that a change was made from."""

    id: RecordId
    conversation: RecordId | UnsetType = UNSET
    parent: RecordId | None = None
    text: Text
    files: Files = ()
    created: Millis
    extra: dict[str, Any] | UnsetType = UNSET
    version: Whole = 0
    base: Whole | UnsetType = UNSET


class AnswerRecord(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="assistant", kw_only=True
):
    """What a model has answered. `seq` is how many events of the job were read.

    `job` is the gateway's id of the request. `edited`: a person has changed the text. `base` is the
    version that a change was made from.
    """

    id: RecordId
    conversation: RecordId | UnsetType = UNSET
    parent: RecordId | None = None
    job: Annotated[str, Meta(max_length=200)] = ""
    model: Name = ""
    text: Text
    reasoning: Text = ""
    created: Millis
    seq: Annotated[int, Meta(ge=0, le=2**53)] = 0
    state: State
    accepted: bool = False
    error: AnswerFailure | None = None
    finish: Name | None = None
    thinking_ms: Amount | None = field(default=None, name="thinkingMs")
    stats: AnswerStats | None = None
    edited: bool | UnsetType = UNSET
    extra: dict[str, Any] | UnsetType = UNSET
    version: Whole = 0
    base: Whole | UnsetType = UNSET


MessageRecord: TypeAlias = QuestionRecord | AnswerRecord


class ConversationDetails(Struct, frozen=True):
    """What the list of conversations does not need.

    `choices`: which child of a message is shown, by the message's id.
    """

    system: str = ""
    parameters: dict[str, Any] = {}
    choices: dict[str, str] = {}
    draft: ChatDraft | None = None
    draft_version: int = 0
    extra: dict[str, Any] = {}


class ListedConversation(Struct, frozen=True, kw_only=True):
    """What the list of conversations and a whole one have in common. Times are in milliseconds."""

    id: str
    title: str
    created: int
    updated: int
    pinned: bool
    model: str
    deleted: int | None
    version: int


class ConversationRecord(ListedConversation, frozen=True, kw_only=True):
    """A conversation without its messages."""

    system: str
    parameters: dict[str, Any]
    choices: dict[str, str]
    draft: ChatDraft | None
    draft_version: int
    extra: dict[str, Any]


class ConversationSummary(ListedConversation, frozen=True, kw_only=True):
    """A conversation as the list shows it. `answering`: an answer is being written."""

    answering: bool


class ConversationSet(Struct, frozen=True, forbid_unknown_fields=True):
    """Members to set, of which the last write counts; `choices` and `extra` are merged."""

    title: Title | UnsetType = UNSET
    pinned: bool | UnsetType = UNSET
    model: Name | UnsetType = UNSET
    system: SystemPrompt | UnsetType = UNSET
    parameters: dict[str, Any] | UnsetType = UNSET
    choices: dict[RecordId, RecordId | None] | UnsetType = UNSET
    deleted: Millis | UnsetType | None = UNSET
    created: Millis | UnsetType = UNSET
    updated: Millis | UnsetType = UNSET
    extra: dict[str, Any] | UnsetType = UNSET


class ConversationTexts(Struct, frozen=True, forbid_unknown_fields=True):
    """The texts of a conversation that a person types: those that a change was made from."""

    title: Title | UnsetType = UNSET
    system: SystemPrompt | UnsetType = UNSET


class MessageRemoval(Struct, frozen=True, forbid_unknown_fields=True):
    """A message to remove, as the person saw it: of version `base`, read to event `seq`.

    What has changed since is not removed. Without `base` the message is removed as it is.
    """

    id: RecordId
    base: Whole | UnsetType = UNSET
    seq: Annotated[int, Meta(ge=0, le=2**53)] = 0


class ConversationChange(Struct, frozen=True, forbid_unknown_fields=True):
    """A change of one conversation: members, draft, messages to write and messages to remove.

    `set_base` has the title and the system prompt that those to set were made from; without it the
    last write counts. `draft_base` is the `draft_version` that the draft was made from.
    `deleted_base` is the `version` at which the person deleted the conversation: one that has
    changed since is not deleted. An id in `remove` removes the message as it is.
    """

    set: ConversationSet = ConversationSet()
    set_base: ConversationTexts = ConversationTexts()
    draft: ChatDraft | UnsetType | None = UNSET
    draft_base: Whole | UnsetType = UNSET
    deleted_base: Whole | UnsetType = UNSET
    messages: Annotated[tuple[MessageRecord, ...], Meta(max_length=MAX_MESSAGES)] = ()
    remove: Annotated[tuple[RecordId | MessageRemoval, ...], Meta(max_length=MAX_MESSAGES)] = ()


class ConversationSaved(Struct, frozen=True):
    """The state after a change.

    `written`: False if nothing of it was new, so that `cursor` is that of other changes.
    `conflicts`: stored messages that differ from what was sent, which was not written: keep the
    sent text under a new id. `set_conflicts`: the stored title or system prompt, where the sent one
    was made from another and was not written. `newer`: stored messages to take over, since they
    know more than what was sent, have another place, or have changed since they were to be removed.
    `removed`: sent messages that were removed meanwhile, and not written. `draft_conflict`: the
    stored draft, when the sent one was made from another.
    """

    conversation: ConversationRecord
    versions: dict[str, int]
    cursor: int
    written: bool
    conflicts: list[MessageRecord]
    set_conflicts: ConversationTexts
    newer: list[MessageRecord]
    removed: list[str]
    draft_conflict: ChatDraft | None


class WholeConversation(Struct, frozen=True):
    """A conversation with its messages, by their time."""

    conversation: ConversationRecord
    messages: list[MessageRecord]
    cursor: int


class OpenConversation(Struct, frozen=True):
    """What has changed in the conversation that a page shows."""

    conversation: ConversationRecord
    messages: list[MessageRecord]
    removed: list[str]


class HistorySettings(Struct, frozen=True):
    """The settings of a person: any JSON object."""

    value: dict[str, Any]
    version: int


class HistoryChanges(Struct, frozen=True):
    """What has changed since a cursor. `more`: ask again at once, with the new cursor.

    `reset`: forget what is known of other conversations, this is the whole list.
    """

    cursor: int
    more: bool
    reset: bool
    conversations: list[ConversationSummary]
    erased: list[str]
    open: OpenConversation | None
    settings: HistorySettings | None
    used_bytes: int
    quota_bytes: int


class StoredFile(Struct, frozen=True):
    """A file with its content."""

    name: str
    type: str
    content: bytes


class ErasedHistory(Struct, frozen=True):
    """How many conversations were erased."""

    erased: int


class SearchHit(Struct, frozen=True):
    """A place where the words were found.

    `message` is null for a title or a system prompt. `file` is the name of the file whose name or
    text has the words. `matches` are the places of words in the excerpt, in UTF-16 units, end
    excluded; `match` is the first of them.
    """

    conversation: str
    title: str
    message: str | None
    role: Literal["user", "assistant"] | None
    where: Literal["title", "text", "system", "file"]
    file: str | None
    excerpt: str
    match: tuple[int, int]
    matches: list[tuple[int, int]]
    updated: int


class SearchResult(Struct, frozen=True):
    """Hits, newest conversation first. `partial`: there may be more."""

    data: list[SearchHit]
    partial: bool


class ShareLink(Struct, frozen=True):
    """A read-only link. `message` null: to the whole conversation. `token` is the secret in it."""

    id: str
    token: str
    title: str
    created: int
    conversation: str
    message: str | None


class SharedFile(Struct, frozen=True):
    """A file of a shared message; only pictures can be opened."""

    id: str
    name: str
    size: int
    picture: bool


class SharedMessage(Struct, frozen=True):
    """A message as a link shows it."""

    role: Literal["user", "assistant"]
    text: str
    created: int
    model: str = ""
    files: list[SharedFile] = []


class SharedSnapshot(Struct, frozen=True):
    """What a link shows: the messages as they were at `created`."""

    title: str
    created: int
    messages: list[SharedMessage]
