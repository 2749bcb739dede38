"""What a scripted upstream says: answers, and the OpenAI-shaped bytes inside them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
CREATED = 1_760_000_000
MODEL = "upstream-model"


class Pause(NamedTuple):
    """Hold the answer back at this place until the test sets `event`."""

    event: asyncio.Event


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer to one request, written piece by piece, each piece in a write of its own.

    `pieces` may be endless: the next one is made when the client has taken the last. `gap_s` is
    waited between pieces. `framing` is the framing of the body: chunks, Content-Length, or
    the end of the connection. `end` is what comes after the last piece:
    a proper end, a close without the framing's end, a TCP reset, or silence until the client has
    left. With `raw` the pieces are the whole answer, head included. Without `keep_alive` the
    connection closes after it.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    pieces: Iterable[bytes | Pause] = ()
    gap_s: float = 0.0
    framing: Literal["chunked", "length", "close"] = "chunked"
    end: Literal["clean", "cut", "reset", "hang"] = "clean"
    raw: bool = False
    keep_alive: bool = True

    def head(self) -> bytes:
        """Return the status line and headers; a Content-Length in `headers` is sent as it is."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        if self.framing == "chunked":
            headers.setdefault("transfer-encoding", "chunked")
        elif self.framing == "length":
            size = sum(len(piece) for piece in self.pieces if isinstance(piece, bytes))
            # An answer that is to be cut must have promised more than it sends.
            headers.setdefault("content-length", str(size + (self.end != "clean")))
        if self.framing == "close" or not self.keep_alive:
            headers.setdefault("connection", "close")
        lines = [f"HTTP/1.1 {self.status} Scripted"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


def event(data: object) -> bytes:
    """Return one server-sent event; `data` is text as it is, or anything else as JSON."""
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    return f"data: {text}\n\n".encode()


def chunk(
    delta: str | Mapping[str, Any] | None = None,
    *,
    finish: str | None = None,
    index: int = 0,
    model: str = MODEL,
    **more: Any,
) -> dict[str, Any]:
    """Return one chunk of a streamed completion; `more` adds or replaces top-level members.

    `delta` is text or a whole `delta` object.
    """
    said = {"content": delta} if isinstance(delta, str) else dict(delta or {})
    choice = {"index": index, "delta": said, "finish_reason": finish}
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": model,
        "choices": [choice],
        **more,
    }


def events_of(
    deltas: Sequence[str | Mapping[str, Any]],
    *,
    usage: Mapping[str, Any] | None = None,
    model: str = MODEL,
    finish: str | None = "stop",
    done: bool = True,
) -> list[bytes]:
    """Return the events of one streamed completion: role, deltas, finish, usage, `[DONE]`.

    A delta is text or a whole `delta` object. `finish=None` and `done=False` leave the end away,
    as a cut answer does.
    """
    chunks = [chunk({"role": "assistant", "content": ""}, model=model)]
    chunks += [chunk(delta, model=model) for delta in deltas]
    if finish is not None:
        chunks.append(chunk(finish=finish, model=model))
    if usage is not None:
        chunks.append(chunk(model=model, choices=[], usage=dict(usage)))
    return [event(each) for each in chunks] + ([event("[DONE]")] if done else [])


def stream_of(
    deltas: Sequence[str | Mapping[str, Any]],
    *,
    usage: Mapping[str, Any] | None = None,
    model: str = MODEL,
    finish: str | None = "stop",
    done: bool = True,
    **answer: Any,
) -> Answer:
    """Answer with a streamed completion, one event per piece; `answer` sets fields of `Answer`."""
    return streaming(
        events_of(deltas, usage=usage, model=model, finish=finish, done=done), **answer
    )


def streaming(pieces: Iterable[bytes | Pause], **answer: Any) -> Answer:
    """Answer with an event stream of exactly these bytes."""
    headers = {"content-type": "text/event-stream; charset=utf-8"} | answer.pop("headers", {})
    return Answer(pieces=pieces, headers=headers, **answer)


def completion(
    text: str | None = "Hello",
    *,
    usage: Mapping[str, Any] | None = USAGE,
    model: str = MODEL,
    finish: str = "stop",
    message: Mapping[str, Any] | None = None,
    **answer: Any,
) -> Answer:
    """Answer with a whole completion; `message` adds members to the assistant's message."""
    said = {"role": "assistant", "content": text, "refusal": None} | dict(message or {})
    body: dict[str, Any] = {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": CREATED,
        "model": model,
        "choices": [{"index": 0, "message": said, "finish_reason": finish, "logprobs": None}],
    }
    if usage is not None:
        body["usage"] = dict(usage)
    return document(body, **answer)


def document(body: object, *, status: int = 200, **answer: Any) -> Answer:
    """Answer with one JSON document, or with bytes as they are."""
    piece = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json"} | answer.pop("headers", {})
    settings = {"framing": "length"} | answer
    return Answer(status=status, pieces=[piece], headers=headers, **settings)


def refusal(
    status: int, body: object = None, headers: Mapping[str, str] | None = None, **answer: Any
) -> Answer:
    """Answer with an error: OpenAI's shape unless `body` says otherwise (JSON-able, or bytes)."""
    if body is None:
        error = {"message": f"scripted {status}", "type": "api_error", "param": None, "code": None}
        body = {"error": error}
    return document(body, status=status, headers=dict(headers or {}), **answer)


def silence() -> Answer:
    """Take the request and say nothing, not even a status line."""
    return Answer(raw=True, end="hang")
