"""Read the chunks of an ordinary stream fast: what all of them share is decoded once.

Nearly all upstreams put id, time, type and model either before `choices` (OpenAI, vLLM) or after it
(llama.cpp, Gemini), with the same bytes in every chunk of an answer. Then only the rest of a chunk
is decoded. A rest that `PLAIN_REST` accepts needs no further check.
"""

from __future__ import annotations

from typing import Any

from workers.providers.openai.chunks import (
    MENDABLE_REST,
    PLAIN_REST,
    PlainDecoder,
    StreamedChoice,
)
from workers.providers.openai.mending.chunk_mender import CHUNK_OBJECT, ChunkMender
from workers.providers.openai.mending.usage_places import decoded

_MAX_BYTES = 1024
"""How long the shared part of a chunk may be."""
_MAX_TRIES = 4
"""How many chunks are tried for it."""


def fitting_decoder(choices: list[StreamedChoice]) -> PlainDecoder | None:
    """Return the decoder that the next chunk probably fits, seeing this one; None: neither."""
    text = choices[0].delta
    if len(choices) != 1 or text is None or text.refusal or text.function_call is not None:
        return None
    if text.thinking or choices[0].finish_reason is not None:
        return None
    return MENDABLE_REST if text.reasoning_content or text.reasoning or text.role else PLAIN_REST


class SharedParts:
    """What all chunks of one answer begin and end with, as sent and as passed on.

    One of the two parts is only a brace. `their_start` is "" until they are known.
    """

    __slots__ = (
        "_tries_left",
        "our_end",
        "our_end_with_usage",
        "our_start",
        "their_end",
        "their_start",
    )

    def __init__(self) -> None:
        self.their_start = self.our_start = b""
        self.their_end = self.our_end = self.our_end_with_usage = b""
        self._tries_left = _MAX_TRIES

    def rest(self, payload: bytes) -> bytes | None:
        """Return what lies between the shared parts of a chunk that has them, or None."""
        start, end = self.their_start, self.their_end
        if start and payload.startswith(start) and payload.endswith(end):
            return payload[len(start) : -len(end)]
        return None

    def ours(self, rest: bytes) -> bytes:
        """Return the chunk with our model's id, to which a rest belongs."""
        return self.our_start + rest + self.our_end

    def learn(self, payload: bytes, ours: bytes, mender: ChunkMender) -> None:
        """Find the shared parts in a chunk; `ours` is the same chunk with our model's id."""
        if not self._tries_left or self.their_start or payload[:1] != b"{" or payload[-1:] != b"}":
            return
        self._tries_left -= 1
        start, found, _ = payload.partition(b'"choices":')
        if found and _is_name(start.rstrip().removesuffix(b",") + b"}", mender):
            self.their_start, self.their_end = start, b"}"
            self._set_ours(ours[: len(ours) - len(payload) + len(start)], b"}")
            return
        end = payload[payload.rfind(b"],") + 1 :]
        if end.startswith(b",") and _is_name(b"{" + end[1:], mender):
            self.their_start, self.their_end = b"{", end
            self._set_ours(b"{", ours[len(payload) - len(end) :])

    def _set_ours(self, start: bytes, end: bytes) -> None:
        self.our_start, self.our_end = start, end
        # OpenAI sends "usage": null in every chunk but the last when usage is requested.
        self.our_end_with_usage = end[:-1] + b',"usage":null}'


def _is_name(part: bytes, mender: ChunkMender) -> bool:
    """Return whether JSON names the answer and its model, and says nothing of usage or errors."""
    members: Any = decoded(part) if len(part) <= _MAX_BYTES else None
    if not isinstance(members, dict) or not isinstance(members.get("model"), str):
        return False
    if "usage" in members or "error" in members or "choices" in members:
        return False
    name = [members.get(each) for each in ("id", "created", "object")]
    return name == [mender.answer_id, mender.created, CHUNK_OBJECT]
