"""Read an answer as clients do, and insist on what official clients rely on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from support.schemas import validate_chunk, validate_completion

from server.demo.upstream_shapes import UpstreamShape

REASONS = ("stop", "length", "tool_calls", "content_filter", "function_call")


@dataclass
class ReadAnswer:
    """What one choice of an answer says."""

    text: str = ""
    thinking: str = ""
    reason: str | None = None
    calls: list[tuple[str, str]] = field(default_factory=list)


def read_chunks(chunks: Iterable[dict[str, Any]], *, schema: bool = True) -> ReadAnswer:
    """Add the chunks of a stream up; no member comes twice, and each is valid by OpenAI's schema.

    `schema=False` leaves the schema out, which takes most of the time.
    """
    read, ids, roles = ReadAnswer(), set(), 0
    calls: list[dict[str, Any]] = []
    for chunk in chunks:
        if schema:
            validate_chunk(chunk)
        assert chunk["id"] and chunk["created"] > 0
        ids.add((chunk["id"], chunk["created"], chunk["object"]))
        for choice in chunk["choices"]:
            delta = choice["delta"]
            check_beside(choice, delta)
            assert choice["index"] == 0
            roles += "role" in delta
            read.text += delta.get("content") or ""
            thinking = delta.get("reasoning_content") or ""
            assert thinking == (delta.get("reasoning") or ""), "both names say the same"
            read.thinking += thinking
            for fragment in delta.get("tool_calls") or ():
                add_fragment(calls, fragment)
            if choice["finish_reason"] is not None:
                assert read.reason is None, "one reason"
                read.reason = choice["finish_reason"]
                assert read.reason in REASONS
    assert len(ids) <= 1 and roles <= 1 and (roles == 1 or not read.text)
    read.calls = [(call["name"], call["arguments"]) for call in calls]
    assert len({call["id"] for call in calls}) == len(calls)
    return read


def check_beside(choice: dict[str, Any], text: dict[str, Any]) -> None:
    """Check log probabilities and citations as the Vercel AI SDK does."""
    logprobs = choice.get("logprobs")
    if logprobs is not None:
        for token in logprobs["content"] or ():
            assert isinstance(token["token"], str) and isinstance(token["logprob"], float)
            assert all(isinstance(each["logprob"], float) for each in token["top_logprobs"])
    for annotation in text.get("annotations") or ():
        assert annotation["type"] == "url_citation"
        cited = annotation["url_citation"]
        assert isinstance(cited["url"], str) and isinstance(cited["title"], str)
        assert isinstance(cited["start_index"], int) and isinstance(cited["end_index"], int)


def add_fragment(calls: list[dict[str, Any]], fragment: dict[str, Any]) -> None:
    """Add a fragment of a tool call as openai-python does: strings are joined."""
    index, function = fragment["index"], fragment["function"]
    if index == len(calls):
        assert fragment["id"] and fragment["type"] == "function" and function["name"]
        calls.append({"id": fragment["id"], "name": function["name"], "arguments": ""})
    else:
        assert index < len(calls)
        assert "id" not in fragment and "name" not in function
    arguments = function.get("arguments", "")
    assert isinstance(arguments, str)
    calls[index]["arguments"] += arguments


def read_whole(body: bytes) -> ReadAnswer:
    """Read a whole answer; it is valid."""
    answer = json.loads(body)
    validate_completion(answer)
    assert answer["id"] and answer["created"] > 0
    (choice,) = answer["choices"]
    message = choice["message"]
    assert choice["index"] == 0 and choice["finish_reason"] in REASONS
    thinking = message.get("reasoning_content") or ""
    assert thinking == (message.get("reasoning") or "")
    check_beside(choice, message)
    calls = message.get("tool_calls") or []
    for call in calls:
        assert call["id"] and call["type"] == "function" and "index" not in call
    assert len({call["id"] for call in calls}) == len(calls)
    return ReadAnswer(
        message["content"] or "",
        thinking,
        choice["finish_reason"],
        [(call["function"]["name"], call["function"]["arguments"]) for call in calls],
    )


def promised(shape: UpstreamShape) -> ReadAnswer:
    """Return what a client gets of a shape that succeeds."""
    return ReadAnswer(shape.text, shape.thinking, shape.reason, list(shape.calls))
