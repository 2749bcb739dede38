"""Mend the text members of a message or delta, whole or streamed.

Content may come as a list of parts (Mistral, Anthropic-shaped servers), thinking under one of
several names. Clients read `reasoning_content` (DeepSeek's name: LangChain, LiteLLM) or `reasoning`
(OpenRouter's: the agents Cline and Roo), rarely both, so both are sent with the same text. Parts of
other kinds are never lost: calls become `tool_calls`, and what has no place in OpenAI's messages
stays in the member `content_parts`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from workers.providers.openai.mending.annotations import mended_annotations
from workers.providers.openai.mending.tool_calls import with_text_arguments

THINKING_NAMES = ("reasoning_content", "reasoning")
"""The names that clients get."""
_OTHER_THINKING_NAMES = ("thinking", "reasoning_text", "thoughts")
_PICTURES = ("image_url", "image")
_CALLS = ("tool_use", "tool_call", "function_call", "function")
_TEXT_NAMES = ("text", "content", "value")
OTHER_PARTS = "content_parts"
"""The member for parts that OpenAI's messages have no place for."""


class Parts(NamedTuple):
    """What a list of content parts says; `others` are those of unknown kinds."""

    text: str
    thinking: str
    refusal: str
    pictures: list[Any]
    calls: list[dict[str, Any]]
    others: list[Any]


def with_plain_text(sent: dict[str, Any]) -> dict[str, Any]:
    """Return a message or delta whose texts are strings under the names that clients read."""
    made = dict(sent)
    thinking = ""
    content = made.get("content")
    if isinstance(content, (list, dict)):
        parts = read_parts(content)
        made["content"], thinking = parts.text, parts.thinking
        _set_parts(made, parts)
    elif content is not None and not isinstance(content, str):
        made["content"] = msgspec.json.encode(content).decode()
    refusal = made.get("refusal")
    if isinstance(refusal, bool):
        made["refusal"] = None  # some servers state `false`
    elif refusal is not None and not isinstance(refusal, str):
        made["refusal"] = _text_of(refusal) or msgspec.json.encode(refusal).decode()
    if made.get("annotations") is not None:
        made["annotations"] = mended_annotations(made["annotations"])
    _set_thinking(made, thinking)
    call = made.get("function_call")
    if isinstance(call, dict):
        made["function_call"] = _without_empty_name(with_text_arguments(dict(call), first=False))
    return made


def _set_parts(made: dict[str, Any], parts: Parts) -> None:
    """Put what is no text into members of the message."""
    if parts.pictures:
        made.setdefault("images", parts.pictures)  # where OpenRouter puts them
    if parts.refusal and not made.get("refusal"):
        made["refusal"] = parts.refusal
    if parts.calls and not made.get("tool_calls"):
        made["tool_calls"] = parts.calls
    if parts.others:
        made.setdefault(OTHER_PARTS, parts.others)


def _set_thinking(made: dict[str, Any], from_parts: str) -> None:
    thoughts = [_text_of(made[name]) for name in THINKING_NAMES if made.get(name)]
    if not thoughts:
        thoughts = [_text_of(made[name]) for name in _OTHER_THINKING_NAMES if made.get(name)]
    thinking = from_parts or (thoughts[0] if thoughts else "")
    if len(thoughts) > 1 and thoughts[0] != thoughts[1]:
        return  # two texts that differ: neither is lost
    if thinking:
        made.update(dict.fromkeys(THINKING_NAMES, thinking))


def read_parts(content: Any) -> Parts:
    """Return the texts of content parts, each kind joined, and everything else among them."""
    text: list[str] = []
    thinking: list[str] = []
    refusal: list[str] = []
    pictures: list[Any] = []
    calls: list[dict[str, Any]] = []
    others: list[Any] = []
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            text.append(part)
        elif isinstance(part, dict) and part:
            kind = part.get("type")
            if kind in _PICTURES:
                pictures.append(part)
            elif isinstance(part.get("refusal"), str):
                refusal.append(part["refusal"])
            elif kind in ("thinking", "reasoning") or "thinking" in part:
                thinking.append(_text_of(part.get("thinking") or part.get("text")))
            elif kind in _CALLS:
                calls.append(_call_of(part))
            elif _is_text(part):
                text.append(
                    next((_text_of(part[name]) for name in _TEXT_NAMES if name in part), "")
                )
            else:
                others.append(part)
        elif part not in (None, {}, []):
            others.append(part)
    return Parts("".join(text), "".join(thinking), "".join(refusal), pictures, calls, others)


def _is_text(part: dict[str, Any]) -> bool:
    """Return whether a part is text: by its type, or by its only member if it has no type."""
    kind = part.get("type")
    if isinstance(kind, str):
        return kind.endswith("text")
    return any(isinstance(part.get(name), str) for name in _TEXT_NAMES)


def _call_of(part: dict[str, Any]) -> dict[str, Any]:
    """Return the call in a part: Anthropic's `tool_use`, or OpenAI's call as a part."""
    function = part.get("function")
    if not isinstance(function, dict):
        arguments: Any = next((part[name] for name in ("input", "arguments") if name in part), {})
        function = {"name": part.get("name"), "arguments": arguments}
    call_id = part.get("id") or part.get("call_id") or part.get("tool_call_id")
    return {"id": call_id, "type": "function", "function": function}


def _text_of(value: Any) -> str:
    """Return the text in a string, a part or a list of parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(_text_of, value))
    if isinstance(value, dict):
        names = ("text", "content", "thinking", "value", "summary")
        return "".join(_text_of(value[name]) for name in names if value.get(name))
    return ""


def _without_empty_name(function: dict[str, Any]) -> dict[str, Any]:
    if not function.get("name"):
        function.pop("name", None)
    return function
