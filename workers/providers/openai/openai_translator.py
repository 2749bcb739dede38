"""Translate for OpenAI-shaped upstreams: only the model's name and the usage of chunks change.

Every event is decoded once, into the few fields that are read; the decoder also checks that the
rest is JSON. A chunk that is what OpenAI's schema promises leaves as the upstream's own bytes in
canonical framing; all others are mended (`chunk_mender`). The quirks were seen at OpenAI, Azure,
OpenRouter, Groq, Mistral, MiniMax, Gemini's compatible endpoint, vLLM, llama.cpp and Ollama.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from workers.errors import UpstreamDisconnected, UpstreamError
from workers.providers.event_splitter import DONE, EventSplitter, is_json
from workers.providers.openai.answer_checks import (
    SUCCESSES,
    blocked_error,
    check_readable,
)
from workers.providers.openai.chunks import (
    CHUNK,
    CHUNK_REST,
    MEMBERS,
    MENDABLE_REST,
    NULL,
    ODD_CHUNK,
    UNREADABLE,
    Chunk,
    ChunkRest,
    GeneratedText,
    PlainDecoder,
    StreamedChoice,
    UsagePresent,
    has_content,
    mended,
    model_name,
    text_bytes,
)
from workers.providers.openai.client_events import ClientEvents
from workers.providers.openai.mending.chunk_mender import (
    EMPTY,
    ChoiceState,
    ChunkMender,
)
from workers.providers.openai.mending.collected_chunks import collected
from workers.providers.openai.mending.costs import without_costs
from workers.providers.openai.mending.finish_reasons import forces_function
from workers.providers.openai.mending.usage_places import (
    UsageSeen,
    decoded,
    first_object,
    is_blocked,
)
from workers.providers.openai.regular import (
    faults_in,
    mended_thinking,
    quickly_mended,
)
from workers.providers.openai.request_body import request_body
from workers.providers.openai.request_headers import access_headers
from workers.providers.openai.shared_parts import SharedParts, fitting_decoder
from workers.providers.openai.whole_reading import NotJson, WholeReading, encoded_answer
from workers.providers.problem import find_problem
from workers.providers.rejections import error_by_status, error_in_band
from workers.providers.sent_texts import SentTexts
from workers.providers.translator import UpstreamRequest
from workers.request.chat_request import ChatRequest
from workers.request.token_usage import Usage

if TYPE_CHECKING:
    from workers.catalog.catalog import Deployment, Model

MAX_WINDOWS = 10
"""Counts of tokens above this many context windows are refused."""
NOT_BEGUN = (401, 402, 403, 429)
"""With these an upstream refuses to begin: counts in them are those of a limit."""


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
        self.done = False
        self.finished = False
        self.failure: UpstreamError | None = None
        self.finish_reason: str | None = None
        self.output_bytes = 0
        self._request = request
        self._deployment = deployment
        self._shows_usage = request.stream and request.include_usage
        self._model = model_name(model.id)
        self._mender = ChunkMender(forced=forces_function(request.fields), source=deployment.id)
        self._states = self._mender.states
        self._shared: SharedParts  # it and the next: see `_expect_events`
        self._splitter: EventSplitter
        self._max_event_bytes = deployment.quirks.max_event_bytes or max_event_bytes
        self._plain: PlainDecoder | None = None  # what the next chunk probably fits
        self._events = ClientEvents(self._mender, hides_costs=request.hides_costs)
        self._held = self._events.held
        self._answered = False  # content or a finish reason has come
        self._blocked = False
        self._seen = UsageSeen(
            MAX_WINDOWS * model.context_window,
            request.prompt_estimate,
            deployment.quirks.cost_is_authoritative,
        )
        self._usage_chunk = b""
        if request.stream:
            self._expect_events()

    def _expect_events(self) -> None:
        """Prepare to read a stream: whole answers need none of it."""
        self._shared = SharedParts()
        self._splitter = EventSplitter(self._max_event_bytes)

    @property
    def usage(self) -> Usage | None:
        """The usage as reported so far, of several reports the larger counts."""
        return self._seen.counted(self.output_bytes) if self.finished else self._seen.usage

    @property
    def stated_cost_microusd(self) -> int | None:
        """The cost that the upstream states, where its word counts."""
        of_all = self.usage is self._seen.usage
        return self._seen.stated_cost_microusd if of_all else None

    def request(self) -> UpstreamRequest:
        """Return the client's request with the upstream's model name and a request for usage."""
        accept = "text/event-stream" if self._request.stream else "application/json"
        deployment = self._deployment
        headers = (
            ("content-type", "application/json"),
            ("accept", accept),
            *access_headers(deployment),
        )
        body = request_body(
            self._request, deployment.upstream_model, deployment.quirks, deployment.learnt
        )
        return UpstreamRequest("/chat/completions", headers, body)

    def check_head(self, status: int, headers: Mapping[str, str]) -> None:
        """Raise UpstreamError for a rejection, and for what is no answer; see `check_readable`."""
        if status not in SUCCESSES:
            raise self.rejection(status, headers, b"")
        check_readable(headers)

    def rejection(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """Return the error for an answer whose status is no success."""
        if status not in NOT_BEGUN and b"oken" in body:
            self._seen.note_failed(decoded(body))
        sent = SentTexts(self._request.fields)
        return error_by_status(status, headers, body, self._deployment, sent)

    def feed(self, data: bytes) -> bytes:
        """Read bytes of a streamed answer; return whole events for the client, or b"".

        Raises UpstreamError. Once committed, frames that came before the error are returned first
        and the next call raises it.
        """
        if self.failure is not None:
            raise self.failure
        if self.done:
            for trailer in self._splitter.feed(data):  # usage may follow the end mark
                self._seen.search(decoded(trailer))
            return b""
        was_committed, held = self.committed, len(self._held)
        try:
            self._take_all(self._splitter.feed(data))
        except UpstreamError as error:
            self.failure = error
            if not was_committed or not self._held:
                self.committed = was_committed
                raise
        if not self.committed:
            # Role and empty chunks wait: until content comes, another deployment may answer.
            if self._events.has_room(held):
                return b""
            self.committed = True
        return self._events.release()

    def finish(self) -> bytes:
        """Handle the end of the body. Raises UpstreamError when the answer was cut or empty.

        Some servers close without `[DONE]`: a finish reason for every choice is enough.
        """
        if self.failure is not None:
            raise self.failure
        self._take_tail()
        return self._events.release()

    def whole(self, body: bytes) -> bytes:
        """Check a whole answer and set the catalog's model id. Raises UpstreamError."""
        self._seen.at_end = True
        reading = WholeReading(self._model, self._mender, self._seen, self._failed)
        answer = reading.read(body)
        if isinstance(answer, NotJson):
            answer = self._collected(answer)
        else:
            self.output_bytes, self.finish_reason = reading.output_bytes, reading.finish_reason
            self._end_well()
        return without_costs(answer) if self._request.hides_costs else answer

    def _collected(self, sent: NotJson) -> bytes:
        """Return the whole answer that an unrequested stream makes together."""
        self._expect_events()
        self._seen.at_end = False
        payloads = self._splitter.feed(sent.body) + self._splitter.finish()
        if not payloads:
            raise self._failed(sent.body) from sent.error
        self._take_all(payloads)
        if not self.done:
            self._take_tail()
        chunks = [msgspec.json.decode(one) for one in self._events.take() if one != DONE]
        answer = collected(chunks)
        made = self._mender.mended_answer(answer, answer["choices"])
        return encoded_answer(made, self._model.id, self._seen, self.output_bytes)

    # Streams

    def _take_all(self, payloads: list[bytes]) -> None:
        if len(payloads) > 1 and DONE in payloads[:-1]:
            for trailer in payloads[payloads.index(DONE) + 1 :]:  # usage may follow the end mark
                self._seen.search(decoded(trailer))
        for index, payload in enumerate(payloads):
            try:
                self._take(payload)
            except UpstreamError:
                self._seen.note_failed(decoded(payload))
                for later in payloads[index + 1 :]:  # the usage may follow the error
                    self._seen.search(decoded(later))
                raise
            if self.done:
                return
        if self._splitter.overlong:
            raise UpstreamError("The upstream of this model sent an event that is too large.")

    def _take_tail(self) -> None:
        """Read what the end of the body completes, and end the answer if it is complete."""
        tail = self._splitter.finish()
        self._take_all([each for each in tail if each.strip() == DONE or is_json(each)])
        if self.done:
            return
        states = self._states.values()
        if states and all(state.finished for state in states):
            self._close()
        elif self._is_whole_message() or (not self._answered and self._is_blocked()):
            self._end()
        else:
            raise UpstreamDisconnected

    def _is_whole_message(self) -> bool:
        """Return whether JSON without framing was all that came; a delta is only a beginning."""
        return self._splitter.is_bare and not any(one.by_delta for one in self._states.values())

    def _take(self, payload: bytes) -> None:
        """Read one event and keep what goes to the client."""
        rest = self._shared.rest(payload)
        if rest is None:
            self._take_unlike(payload)
            return
        try:
            if not rest.isascii():
                rest.decode()  # msgspec skips unread strings without checking their UTF-8
            if self._plain is not None and self._take_plain(rest):
                return
            chunk = CHUNK_REST.decode(b"{%b}" % rest)
        except UNREADABLE:
            self._take_unlike(payload)
            return
        choices = chunk.choices
        if not choices or chunk.error:
            self._take_unlike(payload)
            return
        self._take_choices(self._shared.ours(rest), choices, chunk)
        if self._answered and not self.finished:
            self._plain = fitting_decoder(choices)

    def _take_plain(self, rest: bytes) -> bool:
        """Take a chunk that only continues text or tool calls; return whether it is one."""
        decoder, self._plain = self._plain, None  # a failed try costs as much as a chunk
        assert decoder is not None
        try:
            chunk = decoder.decode(b"{%b}" % rest)
        except msgspec.ValidationError:
            return False
        choice = chunk.choices[0]
        text, state = choice.delta, self._states.get(choice.index)
        size = 0
        if decoder is MENDABLE_REST:
            mended_rest, size = mended_thinking(rest, text)
            if mended_rest is None:
                return False
            rest = mended_rest
        if text.tool_calls is not None:
            size = state.places.continued(text.tool_calls) if state is not None else -1
        if state is None or size < 0:
            return False
        content = text.content
        if content:
            size += len(content) if content.isascii() else len(content.encode())
        self.output_bytes += size
        state.by_delta = not state.by_message
        shared = self._shared
        adds_usage = self._shows_usage and chunk.usage is UNSET
        end = shared.our_end_with_usage if adds_usage else shared.our_end
        self._held.append(shared.our_start + rest + end)
        self._plain = decoder
        return True

    def _take_unlike(self, payload: bytes) -> None:
        """Read an event that does not begin as those before it."""
        try:
            chunk = CHUNK.decode(payload)
            if not payload.isascii():
                payload.decode()
        except UNREADABLE as error:
            self._take_odd(payload, error)
            return
        if not chunk.choices or chunk.error:
            self._take_without_choices(payload, chunk)
            return
        if not self._mender.is_named(chunk.id, chunk.created, chunk.object):
            self._take_mended(msgspec.json.decode(payload))
            return
        ours = self._model.replaced(payload, chunk.model)
        self._shared.learn(payload, ours, self._mender)
        self._take_choices(ours, chunk.choices, chunk)

    def _take_choices(
        self, payload: bytes, choices: list[StreamedChoice], chunk: ChunkRest
    ) -> None:
        """Keep a chunk with choices, mended if need be; it has our model's id."""
        faults = faults_in(choices, self._mender)
        if faults and len(choices) == 1 and choices[0].delta is not None:
            quick = quickly_mended(payload, faults, choices[0].delta)
            if quick is not None:
                payload, faults = quick, 0
        if faults:
            self._take_mended(msgspec.json.decode(payload))
        else:
            self._keep(payload, choices, chunk)

    def _take_mended(self, sent: dict[str, Any]) -> None:
        """Keep a chunk with everything that OpenAI's schema promises."""
        self._mender.learn_name(sent.get("id"), sent.get("created"))
        usage = sent.get("usage", UNSET)
        reported = usage if usage is UNSET or usage is None else UsagePresent()
        for made in self._mender.mended(sent):
            made["model"] = self._model.id
            payload = msgspec.json.encode(made)
            self._events.note_nameless()
            try:
                choices = CHUNK_REST.decode(payload).choices or []
            except UNREADABLE:
                choices = [self._evened(choice) for choice in made["choices"]]
            present = reported if "usage" in made else UNSET
            self._keep(payload, choices, ChunkRest(choices, present))

    def _evened(self, choice: dict[str, Any]) -> StreamedChoice:
        """Return a choice with members of unknown types as a usual one, and count its text."""
        self.output_bytes += text_bytes(choice["delta"])
        return StreamedChoice(choice["index"], GeneratedText(), choice["finish_reason"])

    def _keep(self, payload: bytes, choices: list[StreamedChoice], chunk: ChunkRest) -> None:
        """Record a chunk with choices and add it for the client; it has our model's id."""
        ended = self._note(choices)
        if not self._answered:  # the second decoding ends with the first content
            self._answered = self.finish_reason is not None or has_content(payload)
            self.committed = self.committed or self._answered
        if chunk.usage:
            payload = self._without_usage(payload)
        else:
            if (ended or self.finished) and b"oken" in payload:
                self._seen.search(decoded(payload))
            if chunk.usage is UNSET and self._shows_usage:
                # OpenAI sends "usage": null in every chunk but the last when usage is requested.
                payload = payload.rstrip()[:-1] + b',"usage":null}'
        self._held.append(payload)

    def _note(self, choices: list[StreamedChoice]) -> bool:
        """Record text, calls and finish reasons; return whether a choice has finished."""
        ended = False
        for choice in choices:
            index, text = choice.index, choice.delta
            state = self._states.get(index)
            if state is None:
                state = self._states[index] = ChoiceState()
            if text is not None:
                size = text.size_bytes()
                if size:
                    self.output_bytes += size
                    state.by_delta = not state.by_message
                if text.tool_calls:
                    state.called = True
                    state.places.note_all(text.tool_calls)
                if text.function_call is not None:
                    state.function_called = True
                if text.annotations:
                    state.annotated += len(text.annotations)
            if choice.finish_reason:
                self.finish_reason = choice.finish_reason
                state.finished = ended = True
        if ended:
            self._seen.at_end = True
            states = self._states.values()
            self.finished = len(states) >= self._request.n and all(s.finished for s in states)
        return ended

    def _take_without_choices(self, payload: bytes, chunk: Chunk) -> None:
        """Read an event without choices: an error, usage, or a chunk with other members."""
        sent = msgspec.json.decode(payload)
        if chunk.error or not isinstance(sent, dict):
            raise self._failed(payload)
        if not self._answered and is_blocked(sent):
            self._blocked = True
        if self._seen.note_plain(sent, payload) or self._seen.search(sent):
            self._mender.learn_name(sent.get("id"), sent.get("created"))
            self._usage_chunk = payload
            return
        if chunk.usage:
            return  # a usage without counts
        if "choices" not in sent:
            if find_problem(payload) is not None:  # vLLM's errors have no member `error`
                raise self._failed(payload)
            if "object" not in sent:
                return  # no chunk at all, such as a ping
        self._keep_without_choices(payload, sent, chunk)

    def _keep_without_choices(self, payload: bytes, sent: dict[str, Any], chunk: Chunk) -> None:
        if chunk.choices is not None and self._mender.is_named(
            chunk.id, chunk.created, chunk.object
        ):
            payload = self._model.replaced(payload, chunk.model)
        else:
            self._mender.learn_name(sent.get("id"), sent.get("created"))
            self._events.note_nameless()
            made = self._mender.with_name(sent) | {"model": self._model.id, "choices": []}
            payload = msgspec.json.encode(made)
        if "usage" not in sent and self._shows_usage:
            payload = payload.rstrip()[:-1] + b',"usage":null}'
        self._held.append(payload)

    def _take_odd(self, payload: bytes, error: Exception) -> None:
        """Read what the first decoder refused: `[DONE]`, nothing, unusual types, or no JSON.

        Half a surrogate pair (an upstream that cuts strings inside an emoji) becomes U+FFFD.
        """
        text = payload.strip()
        if text == DONE:
            self._end()
        if not text or self.done:
            return
        whole = mended(payload)
        try:
            whole.decode()
            odd = ODD_CHUNK.decode(whole)
        except UNREADABLE:
            if self.finished:  # the answer is complete; only a usage can follow
                self._seen.note_failed(first_object(whole))
                return
            raise self._failed(whole) from error
        if odd.error:
            raise self._failed(whole)
        if whole != payload:
            self._take_unlike(whole)
        elif odd.choices:
            self._take_mended(msgspec.json.decode(whole))
        else:
            usage = odd.usage if odd.usage is UNSET or odd.usage is None else UsagePresent()
            self._take_without_choices(whole, Chunk(usage=usage))

    def _end(self) -> None:
        """Handle the end mark: add the finish reasons that have not come, and close."""
        if not self._answered:
            raise blocked_error() if self._is_blocked() else UpstreamError(EMPTY)
        for made in self._mender.missing_ends():
            made["model"] = self._model.id
            self._events.note_nameless()
            (choice,) = made["choices"]
            ended = [StreamedChoice(choice["index"], None, choice["finish_reason"])]
            self._keep(msgspec.json.encode(made), ended, ChunkRest(ended))
        self._close()

    def _close(self) -> None:
        """Add the end of the stream: the usage if requested, and `[DONE]`."""
        if self._shows_usage and self._seen.usage is not None:
            self._held.append(self._shown_usage_chunk())
        self._held.append(DONE)
        self._end_well()

    def _end_well(self) -> None:
        self.done = self.committed = self.finished = True

    # Usage

    def _without_usage(self, payload: bytes) -> bytes:
        """Read the usage beside content, and encode the chunk again without it."""
        members = MEMBERS.decode(payload)
        raw = members["usage"]
        if not self._seen.note(bytes(raw)) and self.finished:
            self._seen.search(decoded(payload))
        self._usage_chunk = b""
        if self._shows_usage:
            members["usage"] = NULL
        else:
            del members["usage"]
        return msgspec.json.encode(members)

    def _shown_usage_chunk(self) -> bytes:
        """Return the usage chunk for the client: the upstream's own one if it is right."""
        self._mender.make_name()
        usage = self._seen.shown(self.output_bytes)
        sent = decoded(self._usage_chunk) if self._usage_chunk else {}
        changed = {"model": self._model.id, "choices": [], "usage": usage}
        made = self._mender.with_name(sent | changed)
        theirs = sent.get("model")
        if made == sent | {"model": self._model.id} and isinstance(theirs, str):
            return self._model.replaced(self._usage_chunk, theirs)
        return msgspec.json.encode(made)

    # Errors and names

    def _is_blocked(self) -> bool:
        return self._blocked or any(is_blocked(decoded(payload)) for payload in self._held)

    def _failed(self, body: bytes) -> UpstreamError:
        """Return the error that a body or event reports, or the one for an invalid completion."""
        self._seen.note_failed(first_object(body))
        problem = find_problem(body)
        return (
            UpstreamError()
            if problem is None
            else error_in_band(problem, self._deployment, SentTexts(self._request.fields))
        )
