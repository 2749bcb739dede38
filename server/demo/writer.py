"""Encode the demo's answers in OpenAI's wire format: chunks of a stream, or one whole object."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from server.demo.answer import DemoAnswer, DemoChoice, DemoToolCall
from server.demo.request import DemoRequest

DONE = b"data: [DONE]\n\n"
FINGERPRINT = "demo-upstream-no-model"


class Writer:
    """The encoder of one answer; all chunks share id, time and model."""

    def __init__(self, request: DemoRequest, answer: DemoAnswer) -> None:
        self._request = request
        self._answer = answer
        self._shared: dict[str, Any] = {
            "id": f"chatcmpl-demo{secrets.token_hex(10)}",
            "created": int(time.time()),
            "model": request.model,
            "system_fingerprint": FINGERPRINT,
        }

    def whole(self) -> bytes:
        """Return the answer as one object."""
        choices = [
            {
                "index": index,
                "message": _message(choice),
                "logprobs": None,
                "finish_reason": choice.finish_reason,
            }
            for index, choice in enumerate(self._answer.choices)
        ]
        body = {"object": "chat.completion", "choices": choices, "usage": self._answer.usage()}
        return msgspec.json.encode(self._shared | body)

    def events(self) -> Iterator[bytes]:
        """Yield the stream's events up to the last finish_reason, with the choices interleaved."""
        streams = [
            self._choice_events(index, choice) for index, choice in enumerate(self._answer.choices)
        ]
        for together in itertools.zip_longest(*streams):
            yield from filter(None, together)

    def end(self) -> bytes:
        """Return the end of the stream: the usage chunk, if requested, and the end mark."""
        if not self._request.include_usage:
            return DONE
        return self._event({"choices": [], "usage": self._answer.usage()}) + DONE

    def _choice_events(self, index: int, choice: DemoChoice) -> Iterator[bytes]:
        yield self._delta(index, {"role": "assistant", "content": ""})
        for piece in choice.reasoning:
            yield self._delta(index, {"reasoning_content": piece})
        for piece in choice.content:
            yield self._delta(index, {"content": piece})
        for number, call in enumerate(choice.tool_calls):
            head = {"name": call.name, "arguments": ""}
            opening = {"index": number, "id": call.id, "type": "function", "function": head}
            yield self._delta(index, {"tool_calls": [opening]})
            for piece in call.arguments:
                more = {"index": number, "function": {"arguments": piece}}
                yield self._delta(index, {"tool_calls": [more]})
        yield self._delta(index, {}, choice.finish_reason)

    def _delta(self, index: int, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": None,
            "finish_reason": finish_reason,
        }
        usage = {"usage": None} if self._request.include_usage else {}
        return self._event({"choices": [choice], **usage})

    def _event(self, fields: dict[str, Any]) -> bytes:
        chunk = self._shared | {"object": "chat.completion.chunk"} | fields
        return b"data: %b\n\n" % msgspec.json.encode(chunk)


def error_event(message: str) -> bytes:
    """Return the event that reports a failure inside a stream."""
    error = {"message": message, "type": "server_error", "param": None, "code": "demo_failure"}
    return b"data: %b\n\n" % msgspec.json.encode({"error": error})


def _message(choice: DemoChoice) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(choice.content) if choice.content or not choice.tool_calls else None,
        "refusal": None,
    }
    if choice.reasoning:
        message["reasoning_content"] = "".join(choice.reasoning)
    if choice.tool_calls:
        message["tool_calls"] = [_called(call) for call in choice.tool_calls]
    return message


def _called(call: DemoToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": "".join(call.arguments)}
    return {"id": call.id, "type": "function", "function": function}
