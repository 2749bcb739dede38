"""Check the URLs of pictures, recordings and files in the content parts of a message.

The upstream fetches them, and one on this machine may open `file:`. So only `https:`, `http:` and
`data:` are passed on. Checked are the members in which OpenAI, Anthropic, vLLM, Qwen and
transformers expect media, not arguments of tools, which may hold any URL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec
from msgspec import Raw

from workers.errors import InvalidRequest
from workers.request.json_body import refuse_repeated_keys
from workers.request.member_names import folded

URL_NAMES = frozenset(
    {"url", "uri", "image_url", "video_url", "audio_url", "file_url", "file_uri", "document_url"}
)
"""Members that hold a URL: a string without a scheme is refused."""
DATA_NAMES = frozenset(
    {"data", "file_data", "image", "audio", "video", "file", "document", "source"}
    | {"input_image", "input_audio", "input_video", "input_file", "bytes"}
)
"""Members that hold base64 or a URL. Base64 contains no colon (RFC 4648, section 4)."""
NESTED = frozenset({"content"})
"""The parts of a tool result or a document."""
BESIDE_CONTENT = frozenset(
    {"images", "image", "videos", "video", "audios", "audio", "files", "file", "documents"}
    | {"attachments", "media", *URL_NAMES}
)
"""Members of a message, beside its content, in which some servers take media: Ollama's `images`."""
MAX_LEVELS = 8
"""Objects and lists inside a part: each level of media is scanned once more."""

_START_BYTES = 2048
_ALLOWED = re.compile(r"(?:https?:|data:[^,]{0,1024},)", re.IGNORECASE)
_IGNORED = "".join(map(chr, range(33)))
"""URL parsers strip C0 controls and spaces at the start (WHATWG URL, section 4.4)."""
_STRING, _OBJECT, _LIST = b'"{['
_OBJECTS = msgspec.json.Decoder(dict[str, Raw])
_LISTS = msgspec.json.Decoder(list[Raw])


def check_urls(parts: Iterable[dict[str, Raw]], path: str) -> None:
    """Raise InvalidRequest, with the path of the field, for a URL that must not be passed on.

    `parts` are the members of each content part, `path` the place of their list.
    """
    for index, members in enumerate(parts):
        _check_members(members, f"{path}[{index}]", 1)


def media_beside_content(name: str, value: Raw, path: str) -> list[Raw]:
    """Check a member of a message that may hold media, and return the media in it.

    Raises InvalidRequest as `check_urls` does.
    """
    plain = folded(name)
    if plain not in BESIDE_CONTENT or memoryview(value)[0] not in (_STRING, _OBJECT, _LIST):
        return []
    _check(plain if plain in URL_NAMES else "data", value, path, 0)
    return _LISTS.decode(value) if memoryview(value)[0] == _LIST else [value]


def _check(name: str, value: Raw, path: str, level: int) -> None:
    kind = memoryview(value)[0]
    if kind == _STRING:
        if (name in URL_NAMES or name in DATA_NAMES) and not _may_pass(name, _start_of(value)):
            raise InvalidRequest(
                f"Invalid value for '{path}'. It must be an https, http or data URL"
                f"{'' if name in URL_NAMES else ', or base64'}.",
                param=path,
            )
    elif kind in (_OBJECT, _LIST) and level > MAX_LEVELS:
        raise InvalidRequest(f"'{path}' is nested too deeply. Send flatter parts.", param=path)
    elif kind == _LIST:
        for index, item in enumerate(_LISTS.decode(value)):
            _check(name, item, f"{path}[{index}]", level + 1)
    elif kind == _OBJECT:
        members = _OBJECTS.decode(value)
        refuse_repeated_keys(value, members, f"{path}.")
        _check_members(members, path, level)


def _check_members(members: dict[str, Raw], path: str, level: int) -> None:
    is_text = bytes(members.get("type", b"")) == b'"text"'
    for member, inner in members.items():
        plain = folded(member)
        if plain == "data" and is_text:
            continue  # the plain text of a document (Anthropic, "PDF support")
        if plain in URL_NAMES or plain in DATA_NAMES or plain in NESTED:
            _check(plain, inner, f"{path}.{member}", level + 1)


def _may_pass(name: str, start: str) -> bool:
    """Return whether a string that begins so may be passed on as the value of `name`."""
    start = start.lstrip(_IGNORED)
    if _ALLOWED.match(start):
        return True
    return name in DATA_NAMES and ":" not in start


def _start_of(value: Raw) -> str:
    """Return the start of a JSON string, unescaped, without a copy of megabytes of base64."""
    start = bytes(memoryview(value)[1:_START_BYTES])
    if len(value) > _START_BYTES and b"\\" not in start:
        return start.decode(errors="ignore")
    text: str = msgspec.json.decode(value)
    return text[:_START_BYTES]
