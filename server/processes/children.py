"""The children of a keeper: start them, start them again when they die, replace and stop them.

Each child has a place: a number, and sockets that it listens on, which the keeper holds as well. A
connection that waits there is served by the next child of the place when the present one dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import server
from server.http.request_id import new_process_tag
from server.nodes.link import Link, open_link
from server.nodes.procedure import Service
from server.processes.child_calls import HELLO, READY, RETIRE, STOP, Ready, Welcome
from server.processes.pulse import PULSE, wait_until_silent

log = logging.getLogger("roxy.keeper")

READY_WITHIN_S = 60.0
STEADY_AFTER_S = 10.0
"""A child that lived longer than this is started again at once when it dies."""
RESTART_WAITS_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
"""The wait before another start, by how many children of the place died sooner in a row."""
KILL_AFTER_S = 10.0
"""A child that still runs so long after its drain is killed."""
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


class ListeningPlace(NamedTuple):
    """A number from 1, and the sockets that the children of this place listen on."""

    number: int
    sockets: Sequence[socket.socket]


class Child:
    """A serving process. `ready` is done when it accepts connections, or has ended before."""

    def __init__(
        self, place: ListeningPlace, process: asyncio.subprocess.Process, link: Link
    ) -> None:
        loop = asyncio.get_running_loop()
        self.place = place
        self.link = link
        self.ready: asyncio.Future[Ready] = loop.create_future()
        self.since = loop.time()
        self._process = process
        self.exit = loop.create_task(process.wait(), name=f"process {place.number}")
        self._watch: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    @property
    def name(self) -> str:
        """Return its place and its process id, for the log."""
        return f"process {self.place.number} ({self.pid})"

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

    def watch(self) -> None:
        """Kill it when it hangs, until `close`."""
        loop = asyncio.get_running_loop()
        self._watch = loop.create_task(self._kill_when_silent(), name=f"pulse of {self.name}")

    def close(self) -> None:
        """Close the link: the process has ended."""
        if self._watch is not None:
            self._watch.cancel()
        self.link.close()

    async def _kill_when_silent(self) -> None:
        if await wait_until_silent(self.link):
            log.error("%s does not answer; it is killed", self.name)
            self.kill()


class Children:
    """All children; `aclose` stops them.

    `make_service` fills the service of a new child and returns what to do with its link.
    `drain_s` is the longest time that a child takes to drain.
    """

    def __init__(
        self,
        places: Sequence[ListeningPlace],
        environ: Mapping[str, str],
        make_service: Callable[[Service, str], Callable[[Link], None]],
    ) -> None:
        self._places = places
        self._environ = environ
        self._make_service = make_service
        self._welcome: Callable[[ListeningPlace, str], Welcome] | None = None
        self._drain_s = 0.0
        self._current: dict[int, Child] = {}
        self._leaving: set[Child] = set()
        self._replacing: set[int] = set()
        self._soon_dead: dict[int, int] = {}
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def alive(self) -> list[Child]:
        """Return the children that serve new connections, by place."""
        return [child for _, child in sorted(self._current.items())]

    async def start(
        self, welcome: Callable[[ListeningPlace, str], Welcome], drain_s: float
    ) -> Ready:
        """Start a child in every place and wait until all are ready. Raises ChildFailure.

        `welcome` makes what a child is started with, now and later.
        """
        self._welcome, self._drain_s = welcome, drain_s
        started = [await self._start(place) for place in self._places]
        ready = await asyncio.gather(*(self._when_ready(child) for child in started))
        return ready[0]

    async def replace_all(
        self, welcome: Callable[[ListeningPlace, str], Welcome], drain_s: float
    ) -> None:
        """Replace the children one after another; each old one ends with its last connection.

        Raises ChildFailure when a new one cannot start; the old one of its place goes on.
        """
        before = self._welcome, self._drain_s
        self._welcome, self._drain_s = welcome, drain_s
        for place in self._places:
            old = self._current.get(place.number)
            self._replacing.add(place.number)
            try:
                new = await self._start(place)
                await self._when_ready(new)
            except ChildFailure:
                self._welcome, self._drain_s = before
                if old is not None and not old.exit.done():
                    self._current[place.number] = old
                elif old is not None:
                    self._restart(old, soon=True)
                raise
            finally:
                self._replacing.discard(place.number)
            if old is not None:
                self._leaving.add(old)
                old.retire()

    async def aclose(self) -> None:
        """Drain all children and wait until they have ended; kill those that do not end."""
        self._stopping.set()
        for child in [*self._current.values(), *self._leaving]:
            child.stop()
        if self._tasks:
            await asyncio.wait(self._tasks)
        children = [*self._current.values(), *self._leaving]
        exits = [child.exit for child in children]
        if not children:
            return
        _, late = await asyncio.wait(exits, timeout=self._drain_s + KILL_AFTER_S)
        for child in children:
            if child.exit in late:
                log.error("%s does not end; it is killed", child.name)
                child.kill()
        await asyncio.wait(exits)
        for child in children:
            await child.link.aclose()

    # Inside

    async def _start(self, place: ListeningPlace) -> Child:
        assert self._welcome is not None
        tag = new_process_tag()
        welcome = self._welcome(place, tag)
        near, far = socket.socketpair()
        service = Service()
        connect = self._make_service(service, tag)
        link = await open_link(near, service)
        with far:
            try:
                process = await self._spawn(far.fileno(), welcome.sockets)
            except OSError as error:
                link.close()
                raise ChildFailure(
                    f"process {place.number} cannot be started: {error.strerror}"
                ) from error
        child = Child(place, process, link)

        def greet(_pid: int) -> Welcome:
            connect(link)
            return welcome

        def note_ready(ready: Ready) -> None:
            if not child.ready.done():
                child.ready.set_result(ready)
                child.watch()

        service.answer_at_once(PULSE, lambda _: None)
        service.answer_at_once(HELLO, greet)
        service.answer_at_once(READY, note_ready)
        self._current[place.number] = child
        child.exit.add_done_callback(lambda exited: self._ended(child, exited.result()))
        return child

    async def _spawn(
        self, link_descriptor: int, sockets: Sequence[int]
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            # Not the working directory, where anything may lie, but where this code comes from.
            "-P",
            "-m",
            "server.processes",
            str(link_descriptor),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=(link_descriptor, *sockets),
            env=self._child_environ(),
        )

    def _child_environ(self) -> dict[str, str]:
        environ = {
            name: value for name, value in self._environ.items() if name not in PRIVATE_VARIABLES
        }
        here = str(Path(server.__file__).parents[1])
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, (here, environ.get("PYTHONPATH"))))
        return environ

    async def _when_ready(self, child: Child) -> Ready:
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                return await child.ready
        except TimeoutError:
            child.kill()
            raise ChildFailure(f"{child.name} was not ready in {READY_WITHIN_S:g} s") from None

    def _ended(self, child: Child, code: int) -> None:
        """Note that a child has ended, and start another where it was the one that serves."""
        child.close()
        self._leaving.discard(child)
        if not child.ready.done():
            child.ready.set_exception(
                ChildFailure(f"{child.name} has ended {_how(code)} at its start")
            )
            child.ready.exception()  # its starter may have been cancelled, and asyncio would warn
        if self._current.get(child.place.number) is not child:
            return
        del self._current[child.place.number]
        if not self._stopping.is_set() and child.place.number not in self._replacing:
            lived_s = asyncio.get_running_loop().time() - child.since
            self._restart(child, soon=lived_s < STEADY_AFTER_S)

    def _restart(self, dead: Child, *, soon: bool) -> None:
        """Start another child in the place of one that has died, after a wait if several did."""
        number = dead.place.number
        deaths = self._soon_dead.get(number, 0)
        self._soon_dead[number] = deaths + 1 if soon else 0
        wait_s = RESTART_WAITS_S[min(deaths, len(RESTART_WAITS_S) - 1)] if soon else 0.0
        when = f"in {wait_s:g} s" if wait_s else "now"
        log.error("%s has ended %s; another starts %s", dead.name, _how(dead.exit.result()), when)

        async def restart() -> None:
            if wait_s:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), wait_s)
            if self._stopping.is_set():
                return
            try:
                child = await self._start(dead.place)
            except ChildFailure as error:  # out of processes or memory
                log.error("%s", error)
                self._restart(dead, soon=True)
                return
            if self._stopping.is_set():
                child.stop()
            try:
                await self._when_ready(child)
            except ChildFailure:
                return  # its end is logged, and another one is started
            log.info("%s serves now", child.name)

        task = asyncio.get_running_loop().create_task(restart(), name="start of a process")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _how(code: int) -> str:
    """Describe an exit code: a negative one is a signal."""
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"
