"""Members that strict clients insist on, beyond the rows of the catalogue.

The Vercel AI SDK checks every chunk against a schema; LangChain and openai-python join deltas.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.fakes.openai_wire import translator

NAME = {"id": "chatcmpl-1", "created": 1760000000, "model": "m"}
FUNCTION = {"index": 0, "id": "x", "type": "function", "function": {"name": "f", "arguments": ""}}


def streamed(*deltas: tuple[dict[str, Any], str | None]) -> list[dict[str, Any]]:
    """Return the choices that a client gets of a stream of deltas and finish reasons."""
    one, out = translator(), b""
    for delta, reason in deltas:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        sent = NAME | {"object": "chat.completion.chunk", "choices": [choice]}
        out += one.feed(b"data: " + json.dumps(sent).encode() + b"\n\n")
    out += one.feed(b"data: [DONE]\n\n")
    events = out.decode().split("\n\n")[:-2]
    return [json.loads(each.removeprefix("data: "))["choices"][0] for each in events]


def whole(message: dict[str, Any]) -> dict[str, Any]:
    """Return the message that a client gets of a whole answer."""
    choice: dict[str, Any] = {"index": 0, "logprobs": None}
    choice["message"] = {"role": "assistant", "content": None} | message
    choice["finish_reason"] = "tool_calls" if "tool_calls" in message else "stop"
    sent = NAME | {"object": "chat.completion", "choices": [choice]}
    answer = json.loads(translator(stream=False).whole(json.dumps(sent).encode()))
    made: dict[str, Any] = answer["choices"][0]["message"]
    return made


def test_a_whole_call_of_another_type_is_a_function() -> None:
    call = {"id": "x", "type": "tool_call", "function": {"name": "f", "arguments": "{}"}}
    assert whole({"tool_calls": [call]})["tool_calls"] == [call | {"type": "function"}]


@pytest.mark.parametrize("beside", [{}, {"type": "url_citation"}])
def test_a_flat_citation_keeps_what_it_says(beside: dict[str, str]) -> None:
    told = {"url": "https://example.org/", "title": "T", "start_index": 1, "end_index": 2}
    nested = {"type": "url_citation", "url_citation": told}
    flat = told | {"type": "url_citation"}
    assert whole({"content": "Hi", "annotations": [flat]})["annotations"] == [nested]
    part = beside | {"url_citation": {"url": "https://example.org/"}, "title": "T", "end_index": 2}
    (made,) = whole({"content": "Hi", "annotations": [part]})["annotations"]
    assert made == {"type": "url_citation", "url_citation": told | {"start_index": 0}}


def test_an_annotation_of_another_type_stays() -> None:
    other = {"type": "file", "file": {"name": "a.pdf", "hash": "1"}}
    assert whole({"content": "Hi", "annotations": [other]})["annotations"] == [other]


def test_a_delta_has_one_fragment_of_a_call() -> None:
    (made,) = streamed(({"role": "assistant", "tool_calls": [FUNCTION]}, "tool_calls"))
    (call,) = made["delta"]["tool_calls"]
    assert call["function"] == {"name": "f", "arguments": "{}"}


@pytest.mark.parametrize("reason", [None, "tool_calls", "stop", "length"])
def test_only_a_call_that_is_whole_gets_arguments(reason: str | None) -> None:
    last: list[tuple[dict[str, Any], str | None]] = [({}, reason)] if reason else []
    *_, end = streamed(({"role": "assistant", "tool_calls": [FUNCTION]}, None), *last)
    added = [{"index": 0, "function": {"arguments": "{}"}}]
    assert end["delta"] == ({} if reason == "length" else {"tool_calls": added})
    assert end["finish_reason"] == ("length" if reason == "length" else "tool_calls")


def test_a_call_of_a_custom_tool_gets_no_arguments() -> None:
    call = {"index": 0, "id": "x", "type": "custom", "custom": {"name": "c", "input": ""}}
    piece = {"index": 0, "custom": {"input": "a"}}
    first, second, end = streamed(
        ({"role": "assistant", "tool_calls": [call]}, None),
        ({"tool_calls": [piece]}, None),
        ({}, "tool_calls"),
    )
    assert first["delta"]["tool_calls"] == [call]
    assert second["delta"]["tool_calls"] == [piece] and end["delta"] == {}
