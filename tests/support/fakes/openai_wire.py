"""Events as an OpenAI-shaped upstream writes them, and a translator to read them with."""

from __future__ import annotations

import json
from typing import Any

from workers.catalog.catalog import Deployment, Model
from workers.providers.openai.openai_translator import OpenAITranslator
from workers.request.chat_request import parse_chat

DEPLOYMENT = Deployment(
    id="zai/glm-4.5@up",
    provider="openai",
    base_url="https://api.up.example/v1",
    upstream_model="vendor/glm",
    secret_env="UP_API_KEY",
    secret="sk-up-secret",
)
MODEL = Model(id="zai/glm-4.5", name="GLM 4.5", deployments=(DEPLOYMENT,))
DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def translator(
    *, stream: bool = True, usage: bool = False, max_event_bytes: int = 1024 * 1024, **fields: Any
) -> OpenAITranslator:
    """Make a translator for a request; `usage`: the client asks for it."""
    told = {"model": MODEL.id, "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
    if usage:
        told["stream_options"] = {"include_usage": True}
    request = parse_chat(json.dumps(told | fields).encode())
    return OpenAITranslator(request, MODEL, DEPLOYMENT, max_event_bytes)


def compact(told: Any) -> bytes:
    """Write JSON without spaces."""
    return json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()


def event(told: Any) -> bytes:
    """Write one event."""
    return b"data: " + (told if isinstance(told, bytes) else compact(told)) + b"\n\n"


def chunk(
    delta: Any = ..., finish: str | None = None, *, model: str = "vendor/glm", **more: Any
) -> bytes:
    """Write the event of a chunk with one choice; without `delta` it has none."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    told = {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": model}
    return event(told | {"choices": [] if delta is ... else [choice]} | more)


def ours(*events: bytes) -> bytes:
    """Write events as the client is to get them: the catalog's name for the model."""
    return b"".join(events).replace(b'"vendor/glm"', b'"zai/glm-4.5"')


ROLE = chunk({"role": "assistant", "content": ""})
TEXT = chunk({"content": "Hi"})
STOP = chunk({}, "stop")
