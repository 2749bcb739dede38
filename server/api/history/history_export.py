"""Handle `history/export`: everything of a person in one file, which the web app imports."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import structs

from server.api.history.history_base import HistoryHandler
from server.history.history_records import FileRecord, QuestionRecord, WholeConversation
from server.history.steps.settings_steps import PROMPT_PREFIX
from workers.errors import NotFound

PAGE = 500
FORMAT = "roxy-conversations"
"""As `webui/static/js/chat/transfer/export.js` writes it."""
VERSION = 1
LEFT_OUT = ("draft", "draft_version", "deleted", "version")
HEADERS = {
    "Content-Type": "application/json",
    "Content-Disposition": 'attachment; filename="roxy-conversations.json"',
}


class HistoryExportHandler(HistoryHandler):
    """The whole chat history of the caller, as a file."""

    while_off = True

    async def get(self) -> None:
        """Return all conversations with their messages, branches and files, and the prompts."""
        await self.reply_in_pieces(self._pieces(), dict(HEADERS))

    async def _pieces(self) -> AsyncIterator[bytes]:
        now = datetime.now(UTC).isoformat().encode()
        head = b'{"format":"%b","version":%d,"exported":"%b","prompts":%b,"conversations":['
        settings = await self.services.history.settings(self.person)
        prompts = msgspec.json.encode(prompts_in(settings.value))
        separator = head % (FORMAT.encode(), VERSION, now, prompts)
        async for conversation in self._ids():
            try:
                whole = await self.services.history.conversation(self.person, conversation)
            except NotFound:
                continue  # it was erased meanwhile
            yield separator + _beginning(whole)
            separator = b""
            for file in _files(whole):
                content = await self._content(file)
                if content is not None:
                    yield separator + await asyncio.to_thread(_encode_file, file, content)
                    separator = b","
            yield b"]}"
            separator = b","
        yield (separator if separator.startswith(b"{") else b"") + b"]}"

    async def _ids(self) -> AsyncIterator[str]:
        cursor, more = 0, True
        while more:
            page = await self.services.history.changes(self.person, cursor, None, PAGE)
            cursor, more = page.cursor, page.more
            for one in page.conversations:
                if one.deleted is None:
                    yield one.id

    async def _content(self, file: FileRecord) -> bytes | None:
        try:
            return (await self.services.history.file(self.person, file.id)).content
        except NotFound:
            return None


def prompts_in(settings: Mapping[str, Any]) -> list[Any]:
    """Return the prompts among a person's settings: the web app keeps each as one of them."""
    return [
        value
        for name, value in settings.items()
        if name.startswith(PROMPT_PREFIX) and value is not None
    ]


def _beginning(whole: WholeConversation) -> bytes:
    """Return a conversation up to the list of its files."""
    kept = structs.asdict(whole.conversation)
    for name in LEFT_OUT:
        del kept[name]
    kept["messages"] = [
        structs.replace(message, conversation=whole.conversation.id) for message in whole.messages
    ]
    return msgspec.json.encode(kept)[:-1] + b',"files":['


def _files(whole: WholeConversation) -> list[FileRecord]:
    files = [
        file
        for message in whole.messages
        if isinstance(message, QuestionRecord)
        for file in message.files
    ]
    return list({file.id: file for file in files}.values())


def _encode_file(file: FileRecord, content: bytes) -> bytes:
    kind = file.type or "application/octet-stream"
    data = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    return msgspec.json.encode(msgspec.to_builtins(file) | {"data": data})
