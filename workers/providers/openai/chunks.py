"""The parts of an OpenAI-shaped answer that are read, and the few changes made to its JSON.

The Structs name only the members that are read; msgspec checks the grammar of the others and skips
them. `gc=False` keeps the collector from tracking objects that live for one event.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

_EMPTY = (b"null", b'""', b"[]", b"{}")
NULL = Raw(b"null")


class FunctionText(Struct, gc=False):
    """The text of a function call, or of a piece of one."""

    name: str | None = None
    arguments: str | None = None


class ToolCallText(Struct, gc=False):
    """The text of a tool call, or of a piece of one."""

    function: FunctionText | None = None


class GeneratedText(Struct, gc=False):
    """The generated text in a delta or message."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallText] | None = None
    function_call: FunctionText | None = None

    def size_bytes(self) -> int:
        """Return its size as UTF-8."""
        size = _size(self.content) if self.content else 0
        reasoning = self.reasoning_content or self.reasoning  # some upstreams send both, equal
        if reasoning:
            size += _size(reasoning)
        if self.refusal:
            size += _size(self.refusal)
        if self.tool_calls:
            size += sum(_called_size(call.function) for call in self.tool_calls)
        if self.function_call:
            size += _called_size(self.function_call)
        return size


class StreamedChoice(Struct, gc=False):
    """One of the `n` answers in a chunk."""

    index: int = 0
    delta: GeneratedText | None = None
    finish_reason: str | UnsetType | None = UNSET


class UsagePresent(Struct, gc=False):
    """A usage object. Only its presence matters here; `token_usage` reads it."""


class Chunk(Struct, gc=False):
    """One streamed event."""

    model: str | None = None
    choices: list[StreamedChoice] | None = None
    usage: UsagePresent | UnsetType | None = UNSET
    error: Any = None


class OddChoice(Struct):
    """A choice with an unusual delta, such as Mistral's lists of parts in `content`."""

    index: int = 0
    delta: Raw = NULL
    finish_reason: str | UnsetType | None = UNSET


class OddChunk(Struct):
    """A chunk whose delta, model or usage has an unusual type."""

    model: Any = None
    choices: list[OddChoice] | None = None
    usage: Any = UNSET
    error: Any = None


class _ModelName(Struct, gc=False):
    model: Any = None


class _DeltaChoice(Struct):
    delta: dict[str, Raw] | None = None


class _Deltas(Struct):
    choices: list[_DeltaChoice]


class WholeChoice(Struct):
    """One of the `n` answers of a whole answer."""

    finish_reason: Any = None
    message: Raw = NULL


class WholeAnswer(Struct):
    """An answer that is not streamed."""

    choices: list[WholeChoice]
    model: Any = None
    usage: Raw = NULL
    error: Any = None


CHUNK = msgspec.json.Decoder(Chunk)
ODD_CHUNK = msgspec.json.Decoder(OddChunk)
MODEL_NAME = msgspec.json.Decoder(_ModelName)
_DELTAS = msgspec.json.Decoder(_Deltas)
WHOLE_ANSWER = msgspec.json.Decoder(WholeAnswer)
_GENERATED_TEXT = msgspec.json.Decoder(GeneratedText)
MEMBERS = msgspec.json.Decoder(dict[str, Raw])
_CHOICES = msgspec.json.Decoder(list[dict[str, Raw]])
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _called_size(call: FunctionText | None) -> int:
    if call is None:
        return 0
    return _size(call.name or "") + _size(call.arguments or "")


def text_bytes(raw: Raw) -> int:
    """Return the size of the text in a delta or message; of an unknown type, its whole size."""
    if bytes(raw) == b"null":
        return 0
    try:
        return _GENERATED_TEXT.decode(raw).size_bytes()
    except UNREADABLE:
        return len(raw)


def has_content(payload: bytes) -> bool:
    """Return whether a delta has a member besides the role that is not null or empty."""
    for choice in _DELTAS.decode(payload).choices:
        for name, value in (choice.delta or {}).items():
            if name != "role" and not _is_empty(bytes(value)):
                return True
    return False


def _is_empty(value: bytes) -> bool:
    return (value.replace(b" ", b"") if value[:1] in (b"[", b"{") else value) in _EMPTY


def complete_choices(choices: Raw) -> Raw:
    """Add the members that every choice must have.

    OpenAI's schema requires `finish_reason`; Gemini's compatible endpoint sends it at the end only.
    """
    if bytes(choices) == b"null":
        return Raw(b"[]")
    completed = _CHOICES.decode(choices)
    for choice in completed:
        if bytes(choice.get("delta", NULL)) == b"null":
            choice["delta"] = Raw(b"{}")
        choice.setdefault("index", Raw(b"0"))
        choice.setdefault("finish_reason", NULL)
    return Raw(msgspec.json.encode(completed))


def is_json(text: bytes) -> bool:
    """Return whether this is one complete JSON text."""
    try:
        msgspec.json.decode(text, type=Raw)
    except UNREADABLE:
        return False
    return True


_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def mended(payload: bytes) -> bytes:
    """Replace halves of surrogate pairs by U+FFFD; strict JSON readers reject them."""
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], payload)
