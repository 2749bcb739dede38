"""One child of a keeper: its process, its link, and the seat whose connections it serves.

A child without a seat is a spare: it has built everything, holds the sockets of all seats as its
keeper does, and accepts connections once it is given one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import server
from server.nodes.link import Link
from server.nodes.procedure import Service
from server.processes.child_calls import (
    HELLO,
    READY,
    RETIRE,
    SEAT,
    STOP,
    WARM,
    GivenSeat,
    Ready,
    Welcome,
)
from server.processes.pulse import PULSE, wait_until_silent

log = logging.getLogger("roxy.keeper")

PRIVATE_VARIABLES = (
    "ROXY_ADMIN_API_KEY",
    "ROXY_DATABASE_URL",
    "ROXY_REDIS_URL",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
)
"""What only the keeper needs: a child gets no copy of it."""


class ChildFailure(Exception):
    """A child cannot start; the message is one line."""


class Seat(NamedTuple):
    """A number from 1, and the sockets that the children of this seat listen on."""

    number: int
    sockets: Sequence[socket.socket]


class ChildParts(NamedTuple):
    """What a keeper makes for a new child: what it is started with, and what follows its steps.

    `connect` is called with the link when the child has said HELLO, `on_seat` when it has a seat.
    """

    welcome: Welcome
    connect: Callable[[Link], None]
    on_seat: Callable[[], None]


class Child:
    """A serving process, or a spare. `ready` is done when it accepts connections, or has ended.

    `is_warm`: it has built everything, and needs only a seat. `works_since` is when it came to
    what it is for, serving or waiting for a seat; None: it has not.
    """

    def __init__(
        self, parts: ChildParts, service: Service, link: Link, process: asyncio.subprocess.Process
    ) -> None:
        loop = asyncio.get_running_loop()
        self.link = link
        self.seat: Seat | None = None
        self.is_warm = False
        self.ready: asyncio.Future[Ready] = loop.create_future()
        self.works_since: float | None = None
        self._parts = parts
        self._process = process
        self.exit = loop.create_task(process.wait(), name=f"process {process.pid}")
        self._watch: asyncio.Task[None] | None = None
        service.answer_at_once(PULSE, lambda _: None)
        service.answer_at_once(HELLO, self._greet)
        service.answer_at_once(WARM, self._note_warm)
        service.answer_at_once(READY, self._note_ready)

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    @property
    def name(self) -> str:
        """Return its seat and its process id, for the log."""
        where = f"process {self.seat.number}" if self.seat is not None else "the spare process"
        return f"{where} ({self.pid})"

    def give(self, seat: Seat) -> None:
        """Make it serve the connections of a seat."""
        self.seat = seat
        self.works_since = None
        self._parts.on_seat()
        descriptors = [sock.fileno() for sock in seat.sockets]
        self.link.report(SEAT, GivenSeat(seat.number, descriptors))

    def stop(self) -> None:
        """Make it drain and end."""
        self.link.report(STOP, None)

    def retire(self) -> None:
        """Make it serve only the connections that are open."""
        self.link.report(RETIRE, None)

    def kill(self) -> None:
        """End it at once."""
        if self._process.returncode is None:
            self._process.kill()

    def close(self, code: int) -> None:
        """Close the link: the process has ended with `code`."""
        if self._watch is not None:
            self._watch.cancel()
        self.link.close()
        if not self.ready.done():
            self.ready.set_exception(
                ChildFailure(f"{self.name} has ended {describe_exit(code)} at its start")
            )
            self.ready.exception()  # its starter may have been cancelled, and asyncio would warn

    def _greet(self, _pid: int) -> Welcome:
        self._parts.connect(self.link)
        return self._parts.welcome

    def _note_warm(self, _: None) -> None:
        """Note that it needs only a seat; from now on it is killed when it hangs."""
        self.is_warm = True
        loop = asyncio.get_running_loop()
        if self.seat is None:
            self.works_since = loop.time()
        self._watch = loop.create_task(self._kill_when_silent(), name=f"pulse of {self.name}")

    def _note_ready(self, ready: Ready) -> None:
        self.works_since = asyncio.get_running_loop().time()
        if not self.ready.done():
            self.ready.set_result(ready)

    async def _kill_when_silent(self) -> None:
        if await wait_until_silent(self.link):
            log.error("%s does not answer; it is killed", self.name)
            self.kill()


async def spawn(
    link_descriptor: int, sockets: Sequence[int], environ: Mapping[str, str], *, spare: bool
) -> asyncio.subprocess.Process:
    """Start a child with its end of a link and the sockets of all seats. Raises ChildFailure."""
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            # Not the working directory, where anything may lie, but where this code comes from.
            "-P",
            "-m",
            "server.processes",
            str(link_descriptor),
            *(("spare",) if spare else ()),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=(link_descriptor, *sockets),
            env=_child_environ(environ),
        )
    except OSError as error:  # out of processes or memory
        raise ChildFailure(f"a process cannot be started: {error.strerror}") from error


def _child_environ(environ: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in environ.items() if name not in PRIVATE_VARIABLES}
    here = str(Path(server.__file__).parents[1])
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, (here, kept.get("PYTHONPATH"))))
    return kept


def describe_exit(code: int) -> str:
    """Describe an exit code: a negative one is a signal."""
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"
