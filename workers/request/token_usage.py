"""The usage of one answer as an upstream counted it.

Field names and ranges: OpenAI's API document, `CompletionUsage`.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

_MAX_TOKENS_COUNTED = 2**53
"""Counts from here on are refused: JSON readers with doubles cannot hold them exactly."""


class Usage(Struct, frozen=True):
    """Tokens as counted upstream. None means not reported, which is not the same as 0.

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


class _ReportedUsage(Struct, gc=False):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    total_tokens: Count | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: Count | None = None
    cached_tokens: Count | None = None


_USAGE = msgspec.json.Decoder(_ReportedUsage)


def parse_usage(raw: bytes | Raw) -> Usage | None:
    """Read an OpenAI `usage` object, known to be UTF-8; return None when it has no counts.

    Cached tokens are also read where DeepSeek (`prompt_cache_hit_tokens`) and Moonshot
    (`cached_tokens`) report them.
    """
    try:
        reported = _USAGE.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _parse_odd_usage(raw)
    prompt, completion = reported.prompt_tokens, reported.completion_tokens
    if prompt is None and completion is None:
        return None
    details, answer = reported.prompt_tokens_details, reported.completion_tokens_details
    cached = details.cached_tokens if details is not None else None
    if cached is None:
        cached = reported.prompt_cache_hit_tokens
    if cached is None:
        cached = reported.cached_tokens
    return Usage(
        prompt or 0,
        completion or 0,
        reported.total_tokens,
        cached,
        details.cache_write_tokens if details is not None else None,
        answer.reasoning_tokens if answer is not None else None,
    )


def _parse_odd_usage(raw: bytes | Raw) -> Usage | None:
    """Read the valid counts of a usage object in which others are invalid."""
    try:
        reported = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    prompt, completion = _count(reported, "prompt_tokens"), _count(reported, "completion_tokens")
    if prompt is None and completion is None:
        return None
    cached = _count(reported, "prompt_tokens_details", "cached_tokens")
    if cached is None:
        cached = _count(reported, "prompt_cache_hit_tokens")
    if cached is None:
        cached = _count(reported, "cached_tokens")
    return Usage(
        prompt_tokens=prompt or 0,
        completion_tokens=completion or 0,
        total_tokens=_count(reported, "total_tokens"),
        cached_tokens=cached,
        cache_write_tokens=_count(reported, "prompt_tokens_details", "cache_write_tokens"),
        reasoning_tokens=_count(reported, "completion_tokens_details", "reasoning_tokens"),
    )


def _count(reported: Any, *path: str) -> int | None:
    """Return the count at `path`, or None when there is no valid one."""
    for name in path:
        reported = reported.get(name) if isinstance(reported, dict) else None
    if type(reported) is int and 0 <= reported < _MAX_TOKENS_COUNTED:
        return reported
    return None
