"""Mend chunks and whole answers that are not what OpenAI's schema promises.

Nothing here runs for an answer that already is. One mender serves one answer: it remembers the id,
the time, and what each choice has sent, because a mended chunk must agree with those before it.
"""

from __future__ import annotations

import logging
import secrets
import time
from typing import Any, Final

from workers.errors import UpstreamError
from workers.providers.openai.mending.annotations import numbered
from workers.providers.openai.mending.finish_reasons import (
    COMPLETE,
    FAILED,
    FUNCTION_CALL,
    REASONS,
    STOP,
    TOOL_CALLS,
    translated,
)
from workers.providers.openai.mending.logprobs import mended_logprobs
from workers.providers.openai.mending.messages import with_plain_text
from workers.providers.openai.mending.tool_calls import CallPlaces, whole_calls

log = logging.getLogger("roxy.workers")

CHUNK_OBJECT: Final = "chat.completion.chunk"
WHOLE_OBJECT: Final = "chat.completion"
ASSISTANT: Final = "assistant"
FAILED_INSIDE = "The upstream of this model failed while it was answering."
EMPTY = "The upstream of this model ended its answer without any content."
NO_MESSAGE = {"role": ASSISTANT, "content": None, "refusal": None}
"""The members that OpenAI's schema requires."""
_SHOWN = 60
"""How much of an unknown reason is logged."""


class ChoiceState:
    """What one of the `n` answers has sent so far."""

    __slots__ = (
        "annotated",
        "by_delta",
        "by_message",
        "called",
        "finished",
        "function_called",
        "places",
    )

    def __init__(self) -> None:
        self.annotated = 0  # how many annotations have come
        self.finished = False
        self.called = False  # a tool
        self.function_called = False  # a function, in the form before tools
        self.by_delta = False  # text has come in a `delta`, as it should
        self.by_message = False  # or in another member
        self.places = CallPlaces()


class ChunkMender:
    """Mends the chunks of one answer, or one whole answer.

    `forced`: the client's `tool_choice` names the function, where `stop` is right after a call.
    `source` names the deployment in the log. `answer_id` is "" and `created` 0 until known.
    """

    def __init__(self, *, forced: bool, source: str) -> None:
        self.states: dict[Any, ChoiceState] = {}  # by index
        self.answer_id = ""
        self.created = 0
        self._forced = forced
        self._source = source

    # The id and the time of the answer

    @property
    def named(self) -> bool:
        """True if id and time of the answer are known."""
        return self.answer_id != "" and self.created > 0

    def learn_name(self, answer_id: Any, created: Any) -> None:
        """Take the first id and the first time that an answer states for all of it."""
        if not self.answer_id and answer_id and isinstance(answer_id, (str, int)):
            self.answer_id = str(answer_id)
        if self.created <= 0:
            self.created = _time(created)

    def is_named(self, answer_id: str | None, created: int | None, kind: str | None) -> bool:
        """Return whether a chunk states the id and the time of its answer, and the right type."""
        if not self.named:
            self.learn_name(answer_id, created)
        return (
            answer_id == self.answer_id
            and created == self.created
            and kind == CHUNK_OBJECT
            and self.named
        )

    def make_name(self) -> None:
        """Make up what the upstream has not stated."""
        self.answer_id = self.answer_id or f"chatcmpl-{secrets.token_hex(12)}"
        self.created = self.created or int(time.time())

    def with_name(self, members: dict[str, Any], kind: str = CHUNK_OBJECT) -> dict[str, Any]:
        """Return a chunk or answer with the id and the time of its answer, and its type."""
        name = {"id": self.answer_id, "object": kind, "created": self.created}
        return {**members, **name} if "id" in members else name | members | name

    # Chunks

    def mended(self, sent: dict[str, Any]) -> list[dict[str, Any]]:
        """Return one chunk, or two: the content of a whole message goes before its end.

        Raises UpstreamError for a finish reason that names a failure.
        """
        made, ends = [], []
        for position, choice in enumerate(sent["choices"]):
            if not isinstance(choice, dict):
                raise UpstreamError
            mended, whole = self._choice(position, choice)
            if whole and mended["finish_reason"] is not None and mended["delta"]:
                ends.append({**mended, "delta": {}})
                mended["finish_reason"] = None
            made.append(mended)
        chunk = self.with_name(sent)
        if not ends:
            return [chunk | {"choices": made}]
        content = {name: value for name, value in chunk.items() if name != "usage"}
        return [content | {"choices": made}, chunk | {"choices": ends}]

    def _choice(self, position: int, sent: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        choice = dict(sent)
        index = choice["index"] = read_index(choice.get("index"), position)
        first = index not in self.states
        if first and choice.get("message", choice) is None and not choice.get("delta"):
            raise UpstreamError(EMPTY)
        state = self.states.setdefault(index, ChoiceState())
        delta, whole = _delta_of(choice, state)
        delta = self._delta(delta, state, first=first)
        choice["delta"] = delta
        if choice.get("logprobs") is not None:
            choice["logprobs"] = mended_logprobs(choice["logprobs"])
        reason = choice.pop("finishReason", None)
        reason = choice.get("finish_reason") or reason
        choice["finish_reason"] = None if state.finished else self._reason(delta, state, reason)
        if choice["finish_reason"] in COMPLETE:
            state.places.add_arguments(delta)
        return choice, whole

    def _delta(self, sent: dict[str, Any], state: ChoiceState, *, first: bool) -> dict[str, Any]:
        delta = with_plain_text(sent)
        if first:
            delta = {"role": ASSISTANT} | delta | {"role": ASSISTANT}
        elif "role" in delta:
            del delta["role"]  # openai-python would add it up: "assistantassistant"
        if delta.get("annotations") and state.annotated:
            delta["annotations"] = numbered(delta["annotations"], state.annotated)
        if delta.get("tool_calls"):
            delta["tool_calls"] = state.places.mended(delta["tool_calls"])
        return delta

    # Finish reasons

    def _reason(self, text: dict[str, Any], state: ChoiceState, sent: Any) -> str | None:
        called = state.called or bool(text.get("tool_calls"))
        function_called = state.function_called or bool(text.get("function_call"))
        return self.reason(sent, called=called, function_called=function_called)

    def reason(self, sent: Any, *, called: bool, function_called: bool) -> str | None:
        """Return the reason that a client gets, or None while the answer continues.

        Raises UpstreamError for a failure.
        """
        reason = sent if isinstance(sent, str) and sent in REASONS else translated(sent)
        if reason == FAILED:
            raise UpstreamError(FAILED_INSIDE)
        if reason is None:
            log.warning(
                "%s: unknown finish_reason %s, passed on as stop",
                self._source,
                ascii(sent)[:_SHOWN],
            )
            reason = STOP
        return self.fitting(reason, called=called, function_called=function_called) or None

    def fitting(self, reason: str, *, called: bool, function_called: bool) -> str:
        """Return the reason that fits what was generated: clients run tools on `tool_calls` only.

        OpenAI itself ends with `stop` where the request forced one function.
        """
        if called and (reason == FUNCTION_CALL or (reason == STOP and not self._forced)):
            return TOOL_CALLS
        if function_called and not called and reason in (STOP, TOOL_CALLS) and not self._forced:
            return FUNCTION_CALL
        return reason

    def missing_ends(self) -> list[dict[str, Any]]:
        """Return a chunk for each choice that has not finished although the answer has ended."""
        chunks = []
        for index, state in sorted(self.states.items()):
            if not state.finished:
                reason = self.fitting(
                    STOP, called=state.called, function_called=state.function_called
                )
                log.warning("%s: no finish_reason, %s is sent", self._source, reason)
                delta: dict[str, Any] = {}
                state.places.add_arguments(delta)
                choice = {"index": index, "delta": delta, "finish_reason": reason}
                chunks.append(self.with_name({"choices": [choice]}))
        return chunks

    # Whole answers

    def mended_answer(self, sent: dict[str, Any], choices: list[Any]) -> dict[str, Any]:
        """Return a whole answer with every member that it must have. Raises UpstreamError."""
        made = []
        for position, choice in enumerate(choices):
            if not isinstance(choice, dict):
                raise UpstreamError
            made.append(self._whole_choice(position, choice))
        self.learn_name(sent.get("id"), sent.get("created"))
        self.make_name()
        return self.with_name({**sent, "choices": made}, WHOLE_OBJECT)

    def _whole_choice(self, position: int, sent: dict[str, Any]) -> dict[str, Any]:
        choice = dict(sent)
        choice["index"] = read_index(choice.get("index"), position)
        message = _message_of(choice) or {}
        message = NO_MESSAGE | with_plain_text(message) | {"role": ASSISTANT}
        if not message.get("content") and message.get("tool_calls"):
            message["content"] = None
        calls = message.get("tool_calls")
        if isinstance(calls, dict):
            calls = [calls]
        if isinstance(calls, list):
            message["tool_calls"] = whole_calls(calls)
        choice["message"] = message
        choice["logprobs"] = mended_logprobs(choice.get("logprobs"))
        reason = choice.pop("finishReason", None)
        reason = self._reason(message, ChoiceState(), choice.get("finish_reason") or reason)
        choice["finish_reason"] = reason or self._reason(message, ChoiceState(), STOP)
        return choice


def read_index(value: Any, position: int) -> int:
    """Return the index of a choice; without a valid one its position is meant."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 4:
        return int(value)
    return value if type(value) is int and value >= 0 else position


def _time(value: Any) -> int:
    if isinstance(value, str) and value.isdecimal() and len(value) < 16:
        value = int(value)
    return int(value) if isinstance(value, (int, float)) and 0 < value < 2**53 else 0


def _delta_of(choice: dict[str, Any], state: ChoiceState) -> tuple[dict[str, Any], bool]:
    """Take the delta out of a choice; return it and whether it is a whole message.

    Some servers put it into `message`, or plain text into `text`. MiniMax repeats the whole answer
    as a `message` at the end: it adds nothing where deltas have come.
    """
    delta = choice.get("delta")
    message, text = choice.pop("message", None), choice.pop("text", None)
    if delta is not None and not isinstance(delta, dict):
        raise UpstreamError
    if delta:
        return delta, False
    if state.by_delta:
        return {}, False
    if isinstance(message, dict):
        state.by_message = True
        return message, True
    if isinstance(text, str):
        state.by_message = True
        return {"content": text}, False
    return {}, False


def _message_of(choice: dict[str, Any]) -> dict[str, Any] | None:
    """Take the message out of a choice of a whole answer, wherever it is; None: there is none."""
    message, delta, text = (choice.pop(name, None) for name in ("message", "delta", "text"))
    for each in (message, delta):
        if isinstance(each, dict) and each:
            return each
    for each in (message, text):
        if isinstance(each, str):
            return {"content": each}
    return None


def has_message(choice: Any) -> bool:
    """Return whether a choice of a whole answer says anything."""
    return isinstance(choice, dict) and _message_of(dict(choice)) is not None
