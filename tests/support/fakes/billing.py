"""An upstream that bills what it reads and writes, as dearly as an upstream can.

Every byte of a request but its media is a token, and every choice is as long as the request lets it
be: the rudest reading of what the gateway promises about money.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from support.fakes.answers import Answer, Pause, chunk, completion, event, refusal, streaming
from support.fakes.upstream import Request

UNCAPPED_TOKENS = 150_000
"""The length of an answer that no cap stops."""


@dataclass
class Bill:
    """Answer requests and add up what they cost, in micro-dollars.

    `cap_field` is the member that this upstream obeys. `usage_after` is awaited before the usage
    chunk of a stream; without `reports`, there is none. With `fails` it bills, reports and fails.
    """

    prompt_microusd: float = 1.0
    completion_microusd: float = 2.0
    cap_field: str = "max_tokens"
    reports: bool = True
    usage_after: Pause | None = None
    fails: bool = False
    total_microusd: float = 0.0
    tokens: int = 0
    requests: list[Mapping[str, Any]] = field(default_factory=list)

    def __call__(self, request: Request) -> Answer:
        """Bill a request and answer it."""
        asked = request.json
        self.requests.append(asked)
        cap = asked.get(self.cap_field)
        prompt = len(request.body)
        answer = (cap if cap is not None and cap > 0 else UNCAPPED_TOKENS) * (asked.get("n") or 1)
        self.total_microusd += prompt * self.prompt_microusd + answer * self.completion_microusd
        self.tokens += prompt + answer
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": answer,
            "total_tokens": prompt + answer,
        }
        reported = usage if self.reports else None
        if self.fails:
            failure = {"error": {"message": "x", "type": "api_error"}, "usage": usage}
            return streaming([event(failure)]) if asked.get("stream") else refusal(500, failure)
        if not asked.get("stream"):
            return completion("x", usage=reported)
        pieces: list[bytes | Pause] = [
            event(chunk({"role": "assistant", "content": "x"})),
            event(chunk(finish="stop")),
        ]
        if self.usage_after is not None:
            pieces.append(self.usage_after)
        if reported is not None:
            pieces.append(event(chunk(usage=reported) | {"choices": []}))
        return streaming([*pieces, event("[DONE]")])


def dense(size: int) -> str:
    """Return a text of this many bytes of which upstreams make about one token a byte."""
    return json.dumps(list(range(size // 4)))[:size]
