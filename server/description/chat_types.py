"""The chat completion API as types, for the OpenAPI document: the request and its answers.

Requests are checked by `workers.request.chat_schema.Chat`, which keeps messages undecoded; here
messages are spelled out as in OpenAI's API document. Members that are not listed are passed on to
the upstream.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, defstruct, structs

from workers.request.chat_schema import Chat


class TextPart(Struct, tag_field="type", tag="text"):
    """A text."""

    text: str


class ImageUrl(Struct):
    """An image: an https URL, a data URL that holds it, or `roxy-file:ID` of the chat history."""

    url: str
    detail: Literal["auto", "low", "high"] | UnsetType = UNSET


class ImagePart(Struct, tag_field="type", tag="image_url"):
    """An image."""

    image_url: ImageUrl


class AudioPart(Struct, tag_field="type", tag="input_audio"):
    """A recording; the object is OpenAI's."""

    input_audio: dict[str, Any]


class FilePart(Struct, tag_field="type", tag="file"):
    """A file; the object is OpenAI's."""

    file: dict[str, Any]


Part = TextPart | ImagePart | AudioPart | FilePart


class SystemMessage(Struct, tag_field="role", tag="system"):
    """Instructions for the model."""

    content: str | list[TextPart]


class DeveloperMessage(Struct, tag_field="role", tag="developer"):
    """Instructions for the model, under the name that newer models use."""

    content: str | list[TextPart]


class UserMessage(Struct, tag_field="role", tag="user"):
    """A message of the user."""

    content: str | list[Part]


class FunctionCall(Struct):
    """A function that a model calls; `arguments` is JSON as text."""

    name: str
    arguments: str


class ToolCallObject(Struct):
    """One call of a tool."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class AssistantMessage(Struct, tag_field="role", tag="assistant"):
    """An answer of the model, or the tools it calls."""

    content: str | list[TextPart] | None = None
    tool_calls: list[ToolCallObject] | UnsetType = UNSET


class ToolMessage(Struct, tag_field="role", tag="tool"):
    """The result of a tool."""

    tool_call_id: str
    content: str | list[TextPart]


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage
Messages = Annotated[list[Message], Meta(min_length=1)]

ChatRequest = defstruct(
    "ChatRequest",
    [
        (each.name, Messages if each.name == "messages" else each.type)
        if each.required
        else (each.name, each.type, each.default)
        for each in structs.fields(Chat)
    ],
    namespace={"__doc__": "A chat completion request; other members go to the upstream."},
)


class CompletionUsage(Struct):
    """Tokens of a completion, as OpenAI counts them; details may follow."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChoiceObject(Struct):
    """One answer of a completion; `message` is OpenAI's."""

    index: int
    message: dict[str, Any]
    finish_reason: str | None


class ChatCompletion(Struct):
    """A whole completion in OpenAI's format."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChoiceObject]
    usage: CompletionUsage | UnsetType | None = UNSET


class ChunkChoiceObject(Struct):
    """The new part of one answer; `delta` is OpenAI's."""

    index: int
    delta: dict[str, Any]
    finish_reason: str | UnsetType | None = UNSET


class ChatCompletionChunk(Struct):
    """The data of one event of a streamed completion; the last event is `[DONE]`."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoiceObject]
    usage: CompletionUsage | UnsetType | None = UNSET
