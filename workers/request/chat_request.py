"""What the gateway reads of a chat completion: the request, and the usage that comes back.

Everything else passes through as sent. Field names and ranges: OpenAI's API document, "Create chat
completion" and `CompletionUsage`.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from workers.request.chat_schema import check_chat
from workers.request.json_body import read_object

_MAX_TOKENS_COUNTED = 2**53


class Usage(Struct, frozen=True):
    """Tokens as counted upstream. None means not told, which is not the same as 0.

    `prompt_tokens` includes the cached ones, `completion_tokens` the reasoning ones.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


Count = Annotated[int, Meta(ge=0, lt=_MAX_TOKENS_COUNTED)]


class _PromptDetails(Struct, gc=False):
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None


class _CompletionDetails(Struct, gc=False):
    reasoning_tokens: Count | None = None


class _Told(Struct, gc=False):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    total_tokens: Count | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: Count | None = None
    cached_tokens: Count | None = None


_USAGE = msgspec.json.Decoder(_Told)


def parse_usage(raw: bytes | Raw) -> Usage | None:
    """Read an OpenAI `usage` object, known to be UTF-8; None for anything that tells no counts.

    Cached tokens are also found where DeepSeek (`prompt_cache_hit_tokens`) and Moonshot
    (`cached_tokens`) put them.
    """
    try:
        told = _USAGE.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _parse_odd_usage(raw)
    prompt, completion = told.prompt_tokens, told.completion_tokens
    if prompt is None and completion is None:
        return None
    details, answer = told.prompt_tokens_details, told.completion_tokens_details
    cached = details.cached_tokens if details is not None else None
    if cached is None:
        cached = told.prompt_cache_hit_tokens
    if cached is None:
        cached = told.cached_tokens
    return Usage(
        prompt or 0,
        completion or 0,
        told.total_tokens,
        cached,
        details.cache_write_tokens if details is not None else None,
        answer.reasoning_tokens if answer is not None else None,
    )


def _parse_odd_usage(raw: bytes | Raw) -> Usage | None:
    """Read what can be read of a usage object in which some count is no count."""
    try:
        told = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    prompt, completion = _count(told, "prompt_tokens"), _count(told, "completion_tokens")
    if prompt is None and completion is None:
        return None
    cached = _count(told, "prompt_tokens_details", "cached_tokens")
    if cached is None:
        cached = _count(told, "prompt_cache_hit_tokens")
    if cached is None:
        cached = _count(told, "cached_tokens")
    return Usage(
        prompt_tokens=prompt or 0,
        completion_tokens=completion or 0,
        total_tokens=_count(told, "total_tokens"),
        cached_tokens=cached,
        cache_write_tokens=_count(told, "prompt_tokens_details", "cache_write_tokens"),
        reasoning_tokens=_count(told, "completion_tokens_details", "reasoning_tokens"),
    )


def _count(told: Any, *path: str) -> int | None:
    for name in path:
        told = told.get(name) if isinstance(told, dict) else None
    if type(told) is int and 0 <= told < _MAX_TOKENS_COUNTED:
        return told
    return None


class ChatRequest(Struct):
    """A checked chat completion request.

    `fields` holds every top-level member as sent, in order. `max_output_tokens` is the larger of
    `max_completion_tokens` and `max_tokens` (None: neither given); `prompt_estimate` counts tokens;
    `largest_file_bytes` is the size of the largest picture, recording or file that it carries.
    """

    model: str
    stream: bool
    n: int
    include_usage: bool
    max_output_tokens: int | None
    fields: dict[str, Raw]
    prompt_estimate: int
    largest_file_bytes: int = 0

    def encode(self, model: str) -> bytes:
        """Write the body for an OpenAI-shaped upstream, which knows the model as `model`.

        A stream always asks for usage, whatever the client asked: the gateway accounts by it.
        """
        fields: dict[str, Any] = {**self.fields, "model": model}
        if self.stream:
            options = msgspec.json.decode(
                self.fields.get("stream_options", b"null"), type=dict[str, Raw] | None
            )
            fields["stream_options"] = {**(options or {}), "include_usage": True}
        return msgspec.json.encode(fields)


def parse_chat(body: bytes) -> ChatRequest:
    """Check a chat completion request as far as the gateway must know it.

    Raises InvalidRequest for every malformed body, with `param` naming the field.
    """
    fields = read_object(body)
    chat, media = check_chat(body)
    text_bytes = len(fields["messages"]) - media.size_bytes
    for name in ("tools", "functions"):
        text_bytes += len(fields.get(name, b""))
    return ChatRequest(
        model=chat.model,
        stream=chat.stream is True,
        n=chat.n or 1,
        include_usage=chat.stream_options is not None and chat.stream_options.include_usage is True,
        max_output_tokens=max(chat.max_completion_tokens or 0, chat.max_tokens or 0) or None,
        fields=fields,
        prompt_estimate=math.ceil(text_bytes / 4) + media.tokens,
        largest_file_bytes=media.largest_bytes,
    )
