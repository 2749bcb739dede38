"""Read a whole answer: check it, mend it and count what it holds.

An answer that is what OpenAI's schema promises leaves as the upstream's own bytes; all others are
mended (`chunk_mender`). A stream in place of a whole answer is read by the translator.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from workers.errors import UpstreamError
from workers.providers.event_splitter import PADDING
from workers.providers.openai.answer_checks import blocked_error
from workers.providers.openai.chunks import (
    UNREADABLE,
    WHOLE_ANSWER,
    WholeChoice,
    mended,
    text_bytes,
)
from workers.providers.openai.mending.chunk_mender import EMPTY, has_message
from workers.providers.openai.mending.usage_places import UsageSeen, decoded, is_blocked
from workers.providers.openai.regular import is_regular_answer
from workers.providers.problem import find_problem

if TYPE_CHECKING:
    from workers.providers.openai.chunks import ModelName
    from workers.providers.openai.mending.chunk_mender import ChunkMender


class NotJson(NamedTuple):
    """A body that is no JSON, such as a stream, and the error that says so."""

    body: bytes
    error: Exception


class WholeReading:
    """Reads one whole answer; `failed` makes the error that a body reports.

    `output_bytes` and `finish_reason` are those of the answer that was read.
    """

    def __init__(
        self,
        model: ModelName,
        mender: ChunkMender,
        seen: UsageSeen,
        failed: Callable[[bytes], UpstreamError],
    ) -> None:
        self.output_bytes = 0
        self.finish_reason: str | None = None
        self._model = model
        self._mender = mender
        self._seen = seen
        self._failed = failed

    def read(self, body: bytes) -> bytes | NotJson:
        """Return the answer for the client. Raises UpstreamError."""
        body = body.strip(PADDING)  # slow upstreams pad it with white space against time-outs
        try:
            answer = WHOLE_ANSWER.decode(body)
            if not body.isascii():
                body.decode()
        except UNREADABLE as error:
            return self._read_odd(body, error)
        if answer.error:
            raise self._failed(body)
        if not answer.choices or not is_regular_answer(answer, self._mender):
            return self._mended(msgspec.json.decode(body))
        text_size = sum(map(_text_size, answer.choices))
        if self._seen.note(bytes(answer.usage)):
            exact = self._seen.is_exact(text_size)
        else:
            exact = not (b"oken" in body and self._seen.search(msgspec.json.decode(body)))
        if not exact:
            return self._mended(msgspec.json.decode(body))
        self.output_bytes, self.finish_reason = text_size, answer.choices[-1].finish_reason
        return self._model.replaced(body, answer.model)

    def _read_odd(self, body: bytes, error: Exception) -> bytes | NotJson:
        """Read an answer with members of unusual types, or what is no answer."""
        body = mended(body.removeprefix(codecs.BOM_UTF8).strip())
        sent = decoded(body)
        if isinstance(sent, dict) and isinstance(sent.get("choices"), list) and sent["choices"]:
            if sent.get("error"):
                raise self._failed(body)
            return self._mended(sent)
        if sent is None:
            return NotJson(body, error)
        if find_problem(body) is None and is_blocked(sent):
            raise blocked_error()
        raise self._failed(body) from error

    def _mended(self, sent: dict[str, Any]) -> bytes:
        """Return an answer with everything that OpenAI's schema promises."""
        choices = sent["choices"]
        self._seen.search(sent)
        if not any(map(has_message, choices)):
            raise blocked_error() if is_blocked(sent) else UpstreamError(EMPTY)
        made = self._mender.mended_answer(sent, choices)
        for choice in made["choices"]:
            self.output_bytes += text_bytes(choice["message"])
            self.finish_reason = choice["finish_reason"]
        return encoded_answer(made, self._model.id, self._seen, self.output_bytes)


def encoded_answer(
    made: dict[str, Any], model_id: str, seen: UsageSeen, output_bytes: int
) -> bytes:
    """Return an answer with the catalog's model id and the usage, as JSON."""
    made["model"] = model_id
    if seen.usage is not None:
        made["usage"] = seen.shown(output_bytes)
    return msgspec.json.encode(made)


def _text_size(choice: WholeChoice) -> int:
    return choice.message.size_bytes() if choice.message is not None else 0
