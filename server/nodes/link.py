"""A connection between two processes of one gateway, over which each calls the other.

    link = await open_link(sock, service)
    taken = await link.call(TAKE, Take(...))    # raises what the other end raised
    link.report(SETTLE, Settle(...))            # no answer
    await link.closed()                         # until the other process ends

The wire is a stream socket between processes of one user. A frame is a length (4 bytes, big endian)
and a message in MessagePack (msgspec): a call with an id, a report, an answer or a fault. What is
sent in one turn of the event loop leaves in one write. The messages of one end are handled in their
order: functions that answer at once run in it, coroutine functions start in it.

When the connection is lost, every waiting call raises Draining: the other process has ended, and
this one will.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, cast

import msgspec
from msgspec import Raw, Struct

from server.nodes.fault import Fault, error_of, fault_of
from server.nodes.procedure import Answer, Answering, Procedure, Question, Service
from workers.errors import Draining, GatewayError, PayloadTooLarge
from workers.units import MIB

log = logging.getLogger("roxy.nodes")

LENGTH_BYTES = 4
MAX_FRAME_BYTES = 64 * MIB
"""Enough for the prefixes of some millions of keys, the largest of all answers."""
MAX_UNSENT_BYTES = 4 * MAX_FRAME_BYTES
"""What may wait for a process that does not read; with more, it counts as ended."""


class Called(Struct, array_like=True, frozen=True, tag=0):
    """A call that expects an answer with the same id."""

    id: int
    name: str
    question: Raw


class Reported(Struct, array_like=True, frozen=True, tag=1):
    """A message without an answer."""

    name: str
    question: Raw


class Returned(Struct, array_like=True, frozen=True, tag=2):
    """The answer to a call."""

    id: int
    answer: Raw


class Failed(Struct, array_like=True, frozen=True, tag=3):
    """The error that a call has raised."""

    id: int
    fault: Fault


Message: TypeAlias = Called | Reported | Returned | Failed
decode_message = msgspec.msgpack.Decoder(Message).decode


class Waiting(Struct):
    """A call under way; `unwanted` receives the answer when its caller was cancelled."""

    future: asyncio.Future[Any]
    decode: Callable[[Any], Any]
    unwanted: Callable[[Any], None] | None


class Link(asyncio.Protocol):
    """One end of a connection; `service` answers what the other end asks."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._encoder = msgspec.msgpack.Encoder()
        self._out = bytearray()
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = LENGTH_BYTES
        self._last_id = 0
        self._waiting: dict[int, Waiting] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._on_lost: list[Callable[[], None]] = []

    # Asking

    async def call(
        self,
        procedure: Procedure[Question, Answer],
        question: Question,
        *,
        unwanted: Callable[[Answer], None] | None = None,
    ) -> Answer:
        """Ask the other end and return its answer.

        Raises what it raised, and Draining when the connection is lost. When the caller is
        cancelled, the other end still does what was asked, and `unwanted` receives the answer.
        """
        if self.is_lost:
            raise Draining
        self._last_id = call_id = self._last_id + 1
        self._send((0, call_id, procedure.name, question))
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting[call_id] = Waiting(future, procedure.decode_answer, unwanted)
        try:
            return await future
        except asyncio.CancelledError:
            # The future is done when the answer arrived before the caller had its turn.
            answered = future.done() and not future.cancelled() and future.exception() is None
            if unwanted is not None and answered:
                unwanted(future.result())
            raise

    def report(self, procedure: Procedure[Question, None], question: Question) -> None:
        """Send a message without an answer; it is dropped when the connection is lost."""
        if not self.is_lost:
            self._send((1, procedure.name, question))

    # Ending

    @property
    def is_lost(self) -> bool:
        """True once the connection has ended."""
        return self._lost.done()

    async def closed(self) -> None:
        """Wait until the connection has ended."""
        await asyncio.shield(self._lost)

    def on_lost(self, listener: Callable[[], None]) -> None:
        """Call `listener` when the connection has ended, before waiting calls raise."""
        self._on_lost.append(listener)

    def close(self) -> None:
        """Send what is unsent and end the connection."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    async def aclose(self) -> None:
        """End the connection, and wait until everything that was asked here has been done."""
        self.close()
        if self._transport is not None:
            await self.closed()
        while self._tasks:
            await asyncio.wait(self._tasks)

    # The connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's inherits from nothing

    def connection_lost(self, _error: Exception | None) -> None:
        """End all waiting calls."""
        self._lost.set_result(None)
        for listener in self._on_lost:
            listener()
        waiting, self._waiting = self._waiting, {}
        for one in waiting.values():
            if not one.future.done():
                one.future.set_exception(Draining())

    def data_received(self, data: bytes) -> None:
        """Handle every message that is complete."""
        self._pieces.append(data)
        self._have += len(data)
        if self._have < self._need:
            return
        whole = data if len(self._pieces) == 1 else b"".join(self._pieces)
        view = memoryview(whole)
        start, end = 0, len(whole)
        try:
            while end - start >= LENGTH_BYTES:
                size = int.from_bytes(view[start : start + LENGTH_BYTES], "big")
                if size > MAX_FRAME_BYTES:
                    raise _Refused(f"a frame of {size} bytes")
                self._need = LENGTH_BYTES + size
                if end - start < self._need:
                    break
                message = decode_message(view[start + LENGTH_BYTES : start + self._need])
                start += self._need
                self._need = LENGTH_BYTES
                self._handle(message)
        except (msgspec.MsgspecError, _Refused) as error:
            log.error("a message of another process of this gateway is refused: %s", error)
            self.abort()
            return
        self._pieces = [whole[start:]] if start < end else []
        self._have = end - start

    def abort(self) -> None:
        """End the connection at once; what is unsent is dropped."""
        self._pieces.clear()
        self._have, self._need = 0, LENGTH_BYTES
        if self._transport is not None:
            self._transport.abort()

    # Messages

    def _handle(self, message: Message) -> None:
        if isinstance(message, Returned | Failed):
            waiting = self._waiting.pop(message.id, None)
            if waiting is not None:
                _resolve(waiting, message)
            return
        answering = self._service.find(message.name)
        if answering is None:
            raise _Refused(f"nothing here answers to {message.name!r}")
        call_id = message.id if isinstance(message, Called) else None
        question = answering.procedure.decode_question(message.question)
        if answering.at_once:
            try:
                answer = answering.function(question)
            except Exception as error:  # noqa: BLE001 - it crosses, or is logged as a bug
                self._fail(call_id, message.name, error)
            else:
                self._answer(call_id, message.name, answer)
        else:
            self._start(self._run(call_id, answering, question), message.name)

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, call_id: int | None, answering: Answering, question: Any) -> None:
        name = answering.procedure.name
        try:
            answer = await answering.function(question)
        except Exception as error:  # noqa: BLE001 - it crosses, or is logged as a bug
            self._fail(call_id, name, error)
        else:
            self._answer(call_id, name, answer)

    def _answer(self, call_id: int | None, name: str, answer: Any) -> None:
        if call_id is None or self.is_lost:
            return
        try:
            self._send((2, call_id, answer))
        except Exception as error:  # noqa: BLE001 - it crosses, or is logged as a bug
            self._fail(call_id, name, error)

    def _fail(self, call_id: int | None, name: str, error: Exception) -> None:
        known = error if isinstance(error, GatewayError) else GatewayError()
        if known is not error or call_id is None:
            log.error("%s of another process has failed", name, exc_info=error)
        if call_id is not None and not self.is_lost:
            self._send((3, call_id, fault_of(known)))

    def _send(self, message: tuple[Any, ...]) -> None:
        """Send a message with all others of this turn of the loop. Raises PayloadTooLarge.

        A message that cannot be encoded raises what msgspec raises; none of it is sent.
        """
        out = self._out
        first = not out
        start = len(out)
        out += bytes(LENGTH_BYTES)
        try:
            self._encoder.encode_into(message, out, start + LENGTH_BYTES)
        except Exception:
            del out[start:]  # nothing of it may leave: the next frame would be read from its middle
            raise
        size = len(out) - start - LENGTH_BYTES
        if size > MAX_FRAME_BYTES:
            del out[start:]
            raise PayloadTooLarge("This is too large to be passed between processes.")
        out[start : start + LENGTH_BYTES] = size.to_bytes(LENGTH_BYTES, "big")
        if first:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if not self._out or self._transport is None or self.is_lost:
            return
        out, self._out = self._out, bytearray()
        self._transport.write(out)
        if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            log.error("another process of this gateway reads nothing; its connection is closed")
            self.abort()


class _Refused(Exception):
    """A message that no process of this version sends."""


def _resolve(waiting: Waiting, message: Returned | Failed) -> None:
    future = waiting.future
    if isinstance(message, Failed):
        if not future.done():
            future.set_exception(error_of(message.fault))
    elif not future.done():
        future.set_result(waiting.decode(message.answer))
    elif waiting.unwanted is not None:
        waiting.unwanted(waiting.decode(message.answer))


async def open_link(sock: socket.socket, service: Service) -> Link:
    """Return a link over a connected socket, which closes with it."""
    sock.settimeout(0)
    loop = asyncio.get_running_loop()
    _transport, link = await loop.create_unix_connection(lambda: Link(service), sock=sock)
    return link
