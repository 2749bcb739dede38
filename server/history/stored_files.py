"""Put files of the chat history into a chat request that names them.

A picture that is in the history need not be sent again with every turn of its conversation: in
place of its data URL the request has `roxy-file:ID`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable

from server.history.history_records import StoredFile

_NAMED = re.compile(rb'("(?:url|file_data)"[ \t\n\r]*:[ \t\n\r]*)"roxy-file:([A-Za-z0-9_-]{1,64})"')
"""A whole JSON string as the value of one of two members: quotes in texts are escaped."""
_MEDIA_TYPE = re.compile(r"[a-z0-9.+-]+/[a-z0-9.+-]+")


async def with_stored_files(
    body: bytes,
    read: Callable[[str], Awaitable[StoredFile]],
    take_room: Callable[[int], None],
) -> bytes:
    """Return the body of a chat request with a data URL in place of each `roxy-file:ID`.

    `read` returns the file with an id and `take_room` takes room for so many bytes more; what they
    raise is passed on.
    """
    parts: list[bytes] = []
    urls: dict[bytes, bytes] = {}
    end = 0
    for named in _NAMED.finditer(body):
        member, file_id = named.groups()
        if file_id not in urls:
            urls[file_id] = _data_url(await read(file_id.decode()))
        take_room(len(urls[file_id]))
        parts += [body[end : named.start()], member, urls[file_id]]
        end = named.end()
    return b"".join([*parts, body[end:]]) if parts else body


def _data_url(file: StoredFile) -> bytes:
    """Return a file as a JSON string, a data URL."""
    kind = file.type if _MEDIA_TYPE.fullmatch(file.type) else "application/octet-stream"
    return b'"data:%b;base64,%b"' % (kind.encode(), base64.b64encode(file.content))
