"""The chat history in a database: each call runs its steps in one transaction.

Subclasses run them on their connections: SQLite in threads, PostgreSQL over the network.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from abc import ABC, abstractmethod
from typing import TypeVar

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
from server.history.steps import (
    changing_steps,
    erasing_steps,
    file_steps,
    message_steps,
    reading_steps,
    search_steps,
    settings_steps,
    share_steps,
)
from server.history.steps.sql_steps import Steps
from workers.errors import NotFound

Result = TypeVar("Result")

SEARCH_S = 1.5
"""The longest search; what was found until then is returned."""
TOKEN_BYTES = 24
"""192 bits: a link cannot be guessed."""
LONG_CHARS = 64_000
"""Texts of more characters are folded in a thread."""


class StepHistory(ABC):
    """A `ChatHistory` that runs steps."""

    @abstractmethod
    async def read(self, steps: Steps[Result]) -> Result:
        """Run steps that only read, all on the same state. Raises StoreUnavailable."""

    @abstractmethod
    async def scan(self, steps: Steps[Result]) -> Result:
        """Run steps that read for longer; `read` does not wait for them."""

    @abstractmethod
    async def write(self, steps: Steps[Result]) -> Result:
        """Run steps and commit them, or nothing of them. Raises StoreUnavailable."""

    @abstractmethod
    async def wipe(self) -> None:
        """Remove what was erased from the files of the database, as far as it can be done."""

    async def changes(
        self, person: str, since: int, opened: str | None, limit: int
    ) -> HistoryChanges:
        """Read what has changed after a cursor; see the protocol."""
        return await self.read(reading_steps.read_changes(person, since, opened, limit))

    async def conversation(self, person: str, conversation: str) -> WholeConversation:
        """Read a conversation with its messages. Raises NotFound."""
        return await self.read(reading_steps.read_conversation(person, conversation))

    async def save(
        self, person: str, conversation: str, change: ConversationChange, quota_bytes: int
    ) -> ConversationSaved:
        """Change a conversation; see the protocol."""
        long = sum(len(message.text) for message in change.messages) > LONG_CHARS
        prepare = message_steps.prepare
        prepared = await asyncio.to_thread(prepare, change) if long else prepare(change)
        return await self.write(
            changing_steps.save(person, conversation, change, prepared, quota_bytes)
        )

    async def erase(self, person: str, conversation: str, version: int | None = None) -> int:
        """Erase a conversation; see the protocol."""
        erased = await self.erase_without_wipe(person, conversation, version)
        await self.wipe()
        return erased

    async def erase_without_wipe(
        self, person: str, conversation: str, version: int | None = None
    ) -> int:
        """Erase a conversation as `erase` does; who erases many of them wipes once."""
        if version is None:
            await self._end_links(person, conversation)
        erased = await self.write(erasing_steps.erase_conversation(person, conversation, version))
        await self._end_links(person, conversation)  # also those made in between
        while await self.write(erasing_steps.drop_file(person, conversation)):
            pass
        return int(erased)

    async def _end_links(self, person: str, conversation: str) -> None:
        for link in await self.read(share_steps.find_links(person, conversation)):
            await self.write(share_steps.end_link(person, link))

    async def erase_all(self, person: str) -> int:
        """Erase all conversations and prompts of a person; see the protocol."""
        erased = 0
        for conversation in await self.read(erasing_steps.find_conversations(person)):
            erased += await self.erase_without_wipe(person, conversation)
        await self.write(settings_steps.forget_prompts(person))
        await self.wipe()
        return erased

    async def put_file(
        self, person: str, file_id: str, conversation: str, file: StoredFile, quota_bytes: int
    ) -> None:
        """Keep a file; see the protocol."""
        words = await asyncio.to_thread(file_steps.fold_file, file)
        await self.write(
            file_steps.put_file(person, file_id, conversation, file, words, quota_bytes)
        )

    async def read_old_files(self) -> None:
        """Fold the texts of files that were kept before the search knew them."""
        while found := await self.scan(file_steps.find_unread_files()):
            for person, file_id in found:
                try:
                    file = await self.file(person, file_id)
                except NotFound:  # deleted in between
                    continue
                words = await asyncio.to_thread(file_steps.fold_file, file)
                await self.write(file_steps.keep_file_words(person, file_id, words))

    async def file_size(self, person: str, file_id: str) -> int:
        """Return how many bytes a file counts in the quota. Raises NotFound."""
        return await self.read(file_steps.read_file_size(person, file_id))

    async def file(self, person: str, file_id: str) -> StoredFile:
        """Read a file. Raises NotFound."""
        return await self.scan(file_steps.read_file(person, file_id))

    async def settings(self, person: str) -> HistorySettings:
        """Read the settings of a person."""
        return await self.read(settings_steps.read_settings(person))

    async def put_settings(
        self, person: str, settings: HistorySettings
    ) -> tuple[bool, HistorySettings]:
        """Replace the settings; see the protocol."""
        return await self.write(settings_steps.put_settings(person, settings))

    async def search(self, person: str, words: list[str], limit: int) -> SearchResult:
        """Search the texts of a person; see the protocol."""
        if not words:
            return SearchResult([], partial=False)
        ends_at = time.monotonic() + SEARCH_S
        found = await self.scan(search_steps.search(person, words, limit, ends_at))
        return await asyncio.to_thread(search_steps.hits_of, found, words)

    async def share(
        self, person: str, conversation: str, message: str | None, quota_bytes: int
    ) -> ShareLink:
        """Make a link; see the protocol."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        link = ShareLink(f"s_{secrets.token_hex(8)}", token, "", 0, conversation, message)
        return await self.write(share_steps.share(person, link, quota_bytes))

    async def shares(self, person: str) -> list[ShareLink]:
        """Read the links of a person, newest first."""
        return await self.read(share_steps.list_links(person))

    async def unshare(self, person: str, link: str) -> bool:
        """End a link; see the protocol."""
        ended = await self.write(share_steps.end_link(person, link))
        if ended:
            await self.wipe()
        return ended

    async def shared(self, token: str) -> tuple[str, SharedSnapshot] | None:
        """Read what a link shows, and whose it is."""
        return await self.scan(share_steps.read_shared(token))

    async def shared_file(self, token: str, file_id: str) -> StoredFile | None:
        """Read a picture that a link shows."""
        return await self.scan(share_steps.read_shared_file(token, file_id))
