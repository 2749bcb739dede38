"""Mend what agents write into the history of a conversation and upstreams refuse.

Agents send the history again with each request, so one message that an upstream refuses would end
the conversation for good. Only messages with such a fault are changed:

    a tool call without `id`                the id of its answer, else one made of its place
    an answer without `tool_call_id`        the id of the next call that has no answer
    a call without `type`                   "function"
    `arguments` as an object                the same as a string; null and [] are "{}"
    `content: []` beside tool calls         null
    `"image_url": "https://..."`            {"url": "https://..."}, also of films and sounds
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

_OBJECTS = msgspec.json.Decoder(list[dict[str, Raw]])
_MEMBERS = msgspec.json.Decoder(dict[str, Raw])
_NULL = Raw(b"null")
_FUNCTION = Raw(b'"function"')
_NO_ID = (b"null", b'""')
_NO_ARGUMENTS = (b"null", b"[]")
_STRING = b'"'[0]

URL_PARTS = ("image_url", "video_url", "audio_url")
"""Types of parts, each with a member of the same name that is an object with a `url`."""
_LIST = b"["[0]

Members = dict[str, Raw]


def mended_history(messages: Raw) -> Raw:
    """Return the messages of a request without these faults."""
    history = _OBJECTS.decode(messages)
    waiting: list[str] = []  # the ids of calls without an answer, in order
    for index, message in enumerate(history):
        role = bytes(message.get("role", b""))
        _mend_urls(message)
        if role == b'"assistant"':
            waiting = _mend_calls(message, index, history)
        elif role == b'"tool"':
            _mend_answer(message, waiting)
    return Raw(msgspec.json.encode(history))


def _mend_urls(message: Members) -> None:
    """Write the URLs of parts that are strings as objects."""
    content = message.get("content", _NULL)
    if memoryview(content)[0] != _LIST:
        return
    parts = _OBJECTS.decode(content)
    changed = False
    for part in parts:
        for name in URL_PARTS:
            url = part.get(name, _NULL)
            if (
                memoryview(url)[0] == _STRING
                and bytes(part.get("type", b"")) == b'"%b"' % name.encode()
            ):
                part[name] = Raw(b'{"url":%b}' % url)
                changed = True
    if changed:
        message["content"] = Raw(msgspec.json.encode(parts))


def _mend_calls(message: Members, index: int, history: Sequence[Members]) -> list[str]:
    """Mend the calls of one message, and return their ids."""
    if bytes(message.get("function_call", _NULL)) != b"null":
        message["function_call"] = _with_text_arguments(message["function_call"])
    if bytes(message.get("tool_calls", _NULL)) in _NO_ARGUMENTS:
        return []
    calls = _OBJECTS.decode(message["tool_calls"])
    known = {_id_of(call.get("id")) for call in calls} - {""}
    answered = _answers_after(index, history)
    ids = []
    for position, call in enumerate(calls):
        call_id = _id_of(call.get("id"))
        if not call_id:
            answer = answered[position] if position < len(answered) else ""
            call_id = answer if answer and answer not in known else f"call_{index}_{position}"
            known.add(call_id)
            call["id"] = Raw(msgspec.json.encode(call_id))
        if bytes(call.get("type", _NULL)) == b"null":
            call["type"] = _FUNCTION
        if "function" in call and bytes(call["function"]) != b"null":
            call["function"] = _with_text_arguments(call["function"])
        ids.append(call_id)
    message["tool_calls"] = Raw(msgspec.json.encode(calls))
    content = bytes(message.get("content", b""))
    if content[:1] == b"[" and not content[1:-1].strip():
        message["content"] = _NULL
    return ids


def _answers_after(index: int, history: Sequence[Members]) -> list[str]:
    """Return the ids in the answers that follow a message, "" for one without."""
    ids = []
    for message in history[index + 1 :]:
        if bytes(message.get("role", b"")) != b'"tool"':
            break
        ids.append(_id_of(message.get("tool_call_id")))
    return ids


def _mend_answer(message: Members, waiting: list[str]) -> None:
    """Add the id of the call that an answer answers, and note that it has its answer."""
    call_id = _id_of(message.get("tool_call_id"))
    if not call_id and waiting:
        call_id = waiting[0]
        message["tool_call_id"] = Raw(msgspec.json.encode(call_id))
    if call_id in waiting:
        waiting.remove(call_id)


def _with_text_arguments(function: Raw) -> Raw:
    """Return a function call whose arguments are a string."""
    members: dict[str, Any] = dict(_MEMBERS.decode(function))
    arguments = members.get("arguments", _NULL)
    if memoryview(arguments)[0] == _STRING:
        return function
    text = bytes(arguments)
    members["arguments"] = "{}" if text in _NO_ARGUMENTS else text.decode()
    return Raw(msgspec.json.encode(members))


def _id_of(value: Raw | None) -> str:
    """Return an id, "" if there is none."""
    if value is None or bytes(value) in _NO_ID:
        return ""
    return str(msgspec.json.decode(value))
