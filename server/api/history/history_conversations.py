"""Handle `history/conversations/{id}`: read, change and erase one conversation."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from server.api.history.history_base import HistoryHandler, check_object
from server.history.history_records import (
    ChatDraft,
    ConversationChange,
    ErasedHistory,
    FileRecord,
    QuestionRecord,
)
from server.http.query import read_number, refuse_unknown
from workers.units import MIB

CONVERSATION_CHANGE = msgspec.json.Decoder(ConversationChange)
MAX_CHANGE_BYTES = 8 * MIB
MAX_VERSION = 2**53


class ConversationHandler(HistoryHandler):
    """One conversation of the caller."""

    body_limit = MAX_CHANGE_BYTES

    async def get(self, conversation: str) -> None:
        """Return the conversation with its messages, oldest first."""
        conversation = self.read_id(conversation, "id")
        self.reply_json(await self.services.history.conversation(self.person, conversation))

    async def post(self, conversation: str) -> None:
        """Change the conversation, or create it.

        What another device has changed meanwhile is neither overwritten nor removed: it is in
        `conflicts`, `newer` and `draft_conflict`.
        """
        conversation = self.read_id(conversation, "id")
        change = self.read_body(CONVERSATION_CHANGE)
        _check(change)
        saved = await self.services.history.save(
            self.person, conversation, change, self.rules.quota_bytes
        )
        self.reply_json(saved)

    async def delete(self, conversation: str) -> None:
        """Erase the conversation for good, with its files and links.

        With `version` only if the conversation still has that version, else 409.
        """
        refuse_unknown(self.request.query_arguments, ("version",))
        conversation = self.read_id(conversation, "id")
        version = read_number("version", self.get_query_argument("version", None), MAX_VERSION)
        erased = await self.services.history.erase(self.person, conversation, version)
        self.reply_json(ErasedHistory(erased))


def _check(change: ConversationChange) -> None:
    """Check the objects of any form. Raises InvalidRequest."""
    check_object(change.set.parameters, "set.parameters")
    check_object(change.set.extra, "set.extra")
    for index, message in enumerate(change.messages):
        check_object(message.extra, f"messages[{index}].extra")
        if isinstance(message, QuestionRecord):
            _check_files(message.files, f"messages[{index}]")
    if isinstance(change.draft, ChatDraft):
        _check_files(change.draft.files, "draft")


def _check_files(files: Sequence[FileRecord], param: str) -> None:
    for place, file in enumerate(files):
        check_object(file.extra, f"{param}.files[{place}].extra")
