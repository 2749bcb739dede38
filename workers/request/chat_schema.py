"""The schema of the chat completion request: types and ranges.

Unknown fields are ignored. `null` is allowed where OpenAI's API document allows it (optional
fields). Message content stays undecoded: only its JSON type is read, and the parts of a list.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Raw, Struct

from workers.errors import InvalidRequest
from workers.request.history import URL_PARTS
from workers.request.json_body import read_objects, refuse_repeated_keys
from workers.request.media_urls import check_urls, media_beside_content
from workers.request.member_names import refuse_lookalikes
from workers.request.schema_errors import missing_field, schema_error, wrong_value

MEDIA_TOKENS = 1000
"""Estimated tokens of a picture, and of any other medium with more than 4096 characters."""

MOST_PICTURE_TOKENS = 8192
"""A ceiling for the price of one picture: Anthropic counts up to 4,784 tokens, Gemini 258 a tile of
768 pixels. Only models that charge extra for pictures, such as gpt-4o-mini, exceed it."""
MOST_FILE_TOKENS = 2**40
"""The bound of a film or file, which is therefore the context window: upstreams count tokens by the
frame and by the page, Gemini 258, and both can have few bytes."""

_LONG_MEDIA_BYTES = 4096
_NULL = Raw(b"null")
_STRING, _LIST, _NULL_KIND = b'"[n'  # how the JSON of each begins

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Cap = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
"""A limit of output tokens; llama.cpp reads -1 as no limit. Accounting needs the bounds."""
Name = Annotated[str, Meta(min_length=1)]
Object = dict[str, Raw]


class _Typed(Struct, gc=False):
    type: Name


class _Function(Struct, gc=False):
    name: Name
    description: str | None = None
    parameters: Object | None = None
    strict: bool | None = None


class _Tool(Struct, gc=False):
    type: Name
    function: _Function | None = None


class _Called(Struct, gc=False):
    name: str
    arguments: Raw = _NULL


class _ToolCall(Struct, gc=False):
    id: str | None = None
    type: str | None = None
    function: _Called | None = None


class _ImageUrl(Struct, gc=False):
    url: Raw
    detail: str | None = None


class _Data(Struct, gc=False):
    data: Raw = _NULL
    file_data: Raw = _NULL


class _Part(Struct, gc=False):
    type: Name
    text: Raw = _NULL
    image_url: _ImageUrl | str | None = None
    video_url: _ImageUrl | str | None = None
    audio_url: _ImageUrl | str | None = None
    input_audio: _Data | None = None
    file: _Data | None = None


class _System(Struct, tag_field="role", tag="system", gc=False):
    content: Raw


class _Developer(Struct, tag_field="role", tag="developer", gc=False):
    content: Raw


class _User(Struct, tag_field="role", tag="user", gc=False):
    content: Raw


class _ToolAnswer(Struct, tag_field="role", tag="tool", gc=False):
    content: Raw
    tool_call_id: str | None = None


class _Assistant(Struct, tag_field="role", tag="assistant", gc=False):
    content: Raw = _NULL
    tool_calls: list[_ToolCall] | None = None
    function_call: _Called | None = None
    refusal: str | None = None


class _FunctionAnswer(Struct, tag_field="role", tag="function", gc=False):
    name: Name
    content: Raw = _NULL


_MESSAGES = (_System, _Developer, _User, _ToolAnswer, _Assistant, _FunctionAnswer)
Message = _System | _Developer | _User | _ToolAnswer | _Assistant | _FunctionAnswer
_NULLABLE = (_Assistant, _FunctionAnswer)


class StreamOptions(Struct, gc=False):
    """The options of a streamed answer."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Chat(Struct):
    """The known fields of a chat completion request, decoded no further than needed.

    Types are checked, ranges only where accounting depends on them: which values a model takes is
    up to its upstream.
    """

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    messages: Annotated[list[Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    max_tokens: Cap | None = None
    max_completion_tokens: Cap | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: Int64 | None = None
    logit_bias: dict[str, float] | None = None
    stop: str | list[str] | None = None
    seed: Int64 | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | Object | None = None
    parallel_tool_calls: bool | None = None
    functions: list[_Function] | None = None
    function_call: str | Object | None = None
    response_format: _Typed | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    modalities: list[str] | None = None
    audio: Object | None = None
    prediction: Object | None = None
    web_search_options: Object | None = None
    metadata: Object | None = None
    store: bool | None = None
    service_tier: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


_MEDIA_TYPE_BYTES = 256
"""Where the media type of a data URL must have ended."""


class Media(NamedTuple):
    """The pictures, recordings and files of a request: their size, and their estimated tokens.

    `most_tokens` is an upper bound of their tokens. `largest_bytes` is the size of the largest one,
    decoded from base64.
    """

    size_bytes: int = 0
    tokens: int = 0
    most_tokens: int = 0
    largest_bytes: int = 0


_NO_MEDIA = Media()


class Checked(NamedTuple):
    """A checked request; `is_mendable`: `history.mended_history` has something to mend."""

    chat: Chat
    media: Media
    is_mendable: bool


_CHAT = msgspec.json.Decoder(Chat)
_ITEMS = msgspec.json.Decoder(list[Raw])
_OBJECT = msgspec.json.Decoder(Object)
_PARTS = msgspec.json.Decoder(list[_Part])
_PLAIN_BYTES: dict[type[Message], int] = {
    _System: len('{"role":"system","content":}'),
    _Developer: len('{"role":"developer","content":}'),
    _User: len('{"role":"user","content":}'),
    _Assistant: len('{"role":"assistant","content":}'),
}
"""The size of a message without its content, in compact JSON."""
_LEAST_MEMBER_BYTES = len(',"":0')
_KNOWN = frozenset(Chat.__struct_fields__)
_OF_MESSAGE = frozenset({"role", *(name for one in _MESSAGES for name in one.__struct_fields__)})
_OF_TEXT = frozenset({"type", "text", "cache_control"})
_OBJECT_KIND = b"{"[0]
_TEXT_PART_BYTES = len('{"type":"text","text":},')
"""The size of a text part beside its text, in compact JSON: a list of only such needs no check."""


def check_chat(body: bytes, fields: Object) -> Checked:
    """Decode the known fields of a request that `json_body.read_object` has read as `fields`.

    Raises InvalidRequest with the path of the field, in OpenAI's form, in `param`.
    """
    if not _KNOWN.issuperset(fields):
        refuse_lookalikes(fields.keys() - _KNOWN, _KNOWN)
    try:
        chat = _CHAT.decode(body)
    except msgspec.ValidationError as error:
        raise schema_error(error) from error
    if chat.stream_options is not None and not chat.stream:
        raise InvalidRequest(
            "'stream_options' is only allowed with 'stream': true. Set that, or leave it out.",
            param="stream_options",
        )
    for index, tool in enumerate(chat.tools or ()):
        if tool.type == "function" and tool.function is None:
            raise missing_field(f"tools[{index}].function")
    if chat.tools:
        read_objects(fields["tools"], "tools")
    messages = _ITEMS.decode(fields["messages"])
    if all(map(_is_plain, chat.messages, messages)):
        return Checked(chat, _NO_MEDIA, is_mendable=False)
    media, is_mendable = _check_messages(chat, _check_members(chat.messages, messages))
    return Checked(chat, media, is_mendable)


def _is_plain(message: Message, sent: Raw) -> bool:
    """Return whether a message is a role and a string: then there is nothing more to check.

    The shortest further member, `,"":0`, has five bytes; Python's json.dumps adds three spaces.
    """
    content = message.content
    plain_bytes = _PLAIN_BYTES.get(type(message))
    return (
        plain_bytes is not None
        and memoryview(content)[0] == _STRING  # `content` is there: it is not the default
        and len(sent) - len(content) < plain_bytes + _LEAST_MEMBER_BYTES
    )


def _check_messages(chat: Chat, media: Media) -> tuple[Media, bool]:
    """Check content and calls; return `media` with those of parts, and what `Checked` tells."""
    is_mendable, calls = False, 0
    for index, message in enumerate(chat.messages):
        kind = memoryview(message.content)[0]
        if kind == _LIST:
            media, has_string = _check_parts(message.content, f"messages[{index}].content", media)
            is_mendable |= has_string
        elif kind != _STRING and not (kind == _NULL_KIND and isinstance(message, _NULLABLE)):
            raise wrong_value(f"messages[{index}].content")
        if isinstance(message, _Assistant):
            calls = len(message.tool_calls or ())
            is_mendable |= _has_mendable_calls(message, index)
        elif isinstance(message, _ToolAnswer) and not message.tool_call_id:
            if not calls and message.tool_call_id is None:
                raise missing_field(f"messages[{index}].tool_call_id")
            is_mendable = True
    return media, is_mendable


def _has_mendable_calls(message: _Assistant, index: int) -> bool:
    """Return whether the calls of a message lack something that `history` adds."""
    mendable = False
    for position, call in enumerate(message.tool_calls or ()):
        if call.function is None:
            if call.type is None or call.type == "function":
                raise missing_field(f"messages[{index}].tool_calls[{position}].function")
        elif memoryview(call.function.arguments)[0] != _STRING:
            if not _may_be_arguments(call.function.arguments):
                place = f"messages[{index}].tool_calls[{position}]"
                raise wrong_value(f"{place}.function.arguments")
            mendable = True
        if not call.id or call.type is None:
            mendable = True
    called = message.function_call
    if called is not None and memoryview(called.arguments)[0] != _STRING:
        if not _may_be_arguments(called.arguments):
            raise wrong_value(f"messages[{index}].function_call.arguments")
        mendable = True
    return mendable or bool(message.tool_calls and _is_empty_list(message.content))


def _may_be_arguments(value: Raw) -> bool:
    """Return whether a value can be written as the string that arguments are."""
    return memoryview(value)[0] in (_OBJECT_KIND, _NULL_KIND) or _is_empty_list(value)


def _is_empty_list(value: Raw) -> bool:
    return memoryview(value)[0] == _LIST and not bytes(value)[1:-1].strip()


def _check_members(messages: list[Message], sent: list[Raw]) -> Media:
    """Check the members of each message that stand beside its content; return their media."""
    objects = {
        index: _OBJECT.decode(text)
        for index, text in enumerate(sent)
        if not _is_plain(messages[index], text)
    }
    for index, members in objects.items():
        refuse_repeated_keys(sent[index], members, f"messages[{index}].")
    if all(map(_OF_MESSAGE.issuperset, objects.values())):
        return _NO_MEDIA
    size_bytes = tokens = most_tokens = largest_bytes = 0
    for index, members in objects.items():
        if _OF_MESSAGE.issuperset(members):
            continue
        path = f"messages[{index}]."
        others = members.keys() - _OF_MESSAGE
        refuse_lookalikes(others, _OF_MESSAGE, path)
        for name in others:
            for source in media_beside_content(name, members[name], path + name[:100]):
                size_bytes += len(source)
                tokens += MEDIA_TOKENS
                most_tokens += _most_beside(name.casefold(), source)
                largest_bytes = max(largest_bytes, _decoded_bytes(source))
    return Media(size_bytes, tokens, most_tokens, largest_bytes)


def _most_beside(kind: str, source: Raw) -> int:
    """Return the most tokens of a medium in a member beside the content."""
    if kind.startswith("image"):
        return MOST_PICTURE_TOKENS
    return len(source) if kind.startswith("audio") and _holds_data(source) else MOST_FILE_TOKENS


def _holds_data(source: Raw) -> bool:
    """Return whether a string is the medium itself and not a link to it."""
    return not _start(source).startswith(b"http") and memoryview(source)[0] == _STRING


def _check_parts(content: Raw, path: str, media: Media) -> tuple[Media, bool]:
    """Check one list of content parts; return `media` with theirs added.

    Also whether a part holds a URL where OpenAI's API has an object with it.
    """
    try:
        parts = _PARTS.decode(content)
    except msgspec.ValidationError as error:
        raise schema_error(error, path) from error
    has_string = _with_url_objects(parts)
    size_bytes, tokens, most_tokens, largest_bytes = media
    for index, part in enumerate(parts):
        _check_part(part, f"{path}[{index}]")
        for source in _sources(part):
            if part.image_url is not None or len(source) > _LONG_MEDIA_BYTES:
                size_bytes += len(source)
                tokens += MEDIA_TOKENS
                most_tokens += _most_tokens(part, source)
                largest_bytes = max(largest_bytes, _decoded_bytes(source))
        if _is_file(part):
            most_tokens += MOST_FILE_TOKENS
    if not _is_plain_text(parts, content):
        objects = read_objects(content, path)
        if not all(map(_OF_TEXT.issuperset, objects)):
            check_urls(objects, path)
    return Media(size_bytes, tokens, most_tokens, largest_bytes), has_string


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


def _most_tokens(part: _Part, source: Raw) -> int:
    """Return the most tokens of a picture or recording: of this, one a byte."""
    return MOST_PICTURE_TOKENS if part.image_url is not None else len(source)


def _is_file(part: _Part) -> bool:
    """Return whether a part is a film, a file, or a recording that it does not contain.

    Some upstreams take documents as `image_url`, so the media type of a data URL decides.
    """
    image, audio = part.image_url, part.audio_url
    if isinstance(image, _ImageUrl):
        start = _start(image.url)
        if start.startswith(b"data:") and not start.startswith(b"data:image/"):
            return True
    if isinstance(audio, _ImageUrl) and not _start(audio.url).startswith(b"data:"):
        return True
    return part.video_url is not None or part.file is not None


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
