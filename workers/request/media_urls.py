"""Find the pictures, recordings and files in the content parts of a message; check their URLs.

The upstream fetches them, and one on this machine may open `file:`. So only `https:`, `http:` and
`data:` are passed on. Checked are the members in which OpenAI, Anthropic, vLLM, Qwen and
transformers expect media, not arguments of tools, which may hold any URL.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

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
    | {"image_file", "inline_data", "media"}
)
"""Members that hold base64 or a URL. Base64 contains no colon (RFC 4648, section 4)."""
NESTED = frozenset({"content"})
"""The parts of a tool result or a document."""
BESIDE_CONTENT = frozenset(
    {"images", "image", "videos", "video", "audios", "audio", "files", "file", "documents"}
    | {"attachments", "media", *URL_NAMES}
)
"""Members of a message, beside its content, in which some servers take media: Ollama's `images`."""
FILE_IDS = frozenset({"file_id"})
"""Members that name a medium that the upstream has already."""
TEXT_TYPES = frozenset({"text", "thinking", "redacted_thinking", "reasoning", "search_result"})
"""Types of parts whose data and URLs are not fetched: they are text that is counted by its size."""
MAX_LEVELS = 8
"""Objects and lists inside a part: each level of media is scanned once more."""

_START_BYTES = 2048
_ALLOWED = re.compile(r"(?:https?:|data:[^,]{0,1024},)", re.IGNORECASE)
_IGNORED = "".join(map(chr, range(33)))
"""URL parsers strip C0 controls and spaces at the start (WHATWG URL, section 4.4)."""
_STRING, _OBJECT, _LIST = b'"{['
_EMPTY_STRING_BYTES = len('""')


def _squashed(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.replace("_", "") for name in names)


# Names are compared without underscores: readers of protocol buffers also know `fileUri`.
_URLS, _DATA, _NESTED = _squashed(URL_NAMES), _squashed(DATA_NAMES), _squashed(NESTED)
_BESIDE, _SOURCES = _squashed(BESIDE_CONTENT), _squashed(URL_NAMES | DATA_NAMES | FILE_IDS)
_OBJECTS = msgspec.json.Decoder(dict[str, Raw])
_LISTS = msgspec.json.Decoder(list[Raw])


class FoundMedia(NamedTuple):
    """A medium in a part: the types and names on the way to it, and its URL, data or id."""

    way: str
    source: Raw


def media_inside(members: dict[str, Raw], known: Collection[str]) -> Iterator[FoundMedia]:
    """Find the media of a part that `check_urls` has checked, but for those in `known` members."""
    others = {name: value for name, value in members.items() if name not in known}
    return _media_of(others, "")


def _media_of(members: dict[str, Raw], way: str) -> Iterator[FoundMedia]:
    kind = bytes(members.get("type", b'""')).decode().strip('"').casefold()
    if kind in TEXT_TYPES:
        return
    for member, value in members.items():
        plain = _plain(member)
        if plain in _SOURCES or plain in _NESTED:
            yield from _media_in(plain, value, f"{way} {kind} {plain}")


def _media_in(name: str, value: Raw, way: str) -> Iterator[FoundMedia]:
    kind = memoryview(value)[0]
    if kind == _STRING and name in _SOURCES and len(value) > _EMPTY_STRING_BYTES:
        yield FoundMedia(way, value)
    elif kind == _LIST:
        for item in _LISTS.decode(value):
            yield from _media_in(name, item, way)
    elif kind == _OBJECT:
        yield from _media_of(_OBJECTS.decode(value), way)


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
    plain = _plain(name)
    if plain not in _BESIDE or memoryview(value)[0] not in (_STRING, _OBJECT, _LIST):
        return []
    _check(plain if plain in _URLS else "data", value, path, 0)
    return _LISTS.decode(value) if memoryview(value)[0] == _LIST else [value]


def _check(name: str, value: Raw, path: str, level: int) -> None:
    kind = memoryview(value)[0]
    if kind == _STRING:
        if (name in _URLS or name in _DATA) and not _may_pass(name, _start_of(value)):
            raise InvalidRequest(
                f"Invalid value for '{path}'. It must be an https, http or data URL"
                f"{'' if name in _URLS else ', or base64'}.",
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
        plain = _plain(member)
        if plain == "data" and is_text:
            continue  # the plain text of a document (Anthropic, "PDF support")
        if plain in _URLS or plain in _DATA or plain in _NESTED:
            _check(plain, inner, f"{path}.{member}", level + 1)


def _may_pass(name: str, start: str) -> bool:
    """Return whether a string that begins so may be passed on as the value of `name`."""
    start = start.lstrip(_IGNORED)
    if _ALLOWED.match(start):
        return True
    return name in _DATA and ":" not in start


def _plain(name: str) -> str:
    return folded(name).replace("_", "")


def _start_of(value: Raw) -> str:
    """Return the start of a JSON string, unescaped, without a copy of megabytes of base64."""
    start = bytes(memoryview(value)[1:_START_BYTES])
    if len(value) > _START_BYTES and b"\\" not in start:
        return start.decode(errors="ignore")
    text: str = msgspec.json.decode(value)
    return text[:_START_BYTES]
