"""Put files of the chat history into a chat request that names them.

A picture that is in the history need not be sent again with every turn of its conversation: in
place of its data URL the request has `roxy-file:ID`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable

import msgspec

from server.history.history_records import StoredFile
from workers.request.json_body import read_object

SCHEME = b'"roxy-file:'
_NAMED = re.compile(
    rb'("image_url"\s*:\s*(?:\{(?:[^{}]*,)?\s*"url"\s*:\s*)?|'
    rb'"file"\s*:\s*\{(?:[^{}]*,)?\s*"file_data"\s*:\s*)'
    rb'"roxy-file:([A-Za-z0-9_-]{1,64})"'
)
"""A whole string in the place of a picture's or a file's data URL: in texts quotes are escaped."""
_MEDIA_TYPE = re.compile(r"[a-z0-9.+-]+/[a-z0-9.+-]+")


async def with_stored_files(
    body: bytes,
    read: Callable[[str], Awaitable[StoredFile]],
    take_room: Callable[[int], None],
) -> bytes:
    """Return the body of a chat request with a data URL in place of each `roxy-file:ID`.

    Only the messages may name files. `read` returns the file with an id and `take_room` takes room
    for so many bytes more; what they raise is passed on, and InvalidRequest for a malformed body.
    """
    members = read_object(body)
    messages = members.get("messages")
    if messages is None:
        return body
    filled = await _filled(bytes(messages), read, take_room)
    return msgspec.json.encode(members | {"messages": msgspec.Raw(filled)})


async def _filled(
    messages: bytes,
    read: Callable[[str], Awaitable[StoredFile]],
    take_room: Callable[[int], None],
) -> bytes:
    parts: list[bytes] = []
    urls: dict[bytes, bytes] = {}
    end = 0
    for named in _NAMED.finditer(messages):
        member, file_id = named.groups()
        if file_id not in urls:
            urls[file_id] = _data_url(await read(file_id.decode()))
        take_room(len(urls[file_id]))
        parts += [messages[end : named.start()], member, urls[file_id]]
        end = named.end()
    return b"".join([*parts, messages[end:]])


def _data_url(file: StoredFile) -> bytes:
    """Return a file as a JSON string, a data URL."""
    kind = file.type if _MEDIA_TYPE.fullmatch(file.type) else "application/octet-stream"
    return b'"data:%b;base64,%b"' % (kind.encode(), base64.b64encode(file.content))
