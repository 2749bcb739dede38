"""The children of a keeper: start them, start them again when they die, replace and stop them.

Each child has a seat: a number, and sockets that it listens on, which the keeper holds as well. A
connection that waits there is served by the next child of the seat when the present one dies.
That is the spare, if it is warm: a child that has built everything and waits for a seat. So only
milliseconds of work lie between the two, however busy the machine is, and not the second that a new
process takes to load its modules.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from server.nodes.link import open_link
from server.nodes.procedure import Service
from server.processes.child_calls import Ready
from server.processes.child_process import (
    Child,
    ChildFailure,
    ChildParts,
    Seat,
    describe_exit,
    spawn,
)

log = logging.getLogger("roxy.keeper")

READY_WITHIN_S = 60.0
STEADY_AFTER_S = 10.0
"""A child that served for longer than this is followed at once by another one when it dies."""
RESTART_WAITS_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
"""The wait before another start, by how many children of the seat died sooner in a row."""
KILL_AFTER_S = 10.0
"""A child that still runs so long after its drain is killed."""
SPARE_AFTER_S = 1.0
"""A spare is started so long after the child that serves: what has waited for that comes first."""
SPARE = 0
"""Stands for the seat of the spare where early deaths are counted."""

MakeParts = Callable[[Service], ChildParts]


class Children:
    """All children; `aclose` stops them.

    `make_parts` fills the service of a new child and returns what else belongs to it; a reload
    replaces it. `drain_s` is the longest time that a child takes to drain.
    """

    def __init__(self, seats: Sequence[Seat], environ: Mapping[str, str]) -> None:
        self._seats = seats
        self._environ = environ
        self._make_parts: MakeParts | None = None
        self._drain_s = 0.0
        self._current: dict[int, Child] = {}
        self._leaving: set[Child] = set()
        self._spare: Child | None = None
        self._spare_of: MakeParts | None = None
        self._starting_spare = False
        self._replacing: set[int] = set()
        self._soon_dead: dict[int, int] = {}
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, make_parts: MakeParts, drain_s: float) -> Ready:
        """Start a child in every seat and wait until all are ready. Raises ChildFailure."""
        self._make_parts, self._drain_s = make_parts, drain_s
        started = [await self._start(seat) for seat in self._seats]
        ready = await asyncio.gather(*(self._when_ready(child) for child in started))
        self._want_spare()
        return ready[0]

    async def replace_all(self, make_parts: MakeParts, drain_s: float) -> None:
        """Replace the children one after another; each old one ends with its last connection.

        Raises ChildFailure when a new one cannot start; the old one of its seat stays.
        """
        before = self._make_parts, self._drain_s
        self._make_parts, self._drain_s = make_parts, drain_s
        try:
            for seat in self._seats:
                await self._replace(seat)
        except ChildFailure:
            self._make_parts, self._drain_s = before
            raise
        finally:
            self._want_spare()

    async def aclose(self) -> None:
        """Drain all children and wait until they have ended; kill those that do not end."""
        self._stopping.set()
        for child in [*self._current.values(), *self._leaving]:
            child.stop()
        if self._spare is not None:
            self._spare.kill()  # it serves nothing, and may be a second away from reading its link
        if self._tasks:
            await asyncio.wait(self._tasks)
        children = self._all()
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

    # Starting

    def _all(self) -> list[Child]:
        spare = [self._spare] if self._spare is not None else []
        return [*self._current.values(), *self._leaving, *spare]

    async def _replace(self, seat: Seat) -> None:
        """Replace the child of one seat."""
        old = self._current.get(seat.number)
        self._replacing.add(seat.number)
        try:
            new = await self._start(seat)
            await self._when_ready(new)
        except ChildFailure:
            if old is not None and not old.exit.done():
                self._current[seat.number] = old
            elif old is not None:
                self._restart(seat, old, soon=True)
            raise
        finally:
            self._replacing.discard(seat.number)
        if old is not None:
            self._leaving.add(old)
            old.retire()

    async def _start(self, seat: Seat | None) -> Child:
        """Start a child for a seat; None: a spare."""
        made_by = self._make_parts
        assert made_by is not None
        near, far = socket.socketpair()
        service = Service()
        parts = made_by(service)
        link = await open_link(near, service)
        with far:
            try:
                process = await spawn(
                    far.fileno(), parts.welcome.sockets, self._environ, spare=seat is None
                )
            except ChildFailure:
                link.close()
                raise
        child = Child(parts, service, link, process)
        if seat is None:
            self._spare, self._spare_of = child, made_by
        else:
            child.give(seat)
            self._current[seat.number] = child
        child.exit.add_done_callback(lambda exited: self._ended(child, exited.result()))
        return child

    async def _when_ready(self, child: Child) -> Ready:
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                return await child.ready
        except TimeoutError:
            child.kill()
            raise ChildFailure(f"{child.name} was not ready in {READY_WITHIN_S:g} s") from None

    # The spare

    def _take_spare(self, seat: Seat) -> Child | None:
        """Have the spare serve a seat; None: none is warm, or it has another configuration."""
        spare = self._spare
        if spare is None or not spare.is_warm or self._spare_of is not self._make_parts:
            return None
        self._spare = None
        self._current[seat.number] = spare
        spare.give(seat)
        return spare

    def _want_spare(self, wait_s: float = SPARE_AFTER_S) -> None:
        """Start a spare in the background, unless there is one of this configuration."""
        if self._spare is not None and self._spare_of is not self._make_parts:
            self._leaving.add(self._spare)
            self._spare.kill()
            self._spare = None
        if self._spare is None and not self._starting_spare and not self._stopping.is_set():
            self._starting_spare = True
            self._run(self._start_spare(wait_s), "start of the spare process")

    async def _start_spare(self, wait_s: float) -> None:
        await self._wait_or_stop(wait_s)
        try:
            if not self._stopping.is_set():
                await self._start(None)
        except ChildFailure as error:
            log.error("%s", error)
        finally:
            self._starting_spare = False
        if self._spare is not None and self._spare_of is not self._make_parts:
            self._want_spare(0.0)  # a reload came between
        if self._spare is not None and self._stopping.is_set():
            self._spare.kill()

    # Ends

    def _ended(self, child: Child, code: int) -> None:
        """Note that a child has ended, and start another where it was the one that serves."""
        child.close(code)
        self._leaving.discard(child)
        seat = child.seat
        if child is self._spare:
            self._spare = None
            if not self._stopping.is_set():
                wait_s = max(SPARE_AFTER_S, self._wait_of(SPARE, child))
                log.error("%s has ended %s; another starts", child.name, describe_exit(code))
                self._want_spare(wait_s)
        if seat is None or self._current.get(seat.number) is not child:
            return
        del self._current[seat.number]
        if not self._stopping.is_set() and seat.number not in self._replacing:
            self._restart(seat, child)

    def _wait_of(self, number: int, dead: Child, *, soon: bool = False) -> float:
        """Return how long to wait before another start; the more died soon, the longer."""
        since, now = dead.works_since, asyncio.get_running_loop().time()
        if not soon and since is not None and now - since >= STEADY_AFTER_S:
            self._soon_dead[number] = 0
            return 0.0
        deaths = self._soon_dead.get(number, 0)
        self._soon_dead[number] = deaths + 1
        return RESTART_WAITS_S[min(deaths, len(RESTART_WAITS_S) - 1)]

    def _restart(self, seat: Seat, dead: Child, *, soon: bool = False) -> None:
        """Have another child serve the seat of one that has died, after a wait if several did."""
        wait_s = self._wait_of(seat.number, dead, soon=soon)
        spare = None if wait_s else self._take_spare(seat)
        log.error(
            "%s has ended %s; %s",
            dead.name,
            describe_exit(dead.exit.result()),
            f"process {spare.pid} takes its place"
            if spare is not None
            else f"another starts {f'in {wait_s:g} s' if wait_s else 'now'}",
        )
        self._run(self._serve_again(seat, dead, spare, wait_s), "start of a process")

    async def _serve_again(
        self, seat: Seat, dead: Child, child: Child | None, wait_s: float
    ) -> None:
        """Have a seat served: by a child that has it already, else by the spare or a new one."""
        await self._wait_or_stop(wait_s)
        if self._stopping.is_set():
            return
        try:
            child = child or self._take_spare(seat) or await self._start(seat)
        except ChildFailure as error:
            log.error("%s", error)
            self._restart(seat, dead, soon=True)
            return
        if self._stopping.is_set():
            child.stop()
        try:
            await self._when_ready(child)
        except ChildFailure:
            return  # its end is logged, and another one is started
        log.info("%s serves now", child.name)
        self._want_spare()

    async def _wait_or_stop(self, wait_s: float) -> None:
        if wait_s:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_s)

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
