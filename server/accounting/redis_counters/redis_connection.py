"""One pipelined connection to Redis: commands of one turn of the event loop leave in one write.

hiredis packs commands and parses replies. The asyncio client of redis-py costs 3 times the CPU per
command in its pipelines (19 and 61 us, 100 at a time) and 10 times one by one.

A call is answered exactly once: with its reply, a `ReplyError` among them, or with `Lost` when the
connection ends first. Who waits for the reply and leaves changes nothing here: its reply is read
and dropped, so replies never get out of step.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis

from server.store.patience import StorePatience

CHECK_EVERY_S = 0.1

Done = Callable[[Any], None]
"""Called once, with the reply or a `Lost`."""


class Lost(Exception):
    """The connection ended before the reply: whether the command was carried out is not known."""


class RedisConnection(asyncio.Protocol):
    """A connection; `on_lost` is called once, with the reason, when it ends by itself."""

    def __init__(self, on_lost: Callable[[str], None], patience: StorePatience) -> None:
        self._on_lost = on_lost
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._waiting: deque[Done] = deque()
        self._heard_at = 0.0
        self._check: asyncio.TimerHandle | None = None
        self.lost = False

    def send(self, command: tuple[bytes | str | int, ...], done: Done) -> None:
        """Send a command with the others of this turn of the loop; `done` gets the reply."""
        if self.lost:
            self._loop.call_soon(done, Lost("the connection is closed"))
            return
        if not self._unsent:
            self._loop.call_soon(self._flush)
        # Its stub names a tuple of one; it takes any number.
        self._unsent.append(hiredis.pack_command(command))  # type: ignore[arg-type]
        self._waiting.append(done)
        if self._check is None:
            self._heard_at = self._loop.time()
            self._check_later()

    async def ask(self, *command: bytes | str | int) -> Any:
        """Send one command and return its reply. Raises Lost, or hiredis.ReplyError."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        self.send(command, lambda reply: None if answer.done() else answer.set_result(reply))
        reply = await answer
        if isinstance(reply, Exception):
            raise reply
        return reply

    def close(self, reason: str) -> None:
        """End the connection now; every call that waits is answered with Lost."""
        if self.lost:
            return
        self.lost = True
        if self._check is not None:
            self._check.cancel()
            self._check = None
        if self._transport is not None:
            self._transport.abort()
        waiting, self._waiting = self._waiting, deque()
        for done in waiting:
            done(Lost(reason))
        self._on_lost(reason)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; small writes leave at once."""
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        """Hand every whole reply to the call that it answers."""
        self._heard_at = self._loop.time()
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                if not self._waiting:
                    self.close("it sent a reply without a question")
                    return
                self._waiting.popleft()(reply)
        except hiredis.ProtocolError:
            self.close("it does not speak the Redis protocol")

    def connection_lost(self, exc: Exception | None) -> None:
        """Answer every call that waits."""
        self.close(f"the connection broke: {exc}" if exc else "the server closed the connection")

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is not None and not self.lost:
            self._transport.write(b"".join(unsent))

    def _check_later(self) -> None:
        due = self._loop.time() + CHECK_EVERY_S
        self._check = self._loop.call_at(due, self._check_silence, due)

    def _check_silence(self, due: float) -> None:
        """End the connection when calls wait and nothing has come for a while."""
        self._check = None
        if not self._waiting:
            return
        now, reply_s = self._loop.time(), self._patience.redis_reply_s
        # A late timer means that this process was busy: its unread replies are no silence.
        if now - due > CHECK_EVERY_S:
            self._heard_at = max(self._heard_at, now - reply_s / 2)
        elif now - self._heard_at > reply_s:
            self.close(f"no reply within {reply_s:g} s")
            return
        self._check_later()
