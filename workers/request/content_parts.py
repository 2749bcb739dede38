"""The content parts of a message: their check, and how large their media are.

Tokens of media are estimated for the limits, and bounded for budgets: the gateway decodes none. The
media in other members of a message are measured here as well (`max_tokens_beside`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Raw, Struct

from workers.request.history import URL_PARTS
from workers.request.json_body import read_objects
from workers.request.media_urls import check_urls, media_inside
from workers.request.schema_errors import missing_field, schema_error, wrong_value

MEDIA_TOKENS = 1000
"""Estimated tokens of a picture, and of any other medium with more than 4096 characters."""

MAX_PICTURE_TOKENS = 8192
"""A ceiling for the price of one picture: Anthropic counts up to 4,784 tokens, Gemini 258 a tile of
768 pixels. Only models that charge extra for pictures, such as gpt-4o-mini, exceed it."""
MAX_FILE_TOKENS = 2**40
"""The bound of a film or file, which is therefore the context window: upstreams count tokens by the
frame and by the page, Gemini 258, and both can have few bytes."""

_LONG_MEDIA_BYTES = 4096
_MEDIA_TYPE_BYTES = 256
"""Where the media type of a data URL must have ended."""
_TEXT_PART_BYTES = len('{"type":"text","text":},')
"""The size of a text part beside its text, in compact JSON: a list of only such needs no check."""
_OF_TEXT = frozenset({"type", "text", "cache_control"})
_KNOWN = frozenset({"image_url", "video_url", "audio_url", "input_audio", "file"})
"""The members whose media `_sources` returns."""
_NULL = Raw(b"null")
_STRING = b'"'[0]


class _ImageUrl(Struct, gc=False):
    url: Raw
    detail: str | None = None


class _Data(Struct, gc=False):
    data: Raw = _NULL
    file_data: Raw = _NULL


class _Part(Struct, gc=False):
    type: Annotated[str, Meta(min_length=1)]
    text: Raw = _NULL
    image_url: _ImageUrl | str | None = None
    video_url: _ImageUrl | str | None = None
    audio_url: _ImageUrl | str | None = None
    input_audio: _Data | None = None
    file: _Data | None = None


class Media(NamedTuple):
    """The pictures, recordings and files of a request: their size, and their estimated tokens.

    `max_tokens` is an upper bound of their tokens, with `MAX_PICTURE_TOKENS` for each of the
    `pictures`. `largest_bytes` is the size of the largest one, decoded from base64.
    """

    size_bytes: int = 0
    tokens: int = 0
    max_tokens: int = 0
    largest_bytes: int = 0
    pictures: int = 0

    def with_one(self, source: Raw, max_tokens: int) -> Media:
        """Return the same with another medium: the string that holds it or its URL."""
        return Media(
            self.size_bytes + len(source),
            self.tokens + MEDIA_TOKENS,
            self.max_tokens + max_tokens,
            max(self.largest_bytes, _decoded_bytes(source)),
            # A recording with exactly this bound counts as one too, which errs on the safe side.
            self.pictures + (max_tokens == MAX_PICTURE_TOKENS),
        )


NO_MEDIA = Media()
_PARTS = msgspec.json.Decoder(list[_Part])


def check_parts(content: Raw, path: str, media: Media) -> tuple[Media, bool]:
    """Check one list of content parts; return `media` with theirs added.

    Also whether a part holds a URL where OpenAI's API has an object with it.
    """
    try:
        parts = _PARTS.decode(content)
    except msgspec.ValidationError as error:
        raise schema_error(error, path) from error
    has_string = _with_url_objects(parts)
    for index, part in enumerate(parts):
        _check_part(part, f"{path}[{index}]")
        for source in _sources(part):
            if part.image_url is not None or len(source) > _LONG_MEDIA_BYTES:
                media = media.with_one(source, _max_tokens(part, source))
        if _is_file(part):
            media = media._replace(max_tokens=media.max_tokens + MAX_FILE_TOKENS)
    if not _is_plain_text(parts, content):
        objects = read_objects(content, path)
        if not all(map(_OF_TEXT.issuperset, objects)):
            check_urls(objects, path)
            for members in objects:
                media = _with_others(media, members)
    return media, has_string


def _with_others(media: Media, members: dict[str, Raw]) -> Media:
    """Add the media of a part that are not in the members of OpenAI's API and vLLM's."""
    for way, source in media_inside(members, _KNOWN):
        tokens = _max_tokens_on(way, source)
        if tokens == MAX_PICTURE_TOKENS or len(source) > _LONG_MEDIA_BYTES:
            media = media.with_one(source, tokens)
        else:
            media = media._replace(max_tokens=media.max_tokens + tokens)
    return media


def _max_tokens_on(way: str, source: Raw) -> int:
    """Return the maximum tokens of a medium by the types and names on the way to it.

    What is no picture and no recording that is sent itself may have any length.
    """
    is_data = _holds_data(source)
    if "image" in way and "document" not in way and "video" not in way:
        return MAX_FILE_TOKENS if _is_other_data(source) else MAX_PICTURE_TOKENS
    if "audio" in way and is_data and "id" not in way.rpartition(" ")[2]:
        return len(source)
    return MAX_FILE_TOKENS


def max_tokens_beside(kind: str, source: Raw) -> int:
    """Return the maximum tokens of a medium in a member beside the content."""
    if kind.startswith("image"):
        return MAX_PICTURE_TOKENS
    return len(source) if kind.startswith("audio") and _holds_data(source) else MAX_FILE_TOKENS


def _holds_data(source: Raw) -> bool:
    """Return whether a string is the medium itself and not a link to it."""
    return not _start(source).startswith(b"http") and memoryview(source)[0] == _STRING


def _is_plain_text(parts: list[_Part], content: Raw) -> bool:
    """Return whether nothing but the type and text of text parts is in the list."""
    if any(part.type != "text" for part in parts):
        return False
    return len(content) == len(parts) * _TEXT_PART_BYTES + 1 + sum(len(part.text) for part in parts)


def _check_part(part: _Part, path: str) -> None:
    if part.type == "text" and memoryview(part.text)[0] != _STRING:
        raise wrong_value(f"{path}.text")
    if part.type == "image_url" and part.image_url is None:
        raise missing_field(f"{path}.image_url")
    if isinstance(part.image_url, _ImageUrl) and memoryview(part.image_url.url)[0] != _STRING:
        raise wrong_value(f"{path}.image_url.url")


def _with_url_objects(parts: list[_Part]) -> bool:
    """Write URLs that are strings as objects; return whether the request must be mended so.

    Of other types, such as `input_image`, the string is what their API has.
    """
    mendable = False
    for part in parts:
        if part.type == "text":
            continue
        for name in URL_PARTS:
            url = getattr(part, name)
            if type(url) is str:
                setattr(part, name, _ImageUrl(Raw(msgspec.json.encode(url))))
                mendable |= part.type == name
    return mendable


def _max_tokens(part: _Part, source: Raw) -> int:
    """Return the maximum tokens of a picture, or of a recording: one a byte."""
    return MAX_PICTURE_TOKENS if part.image_url is not None else len(source)


def _is_file(part: _Part) -> bool:
    """Return whether a part is a film, a file, or a recording that it does not contain.

    Some upstreams take documents as `image_url`, so the media type of a data URL decides.
    """
    image, audio, recording = part.image_url, part.audio_url, part.input_audio
    if isinstance(image, _ImageUrl) and _is_other_data(image.url):
        return True
    if isinstance(audio, _ImageUrl) and not _start(audio.url).startswith(b"data:"):
        return True
    if recording is not None and not _holds_data(recording.data):
        return True
    return part.video_url is not None or part.file is not None


def _is_other_data(source: Raw) -> bool:
    """Return whether a data URL holds something else than a picture."""
    start = _start(source)
    return start.startswith(b"data:") and not start.startswith(b"data:image/")


def _start(source: Raw) -> bytes:
    return bytes(memoryview(source)[1:12]).lower()


def _decoded_bytes(source: Raw) -> int:
    """Return the decoded size of a string of base64, in a data URL or by itself."""
    text = memoryview(source)[1:-1]
    begin = bytes(text[:_MEDIA_TYPE_BYTES]).find(b",") + 1
    return (len(text) - begin) * 3 // 4 - bytes(text[-2:]).count(b"=")


def _sources(part: _Part) -> Iterator[Raw]:
    for holder in (part.image_url, part.video_url, part.audio_url):
        if isinstance(holder, _ImageUrl):
            yield holder.url
    for data in (part.input_audio, part.file):
        if data is not None:
            yield from (data.data, data.file_data)
