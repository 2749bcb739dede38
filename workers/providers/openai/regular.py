"""Recognise the chunks and whole answers that fit OpenAI's schema, and so pass unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import UNSET

from workers.providers.openai.chunks import (
    Annotation,
    FunctionText,
    GeneratedText,
    MendableDelta,
    PlainDelta,
    StreamedChoice,
    ToolCallText,
    WholeAnswer,
)
from workers.providers.openai.mending.annotations import CITATION
from workers.providers.openai.mending.chunk_mender import (
    ASSISTANT,
    WHOLE_OBJECT,
    ChoiceState,
    ChunkMender,
)
from workers.providers.openai.mending.finish_reasons import COMPLETE, REASONS
from workers.providers.openai.mending.tool_calls import CUSTOM, FUNCTION

REPEATED_ROLE: Final = 1
"""The role comes again (OpenRouter, Gemini): openai-python adds it up to "assistantassistant"."""
ONE_NAME: Final = 2
"""The thinking has one of its two names."""
OTHER: Final = 4
"""Any other difference; the chunk is decoded, mended and encoded again."""

_ROLE = b'"role":"assistant"'


def faults_in(choices: list[StreamedChoice], mender: ChunkMender) -> int:
    """Return what is wrong with the choices of a chunk, as bits; 0: they pass."""
    faults = 0
    for choice in choices:
        text, state = choice.delta, mender.states.get(choice.index)
        if (
            state is None
            or text is None
            or choice.finish_reason is not None
            or text.role is not None
            or text.tool_calls is not None
            or text.reasoning_content is not None
            or text.reasoning is not None
            or text.thinking is not None
            or text.function_call is not None
            or text.annotations is not None
        ):
            faults |= _faults_of(choice, state, mender)
    return faults


def _faults_of(choice: StreamedChoice, state: ChoiceState | None, mender: ChunkMender) -> int:
    text, reason = choice.delta, choice.finish_reason
    if text is None or choice.index is UNSET or reason is UNSET:
        return OTHER
    if reason is not None and not _is_regular_end(text, reason, state, mender):
        return OTHER
    faults = _thinking_faults(text)
    if state is None:
        if text.role != ASSISTANT:
            return OTHER
    elif text.role is not None:
        faults |= REPEATED_ROLE if text.role == ASSISTANT else OTHER
    if text.function_call is not None and not _is_regular_piece(text.function_call):
        return OTHER
    if text.annotations and (
        (state is not None and state.annotated)
        or not all(map(_is_regular_annotation, text.annotations))
    ):
        return OTHER
    if text.tool_calls:
        places = (state or ChoiceState()).places
        if not places.are_regular(text.tool_calls):
            return OTHER
    return faults


def _is_regular_end(
    text: GeneratedText, reason: str, state: ChoiceState | None, mender: ChunkMender
) -> bool:
    if reason not in REASONS or (state is not None and state.finished):
        return False
    places, calls = (state or ChoiceState()).places, text.tool_calls or ()
    if reason in COMPLETE and places.lack_arguments(calls):
        return False
    called = bool(text.tool_calls) or (state is not None and state.called)
    function_called = text.function_call is not None or (
        state is not None and state.function_called
    )
    return mender.fitting(reason, called=called, function_called=function_called) == reason


def _thinking_faults(text: GeneratedText | PlainDelta) -> int:
    first, second = text.reasoning_content, text.reasoning
    if first is second is None and text.thinking is None:
        return 0
    if first == second or (first and second):
        return OTHER if text.thinking and not first else 0
    if not first and not second:
        return 0  # one of them is empty, the other not there
    return ONE_NAME


def _is_regular_piece(function: FunctionText) -> bool:
    return function.arguments is not None and (function.name is UNSET or bool(function.name))


def _is_regular_annotation(annotation: Annotation) -> bool:
    return (annotation.type == CITATION) is (annotation.url_citation is not None)


def quickly_mended(payload: bytes, faults: int, text: GeneratedText | PlainDelta) -> bytes | None:
    """Mend the frequent faults of a chunk with one choice in its bytes; None: not possible.

    A name with its quotes and its colon cannot occur inside a string, where quotes are escaped.
    """
    if faults & OTHER:
        return None
    if faults & REPEATED_ROLE:
        mark = _ROLE + b"," if _ROLE + b"," in payload else b"," + _ROLE
        if payload.count(b'"role"') != 1 or mark not in payload:
            return None
        payload = payload.replace(mark, b"")
    if faults & ONE_NAME:
        here, missing = b'"reasoning_content":', b'"reasoning":'
        if not text.reasoning_content:
            here, missing = missing, here
        if payload.count(here) != 1 or missing in payload:
            return None
        copy = missing + msgspec.json.encode(text.reasoning_content or text.reasoning) + b","
        payload = payload.replace(here, copy + here)
    return payload


def mended_thinking(rest: bytes, text: PlainDelta) -> tuple[bytes | None, int]:
    """Mend the rest of a chunk as `quickly_mended` does; return it and the size of its thinking."""
    assert isinstance(text, MendableDelta)
    faults = _thinking_faults(text) | (REPEATED_ROLE if text.role else 0)
    thinking = text.reasoning_content or text.reasoning or ""
    mended = quickly_mended(rest, faults, text) if faults else rest
    return mended, len(thinking) if thinking.isascii() else len(thinking.encode())


def is_regular_answer(answer: WholeAnswer, mender: ChunkMender) -> bool:
    """Return whether a whole answer passes as it is."""
    if not answer.id or answer.created <= 0 or answer.object != WHOLE_OBJECT:
        return False
    for choice in answer.choices:
        message, reason = choice.message, choice.finish_reason
        if message is None or message.role != ASSISTANT or message.content is UNSET:
            return False
        if choice.index is UNSET or reason not in REASONS or _thinking_faults(message):
            return False
        if not all(map(_is_regular_annotation, message.annotations or ())):
            return False
        calls = message.tool_calls or message.function_call is not None
        if calls and not _are_regular_calls(message, reason, mender):
            return False
    return True


def _are_regular_calls(message: GeneratedText, reason: str, mender: ChunkMender) -> bool:
    """Return whether a message with calls has their members and the reason that fits them."""
    calls, call = message.tool_calls or (), message.function_call
    if mender.fitting(reason, called=bool(calls), function_called=call is not None) != reason:
        return False
    return (call is None or bool(call.name and call.arguments)) and are_whole_calls(calls)


def are_whole_calls(calls: Sequence[ToolCallText]) -> bool:
    """Return whether all calls of a message have their members, and ids of their own."""
    return len({call.id for call in calls}) == len(calls) and all(map(_is_whole_call, calls))


def _is_whole_call(call: ToolCallText) -> bool:
    if not call.id:
        return False
    if call.type == CUSTOM:
        return call.custom is not None
    function = call.function
    return call.type == FUNCTION and bool(function and function.name and function.arguments)
