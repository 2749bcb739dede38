"""Make one whole answer of the chunks of a stream, for an upstream that streams unasked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from workers.providers.openai.mending.chunk_mender import ASSISTANT

_NOT_TEXT = ("role", "id", "type", "index")


def collected(chunks: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the members of a whole answer; the chunks are as clients would get them."""
    answer: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        answer.update({name: value for name, value in chunk.items() if name != "choices"})
        for choice in chunk["choices"]:
            index = choice["index"]
            made = choices.setdefault(
                index, {"index": index, "message": {"role": ASSISTANT, "content": None}}
            )
            _add_choice(made, choice)
    for made in choices.values():
        made.setdefault("finish_reason", None)
    answer.pop("object", None)
    return answer | {"choices": [choices[index] for index in sorted(choices)]}


def _add_choice(made: dict[str, Any], sent: dict[str, Any]) -> None:
    for name, value in sent.items():
        if name == "delta":
            _add_text(made["message"], value)
        elif name == "logprobs" and isinstance(made.get(name), dict) and isinstance(value, dict):
            _add_lists(made[name], value)
        elif value is not None or name not in made:
            made[name] = value


def _add_text(made: dict[str, Any], sent: dict[str, Any]) -> None:
    """Add a delta: strings are joined, calls are joined by their index, other lists grow."""
    for name, value in sent.items():
        old = made.get(name)
        if name == "tool_calls" and isinstance(value, list):
            _add_calls(made.setdefault(name, []), value)
        elif isinstance(value, str) and isinstance(old, str) and name not in _NOT_TEXT:
            made[name] = old + value
        elif isinstance(value, dict) and isinstance(old, dict):
            _add_text(old, value)
        elif isinstance(value, list) and isinstance(old, list):
            old.extend(value)
        elif value is not None or name not in made:
            made[name] = value


def _add_calls(made: list[dict[str, Any]], fragments: list[dict[str, Any]]) -> None:
    for fragment in fragments:
        place = fragment.get("index", len(made))
        while len(made) <= place:
            made.append({})
        _add_text(made[place], fragment)


def _add_lists(made: dict[str, Any], sent: dict[str, Any]) -> None:
    for name, value in sent.items():
        if isinstance(made.get(name), list) and isinstance(value, list):
            made[name].extend(value)
        elif value is not None:
            made[name] = value
