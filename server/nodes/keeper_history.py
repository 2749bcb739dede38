"""The chat history of the keeper, as a child uses it; see `server.history.chat_history`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from server.history.chat_history import ChatHistory
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
from server.nodes.link import Link
from server.nodes.procedure import Procedure, Service, procedure

Named: TypeAlias = tuple[str, str]
"""A person, and an id of something of theirs."""
Since: TypeAlias = tuple[str, int, str | None, int]
Erasing: TypeAlias = tuple[str, str, int | None]
Saving: TypeAlias = tuple[str, str, ConversationChange, int]
Filing: TypeAlias = tuple[str, str, str, StoredFile, int]
Setting: TypeAlias = tuple[str, HistorySettings]
Seeking: TypeAlias = tuple[str, list[str], int]
Sharing: TypeAlias = tuple[str, str, str | None, int]

CHANGES: Procedure[Since, HistoryChanges] = procedure("history_changes", Since, HistoryChanges)
CONVERSATION: Procedure[Named, WholeConversation] = procedure(
    "history_conversation", Named, WholeConversation
)
SAVE: Procedure[Saving, ConversationSaved] = procedure("history_save", Saving, ConversationSaved)
ERASE: Procedure[Erasing, int] = procedure("history_erase", Erasing, int)
ERASE_ALL: Procedure[str, int] = procedure("history_erase_all", str, int)
PUT_FILE: Procedure[Filing, None] = procedure("history_put_file", Filing)
FILE_SIZE: Procedure[Named, int] = procedure("history_file_size", Named, int)
FILE: Procedure[Named, StoredFile] = procedure("history_file", Named, StoredFile)
SETTINGS: Procedure[str, HistorySettings] = procedure("history_settings", str, HistorySettings)
PUT_SETTINGS: Procedure[Setting, tuple[bool, HistorySettings]] = procedure(
    "history_put_settings", Setting, tuple[bool, HistorySettings]
)
SEARCH: Procedure[Seeking, SearchResult] = procedure("history_search", Seeking, SearchResult)

SHARE: Procedure[Sharing, ShareLink] = procedure("history_share", Sharing, ShareLink)
SHARES: Procedure[str, list[ShareLink]] = procedure("history_shares", str, list[ShareLink])
UNSHARE: Procedure[Named, bool] = procedure("history_unshare", Named, bool)
SHARED: Procedure[str, tuple[str, SharedSnapshot] | None] = procedure(
    "history_shared", str, tuple[str, SharedSnapshot] | None
)
SHARED_FILE: Procedure[Named, StoredFile | None] = procedure(
    "history_shared_file", Named, StoredFile | None
)


def answer_for_history(service: Service, history: ChatHistory) -> None:
    """Answer a child at the keeper."""
    service.answer(CHANGES, _spread(history.changes))
    service.answer(CONVERSATION, _spread(history.conversation))
    service.answer(SAVE, _spread(history.save))
    service.answer(ERASE, _spread(history.erase))
    service.answer(ERASE_ALL, history.erase_all)
    service.answer(PUT_FILE, _spread(history.put_file))
    service.answer(FILE_SIZE, _spread(history.file_size))
    service.answer(FILE, _spread(history.file))
    service.answer(SETTINGS, history.settings)
    service.answer(PUT_SETTINGS, _spread(history.put_settings))
    service.answer(SEARCH, _spread(history.search))
    service.answer(SHARE, _spread(history.share))
    service.answer(SHARES, history.shares)
    service.answer(UNSHARE, _spread(history.unshare))
    service.answer(SHARED, history.shared)
    service.answer(SHARED_FILE, _spread(history.shared_file))


def _spread(function: Callable[..., Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
    """Return a function that takes the arguments as one tuple."""
    return lambda question: function(*question)


class KeeperHistory:
    """Pass every call on to the keeper."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def changes(
        self, person: str, since: int, opened: str | None, limit: int
    ) -> HistoryChanges:
        """Read what has changed after a cursor."""
        return await self._link.call(CHANGES, (person, since, opened, limit))

    async def conversation(self, person: str, conversation: str) -> WholeConversation:
        """Read a conversation with its messages."""
        return await self._link.call(CONVERSATION, (person, conversation))

    async def save(
        self, person: str, conversation: str, change: ConversationChange, quota_bytes: int
    ) -> ConversationSaved:
        """Change a conversation, or create it."""
        return await self._link.call(SAVE, (person, conversation, change, quota_bytes))

    async def erase(self, person: str, conversation: str, version: int | None = None) -> int:
        """Erase a conversation with its messages, files and links."""
        return await self._link.call(ERASE, (person, conversation, version))

    async def erase_all(self, person: str) -> int:
        """Erase all conversations, files and links of a person."""
        return await self._link.call(ERASE_ALL, person)

    async def put_file(
        self, person: str, file_id: str, conversation: str, file: StoredFile, quota_bytes: int
    ) -> None:
        """Keep a file, or replace it."""
        await self._link.call(PUT_FILE, (person, file_id, conversation, file, quota_bytes))

    async def file_size(self, person: str, file_id: str) -> int:
        """Return how many bytes a file counts in the quota."""
        return await self._link.call(FILE_SIZE, (person, file_id))

    async def file(self, person: str, file_id: str) -> StoredFile:
        """Read a file."""
        return await self._link.call(FILE, (person, file_id))

    async def settings(self, person: str) -> HistorySettings:
        """Read the settings of a person."""
        return await self._link.call(SETTINGS, person)

    async def put_settings(
        self, person: str, settings: HistorySettings
    ) -> tuple[bool, HistorySettings]:
        """Replace the settings of this version."""
        return await self._link.call(PUT_SETTINGS, (person, settings))

    async def search(self, person: str, words: list[str], limit: int) -> SearchResult:
        """Find the texts in which every word occurs."""
        return await self._link.call(SEARCH, (person, words, limit))

    async def share(
        self, person: str, conversation: str, message: str | None, quota_bytes: int
    ) -> ShareLink:
        """Make a link."""
        return await self._link.call(SHARE, (person, conversation, message, quota_bytes))

    async def shares(self, person: str) -> list[ShareLink]:
        """Read the links of a person."""
        return await self._link.call(SHARES, person)

    async def unshare(self, person: str, link: str) -> bool:
        """End a link."""
        return await self._link.call(UNSHARE, (person, link))

    async def shared(self, token: str) -> tuple[str, SharedSnapshot] | None:
        """Read what a link shows."""
        return await self._link.call(SHARED, token)

    async def shared_file(self, token: str, file_id: str) -> StoredFile | None:
        """Read a picture that a link shows."""
        return await self._link.call(SHARED_FILE, (token, file_id))
