"""Put files of the chat history into a chat request that names them.

A picture that is in the history need not be sent again with every turn of its conversation: in
place of its data URL the request has `roxy-file:ID`.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable, Iterator
from weakref import WeakValueDictionary

from msgspec import Raw, json

from server.history.chat_history import ChatHistory
from server.history.history_records import StoredFile
from workers.errors import InvalidRequest
from workers.request.json_body import read_object

SCHEME = b'"roxy-file:'
MAX_FILES = 500
"""Most files that a request may name."""
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_MEMBERS_BEFORE = rb"\s*+(?:%b\s*+:\s*+(?:%b|[^\s{}\[\]\",]++)\s*+,\s*+)*?" % (_STRING, _STRING)
_NAMED = re.compile(
    rb'("image_url"\s*+:\s*+(?:\{%b"url"\s*+:\s*+)?|"file"\s*+:\s*+\{%b"file_data"\s*+:\s*+)'
    rb'"roxy-file:([A-Za-z0-9_-]{1,64})"' % (_MEMBERS_BEFORE, _MEMBERS_BEFORE)
)
"""A whole string in the place of a picture's or a file's data URL: in texts quotes are escaped."""
_MEDIA_TYPE = re.compile(r"[a-z0-9.+-]+/[a-z0-9.+-]+")
_PREFIX_BYTES = 40


class RequestWithFiles:
    """A chat request that names files of the history of a person, in its messages."""

    def __init__(self, body: bytes) -> None:
        """Raise InvalidRequest for a malformed body and for too many files."""
        self._members = read_object(body)
        self._messages = bytes(self._members.get("messages", b""))
        self._counts: dict[str, int] = {}
        for named in self._named():
            file_id = named[2].decode()
            self._counts[file_id] = self._counts.get(file_id, 0) + 1
        if len(self._counts) > MAX_FILES:
            raise InvalidRequest(
                f"The messages name more than {MAX_FILES} files of the chat history.",
                param="messages",
            )

    @property
    def model_id(self) -> str | None:
        """The model that is asked for; None: it is missing or no string."""
        asked = self._members.get("model")
        name = json.decode(asked) if asked is not None else None
        return name if isinstance(name, str) else None

    async def filled(
        self, history: ChatHistory, person: str, take_room: Callable[[int], None]
    ) -> bytes:
        """Return the body with a data URL in place of each name.

        `take_room` takes room for so many bytes more, before a file is read; what it raises is
        passed on. Raises NotFound for an unknown file.
        """
        for file_id, count in self._counts.items():
            size = await history.file_size(person, file_id)
            take_room(count * (size * 4 // 3 + _PREFIX_BYTES))
        urls = {
            file_id.encode(): _data_url(await history.file(person, file_id))
            for file_id in self._counts
        }
        parts: list[bytes] = []
        end = 0
        for named in self._named():
            member, name = named.groups()
            parts += [self._messages[end : named.start()], member, urls[name]]
            end = named.end()
        filled = b"".join([*parts, self._messages[end:]])
        return json.encode(self._members | {"messages": Raw(filled)} if parts else self._members)

    def _named(self) -> Iterator[re.Match[bytes]]:
        return _NAMED.finditer(self._messages)


class FillingTurns:
    """Order the requests of a person that name files: one reads them at a time.

    A burst of small requests of one person could otherwise fill the memory with large ones before
    the first of them counts.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, person: str) -> asyncio.Lock:
        """Return what a request holds from before its files are read until it has counted."""
        lock = self._locks.get(person)
        if lock is None:
            lock = self._locks[person] = asyncio.Lock()
        return lock


def _data_url(file: StoredFile) -> bytes:
    """Return a file as a JSON string, a data URL."""
    kind = file.type if _MEDIA_TYPE.fullmatch(file.type) else "application/octet-stream"
    return b'"data:%b;base64,%b"' % (kind.encode(), base64.b64encode(file.content))
