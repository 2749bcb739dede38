"""Mend the log probabilities of a choice as OpenAI's schema promises them.

The Vercel AI SDK refuses an answer whose tokens lack `top_logprobs`; openai-python fails at a list.
Servers of plain completions state lists side by side: `tokens` and `token_logprobs`.
"""

from __future__ import annotations

import math
from typing import Any, Final

_LISTS: Final = ("content", "refusal")
_MIN_LOGPROB: Final = -9999.0
"""What OpenAI states for a token that is out of the question."""


def mended_logprobs(sent: Any) -> dict[str, Any] | None:
    """Return the log probabilities of a choice, or None where there are none that can be read."""
    if not isinstance(sent, dict) or not sent:
        return None
    made = dict(sent)
    tokens, numbers = made.pop("tokens", None), made.pop("token_logprobs", None)
    if isinstance(tokens, list) and isinstance(numbers, list):
        for name in ("top_logprobs", "text_offset"):
            made.pop(name, None)
        pairs = zip(tokens, numbers, strict=False)
        made["content"] = [{"token": token, "logprob": number} for token, number in pairs]
    for name in _LISTS:
        listed = made.get(name)
        made[name] = _tokens(listed, top=True) if isinstance(listed, list) else None
    return made


def _tokens(sent: list[Any], *, top: bool) -> list[dict[str, Any]]:
    """Return those of the tokens that have a text; `top`: each with the list of its rivals."""
    made = []
    for each in sent:
        if not isinstance(each, dict) or not isinstance(each.get("token"), str):
            continue
        token = {"bytes": None, **each, "logprob": _number(each.get("logprob"))}
        if not isinstance(token["bytes"], list):
            token["bytes"] = None
        if top:
            rivals = token.get("top_logprobs")
            token["top_logprobs"] = _tokens(rivals, top=False) if isinstance(rivals, list) else []
        made.append(token)
    return made


def _number(value: Any) -> float:
    known = isinstance(value, (int, float)) and math.isfinite(value)
    return float(value) if known else _MIN_LOGPROB
