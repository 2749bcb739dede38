"""The usage of one answer as an upstream counted it, in whatever shape it was reported.

Field names and ranges: OpenAI's API document, `CompletionUsage`. Other upstreams use other names
for the same counts; the patterns below hold those of Anthropic, Gemini (native and compatible),
Bedrock, DeepSeek, Moonshot, Ollama, OpenRouter and gateways in front of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

BYTES_PER_TOKEN = 4
"""OpenAI's rule of thumb for English text, for answers whose usage the upstream did not report."""


class Usage(Struct, frozen=True):
    """Tokens as counted upstream. None means not reported, which is not the same as 0.

    `prompt_tokens` includes the cached ones, `completion_tokens` the reasoning ones.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None

    def merged(self, later: Usage) -> Usage:
        """Return the larger of each count: a smaller or missing report replaces nothing.

        Some upstreams count up with every chunk, some end with a report of zeros, and some report
        the prompt at the beginning and the answer at the end.
        """
        pairs = ((getattr(self, name), getattr(later, name)) for name in self.__struct_fields__)
        return Usage(*(_larger(old, new) for old, new in pairs))

    def filled(self, prompt_estimate: int, completion_estimate: int) -> Usage:
        """Return the usage with an estimate for each missing count; see `is_missing_any`.

        A count of 0 for an answer that has text counts as missing.
        """
        prompt, completion, total = self.prompt_tokens, self.completion_tokens, self.total_tokens
        if not completion:
            completion = completion_estimate
            if prompt is None and total is not None:
                completion = min(completion, total)
        if prompt is None:
            prompt = prompt_estimate if total is None else max(total - completion, 0)
        return msgspec.structs.replace(self, prompt_tokens=prompt, completion_tokens=completion)

    def is_missing_any(self, has_text: bool) -> bool:
        """Return whether `filled` would estimate a count; `has_text`: text was generated."""
        return self.prompt_tokens is None or not (
            self.completion_tokens if has_text else self.completion_tokens is not None
        )


def together(usages: Sequence[Usage]) -> Usage:
    """Return the usage of several answers to one prompt, which is counted once."""
    made, *others = usages
    for usage in others:
        made = msgspec.structs.replace(
            made.merged(usage),
            completion_tokens=_added(made.completion_tokens, usage.completion_tokens),
            reasoning_tokens=_added(made.reasoning_tokens, usage.reasoning_tokens),
            total_tokens=None,
        )
    return made


def _added(old: int | None, new: int | None) -> int | None:
    return new if old is None else old + (new or 0)


def _larger(old: int | None, new: int | None) -> int | None:
    if old is None or new is None:
        return new if old is None else old
    return max(old, new)


# Names are compared in lower case and without punctuation: `promptTokenCount`, `prompt_tokens`.
_KINDS = {
    "prompt": re.compile(
        r"(num|n|total)?(?:prompt|input)tokens?(count|used)?|promptevalcount"
        r"|tokens(in|prompt|input)"
    ),
    "completion": re.compile(
        r"(num|n|total)?(completion|output|generated|generation|candidates|response)tokens?"
        r"(count|used)?|evalcount|tokens(out|completion|output)"
    ),
    "total": re.compile(r"totaltokens?(count|used)?"),
    "reasoning": re.compile(r"(reasoning|thinking|thoughts?)(output)?tokens?(count)?"),
    "cached": re.compile(
        r"(num)?cached(input|prompt|content)?tokens?(count)?|prompttokenscached"
        r"|promptcachehittokens?|(input)?cachereads?(input|prompt)?tokens?(count)?"
        r"|cachehits?tokens?"
    ),
    "written": re.compile(
        r"(input)?cached?(creation|writes?|written)(input|prompt)?tokens?(count)?"
        r"|promptcachewritetokens?"
    ),
    "tool_prompt": re.compile(r"tooluseprompttokens?(count)?"),
}
_DETAILS = re.compile(r"(prompt|input|completion|output)tokens?details?")
_ANTHROPIC = re.compile(r"cache(read|creation|write)input.*")
"""Anthropic's and Bedrock's names, beside which `input_tokens` leaves the cached ones out."""
_CACHE_CREATION = "cachecreation"
_NUMBER = re.compile(r"\d{1,20}(\.\d{1,20})?", re.ASCII)
_GROUPED = re.compile(r"\d{1,3}(,\d{3}){1,5}", re.ASCII)


class _Counts:
    """The valid counts of one report, by kind; of several names for one kind the largest."""

    def __init__(self, max_count: int) -> None:
        self._max_count = max_count
        self.by_kind: dict[str, int] = {}
        self.has_openai_prompt = False
        self.has_anthropic_cache = False

    def add(self, name: str, value: Any) -> None:
        """Add the value of a member if its name is one of a count and the value is valid."""
        kind = next((kind for kind, names in _KINDS.items() if names.fullmatch(name)), None)
        if kind is None or (count := read_count(value, self._max_count)) is None:
            return
        self.by_kind[kind] = max(count, self.by_kind.get(kind, 0))
        if kind == "prompt" and name.startswith("prompt") and count:
            self.has_openai_prompt = True
        if _ANTHROPIC.fullmatch(name) and count:
            self.has_anthropic_cache = True

    def usage(self) -> Usage | None:
        """Return the counts in OpenAI's sense: the prompt with its cache, the answer with thoughts.

        A prompt of 0 tokens does not exist, so 0 counts as not reported.
        """
        get = self.by_kind.get
        prompt, completion, total = get("prompt") or None, get("completion"), get("total") or None
        cached, written, reasoning = get("cached"), get("written"), get("reasoning")
        if prompt is not None:
            prompt += get("tool_prompt", 0)  # Gemini counts results of its own tools apart
            if self._leaves_cache_out(prompt, completion, total, (cached or 0) + (written or 0)):
                prompt += (cached or 0) + (written or 0)
        if completion is not None and (reasoning or 0) > completion:
            completion += reasoning or 0
        if total is not None and prompt is not None and total >= prompt:
            # Gemini and xAI leave the thinking out of the completion, and count it in the total.
            completion = max(completion or 0, total - prompt)
        elif total is not None and completion is not None and total > completion:
            prompt = total - completion
        if prompt is None and completion is None and total is None:
            return None
        return Usage(prompt, completion, total, cached, written, reasoning)

    def _leaves_cache_out(
        self, prompt: int, completion: int | None, total: int | None, cache: int
    ) -> bool:
        if cache > prompt:
            return True
        if not self.has_anthropic_cache or self.has_openai_prompt:
            return False
        return total is None or total != prompt + (completion or 0)


class _PromptDetails(Struct, gc=False, forbid_unknown_fields=True):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None


class _CompletionDetails(Struct, gc=False, forbid_unknown_fields=True):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    accepted_prediction_tokens: int | None = None
    rejected_prediction_tokens: int | None = None


class _OpenAIUsage(Struct, gc=False, forbid_unknown_fields=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


_OPENAI_USAGE = msgspec.json.Decoder(_OpenAIUsage)


def openai_usage(raw: bytes | Raw, max_count: int) -> Usage | None:
    """Read a usage that is what OpenAI's schema promises and agrees with itself, or return None."""
    try:
        stated = _OPENAI_USAGE.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    prompt, completion = stated.prompt_tokens, stated.completion_tokens
    details, answer = stated.prompt_tokens_details, stated.completion_tokens_details
    usage = Usage(
        prompt,
        completion,
        stated.total_tokens,
        details.cached_tokens if details is not None else None,
        details.cache_write_tokens if details is not None else None,
        answer.reasoning_tokens if answer is not None else None,
    )
    cache = (usage.cached_tokens or 0, usage.cache_write_tokens or 0)
    agrees = (
        0 < prompt <= max_count
        and 0 <= completion <= max_count
        and stated.total_tokens == prompt + completion
        and min(cache) >= 0
        and sum(cache) <= prompt
        and 0 <= (usage.reasoning_tokens or 0) <= completion
    )
    return usage if agrees else None


def parse_usage(raw: bytes | Raw, max_count: int) -> Usage | None:
    """Read a usage object, known to be UTF-8; return None when it has no valid counts.

    Each count above `max_count` is refused.
    """
    usage = openai_usage(raw, max_count)
    if usage is not None:
        return usage
    try:
        return read_usage(msgspec.json.decode(raw), max_count)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def read_usage(reported: Any, max_count: int) -> Usage | None:
    """Read a decoded usage object; see `parse_usage`."""
    if not isinstance(reported, dict):
        return None
    counts = _Counts(max_count)
    for name, value in _members(reported):
        counts.add(name, value)
    return counts.usage()


def _members(reported: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the members with plain names, those of the objects with details among them."""
    for name, value in reported.items():
        plain = re.sub(r"[^a-z0-9]", "", name.lower())
        if not isinstance(value, dict):
            yield plain, value
        elif _DETAILS.fullmatch(plain):
            yield from _members(value)
        elif plain == _CACHE_CREATION:  # Anthropic's, by the time for which the cache keeps it
            kept = [count for count in value.values() if isinstance(count, int)]
            yield "cachecreationinputtokens", sum(kept)


def read_count(value: Any, most: int) -> int | None:
    """Return a count of tokens, or None for what is none; fractions are rounded up.

    Some upstreams write counts as floats or as strings of digits, also in groups of three.
    """
    if isinstance(value, str):
        plain = value.strip()
        plain = plain.replace(",", "") if _GROUPED.fullmatch(plain) else plain
        value = float(plain) if _NUMBER.fullmatch(plain) else None
    if isinstance(value, float) and math.isfinite(value):
        value = math.ceil(value)
    if type(value) is int and 0 <= value <= most:
        return value
    return None
