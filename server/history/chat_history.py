"""The protocol of the chat history: conversations, files, settings and links of one person each.

`person` is "owner" or a key's id: no call can see or change what belongs to another person. A call
that fails raises StoreUnavailable and has changed nothing.
"""

from __future__ import annotations

from typing import Protocol

from server.history.history_records import (
    ConversationChange,
    ConversationSaved,
    HistoryChanges,
    HistorySettings,
    SearchResult,
    SharedSnapshot,
    ShareLink,
    StoredFile,
    WholeConversation,
)


class ChatHistory(Protocol):
    """Keep the chat history. `quota_bytes` is the most that one person may take.

    Each person has a counter of writes; a cursor is a value of it.
    """

    async def changes(
        self, person: str, since: int, opened: str | None, limit: int
    ) -> HistoryChanges:
        """Read what has changed after a cursor; `opened`: messages of this conversation, too.

        `quota_bytes` of the result is 0; the caller sets it.
        """

    async def conversation(self, person: str, conversation: str) -> WholeConversation:
        """Read a conversation with its messages. Raises NotFound."""

    async def save(
        self, person: str, conversation: str, change: ConversationChange, quota_bytes: int
    ) -> ConversationSaved:
        """Change a conversation, or create it.

        Raises ConversationErased, HistoryFull, and InvalidRequest for a message below itself.
        """

    async def erase(self, person: str, conversation: str, version: int | None = None) -> int:
        """Erase a conversation with its messages, files and links; return how many there were.

        Raises ConversationChanged for another version than the one that is named.
        """

    async def erase_all(self, person: str) -> int:
        """Erase all conversations, files and links; return how many conversations."""

    async def put_file(
        self, person: str, file_id: str, conversation: str, file: StoredFile, quota_bytes: int
    ) -> None:
        """Keep a file, or replace it.

        Raises ConversationErased, HistoryFull, and InvalidRequest for a file that another
        conversation names.
        """

    async def file_size(self, person: str, file_id: str) -> int:
        """Return how many bytes a file counts in the quota, its name included. Raises NotFound."""

    async def file(self, person: str, file_id: str) -> StoredFile:
        """Read a file. Raises NotFound."""

    async def settings(self, person: str) -> HistorySettings:
        """Read the settings; version 0: there are none."""

    async def put_settings(
        self, person: str, settings: HistorySettings
    ) -> tuple[bool, HistorySettings]:
        """Replace the stored settings if they have this version.

        Return True with the new ones, or False with the stored ones, which have another version.
        """

    async def search(self, person: str, words: list[str], limit: int) -> SearchResult:
        """Find the texts in which every one of the folded words occurs, newest first."""

    async def share(
        self, person: str, conversation: str, message: str | None, quota_bytes: int
    ) -> ShareLink:
        """Make a link to what a conversation shows now, or to one message with its question.

        Raises NotFound and HistoryFull.
        """

    async def shares(self, person: str) -> list[ShareLink]:
        """Read the links of a person, newest first."""

    async def unshare(self, person: str, link: str) -> bool:
        """End a link; return False if there is none with this id."""

    async def shared(self, token: str) -> tuple[str, SharedSnapshot] | None:
        """Read what a link shows, and whose it is; None: it has ended or never was."""

    async def shared_file(self, token: str, file_id: str) -> StoredFile | None:
        """Read a picture that a link shows; None: there is none."""
