"""Links between processes: calls both ways, errors as themselves, and hostile bytes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator

import msgspec
import pytest
from support.waiting import eventually, soon

from server.nodes.link import MAX_FRAME_BYTES, Link, open_link
from server.nodes.procedure import Procedure, Service, procedure
from workers.errors import (
    BudgetExceeded,
    Draining,
    GatewayError,
    MethodNotAllowed,
    PayloadTooLarge,
    RateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)

DOUBLE: Procedure[int, int] = procedure("double", int, int)
HOLD: Procedure[str, str] = procedure("hold", str, str)
NOTE: Procedure[str, None] = procedure("note", str)
BLOB: Procedure[int, bytes] = procedure("blob", int, bytes)


class Ends:
    """What two ends of a link answer, and what they have noted."""

    def __init__(self) -> None:
        self.noted: list[str] = []
        self.gate = asyncio.Event()
        self.error: Exception | None = None
        self.near, self.far = Service(), Service()
        for service in (self.near, self.far):
            service.answer_at_once(DOUBLE, self.double)
            service.answer(HOLD, self.hold)
            service.answer_at_once(NOTE, self.noted.append)
            service.answer_at_once(BLOB, bytes)

    def double(self, number: int) -> int:
        """Double a number, or raise `error`."""
        if self.error is not None:
            raise self.error
        return 2 * number

    async def hold(self, text: str) -> str:
        """Answer in capitals once the gate is open."""
        await self.gate.wait()
        return text.upper()


@contextlib.asynccontextmanager
async def linked(ends: Ends) -> AsyncIterator[tuple[Link, Link]]:
    first, second = socket.socketpair()
    near, far = await open_link(first, ends.near), await open_link(second, ends.far)
    try:
        yield near, far
    finally:
        ends.gate.set()
        await near.aclose()
        await far.aclose()


@contextlib.asynccontextmanager
async def raw_end(ends: Ends) -> AsyncIterator[tuple[Link, socket.socket]]:
    """Yield a link and the bare socket at its other end."""
    first, second = socket.socketpair()
    second.settimeout(0)
    link = await open_link(first, ends.near)
    try:
        yield link, second
    finally:
        second.close()
        await link.aclose()


def frame(*members: object) -> bytes:
    message = msgspec.msgpack.encode(members)
    return len(message).to_bytes(4, "big") + message


async def test_both_ends_call_each_other() -> None:
    async with linked(Ends()) as (near, far):
        answers = await asyncio.gather(
            *(near.call(DOUBLE, n) for n in range(100)), *(far.call(DOUBLE, n) for n in range(100))
        )
        assert answers == [2 * n for n in range(100)] * 2


async def test_a_call_that_waits_does_not_hold_up_later_ones() -> None:
    ends = Ends()
    async with linked(ends) as (near, _):
        held = asyncio.create_task(near.call(HOLD, "word"))
        assert await near.call(DOUBLE, 4) == 8
        assert not held.done()
        ends.gate.set()
        assert await soon(held) == "WORD"


async def test_reports_arrive_in_order_and_before_a_later_call_is_answered() -> None:
    ends = Ends()
    async with linked(ends) as (near, _):
        for n in range(50):
            near.report(NOTE, str(n))
        await near.call(DOUBLE, 1)
        assert ends.noted == [str(n) for n in range(50)]


@pytest.mark.parametrize(
    "error",
    [
        GatewayError(),
        RateLimited("Too many.", limit="tokens", retry_after_s=1.5),
        RateLimited("Never.", limit="tokens", retry_after_s=None),
        BudgetExceeded("Used up.", retry_after_s=3600.0),
        Draining(),
        MethodNotAllowed(("GET",)),
        UpstreamUnavailable(own_fault="credit", retry_after_s=2.0),
        UpstreamRejected("No.", status=422, code="odd", param="messages[0]", retryable=True),
        UpstreamTimeout("gap", 3.0),
    ],
    ids=lambda error: f"{type(error).__name__} {error.retry_after_s}",
)
async def test_an_error_crosses_as_itself(error: GatewayError) -> None:
    ends = Ends()
    ends.error = error
    async with linked(ends) as (near, _):
        with pytest.raises(type(error)) as caught:
            await near.call(DOUBLE, 1)
        assert type(caught.value) is type(error)
        assert caught.value.encoded() == error.encoded()
        assert caught.value.status == error.status
        assert caught.value.retryable == error.retryable
        assert str(caught.value) == str(error)
        if not isinstance(error, MethodNotAllowed):  # its tuple of methods never crosses
            assert caught.value.headers() == error.headers()


async def test_the_cause_of_an_error_crosses_for_the_log_only() -> None:
    ends = Ends()
    ends.error = UpstreamUnavailable()
    ends.error.__cause__ = OSError("host.example: refused")
    async with linked(ends) as (near, _):
        with pytest.raises(UpstreamUnavailable) as caught:
            await near.call(DOUBLE, 1)
        assert "host.example" in caught.value.reason
        assert b"host.example" not in caught.value.encoded()


async def test_a_bug_is_logged_where_it_is_and_crosses_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ends = Ends()
    ends.error = ValueError("private text")
    async with linked(ends) as (near, _):
        with pytest.raises(GatewayError) as caught:
            await near.call(DOUBLE, 1)
        assert caught.value.status == 500
        assert "private text" not in str(caught.value)
        assert "private text" in caplog.text


async def test_waiting_calls_end_with_the_connection_and_new_ones_too() -> None:
    ends = Ends()
    lost: list[str] = []
    async with linked(ends) as (near, far):
        near.on_lost(lambda: lost.append("lost"))
        held = asyncio.create_task(near.call(HOLD, "word"))
        await near.call(DOUBLE, 1)
        far.close()
        with pytest.raises(Draining):
            await soon(held)
        with pytest.raises(Draining):
            await near.call(DOUBLE, 1)
        near.report(NOTE, "dropped")
        await soon(near.closed())
        assert near.is_lost and lost == ["lost"]


async def test_an_answer_that_arrives_after_its_caller_was_cancelled_is_passed_on() -> None:
    ends = Ends()
    unwanted: list[str] = []
    async with linked(ends) as (near, _):
        held = asyncio.create_task(near.call(HOLD, "word", unwanted=unwanted.append))
        await near.call(DOUBLE, 1)
        held.cancel()
        ends.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await held
        await eventually(lambda: unwanted)
        assert unwanted == ["WORD"]


async def test_a_caller_cancelled_in_the_turn_of_its_answer_passes_it_on_too() -> None:
    ends = Ends()
    unwanted: list[str] = []
    cancelled: list[bool] = []
    cancel: Procedure[None, None] = procedure("cancel", None)
    async with raw_end(ends) as (link, sock):
        held = asyncio.create_task(link.call(HOLD, "word", unwanted=unwanted.append))
        ends.near.answer_at_once(cancel, lambda _: cancelled.append(held.cancel()))
        loop = asyncio.get_running_loop()
        await loop.sock_recv(sock, 1000)
        await loop.sock_sendall(sock, frame(2, 1, "WORD") + frame(1, "cancel", None))
        with pytest.raises(asyncio.CancelledError):
            await soon(held)
        assert unwanted == ["WORD"] and cancelled == [True]


async def test_large_messages_arrive_whole_and_too_large_ones_fail_alone() -> None:
    async with linked(Ends()) as (near, _):
        assert len(await near.call(BLOB, 3_000_000)) == 3_000_000
        with pytest.raises(PayloadTooLarge):
            await near.call(BLOB, MAX_FRAME_BYTES)
        with pytest.raises(PayloadTooLarge):
            near.report(NOTE, "x" * MAX_FRAME_BYTES)
        assert await near.call(DOUBLE, 2) == 4


async def test_what_is_sent_in_one_turn_leaves_in_one_write() -> None:
    async with raw_end(Ends()) as (link, sock):
        for n in range(3):
            link.report(NOTE, str(n))
            with pytest.raises(BlockingIOError):
                sock.recv(1000)
        data = await asyncio.get_running_loop().sock_recv(sock, 1000)
        assert data == b"".join(frame(1, "note", str(n)) for n in range(3))


async def test_what_cannot_be_encoded_fails_alone() -> None:
    ends = Ends()
    async with linked(ends) as (near, _):
        near.report(NOTE, "before")
        with pytest.raises(OverflowError):
            await near.call(DOUBLE, 2**80)
        with pytest.raises(GatewayError):
            await near.call(DOUBLE, 2**63)  # the answer cannot be encoded
        near.report(NOTE, "after")
        assert await near.call(DOUBLE, 2) == 4
        assert ends.noted == ["before", "after"]


@pytest.mark.parametrize("size", [1, 3, 7])
async def test_frames_may_arrive_in_pieces_of_any_size(size: int) -> None:
    ends = Ends()
    async with raw_end(ends) as (_, sock):
        data = b"".join(frame(1, "note", f"{n}" * 50) for n in range(5))
        loop = asyncio.get_running_loop()
        for start in range(0, len(data), size):
            await loop.sock_sendall(sock, data[start : start + size])
            await asyncio.sleep(0)
        await eventually(lambda: len(ends.noted) == 5)
        assert ends.noted == [f"{n}" * 50 for n in range(5)]


@pytest.mark.parametrize(
    "data",
    [
        (MAX_FRAME_BYTES + 1).to_bytes(4, "big"),
        frame(1, "unheard of", "x"),
        frame(0, 1, "double", "not a number"),
        frame(7, 1, "double", 1),
        frame("text"),
        b"\0\0\0\1\xc1",
    ],
    ids=["size", "name", "type", "tag", "shape", "bytes"],
)
async def test_bytes_of_another_form_end_the_connection(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with raw_end(Ends()) as (link, sock):
        await asyncio.get_running_loop().sock_sendall(sock, data)
        await soon(link.closed())
        assert [one.levelno for one in caplog.records] == [logging.ERROR]


async def test_an_error_of_a_class_that_is_unknown_here_is_an_internal_error() -> None:
    async with raw_end(Ends()) as (link, sock):
        asked = asyncio.create_task(link.call(DOUBLE, 1))
        loop = asyncio.get_running_loop()
        await loop.sock_recv(sock, 1000)
        await loop.sock_sendall(sock, frame(3, 1, ["KeyboardInterrupt", {}, None]))
        with pytest.raises(GatewayError) as caught:
            await soon(asked)
        assert caught.value.status == 500


def test_a_service_has_one_answer_to_a_name() -> None:
    service = Service()
    service.answer_at_once(DOUBLE, lambda number: number)
    with pytest.raises(ValueError, match="double"):
        service.answer_at_once(DOUBLE, lambda number: number)
