"""The states of a request, driven without sockets: refused once, read once, answered once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from support.waiting import eventually
from tornado.httputil import HTTPHeaders, RequestStartLine

from server.http.client_exchange import ClientExchange
from server.http.request_lifecycle import MAX_DROPPED_BYTES, RequestLifecycle, RequestState
from workers.errors import GatewayError, InvalidKey, PayloadTooLarge

HEAD = RequestStartLine("POST", "/", "HTTP/1.1"), HTTPHeaders()


class Ends(ClientExchange):
    """A connection that counts the ends of answers, and notes when the body may come."""

    def __init__(self) -> None:
        self.ended = self.released = 0

    def hold(self) -> None:
        """Wait with the body."""
        self.held = True

    def release(self) -> None:
        """Count it."""
        self.held = False
        self.released += 1

    def is_released(self) -> bool:
        """Return whether the body may come."""
        return self.released == 1

    def finish(self) -> None:
        """Count it."""
        self.ended += 1


class Steps:
    """A handler that notes its steps and can fail in each of them."""

    def __init__(self, *, has_body: bool = False, awaits_continue: bool = False) -> None:
        self.connection = Ends()
        self.steps: list[str] = []
        self.head_error: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.body_error: GatewayError | None = None
        self.method: Callable[[], Awaitable[None] | None] = self.answer
        self.lifecycle = RequestLifecycle(
            self, self.connection, has_body=has_body, awaits_continue=awaits_continue
        )

    def check_head(self) -> Awaitable[None] | None:
        """Refuse if asked to, at once or when `gate` opens."""
        if self.gate is not None:
            return self.wait()
        if self.head_error is not None:
            raise self.head_error
        return None

    async def wait(self) -> None:
        """Check the head later."""
        assert self.gate is not None
        await self.gate.wait()
        if self.head_error is not None:
            raise self.head_error

    def keep_body(self, piece: bytes) -> None:
        """Keep a piece, or refuse it."""
        if self.body_error is not None:
            raise self.body_error
        self.steps.append(piece.decode())

    def call_method(self) -> Awaitable[None] | None:
        """Call what the test has set."""
        self.steps.append("method")
        return self.method()

    def failed(self, error: BaseException) -> GatewayError:
        """Pass errors on; anything else is a bug."""
        return error if isinstance(error, GatewayError) else GatewayError()

    def write_failure(self, error: GatewayError) -> None:
        """Note an error answer."""
        self.lifecycle.status = error.status
        self.steps.append(str(error.status))

    def on_connection_close(self) -> None:
        """Note that the client has left."""
        self.steps.append("left")

    def on_end(self) -> None:
        """Note the end."""
        self.steps.append("end")

    def answer(self) -> None:
        """Answer with 200."""
        self.lifecycle.status = 200
        self.lifecycle.end_answer()

    def receive(self, *pieces: bytes) -> list[str]:
        """Receive a whole request."""
        self.lifecycle.headers_received(*HEAD)
        for piece in pieces:
            self.lifecycle.data_received(piece)
        self.lifecycle.finish()
        return self.steps


def test_the_method_is_called_once_the_body_is_complete() -> None:
    steps = Steps(has_body=True)
    assert steps.receive(b"one", b"two") == ["one", "two", "method", "end"]
    assert steps.lifecycle.state is RequestState.ANSWERED and steps.connection.ended == 1


def test_an_answer_ends_once() -> None:
    steps = Steps()
    steps.receive()
    steps.lifecycle.end_answer()
    steps.lifecycle.on_connection_close()
    steps.lifecycle.finish()
    assert steps.steps == ["method", "end"] and steps.connection.ended == 1


def test_a_refusal_of_a_request_without_body_is_answered_when_it_is_complete() -> None:
    steps = Steps()
    steps.head_error = InvalidKey()
    steps.lifecycle.headers_received(*HEAD)
    assert steps.steps == []
    steps.lifecycle.finish()
    assert steps.steps == ["401", "end"] and steps.connection.ended == 1


async def test_the_body_waits_until_the_head_is_checked() -> None:
    steps = Steps(has_body=True)
    steps.gate = asyncio.Event()
    steps.lifecycle.headers_received(*HEAD)
    assert steps.connection.held
    steps.gate.set()
    await eventually(steps.connection.is_released)
    assert steps.lifecycle.state is RequestState.BODY
    steps.lifecycle.data_received(b"one")
    steps.lifecycle.finish()
    assert steps.steps == ["one", "method", "end"]


async def test_a_head_that_is_refused_later_is_answered_once() -> None:
    for has_body in (True, False):
        steps = Steps(has_body=has_body)
        steps.gate, steps.head_error = asyncio.Event(), InvalidKey()
        steps.lifecycle.headers_received(*HEAD)
        steps.gate.set()
        await eventually(steps.connection.is_released)
        assert steps.lifecycle.state is RequestState.REFUSED
        steps.lifecycle.finish()
        assert steps.steps == ["401", "end"] and steps.connection.ended == 1


async def test_a_client_that_leaves_during_the_check_is_not_answered() -> None:
    steps = Steps(has_body=True)
    steps.gate, steps.head_error = asyncio.Event(), InvalidKey()
    steps.lifecycle.headers_received(*HEAD)
    steps.lifecycle.on_connection_close()
    steps.gate.set()
    await eventually(steps.connection.is_released)
    assert steps.steps == ["end", "left"] and steps.lifecycle.state is RequestState.LEFT


def test_a_refusal_is_answered_before_the_body_and_ended_after_it() -> None:
    steps = Steps(has_body=True)
    steps.head_error = InvalidKey()
    steps.lifecycle.headers_received(*HEAD)
    assert steps.steps == ["401"] and steps.connection.ended == 0
    steps.lifecycle.data_received(b"dropped")
    steps.lifecycle.finish()
    assert steps.steps == ["401", "end"] and steps.connection.ended == 1


def test_a_body_is_refused_at_the_piece_that_is_too_much() -> None:
    steps = Steps(has_body=True)
    steps.lifecycle.headers_received(*HEAD)
    steps.lifecycle.data_received(b"one")
    steps.body_error = PayloadTooLarge("too large")
    steps.lifecycle.data_received(b"two")
    steps.lifecycle.data_received(b"three")
    assert steps.lifecycle.state is RequestState.REFUSED
    steps.lifecycle.finish()
    assert steps.steps == ["one", "413", "end"]


def test_a_client_that_awaits_continue_is_refused_without_its_body() -> None:
    steps = Steps(has_body=True, awaits_continue=True)
    steps.head_error = InvalidKey()
    steps.lifecycle.headers_received(*HEAD)
    assert steps.steps == ["401", "end"] and steps.connection.ended == 1
    assert steps.lifecycle.refused_unsent


def test_a_refused_body_is_dropped_up_to_a_cap() -> None:
    steps = Steps(has_body=True)
    steps.head_error = InvalidKey()
    steps.lifecycle.headers_received(*HEAD)
    piece = bytes(MAX_DROPPED_BYTES // 4)
    for _ in range(4):
        steps.lifecycle.data_received(piece)
    assert steps.connection.ended == 0
    steps.lifecycle.data_received(b"+")
    assert steps.connection.ended == 1
    steps.lifecycle.data_received(b"+")
    assert steps.steps == ["401", "end"]


def test_a_bug_in_a_check_is_a_refusal() -> None:
    steps = Steps()
    steps.head_error = ZeroDivisionError()
    assert steps.receive() == ["500", "end"]


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("coroutine", [False, True])
async def test_a_method_that_fails_is_answered_unless_its_answer_has_begun(
    begun: bool, coroutine: bool
) -> None:
    steps = Steps()

    def fails() -> None:
        steps.lifecycle.status = 200 if begun else 0
        raise InvalidKey

    async def fails_later() -> None:
        await asyncio.sleep(0)
        fails()

    steps.method = fails_later if coroutine else fails
    steps.receive()
    while coroutine and not steps.lifecycle.ended:
        await asyncio.sleep(0)
    assert steps.steps == ["method", *([] if begun else ["401"]), "end"]
    assert steps.connection.ended == 1


async def test_a_client_that_leaves_is_noted_once_and_not_answered() -> None:
    steps, waiting = Steps(), asyncio.Event()
    ended = asyncio.Event()

    async def waits() -> None:
        await waiting.wait()
        ended.set()
        raise InvalidKey

    steps.method = waits
    steps.receive()
    steps.lifecycle.on_connection_close()
    steps.lifecycle.on_connection_close()
    assert steps.lifecycle.state is RequestState.LEFT
    waiting.set()
    await ended.wait()
    await asyncio.sleep(0)
    assert steps.steps == ["method", "end", "left"] and steps.connection.ended == 0


async def test_a_cancelled_wait_is_a_failure_of_the_request() -> None:
    steps = Steps()

    async def waits() -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    steps.method = waits
    steps.receive()
    while not steps.lifecycle.ended:
        await asyncio.sleep(0)
    assert steps.steps == ["method", "500", "end"]
