"""The answers of real upstreams that are not what OpenAI's schema promises, as data.

`upstream_shapes.toml` says what is sent and what a client gets. The demo plays them, tests hold
the gateway to them, and the documentation lists them.
"""

from __future__ import annotations

import functools
import re
from importlib.resources import files

import msgspec
from msgspec import Struct

EVENT_STREAM = "text/event-stream"
PAD_BYTES = 10_000_000

_HEAD = '"id":"chatcmpl-1","object":"chat.completion.chunk","created":1760000000,"model":"m"'
_WHOLE = '"id":"chatcmpl-1","object":"chat.completion","created":1760000000,"model":"m"'
_CHOICE = "data: {%s,%s}\n\n"
_PARTS = {
    "$HEAD": _HEAD,
    "$WHOLE": _WHOLE,
    "$ROLE": _CHOICE % (
        _HEAD,
        '"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]',
    ),
    "$HI": _CHOICE % (
        _HEAD,
        '"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]',
    ),
    "$STOP": _CHOICE % (_HEAD, '"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]'),
    "$USAGE": _CHOICE % (
        _HEAD,
        '"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}',
    ),
    "$DONE": "data: [DONE]\n\n",
    "$ZERO": "\0",
}  # fmt: skip


class Booked(Struct, frozen=True, forbid_unknown_fields=True):
    """The counts that an upstream reports; None: it does not, and an estimate is booked."""

    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None
    written: int | None = None
    reasoning: int | None = None


class UpstreamShape(Struct, frozen=True, forbid_unknown_fields=True):
    """One answer, and what a client gets; `template` is its body with parts left out.

    `error` None: the answer succeeds. `status` is that of the error.
    """

    name: str
    about: str
    who: str
    sends: str
    gets: str
    template: str = msgspec.field(name="body")
    type: str = EVENT_STREAM
    text: str = ""
    thinking: str = ""
    reason: str | None = None
    calls: tuple[tuple[str, str], ...] = ()
    error: str | None = None
    status: int = 200
    booked: Booked | None = None

    @property
    def body(self) -> bytes:
        """The bytes of the answer's body."""
        text = re.sub(r"\$[A-Z]+", lambda found: _part(found[0]), self.template)
        return text.encode()

    @property
    def head(self) -> bytes:
        """The head of the HTTP answer."""
        return (
            f"HTTP/1.1 200 OK\r\ncontent-type: {self.type}\r\n"
            f"content-length: {len(self.body)}\r\n\r\n"
        ).encode()


class _Catalogue(Struct, forbid_unknown_fields=True):
    shapes: tuple[UpstreamShape, ...]


def _part(name: str) -> str:
    return "QUJD" * (PAD_BYTES // 4) if name == "$PAD" else _PARTS[name]


@functools.cache
def upstream_shapes() -> tuple[UpstreamShape, ...]:
    """Return all shapes, in the order of the documentation."""
    text = files("server.demo").joinpath("upstream_shapes.toml").read_bytes()
    return msgspec.toml.decode(text, type=_Catalogue).shapes


def find_shape(name: str) -> UpstreamShape | None:
    """Return the shape of that name, or None."""
    return next((shape for shape in upstream_shapes() if shape.name == name), None)
