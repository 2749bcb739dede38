"""OpenAI-shaped upstreams: chunks pass unchanged except for the model's name and the usage.

Every event is decoded once, into the few fields that are read; the decoder also checks that the
rest is JSON. The client gets the upstream's own bytes in canonical framing. The quirks were seen at
OpenAI, OpenRouter, Groq, Gemini's compatible endpoint, vLLM, llama.cpp and Ollama.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, Raw

from workers.errors import UpstreamDisconnected, UpstreamError
from workers.providers.event_splitter import EventSplitter
from workers.providers.openai.chunks import (
    CHUNK,
    MEMBERS,
    MODEL_NAME,
    NULL,
    ODD_CHUNK,
    UNREADABLE,
    WHOLE_ANSWER,
    Chunk,
    GeneratedText,
    OddChoice,
    StreamedChoice,
    UsagePresent,
    complete_choices,
    has_content,
    is_json,
    mended,
    text_bytes,
)
from workers.providers.openai.request_body import request_body
from workers.providers.openai.request_headers import access_headers
from workers.providers.problem import find_problem
from workers.providers.rejections import error_by_status, error_in_band
from workers.providers.translator import UpstreamRequest
from workers.request.chat_request import ChatRequest
from workers.request.token_usage import Usage, parse_usage
from workers.units import MIB

if TYPE_CHECKING:
    from workers.catalog.catalog import Deployment, Model

MAX_HELD_BYTES = MIB
MAX_HELD_EVENTS = 1000
"""How much is held back before the first content; above either the answer is committed anyway."""

_DONE = b"[DONE]"
_MAX_SWAPS = 8
"""How many occurrences of the model's name are tried before the chunk is encoded again."""
_MAX_START_BYTES = 1024
"""How long the remembered beginning of a chunk may be."""


class OpenAITranslator:
    """The `Translator` for OpenAI-shaped upstreams."""

    def __init__(
        self,
        request: ChatRequest,
        model: Model,
        deployment: Deployment,
        max_event_bytes: int,
    ) -> None:
        self.committed = False
        self.finished = False
        self.done = False
        self.failure: UpstreamError | None = None
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.output_bytes = 0
        self._request = request
        self._deployment = deployment
        self._model_id = model.id
        self._model_json = msgspec.json.encode(model.id)
        # The beginning of a chunk up to and including the model's name, as sent and as passed on.
        self._their_start = self._our_start = b""
        self._splitter = EventSplitter(max_event_bytes)
        self._held: list[bytes] = []  # payloads for the client
        self._held_bytes = 0
        self._finished: dict[int, bool] = {}  # by choice index
        self._last = b""
        self._usage_json = b""
        self._usage_chunk = b""

    def request(self) -> UpstreamRequest:
        """Return the client's request with the upstream's model name and a request for usage."""
        accept = "text/event-stream" if self._request.stream else "application/json"
        deployment = self._deployment
        headers = (
            ("content-type", "application/json"),
            ("accept", accept),
            *access_headers(deployment),
        )
        body = request_body(self._request, deployment.upstream_model, deployment.quirks)
        return UpstreamRequest("/chat/completions", headers, body)

    def check_head(self, status: int, headers: Mapping[str, str]) -> None:
        """Raise UpstreamError unless an answer of the right kind, or of no stated kind, follows."""
        if status != 200:
            raise self.rejection(status, headers, b"")
        if headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
            raise UpstreamError(
                "The upstream of this model sent compressed data although none was requested."
            )
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind and not (
            kind == "text/event-stream" if self._request.stream else kind.endswith("json")
        ):
            raise UpstreamError

    def rejection(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """Return the error for an answer with a status other than 200."""
        return error_by_status(status, headers, body, self._deployment)

    def feed(self, data: bytes) -> bytes:
        """Read bytes of a streamed answer; return whole events for the client, or b"".

        Raises UpstreamError. Once committed, frames that came before the error are returned first
        and the next call raises it.
        """
        if self.failure is not None:
            raise self.failure
        if self.done:
            return b""
        was_committed, held = self.committed, len(self._held)
        try:
            self._take_all(data)
        except UpstreamError as error:
            self.failure = error
            if not was_committed or not self._held:
                self.committed = was_committed
                raise
        if not self.committed:
            # Role and empty chunks wait: until content comes, another deployment may answer.
            self._held_bytes += sum(map(len, self._held[held:]))
            if self._held_bytes <= MAX_HELD_BYTES and len(self._held) <= MAX_HELD_EVENTS:
                return b""
            self.committed = True
        return self._release_held()

    def finish(self) -> bytes:
        """Handle the end of the body. Raises UpstreamDisconnected when the answer was cut.

        Some servers close without `[DONE]`: a finish reason for every choice is enough.
        """
        if self.failure is not None:
            raise self.failure
        tail = self._splitter.finish()
        if tail and (tail.strip() == _DONE or is_json(tail)):
            self._take(tail)
        if not self.done:
            if not self.finished:
                raise UpstreamDisconnected
            self._close()
        return self._release_held()

    def whole(self, body: bytes) -> bytes:
        """Check a whole answer and set the catalog's model id. Raises UpstreamError."""
        body = body.strip()  # slow upstreams pad it with white space against time-outs
        try:
            answer = WHOLE_ANSWER.decode(body)
            if not body.isascii():
                body.decode()
        except UNREADABLE as error:
            raise self._failed(body) from error
        if answer.error:
            raise self._failed(body)
        for choice in answer.choices:
            if choice.finish_reason == "error":
                raise UpstreamError("The upstream of this model failed while it was answering.")
            self.finish_reason = (
                choice.finish_reason if isinstance(choice.finish_reason, str) else None
            )
            self.output_bytes += text_bytes(choice.message)
        self.usage = parse_usage(answer.usage)
        self.committed = self.finished = self.done = True
        return self._with_our_model(body, answer.model if isinstance(answer.model, str) else None)

    def _take_all(self, data: bytes) -> None:
        for payload in self._splitter.feed(data):
            self._take(payload)
            if self.done:
                return
        if self._splitter.overlong:
            raise UpstreamError("The upstream of this model sent an event that is too large.")

    def _release_held(self) -> bytes:
        if not self._held:
            return b""
        frames = b"data: " + b"\n\ndata: ".join(self._held) + b"\n\n"
        self._held.clear()
        return frames

    def _take(self, payload: bytes) -> None:
        """Read one event and keep what goes to the client."""
        try:
            chunk = CHUNK.decode(payload)
            if not payload.isascii():
                payload.decode()  # msgspec skips unread strings without checking their UTF-8
        except UNREADABLE as error:
            odd = self._read_odd(payload, error)
            if odd is None:
                return
            payload, chunk = odd
        if not chunk.choices or chunk.error:
            self._take_without_choices(payload, chunk)
            return
        complete = self._note_choices(chunk.choices)
        if not self.committed:  # the second decoding ends with the first content
            self.committed = self.finish_reason is not None or has_content(payload)
        self._last = payload
        self._keep(payload, chunk, complete=complete)

    def _note_choices(self, choices: list[StreamedChoice]) -> bool:
        """Record text and finish reasons; return whether every choice has its required members."""
        complete = True
        for choice in choices:
            text, reason = choice.delta, choice.finish_reason
            if text is not None:
                self.output_bytes += text.size_bytes()
            if reason:
                self._note_finish(choice.index, reason)
            elif choice.index not in self._finished:
                self._finished[choice.index] = self.finished = False
            if text is None or reason is UNSET:
                complete = False
        return complete

    def _note_finish(self, index: int, reason: str) -> None:
        if reason == "error":  # how OpenRouter reports a failure in the middle of a stream
            raise UpstreamError("The upstream of this model failed while it was answering.")
        self._finished[index] = True
        self.finished = all(self._finished.values())
        self.finish_reason = reason

    def _take_without_choices(self, payload: bytes, chunk: Chunk) -> None:
        """Read an event without choices: an error, usage, or a chunk with other members."""
        if chunk.error:
            raise self._failed(payload)
        if chunk.usage:
            self._hold_usage_chunk(payload, chunk)
            return
        if chunk.choices is None:
            members = MEMBERS.decode(payload)
            if "choices" not in members:
                problem = find_problem(payload)  # vLLM's errors have no member `error`
                if problem is not None:
                    raise error_in_band(problem, self._deployment)
                if "object" not in members:
                    return  # no chunk at all, such as a ping
        self._keep(payload, chunk, complete=chunk.choices is not None)

    def _hold_usage_chunk(self, payload: bytes, chunk: Chunk) -> None:
        """Keep the usage chunk for the end; only a client that requested usage gets it."""
        members = MEMBERS.decode(payload)
        if not self._note_usage(members["usage"]):
            return
        if chunk.choices is None:  # OpenAI's usage chunk has an empty list
            payload = msgspec.json.encode({**members, "choices": []})
        self._usage_chunk = self._with_our_model(payload, chunk.model)

    def _read_odd(self, payload: bytes, error: Exception) -> tuple[bytes, Chunk] | None:
        """Read what the first decoder refused: `[DONE]`, nothing, unusual types, or no JSON.

        Half a surrogate pair (an upstream that cuts strings inside an emoji) becomes U+FFFD.
        """
        text = payload.strip()
        if text == _DONE:
            if not any(self._finished.values()):
                raise UpstreamDisconnected  # an end mark without a finish reason: it was cut
            self._close()
        if not text or self.done:
            return None
        payload = mended(payload)
        try:
            payload.decode()
            odd = ODD_CHUNK.decode(payload)
        except UNREADABLE:
            raise self._failed(payload) from error
        choices = [self._even(choice) for choice in odd.choices or ()]
        usage = odd.usage if odd.usage is UNSET or odd.usage is None else UsagePresent()
        model = odd.model if isinstance(odd.model, str) else None
        return payload, Chunk(model, choices if odd.choices is not None else None, usage, odd.error)

    def _even(self, odd: OddChoice) -> StreamedChoice:
        """Return an odd choice as a usual one, and count its text."""
        if bytes(odd.delta) == b"null":
            return StreamedChoice(odd.index, None, odd.finish_reason)
        if memoryview(odd.delta)[0] != ord("{"):
            raise UpstreamError
        self.output_bytes += text_bytes(odd.delta)
        return StreamedChoice(odd.index, GeneratedText(), odd.finish_reason)

    def _close(self) -> None:
        """Add the end of the stream: the usage if requested, and `[DONE]`."""
        if self._request.include_usage and self._usage_json:
            self._held.append(self._usage_chunk or self._made_usage_chunk())
        self._held.append(_DONE)
        self.done = self.committed = True

    def _failed(self, body: bytes) -> UpstreamError:
        """Return the error that a body or event reports, or the one for an invalid completion."""
        problem = find_problem(body)
        return UpstreamError() if problem is None else error_in_band(problem, self._deployment)

    def _with_our_model(self, payload: bytes, theirs: str | None) -> bytes:
        """Replace the upstream's model name by the catalog id; every other byte stays."""
        if theirs == self._model_id:
            return payload
        # From cheap to expensive: the remembered beginning, search and replace, encoding.
        if self._their_start and payload.startswith(self._their_start):
            return self._our_start + payload[len(self._their_start) :]
        if theirs is not None:
            name = msgspec.json.encode(theirs)
            for key in (b'"model":', b'"model": '):
                swapped = self._swapped(payload, key + name, key + self._model_json)
                if swapped is not None:
                    return swapped
        return msgspec.json.encode({**MEMBERS.decode(payload), "model": Raw(self._model_json)})

    def _swapped(self, payload: bytes, old: bytes, new: bytes) -> bytes | None:
        """Replace the occurrence of `old` that is the top-level member; return None without one.

        All chunks of an answer usually begin with the same bytes, so that beginning is remembered:
        the next chunk needs no search and no decoding.
        """
        at = payload.find(old)
        for _ in range(_MAX_SWAPS):
            if at < 0:
                break
            start, rest = payload[:at] + new, payload[at + len(old) :]
            # The same bytes may also be nested or text in a string: decode to find out.
            if MODEL_NAME.decode(start + rest).model == self._model_id:
                if at < _MAX_START_BYTES:
                    self._their_start, self._our_start = payload[: at + len(old)], start
                return start + rest
            at = payload.find(old, at + 1)
        return None

    def _keep(self, payload: bytes, chunk: Chunk, *, complete: bool) -> None:
        """Add an event for the client; `complete`: its choices have their required members."""
        if not complete or chunk.usage:
            payload = self._rewritten(payload, chunk, complete=complete)
        else:
            payload = self._with_our_model(payload, chunk.model)
            if chunk.usage is UNSET and self._request.include_usage:
                # OpenAI sends "usage": null in every chunk but the last when usage is requested.
                payload = payload.rstrip()[:-1] + b',"usage":null}'
        self._held.append(payload)

    def _rewritten(self, payload: bytes, chunk: Chunk, *, complete: bool) -> bytes:
        """Encode a chunk again: with our model id, complete choices, and without its usage."""
        members = MEMBERS.decode(payload)
        members["model"] = Raw(self._model_json)
        if not complete:
            members["choices"] = complete_choices(members.get("choices", NULL))
        if chunk.usage:
            self._note_usage(members["usage"])
        if self._request.include_usage:
            members["usage"] = NULL
        elif chunk.usage:
            del members["usage"]
        return msgspec.json.encode(members)

    def _note_usage(self, raw: Raw) -> bool:
        usage = parse_usage(raw)
        if usage is None:
            return False
        self.usage = usage
        self._usage_json, self._usage_chunk = bytes(raw), b""
        return True

    def _made_usage_chunk(self) -> bytes:
        """Return a usage chunk for an upstream that reported its usage in a chunk with content."""
        last = MEMBERS.decode(self._last)
        head = {
            "id": f"chatcmpl-{time.time_ns():x}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            **{name: last[name] for name in ("id", "object", "created") if name in last},
        }
        body = {"model": Raw(self._model_json), "choices": [], "usage": Raw(self._usage_json)}
        return msgspec.json.encode(head | body)
