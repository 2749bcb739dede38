"""Read how long an upstream asks to wait, wherever it says so: headers, JSON members, words.

retry-after-ms: 1500                OpenAI, Azure; more exact, so it comes first
retry-after: 7 / HTTP date          RFC 9110, section 10.2.3
"retryDelay": "34s"                 Google's RetryInfo
"resets_at": 1764353000             Unix seconds or milliseconds, or ISO 8601
Please try again in 6m0s.           OpenAI, Groq, Azure ("Please retry after 34 seconds")
x-ratelimit-reset-tokens: 6m0s      OpenAI, Groq; Unix time at OpenRouter; ISO at Anthropic
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from workers.units import DAY_S, HOUR_S, MINUTE_S

MAX_WAIT_S = float(HOUR_S)
"""The longest Retry-After that is passed on."""

_MAX_VALUES = 300
_MAX_LEVELS = 8
_UNITS = {"ms": 0.001, "s": 1.0, "m": float(MINUTE_S), "h": float(HOUR_S), "d": float(DAY_S)}
_UNIT = r"(?:ms|milliseconds?|msecs?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)"
_PIECE = re.compile(rf"(\d+(?:\.\d+)?)\s*({_UNIT})(?![a-z])", re.IGNORECASE)
_PIECES = rf"\d+(?:\.\d+)?\s*{_UNIT}(?![a-z])(?:[,\s]*(?:and\s+)?\d+(?:\.\d+)?\s*{_UNIT}(?![a-z]))*"
_COMPACT = re.compile(rf"(?:\d+(?:\.\d+)?{_UNIT})+", re.IGNORECASE)
_COMPACT_PIECE = re.compile(rf"(\d+(?:\.\d+)?)({_UNIT})", re.IGNORECASE)
_AGAIN = r"\b(?:again|retry(?:ing)?|wait(?:ing)?|available|resets?|retry[-_ ]?after|regain)\b"
_IN_WORDS = re.compile(
    rf"{_AGAIN}[^\d\n]{{0,40}}?(?P<wait>(?:\d+(?:\.\d+)?{_UNIT}){{2,}}(?![a-z])|{_PIECES})",
    re.IGNORECASE,
)
_PLAIN_NUMBER = re.compile(r"\bretry[-_ ]?after\W{1,3}(?P<wait>\d+(?:\.\d+)?)\b", re.IGNORECASE)
_AT = re.compile(
    rf"(?:{_AGAIN}|\buntil\b)[^\d\n]{{0,40}}?"
    r"(?P<at>\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)\s?(?P<zone>Z|UTC|[+-]\d\d:?\d\d)?",
    re.IGNORECASE,
)
_MEMBER = re.compile(
    r"(?:x?ratelimit|quota)?(?:retry|resets?|wait)"
    r"(?:after|in|at|on|time|timestamp|delay|until)*(?P<unit>ms|milliseconds|s|secs|seconds)?"
    r"|estimatedtime"
)
"""The name of a member that holds a wait, in lower case and without separators."""
_RESET_HEADER = re.compile(r"(?:x-|[a-z]+-)?ratelimit-(?:[a-z-]+-)?reset(?:-[a-z-]+)?")
_LIMIT_ITEM = re.compile(r"\br=(?P<left>\d+)\b[^,]*\bt=(?P<wait>\d+)")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the wait of `retry-after-ms` or `retry-after` (seconds or a date), capped.

    `retry-after-ms` is OpenAI's and more exact, so it comes first, as in the official SDKs.
    """
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        wait_s = _number(headers.get(name), 1000.0)
        if wait_s is not None:
            return capped(wait_s)
    text = headers.get("retry-after")
    wait_s = _number(text, 1.0)
    if wait_s is None:
        wait_s = _until_date(text, time.time())
    if wait_s is None and text:
        wait_s = _duration(text)
    return capped(wait_s)


def reset_s(headers: Mapping[str, str]) -> float | None:
    """Return the time until a used up limit is reset, from the headers that describe limits.

    The limits of which nothing remains count, the longest of them; where none says so, the
    shortest of all. OpenAI sends such headers with every answer: read them for rate limits only.
    """
    now = time.time()
    spent: list[float] = []
    others: list[float] = []
    for name, text in headers.items():
        if name == "ratelimit":  # draft-ietf-httpapi-ratelimit-headers
            for item in _LIMIT_ITEM.finditer(text):
                (others if int(item["left"]) else spent).append(float(item["wait"]))
        elif _RESET_HEADER.fullmatch(name):
            wait_s = read_wait(text, now)
            if wait_s is not None:
                left = headers.get(name.replace("reset", "remaining"), "").strip()
                (spent if left == "0" else others).append(wait_s)
    if spent:
        return capped(max(spent))
    return capped(min(others)) if others else None


def wait_in_json(reported: Any) -> float | None:
    """Return the wait that a member of a decoded error names, at any level."""
    now = time.time()
    for name, value in _members(reported):
        found = _MEMBER.fullmatch(re.sub(r"[^a-z]", "", name.lower()))
        if found:
            unit = found["unit"] or ""
            wait_s = read_wait(value, now, 1000.0 if unit.startswith("m") else 1.0)
            if wait_s is not None:
                return capped(wait_s)
    return None


def wait_in_words(text: str) -> float | None:
    """Return the wait that a message states: "try again in 6m0s", "reset at 2026-01-01T00:00Z"."""
    found = _IN_WORDS.search(text)
    if found:
        return capped(_duration(found["wait"]))
    found = _PLAIN_NUMBER.search(text)
    if found:
        return capped(float(found["wait"]))
    found = _AT.search(text)
    if found:
        zone = (found["zone"] or "").upper().replace("UTC", "Z")
        wait_s = _until_iso(found["at"] + zone, time.time())
        # A time without a zone may be the upstream's local one: it says nothing once it is past.
        return capped(wait_s) if wait_s is not None and (zone or wait_s > 0) else None
    return None


def read_wait(value: Any, now: float, per_second: float = 1.0) -> float | None:
    """Return the seconds of a wait: a number, a duration, Unix time, ISO 8601 or an HTTP date.

    A number of a billion or more is Unix time, in seconds or parts of them.
    """
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            for wait_s in (_duration(value), _until_iso(value, now), _until_date(value, now)):
                if wait_s is not None:
                    return wait_s
            return None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    else:
        return None
    if not math.isfinite(number) or number < 0:
        return None
    if number < 1e9:
        return number / per_second
    while number >= 1e11:  # milliseconds, microseconds or nanoseconds
        number /= 1000
    return max(number - now, 0.0)


def capped(wait_s: float | None) -> float | None:
    """Return a wait within what is passed on."""
    return None if wait_s is None else min(max(wait_s, 0.0), MAX_WAIT_S)


def _members(reported: Any) -> Iterator[tuple[str, Any]]:
    """Yield the members of nested JSON, level by level, up to a number of values."""
    level, left = [reported], _MAX_VALUES
    for _ in range(_MAX_LEVELS):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                yield from ((str(name), member) for name, member in value.items())
                inner.extend(value.values())
            elif isinstance(value, list):
                inner.extend(value)
        level = [value for value in inner[:left] if isinstance(value, dict | list)]
        left -= len(level)
        if not level or left <= 0:
            return


def _number(text: str | None, per_second: float) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number / per_second if math.isfinite(number) else None


def _duration(text: str) -> float | None:
    """Return the seconds of "6m0s", "1.5s", "250ms", "2 minutes" or "1 hour and 5 minutes"."""
    text = text.strip()
    piece = _COMPACT_PIECE if _COMPACT.fullmatch(text) else _PIECE
    pieces = piece.findall(text)
    if not pieces or not text[:1].isdigit():
        return None
    return sum(float(number) * _unit_s(unit.lower()) for number, unit in pieces)


def _unit_s(unit: str) -> float:
    return _UNITS["ms"] if unit.startswith(("ms", "milli")) else _UNITS[unit[0]]


def _until_date(text: str | None, now: float) -> float | None:
    try:
        return parsedate_to_datetime(text or "").timestamp() - now
    except (ValueError, OverflowError):
        return None


def _until_iso(text: str, now: float) -> float | None:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp() - now
