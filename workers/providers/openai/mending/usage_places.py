"""Find the usage, the stated cost and the block reason wherever an upstream puts them.

The usage may lie inside a choice (Moonshot), under a vendor's member (`x_groq.usage`), in a member
of another name (Gemini's `usageMetadata`), directly in a vendor's member (Bedrock) or in the event
itself. Some proxies write it as a list, or as JSON in a string.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from workers.money import to_microusd
from workers.providers.openai.mending.chunk_mender import read_index
from workers.providers.openai.mending.finish_reasons import CONTENT_FILTER, translated
from workers.request.token_usage import (
    BYTES_PER_TOKEN,
    Usage,
    openai_usage,
    parse_usage,
    read_count,
    read_usage,
    together,
)
from workers.units import MIB

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_CHUNK_NAMES = frozenset(
    {"id", "object", "created", "model", "choices", "usage", "service_tier", "system_fingerprint"}
)
_USAGE_NAMES = ("usage", "usagemetadata", "tokenusage", "usagestats", "tokens")
_NO_PLACES = ("choices", "error", "logprobs", "metadata", "prompt_filter_results")
"""Members without a usage; `metadata` is what the client has sent. Choices are searched apart."""
_COST_NAMES = ("cost", "total_cost", "estimated_cost", "cost_usd")
_MAX_COST = 10_000.0
"""A stated cost in dollars above this is refused: no completion costs as much."""
_MAX_DEPTH = 6
_MAX_BYTES_PER_TOKEN = 32
"""Texts have fewer bytes a token, white space included: a report of fewer tokens is not of it."""
_MAX_DETAIL = 2**53
_MAX_BROKEN_BYTES = MIB
"""How much of an answer that is no JSON is searched for a usage."""
_DETAILS = ("prompt_tokens_details", "completion_tokens_details")
_DETAIL_NAMES = (
    "cached_tokens",
    "cache_write_tokens",
    "audio_tokens",
    "reasoning_tokens",
    "accepted_prediction_tokens",
    "rejected_prediction_tokens",
)


class UsageSeen:
    """The usage that the events of one answer report: of each count the largest.

    Counts above `max_count` are refused. The stated cost counts only where it is authoritative.
    A count that is missing is shown to clients as the estimate that is booked for it. `at_end`: a
    choice has ended, so that a report which comes now is not that of the beginning.
    """

    def __init__(self, max_count: int, prompt_estimate: int, cost_is_authoritative: bool) -> None:
        self.usage: Usage | None = None
        self.stated_cost_microusd: int | None = None
        self.at_end = False
        self._of_end = False
        self._begun: tuple[Usage, Usage] | None = None
        self._max_count = max_count
        self._prompt_estimate = prompt_estimate
        self._cost_counts = cost_is_authoritative
        self._raw = b""  # the report that is shown to the client
        self._exact = False  # it is what OpenAI's schema promises
        self._by_choice: dict[int, Usage] = {}

    def note(self, raw: bytes) -> bool:
        """Read a usage object; return whether it is one."""
        usage = openai_usage(raw, self._max_count)
        exact = usage is not None
        usage = usage or parse_usage(raw, self._max_count)
        if usage is not None:
            self._add(raw, usage, exact)
        return usage is not None

    def note_plain(self, sent: dict[str, Any], payload: bytes) -> bool:
        """Read the usage of an event that has OpenAI's in its usual place, and only there.

        Cheaper than `search`, for the chunk with which nearly every stream ends.
        """
        if not _CHUNK_NAMES.issuperset(sent) or not isinstance(sent.get("usage"), dict):
            return False
        raw = bytes(_MEMBERS.decode(payload)["usage"])
        usage = openai_usage(raw, self._max_count)
        if usage is not None:
            self._add(raw, usage)
        return usage is not None

    def search(self, sent: Any) -> bool:
        """Read the usage wherever a decoded event has it; return whether it was found."""
        if not isinstance(sent, dict):
            return False
        found = _first_usage(_named_usage(sent), self._max_count) or self._of_choices(sent)
        found = found or _first_usage(_other_places(sent), self._max_count)
        if found is None:
            return False
        reported, usage = found
        self._add(msgspec.json.encode(reported), usage)
        return True

    def _of_choices(self, sent: dict[str, Any]) -> tuple[dict[str, Any], Usage] | None:
        """Return the usage inside the choices so far: each counts its own answer to one prompt."""
        last = None
        choices = sent.get("choices")
        for position, choice in enumerate(choices if isinstance(choices, list) else ()):
            found = _first_usage(_places_in_choice(choice), self._max_count)
            if found is not None:
                last, usage = found
                index = read_index(choice.get("index"), position)
                old = self._by_choice.get(index)
                self._by_choice[index] = usage if old is None else old.merged(usage)
        return None if last is None else (last, together(list(self._by_choice.values())))

    def note_failed(self, sent: Any) -> None:
        """Read the usage that an error reports: its upstream bills it.

        Only an object that is named so, with a prompt: errors also count what a limit allows.
        """
        for place in _named_inside(sent):
            usage = read_usage(place, self._max_count)
            if usage is not None and usage.prompt_tokens is not None:
                self._add(msgspec.json.encode(place), usage)
                return

    def counted(self, output_bytes: int) -> Usage | None:
        """Return the usage of an answer that has ended with this size of its text.

        Some proxies pass on only the report of the beginning: the prompt, and a token or none.
        """
        usage = self.usage
        if usage is None or self._of_end:
            return usage
        if (usage.completion_tokens or 0) * _MAX_BYTES_PER_TOKEN >= output_bytes:
            return usage
        if self._begun is None or self._begun[0] is not usage:
            rest = replace(usage, completion_tokens=None, total_tokens=None, reasoning_tokens=None)
            self._begun = (usage, rest)
        return self._begun[1]

    def _add(self, raw: bytes, usage: Usage, exact: bool = False) -> None:
        self._of_end = self._of_end or self.at_end
        old = self.usage
        if old is None:
            self.usage, self._raw, self._exact = usage, raw, exact
        else:
            self.usage = old.merged(usage)
            if self.usage != old or usage == old:
                self._raw = raw
                self._exact = exact and self.usage == usage
        if self._cost_counts:
            cost = stated_cost_microusd(decoded(raw))
            if cost is not None:
                self.stated_cost_microusd = max(cost, self.stated_cost_microusd or 0)

    def is_exact(self, output_bytes: int) -> bool:
        """Return whether the upstream's own report is what `shown` returns."""
        return self._exact or bool(decoded(self._raw) == self.shown(output_bytes))

    def shown(self, output_bytes: int) -> dict[str, Any]:
        """Return the usage for the client; `output_bytes` is the size of the generated text."""
        usage = self.counted(output_bytes)
        assert usage is not None
        if usage.is_missing_any(has_text=output_bytes > 0):
            usage = usage.filled(self._prompt_estimate, -(-output_bytes // BYTES_PER_TOKEN))
        return for_clients(decoded(self._raw), usage)


def _first_usage(
    places: Iterable[dict[str, Any]], max_count: int
) -> tuple[dict[str, Any], Usage] | None:
    """Return the first object that is a usage, and what it says, or None."""
    for place in places:
        usage = read_usage(place, max_count)
        if usage is not None:
            return place, usage
    return None


def _places_in_choice(choice: Any) -> Iterator[dict[str, Any]]:
    if isinstance(choice, dict):
        yield from _named_usage(choice)
        for name in ("delta", "message"):
            if isinstance(choice.get(name), dict):
                yield from _named_usage(choice[name])


def _other_places(sent: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the objects beside the choices that may be a usage, the likely ones first.

    What the model writes is not among them: it may have any names.
    """
    beside = {name: value for name, value in sent.items() if name not in _NO_PLACES}
    vendors = [value for value in beside.values() if isinstance(value, dict)]
    for vendor in vendors:
        yield from _named_usage(vendor)
    yield from vendors
    yield from _named_inside(beside)
    yield beside


def _named_usage(members: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, value in members.items():
        if re.sub(r"[^a-z]", "", name.lower()) in _USAGE_NAMES:
            usage = decoded(value.encode()) if isinstance(value, str) else value
            yield from filter(_is_object, usage if isinstance(usage, list) else (usage,))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _named_inside(sent: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the objects with the name of a usage at any place of an error."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(sent, dict):
        yield from _named_usage(sent)
    inner = sent.values() if isinstance(sent, dict) else sent if isinstance(sent, list) else ()
    for value in inner:
        yield from _named_inside(value, depth + 1)


def for_clients(reported: dict[str, Any], usage: Usage) -> dict[str, Any]:
    """Return a usage object with OpenAI's members, which are exact where the upstream's are not."""
    made = dict(reported)
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    for name, count in (("prompt_tokens", prompt), ("completion_tokens", completion)):
        if count is not None and (made.get(name) != count or type(made.get(name)) is not int):
            made[name] = count
    if prompt is not None and completion is not None:
        total = made.get("total_tokens")
        if type(total) is not int or total < prompt + completion:
            made["total_tokens"] = prompt + completion
    for name in _DETAILS:
        if isinstance(made.get(name), dict):
            made[name] = _with_integers(made[name])
        elif made.get(name) is not None:
            del made[name]  # Gemini's list by modality, or PHP's empty object, which is `[]`
    return made


def _with_integers(details: dict[str, Any]) -> dict[str, Any]:
    """Return details with integers; the Vercel AI SDK fails at any other type."""
    made = dict(details)
    for name in _DETAIL_NAMES:
        if made.get(name) is not None:
            made[name] = read_count(made[name], _MAX_DETAIL)
            if made[name] is None:
                del made[name]
    return made


def stated_cost_microusd(reported: Any) -> int | None:
    """Return what an upstream says that the answer costs, in `cost` of its usage, or None.

    OpenRouter states dollars; with a key of the owner's own (`is_byok`) it adds what the provider
    behind it charges. Perplexity states an object with a total.
    """
    if not isinstance(reported, dict):
        return None
    for name in _COST_NAMES:
        value = reported.get(name)
        if isinstance(value, dict):
            value = value.get("total_cost", value.get("total"))
        dollars = _dollars(value)
        if dollars is not None:
            details = reported.get("cost_details") if reported.get("is_byok") is True else None
            extra = details.get("upstream_inference_cost") if isinstance(details, dict) else None
            return to_microusd(dollars) + to_microusd(_dollars(extra) or 0.0)
    return None


def _dollars(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value <= _MAX_COST else None


def is_blocked(sent: Any, depth: int = 0) -> bool:
    """Return whether an answer says anywhere that the prompt or the answer was blocked.

    Gemini: `promptFeedback.blockReason`; Azure: `filtered` in `prompt_filter_results`.
    """
    if depth > _MAX_DEPTH:
        return False
    if isinstance(sent, list):
        return any(is_blocked(item, depth + 1) for item in sent)
    if not isinstance(sent, dict):
        return False
    return any(_says_blocked(name, value) or is_blocked(value, depth + 1)
               for name, value in sent.items())  # fmt: skip


def _says_blocked(name: str, value: Any) -> bool:
    plain = re.sub(r"[^a-z]", "", name.lower())
    if plain in ("filtered", "blocked", "flagged"):
        return value is True
    if plain == "blockreason":
        return isinstance(value, str) and value != "" and "unspecified" not in value.lower()
    return plain in ("finishreason", "stopreason") and translated(value) == CONTENT_FILTER


def first_object(body: bytes) -> Any:
    """Decode JSON, or of what is none the first object: more follows, or a text is no UTF-8."""
    whole = decoded(body)
    if whole is not None:
        return whole
    text = body[:_MAX_BROKEN_BYTES].decode(errors="replace")
    try:
        return json.JSONDecoder(strict=False).raw_decode(text, text.index("{"))[0]
    except (ValueError, RecursionError):
        return None


def decoded(payload: bytes) -> Any:
    """Decode JSON, or return None for what is none."""
    try:
        return msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
