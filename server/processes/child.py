"""A serving process: it builds the gateway around a link to the keeper, which holds the data.

The keeper starts it with the number of the link's descriptor. When everything is built, it waits
for its seat, which a spare is given late, and listens on the sockets of that seat. It ends when
the keeper says so, at SIGTERM, and when the keeper has ended: running answers then get an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Collection, Coroutine, Sequence
from pathlib import Path
from typing import Any

from server.app import LAST_WORDS_S, Gateway, Membership, build_gateway, open_catalog
from server.config.loading import environment
from server.data import GatewayData
from server.http.listening import bind_unix, load_certificate, raise_limit
from server.keys.key_ring import KeyRing
from server.log import AccessLog, set_up_logging
from server.nodes.child_data import ChildData
from server.nodes.link import Link, open_link
from server.nodes.peers.process_peers import ProcessIdentity, ProcessPeers
from server.nodes.peers.registry_calls import KeeperRegistry
from server.nodes.procedure import Service
from server.nodes.scheduling.child_scheduler import ChildScheduler
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
from server.processes.child_output import ChildOutput
from server.processes.garbage_collection import tune_collector
from server.processes.pulse import PULSE, wait_until_silent
from server.store.data_directory import DataDirectory
from workers.catalog.catalog import Catalog

log = logging.getLogger("roxy")


class ChildEnd:
    """How this process is to end: `begun` is set when it is, `stops` when it does so at once."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.stops = asyncio.Event()

    def stop(self) -> None:
        """Drain and end."""
        self.begun.set()
        self.stops.set()

    def retire(self) -> None:
        """Serve the open connections until they have ended."""
        self.begun.set()


class Sockets:
    """The listening sockets of all seats; `keep` closes those of the others."""

    def __init__(self, descriptors: Sequence[int]) -> None:
        self.open = [socket.socket(fileno=descriptor) for descriptor in descriptors]

    def keep(self, descriptors: Collection[int]) -> list[socket.socket]:
        """Return the sockets with these descriptors; all others are closed."""
        kept = [sock for sock in self.open if sock.fileno() in descriptors]
        for sock in self.open:
            if sock not in kept:
                sock.close()
        self.open = kept
        return kept

    def close(self) -> None:
        """Close all."""
        self.keep(())


async def serve_for_keeper(descriptor: int) -> None:
    """Serve requests until the keeper, or a signal, ends this process."""
    raise_limit()
    name_process("roxy start")
    ending = ChildEnd()
    _handle_signals(ending)
    service = Service()
    seated = _answer_keeper(service, ending)
    link = await open_link(socket.socket(fileno=descriptor), service)
    link.on_lost(ending.stop)
    scheduler = ChildScheduler()
    scheduler.answer(service)
    shared = ChildData(link, service)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(link.aclose)
        welcome = await link.call(HELLO, os.getpid())
        config = welcome.config
        set_up_logging(config.log.level, config.log.format, ChildOutput(link, is_log=True))
        data = await _load_data(stack, Path(config.server.data_dir), shared)
        sockets = stack.enter_context(contextlib.closing(Sockets(welcome.sockets)))
        running = await _build(stack, welcome, data, link, scheduler, sockets)
        tune_collector()
        stack.callback(asyncio.create_task(_leave_when_silent(link), name="pulse").cancel)
        await link.call(WARM, None)
        seat = await _wait_for_seat(seated, ending)
        if seat is None:
            sockets.close()  # at once: clients must not wait for a spare that ends
            return
        await running.listen(sockets.keep(seat.sockets))
        link.report(READY, Ready.of(running.services.catalog))
        await ending.begun.wait()
        if not ending.stops.is_set():
            await _unless(running.retire(), ending.stops.wait())
        await _drain(running, link)


def _answer_keeper(service: Service, ending: ChildEnd) -> asyncio.Future[GivenSeat]:
    """Answer what the keeper says about this process; return its seat, once it has one."""
    seated: asyncio.Future[GivenSeat] = asyncio.get_running_loop().create_future()
    service.answer_at_once(SEAT, seated.set_result)
    service.answer_at_once(STOP, lambda _: ending.stop())
    service.answer_at_once(RETIRE, lambda _: ending.retire())
    service.answer_at_once(PULSE, lambda _: None)
    return seated


async def _load_data(
    stack: contextlib.AsyncExitStack, directory: Path, shared: ChildData
) -> GatewayData:
    """Return the data of the keeper as this process uses them, with a key ring of its own."""
    keys = KeyRing(shared.store)
    await keys.load()
    stack.push_async_callback(keys.aclose)
    return GatewayData(
        directory=DataDirectory(directory),
        store=shared.store,
        history=shared.history,
        keys=keys,
        counters=shared.counters,
        unsaved=None,
        wrong_keys=shared.wrong_keys,
        wrong_sign_ins=shared.wrong_sign_ins,
    )


def name_process(name: str) -> None:
    """Show a name of up to 15 bytes in `ps` and `top` (Linux: proc(5), "/proc/pid/comm")."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name)


async def _wait_for_seat(seated: asyncio.Future[GivenSeat], ending: ChildEnd) -> GivenSeat | None:
    """Return the seat of this process; None: it ends without one."""
    if not seated.done():
        name_process("roxy spare")
        await _unless(asyncio.wait([seated]), ending.begun.wait())
    if not seated.done():
        return None
    seat = seated.result()
    name_process(f"roxy {seat.number}")
    return seat


async def _leave_when_silent(link: Link) -> None:
    """End the link when the keeper hangs, as if it had ended: nothing can be decided any more."""
    if await wait_until_silent(link):
        log.error("the keeper of this gateway does not answer")
        link.abort()


async def _build(
    stack: contextlib.AsyncExitStack,
    welcome: Welcome,
    data: GatewayData,
    link: Link,
    scheduler: ChildScheduler,
    sockets: Sockets,
) -> Gateway:
    config = welcome.config
    opened = open_catalog(config, environment(), welcome.prices)
    catalog_task: asyncio.Task[Catalog] = await stack.enter_async_context(opened)
    lines = AccessLog(config.log.access, config.log.format, ChildOutput(link, is_log=False))
    tls = load_certificate(config.server.tls_cert, config.server.tls_key)
    identity = ProcessIdentity(welcome.tag, welcome.node_id, Path(welcome.inner_sockets))
    assert identity.socket_path is not None
    peers = ProcessPeers(identity, KeeperRegistry(link))
    stack.push_async_callback(peers.aclose)
    member = Membership(scheduler, peers, bind_unix(identity.socket_path), welcome.tag)
    scheduler.connect(link, await catalog_task)
    return await build_gateway(stack, config, data, catalog_task, lines, tls, sockets.open, member)


def _handle_signals(ending: ChildEnd) -> None:
    """End at SIGTERM; Ctrl-C and SIGHUP, which reach every process of a terminal, are the keeper's.

    The handlers are Python's own: those of a loop would be gone when it closes.
    """
    loop = asyncio.get_running_loop()
    signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(ending.stop))
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


async def _unless(work: Coroutine[Any, Any, object], ends: Coroutine[Any, Any, object]) -> None:
    """Await work, but no longer than until something else ends."""
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(work), loop.create_task(ends)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    if not tasks[0].cancelled():
        tasks[0].result()


async def _drain(running: Gateway, link: Link) -> None:
    """Wait for running answers; without the keeper, end them at once, with an error."""
    await _unless(running.drain(), link.closed())
    if link.is_lost:
        log.error("the keeper of this gateway has ended; this process ends too")
        await running.services.engine.drain(0.0)
        await running.server.finish_answers(LAST_WORDS_S)
