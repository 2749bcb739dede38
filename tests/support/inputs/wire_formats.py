"""One row for every wire format: an answer and the rejections as its upstreams write them.

`tests/providers/test_contract.py` runs the same rules over every row. A new translator needs a row
here and nothing else to be held to them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from workers.catalog.catalog import Deployment, Model
from workers.errors import (
    UpstreamError,
    UpstreamRateLimited,
    UpstreamUnavailable,
)
from workers.request.token_usage import Usage

SECRET = "secret-0123456789"
HOST = "api.upstream.example"
UPSTREAM_MODEL = "upstream/model-1"
MODEL = Model(id="maker/model", name="Model")


@dataclass(frozen=True, kw_only=True)
class WireFormatRow:
    """What an upstream of one wire format sends.

    `events` are a whole streamed answer that says `text`; the first `opening` of them carry no
    content. `whole` is the same answer unstreamed, with the same `usage`. `failures` are events
    that report an error in the middle of a stream. `counts` are the bytes of the usage before which
    a stated cost can be inserted. `rejections` are the bodies of error answers by status, each with
    HOST and SECRET in its message. `secret_header` is the header that carries SECRET.
    """

    provider: str
    secret_header: tuple[str, str]
    events: tuple[bytes, ...]
    opening: int
    text: str
    finish_reason: str
    usage: Usage
    counts: bytes
    whole: bytes
    failures: tuple[tuple[bytes, type[UpstreamError]], ...]
    rejections: Mapping[int, bytes]

    @property
    def stream(self) -> bytes:
        """The whole streamed answer."""
        return b"".join(self.events)

    def with_cost(self, answer: bytes, dollars: float) -> bytes:
        """Return an answer whose usage states what it costs."""
        counts, cost = self.counts, b'"cost": %r, ' % dollars
        assert answer.count(counts) == 1
        return answer.replace(counts, cost + counts)

    @property
    def deployment(self) -> Deployment:
        """A deployment of this wire format."""
        return Deployment(
            id=f"{MODEL.id}@upstream",
            provider=self.provider,
            base_url=f"https://{HOST}/v1",
            upstream_model=UPSTREAM_MODEL,
            secret_env="UPSTREAM_KEY",
            secret=SECRET,
        )


def _event(data: object) -> bytes:
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"data: {text}\n\n".encode()


def _openai_chunk(delta: dict[str, str] | None, finish: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    shared = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_760_000_000,
        "model": UPSTREAM_MODEL,
    }
    return _event(shared | {"choices": [] if delta is None else [choice]} | more)


def _openai_error(message: str, kind: str, code: str | None = None) -> dict[str, object]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


_OPENAI_USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 5},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
_QUOTING = f"at https://{HOST}/v1 with {SECRET}"

OPENAI = WireFormatRow(
    provider="openai",
    secret_header=("authorization", f"Bearer {SECRET}"),
    events=(
        _openai_chunk({"role": "assistant", "content": ""}),
        _openai_chunk({"content": "Grüße"}),
        _openai_chunk({"content": ", 🌍 "}),
        _openai_chunk({"content": '"world"\n'}),
        _openai_chunk({}, "stop"),
        _openai_chunk(None, usage=_OPENAI_USAGE),
        _event("[DONE]"),
    ),
    opening=1,
    text='Grüße, 🌍 "world"\n',
    finish_reason="stop",
    usage=Usage(11, 7, 18, cached_tokens=5, reasoning_tokens=2),
    counts=b'"prompt_tokens": 11',
    whole=json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1_760_000_000,
            "model": UPSTREAM_MODEL,
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": 'Grüße, 🌍 "world"\n',
                        "refusal": None,
                    },
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": _OPENAI_USAGE,
        },
        ensure_ascii=False,
    ).encode(),
    failures=(
        (_event(_openai_error("overloaded", "server_error")), UpstreamUnavailable),
        (_event(_openai_error("slow down", "rate_limit_error")), UpstreamRateLimited),
        (_openai_chunk({"content": ""}, "error"), UpstreamError),
        (_event('{"no": '), UpstreamError),
    ),
    rejections={
        status: json.dumps(_openai_error(f"{kind} {_QUOTING}", kind, code)).encode()
        for status, kind, code in (
            (400, "invalid_request_error", None),
            (401, "invalid_request_error", "invalid_api_key"),
            (404, "invalid_request_error", "model_not_found"),
            (429, "rate_limit_error", "rate_limit_exceeded"),
            (500, "server_error", None),
        )
    },
)

WIRE_FORMATS = (OPENAI,)
