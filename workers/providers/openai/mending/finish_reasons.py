"""The reasons with which upstreams end an answer, and the five of OpenAI's schema.

A reason is compared by its words, so that variants that no list names are read as well:
`MAX_TOKENS`, `max-output-tokens` and `FINISH_REASON_MAX_TOKENS` are all `length`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

STOP: Final = "stop"
LENGTH: Final = "length"
TOOL_CALLS: Final = "tool_calls"
CONTENT_FILTER: Final = "content_filter"
FUNCTION_CALL: Final = "function_call"
REASONS = frozenset((STOP, LENGTH, TOOL_CALLS, CONTENT_FILTER, FUNCTION_CALL))
COMPLETE = frozenset((STOP, TOOL_CALLS))
"""The reasons after which every tool call is whole."""
FAILED: Final = "failed"
"""What `translated` returns for a reason that names a failure."""

_MARKS = (
    # The order matters: `ERROR_TOXIC` (Cohere) is a filter, `malformed_function_call` (Gemini) and
    # `error_max_tokens` are failures, and `max_tokens_stop` is a length.
    (CONTENT_FILTER, ("filter", "safety", "moderat", "block", "prohibit", "recitation", "sensitiv",
                      "toxic", "guardrail", "refus", "spii", "censor", "policy", "violat")),
    (FAILED, ("error", "fail", "abort", "cancel", "timeout", "timed_out", "overload", "unavailable",
              "exception", "malformed", "unexpected", "insufficient", "interrupt", "disconnect",
              "crash", "invalid", "missing_thought", "preempt", "rate_limit")),
    (FUNCTION_CALL, ("function_call", "functioncall")),
    (TOOL_CALLS, ("tool", "function")),
    (LENGTH, ("max", "length", "limit", "window", "budget", "truncat", "incomplete", "too_long")),
    (STOP, ("stop", "eos", "end", "complete", "finish", "done", "success", "normal", "pause")),
)  # fmt: skip
"""By meaning: parts of words, in lower case with underscores."""
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_PREFIX = re.compile(r"^finish_?reason_")


def translated(reason: Any) -> str | None:
    """Return the reason of OpenAI's schema, `FAILED`, "" for no reason yet, or None: unknown."""
    if reason is None or reason is False or reason in ("", 0):
        return ""
    if not isinstance(reason, str):
        return None
    words = _CAMEL.sub("_", reason.strip()).lower()
    words = _PREFIX.sub("", re.sub(r"[^a-z0-9]+", "_", words))
    if words in ("", "null", "none", "unspecified"):
        return ""
    return next(
        (meaning for meaning, marks in _MARKS if any(mark in words for mark in marks)), None
    )


def forces_function(fields: Mapping[str, Raw]) -> bool:
    """Return whether a request names the function to call: such a call ends with `stop`."""
    if "tool_choice" not in fields and "function_call" not in fields:
        return False
    choice = msgspec.json.decode(fields.get("tool_choice", b"null"))
    if isinstance(choice, dict):
        return choice.get("type") != "allowed_tools"
    return isinstance(msgspec.json.decode(fields.get("function_call", b"null")), dict)
