"""The schema of the chat completion request: types and ranges.

Unknown fields are ignored. `null` is allowed where OpenAI's API document allows it (optional
fields). Message content stays undecoded: only its JSON type is read; `content_parts` reads lists.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Raw, Struct

from workers.errors import InvalidRequest
from workers.request.content_parts import NO_MEDIA, Media, check_parts, max_tokens_beside
from workers.request.json_body import read_objects, refuse_repeated_keys
from workers.request.media_urls import media_beside_content
from workers.request.member_names import refuse_lookalikes
from workers.request.schema_errors import missing_field, schema_error, wrong_value

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


class Checked(NamedTuple):
    """A checked request; `is_mendable`: `history.mended_history` has something to mend."""

    chat: Chat
    media: Media
    is_mendable: bool


_CHAT = msgspec.json.Decoder(Chat)
_ITEMS = msgspec.json.Decoder(list[Raw])
_OBJECT = msgspec.json.Decoder(Object)
_PLAIN_BYTES: dict[type[Message], int] = {
    _System: len('{"role":"system","content":}'),
    _Developer: len('{"role":"developer","content":}'),
    _User: len('{"role":"user","content":}'),
    _Assistant: len('{"role":"assistant","content":}'),
}
"""The size of a message without its content, in compact JSON."""
_MIN_MEMBER_BYTES = len(',"":0')
_KNOWN = frozenset(Chat.__struct_fields__)
_OF_MESSAGE = frozenset({"role", *(name for one in _MESSAGES for name in one.__struct_fields__)})
_OBJECT_KIND = b"{"[0]


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
        return Checked(chat, NO_MEDIA, is_mendable=False)
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
        and len(sent) - len(content) < plain_bytes + _MIN_MEMBER_BYTES
    )


def _check_messages(chat: Chat, media: Media) -> tuple[Media, bool]:
    """Check content and calls; return `media` with those of parts, and `is_mendable`."""
    is_mendable, calls = False, 0
    for index, message in enumerate(chat.messages):
        kind = memoryview(message.content)[0]
        if kind == _LIST:
            media, has_string = check_parts(message.content, f"messages[{index}].content", media)
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
        return NO_MEDIA
    media = NO_MEDIA
    for index, members in objects.items():
        if _OF_MESSAGE.issuperset(members):
            continue
        path = f"messages[{index}]."
        others = members.keys() - _OF_MESSAGE
        refuse_lookalikes(others, _OF_MESSAGE, path)
        for name in others:
            for source in media_beside_content(name, members[name], path + name[:100]):
                media = media.with_one(source, max_tokens_beside(name.casefold(), source))
    return media
