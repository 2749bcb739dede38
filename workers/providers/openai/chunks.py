"""The parts of an OpenAI-shaped answer that are read, and the few changes made to its JSON.

The Structs name only the members that are read; msgspec checks the grammar of the others and skips
them. `gc=False` keeps the collector from tracking objects that live for one event.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

_EMPTY = (b"null", b'""', b"[]", b"{}")
NULL = Raw(b"null")
_NOTHING_BYTES = len(b"null")
"""The size of what holds no medium: null, an empty list or object."""
AUDIO_BYTES_PER_TEXT_BYTE = 64
"""OpenAI counts a token for 50 ms of speech: 200 bytes as MP3, which are 267 of base64."""
PICTURE_TEXT_BYTES = 4096
"""Gemini counts 1,290 tokens for a picture, OpenAI from 272 to 6,240."""
_MAX_SWAPS = 8
"""How many occurrences of the model's name are tried before the chunk is encoded again."""


class FunctionText(Struct, gc=False):
    """The text of a function call, or of a piece of one."""

    name: str | UnsetType | None = UNSET
    arguments: str | UnsetType | None = UNSET


class CustomText(Struct, gc=False):
    """The text of a call of a custom tool, or of a piece of one."""

    name: str | UnsetType = UNSET
    input: str | UnsetType = UNSET


class ToolCallText(Struct, gc=False):
    """The text of a tool call, or of a piece of one."""

    index: int | UnsetType = UNSET
    id: str | UnsetType | None = UNSET
    type: str | UnsetType | None = UNSET
    function: FunctionText | None = None
    custom: CustomText | None = None


class Citation(Struct, gc=False):
    """Where a text comes from."""

    url: str
    title: str
    start_index: int
    end_index: int


class Annotation(Struct, gc=False):
    """What is said beside a text: a citation, or something of another type."""

    type: str
    url_citation: Citation | None = None


class RivalToken(Struct, gc=False):
    """A token that could have been generated."""

    token: str
    logprob: float
    bytes: list[int] | None


class GeneratedToken(RivalToken, gc=False):
    """A token with those that could have been in its place."""

    top_logprobs: list[RivalToken]


class LogProbs(Struct, gc=False):
    """The log probabilities of a choice."""

    content: list[GeneratedToken] | None
    refusal: list[GeneratedToken] | None = None


class SpokenText(Struct, gc=False):
    """A recording, or a piece of one, with what is said in it."""

    data: str = ""
    transcript: str = ""


class GeneratedText(Struct, gc=False):
    """The generated text in a delta or message, and what was generated beside it."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    thinking: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallText] | None = None
    function_call: FunctionText | None = None
    annotations: list[Annotation] | None = None
    audio: Raw = NULL
    images: Raw = NULL

    def size_bytes(self) -> int:
        """Return its size as UTF-8, with that of text which has as many tokens as the media."""
        size = _size(self.content) if self.content else 0
        reasoning = self.reasoning_content or self.reasoning or self.thinking  # both are equal
        if reasoning:
            size += _size(reasoning)
        if self.refusal:
            size += _size(self.refusal)
        if self.tool_calls:
            size += sum(map(_call_size, self.tool_calls))
        if self.function_call:
            size += _called_size(self.function_call)
        if len(self.audio) > _NOTHING_BYTES:
            size += _audio_size(self.audio)
        if len(self.images) > _NOTHING_BYTES:
            size += _images_size(self.images)
        return size


class StreamedChoice(Struct, gc=False):
    """One of the `n` answers in a chunk."""

    index: int | UnsetType = UNSET
    delta: GeneratedText | None = None
    finish_reason: str | UnsetType | None = UNSET
    logprobs: LogProbs | None = None


class UsagePresent(Struct, gc=False):
    """A usage object. Only its presence matters here; `token_usage` reads it."""


class ChunkRest(Struct, gc=False):
    """What follows the beginning that all chunks of an answer share."""

    choices: list[StreamedChoice] | None = None
    usage: UsagePresent | UnsetType | None = UNSET
    error: Any = None


class Chunk(ChunkRest, gc=False):
    """One streamed event."""

    id: str | None = None
    object: str | None = None
    created: int | None = None
    model: str | None = None


class PlainArguments(Struct, gc=False, forbid_unknown_fields=True):
    """The next piece of a call's arguments."""

    arguments: str


class PlainPiece(Struct, gc=False, forbid_unknown_fields=True):
    """A fragment that continues a tool call."""

    index: int
    function: PlainArguments


class PlainDelta(Struct, gc=False):
    """A delta that continues text or tool calls and says nothing else that is read."""

    content: str | None = None
    tool_calls: list[PlainPiece] | None = None
    role: None = None
    reasoning_content: None = None
    reasoning: None = None
    thinking: None = None
    refusal: None = None
    function_call: None = None
    annotations: None = None
    audio: None = None
    images: None = None


class MendableDelta(PlainDelta, gc=False):
    """The same with what is mended fast: a repeated role, thinking under one name."""

    role: Literal["assistant"] | None = None  # type: ignore[assignment]
    reasoning_content: str | None = None  # type: ignore[assignment]
    reasoning: str | None = None  # type: ignore[assignment]


class PlainChoice(Struct, gc=False):
    """A choice whose text continues."""

    index: int
    delta: PlainDelta
    finish_reason: None
    logprobs: LogProbs | None = None


class MendableChoice(PlainChoice, gc=False):
    """A choice whose text continues, with the members that are mended fast."""

    delta: MendableDelta


class PlainRest(Struct, gc=False):
    """A chunk without its shared parts that needs no further check."""

    choices: tuple[PlainChoice]
    usage: UnsetType | None = UNSET
    error: None = None


class MendableRest(PlainRest, gc=False):
    """A chunk without its shared parts that may need to be mended fast."""

    choices: tuple[MendableChoice]


class OddChunk(Struct):
    """A chunk in which some member has an unusual type."""

    id: Any = None
    object: Any = None
    created: Any = None
    model: Any = None
    choices: list[dict[str, Any]] | None = None
    usage: Any = UNSET
    error: Any = None


class _ModelName(Struct, gc=False):
    model: Any = None


class _DeltaChoice(Struct):
    delta: dict[str, Raw] | None = None


class _Deltas(Struct):
    choices: list[_DeltaChoice]


class WholeMessage(GeneratedText):
    """The message of a whole answer."""

    content: str | UnsetType | None = UNSET  # type: ignore[assignment]


class WholeChoice(Struct):
    """One of the `n` answers of a whole answer."""

    index: int | UnsetType = UNSET
    finish_reason: str | None = None
    message: WholeMessage | None = None
    logprobs: LogProbs | None = None


class WholeAnswer(Struct):
    """An answer that is not streamed."""

    choices: list[WholeChoice]
    id: str = ""
    object: str = ""
    created: int = 0
    model: str | None = None
    usage: Raw = NULL
    error: Any = None


CHUNK = msgspec.json.Decoder(Chunk)
PLAIN_REST = msgspec.json.Decoder(PlainRest)
MENDABLE_REST = msgspec.json.Decoder(MendableRest)
PlainDecoder = msgspec.json.Decoder[PlainRest] | msgspec.json.Decoder[MendableRest]
CHUNK_REST = msgspec.json.Decoder(ChunkRest)
ODD_CHUNK = msgspec.json.Decoder(OddChunk)
_MODEL_NAME = msgspec.json.Decoder(_ModelName)
_DELTAS = msgspec.json.Decoder(_Deltas)
WHOLE_ANSWER = msgspec.json.Decoder(WholeAnswer)
_GENERATED_TEXT = msgspec.json.Decoder(GeneratedText)
MEMBERS = msgspec.json.Decoder(dict[str, Raw])
_SPOKEN_TEXT = msgspec.json.Decoder(SpokenText)
_IMAGES = msgspec.json.Decoder(list[Raw])
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _audio_size(audio: Raw) -> int:
    try:
        spoken = _SPOKEN_TEXT.decode(audio)
    except UNREADABLE:
        return len(audio) // AUDIO_BYTES_PER_TEXT_BYTE
    return _size(spoken.transcript) + -(-len(spoken.data) // AUDIO_BYTES_PER_TEXT_BYTE)


def _images_size(images: Raw) -> int:
    try:
        return len(_IMAGES.decode(images)) * PICTURE_TEXT_BYTES
    except UNREADABLE:
        return PICTURE_TEXT_BYTES


def _called_size(call: FunctionText | None) -> int:
    if call is None:
        return 0
    return _size(call.name or "") + _size(call.arguments or "")


def _call_size(call: ToolCallText) -> int:
    size, custom = _called_size(call.function), call.custom
    if custom is not None:
        size += _size(custom.name or "") + _size(custom.input or "")
    return size


def text_bytes(text: Any) -> int:
    """Return the size of the text in a decoded delta or message; of an unknown type, its size."""
    encoded = msgspec.json.encode(text)
    try:
        return _GENERATED_TEXT.decode(encoded).size_bytes()
    except UNREADABLE:
        return len(encoded)


def has_content(payload: bytes) -> bool:
    """Return whether a delta has a member besides the role that is not null or empty."""
    for choice in _DELTAS.decode(payload).choices:
        for name, value in (choice.delta or {}).items():
            if name != "role" and not _is_empty(bytes(value)):
                return True
    return False


def _is_empty(value: bytes) -> bool:
    return (value.replace(b" ", b"") if value[:1] in (b"[", b"{") else value) in _EMPTY


def is_object(text: bytes) -> bool:
    """Return whether this is one JSON object."""
    try:
        _MODEL_NAME.decode(text)
    except UNREADABLE:
        return False
    return True


class ModelName:
    """Replaces the upstream's model name by the catalog's id; every other byte stays."""

    def __init__(self, model_id: str) -> None:
        self.id = model_id
        self._json = msgspec.json.encode(model_id)

    def replaced(self, payload: bytes, theirs: str | None) -> bytes:
        """Return a chunk or answer with our id in place of `theirs` (None: it has no name)."""
        if theirs == self.id:
            return payload
        # From cheap to expensive: search and replace, encoding.
        if theirs is not None:
            name = msgspec.json.encode(theirs)
            for key in (b'"model":', b'"model": '):
                swapped = self._swapped(payload, key + name, key + self._json)
                if swapped is not None:
                    return swapped
        return msgspec.json.encode({**MEMBERS.decode(payload), "model": Raw(self._json)})

    def _swapped(self, payload: bytes, old: bytes, new: bytes) -> bytes | None:
        """Replace the occurrence of `old` that is the top-level member; return None without one."""
        at = payload.find(old)
        for _ in range(_MAX_SWAPS):
            if at < 0:
                break
            start = payload[:at] + new
            swapped = start + payload[at + len(old) :]
            # The same bytes may also be nested or text in a string: decode to find out, first
            # what comes before them, which is less.
            if is_object(start + b"}") or _MODEL_NAME.decode(swapped).model == self.id:
                return swapped
            at = payload.find(old, at + 1)
        return None


@lru_cache(maxsize=4096)
def model_name(model_id: str) -> ModelName:
    """Return what writes the id of a model into answers."""
    return ModelName(model_id)


_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def mended(payload: bytes) -> bytes:
    """Replace halves of surrogate pairs by U+FFFD; strict JSON readers reject them."""
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], payload)
