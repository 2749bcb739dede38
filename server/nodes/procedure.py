"""Declare what can be asked over a link, and the table of what one end answers.

    TAKE: Procedure[Take, Taken] = procedure("take", Take, Taken)

    service = Service()
    service.answer(TAKE, counters.take)         # at the keeper
    taken = await link.call(TAKE, Take(...))    # at a child

A procedure is a name on the wire with the type of its question and of its answer; both ends decode
with these types, so a message of another form is refused. A service is a fixed table: only what was
put into it by the code can be called. Nothing is pickled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

Question = TypeVar("Question")
Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)


class Procedure(Generic[Question, Answer_co]):
    """One kind of call, or of report when nothing is answered; see `procedure`."""

    __slots__ = ("decode_answer", "decode_question", "name")

    def __init__(
        self,
        name: str,
        decode_question: Callable[[Any], Question],
        decode_answer: Callable[[Any], Answer_co],
    ) -> None:
        self.name = name
        self.decode_question = decode_question
        self.decode_answer = decode_answer


def procedure(name: str, question: Any, answer: Any = None) -> Procedure[Any, Any]:
    """Declare a procedure; the types are any that msgspec decodes, None where there is no value.

    The result is assigned to a constant with the exact type, since mypy has no type for a union
    that is passed as a value.
    """
    return Procedure(
        name, msgspec.msgpack.Decoder(question).decode, msgspec.msgpack.Decoder(answer).decode
    )


class Answering(NamedTuple):
    """A procedure with the function that answers it; `at_once`: it is no coroutine function."""

    procedure: Procedure[Any, Any]
    function: Callable[[Any], Any]
    at_once: bool


class Service:
    """What one end of a link answers: a table from names to functions, filled at the start."""

    def __init__(self) -> None:
        self._table: dict[str, Answering] = {}

    def answer(
        self,
        procedure: Procedure[Question, Answer],
        function: Callable[[Question], Awaitable[Answer]],
    ) -> None:
        """Answer a procedure by a coroutine function, in a task for each call."""
        self._add(Answering(procedure, function, at_once=False))

    def answer_at_once(
        self, procedure: Procedure[Question, Answer], function: Callable[[Question], Answer]
    ) -> None:
        """Answer a procedure by a function that does not wait, in the order of arrival."""
        self._add(Answering(procedure, function, at_once=True))

    def find(self, name: str) -> Answering | None:
        """Find what answers to a name."""
        return self._table.get(name)

    def _add(self, answering: Answering) -> None:
        name = answering.procedure.name
        if name in self._table:
            raise ValueError(f"{name} is answered already")
        self._table[name] = answering
