"""The keeper: the process that owns the data of a gateway whose requests others serve.

    async with keeper(config, environ) as running:
        print(running.url)
        await running.reload(new_config)    # children are replaced one by one

It holds the lock of the data directory, the store, the counters, the key export and the sockets,
and answers its children (`server/nodes`). It serves no HTTP itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path

from server.accounting.ledger import Ledger
from server.accounting.notes.note_files import NoteFiles, note_files
from server.app import local_url
from server.config.loading import Config, ConfigError
from server.data import GatewayData, open_data
from server.http.listening import (
    ListenFailure,
    bind_for_processes,
    close_all,
    load_certificate,
)
from server.http.request_id import new_process_tag
from server.keys.key_ring import KeyRing
from server.keys.secret import digest_of
from server.log import LineWriter, count_line
from server.nodes.announcements import Announcements
from server.nodes.child_service import ChildService, KeeperData
from server.nodes.counter_calls import Troubles
from server.nodes.link import Link
from server.nodes.peers.node_registry import NodeRegistry
from server.nodes.peers.node_reporter import NodeReporter
from server.nodes.peers.open_registry import open_registry
from server.nodes.peers.process_peers import SUFFIX
from server.nodes.peers.registry_calls import answer_registry
from server.nodes.procedure import Service
from server.nodes.scheduling.child_tickets import ChildTickets
from server.processes.child_calls import LINES, Lines, Ready, Welcome
from server.processes.child_process import ChildParts, Seat
from server.processes.children import Children, MakeParts
from server.processes.process_shares import config_of_child
from server.store.data_directory import DataDirectory
from server.store.patience import StorePatience
from server.store.rows import StoreChanges
from workers.catalog.catalog import Prices
from workers.catalog.catalog_file import load_catalog
from workers.catalog.prices import find_prices
from workers.providers.formats import TRANSLATORS
from workers.run.scheduler import LocalScheduler

TROUBLES_EVERY_S = 0.25
BIND_WITHIN_S = 1.0
BIND_AGAIN_S = 0.05
SOCKETS_PREFIX = "roxy-"
SOCKETS_NAME = re.compile(rf"{SOCKETS_PREFIX}(\d+)-\w+")
"""A directory for sockets, with the id of its keeper."""
FIXED_SETTINGS = (
    "server.host",
    "server.port",
    "server.data_dir",
    "server.processes",
    "server.node_id",
    "server.node_url",
    "queue.max_waiting",
    "limits.when_store_is_down",
    "usage.retention_days",
    "history.retention_days",
    "log.format",
)
"""What a reload cannot change, because the keeper uses it: it stays, with its sockets and lock."""


class Keeper:
    """A running gateway of several processes. `ready` is what the first child has reported.

    `new_owner_key` is set when this start generated one: print it once.
    """

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        data: GatewayData,
        seats: Sequence[Seat],
        announcements: Announcements,
        inner_sockets: Path,
        registry: NodeRegistry,
    ) -> None:
        self.config = config
        self.port = int(seats[0].sockets[0].getsockname()[1])
        self.new_owner_key: str | None = None
        self.ready = Ready(0, 0)
        self.processes = len(seats)
        self._directory = data.directory
        self._seats = seats
        self._environ = environ
        self.scheduler = LocalScheduler(config.queue.max_waiting)
        self.node_id = config.server.node_name
        self.inner_sockets = inner_sockets
        self.registry = registry
        self.reporter = NodeReporter(registry, self.node_id, config.server.node_url)
        self._keeper_data = KeeperData(data.store, data.history, data.counters, announcements, {})
        style = config.log.format
        self._lines = LineWriter(sys.stdout, lambda lost: count_line(lost, style))
        self._log_lines = LineWriter(sys.stderr, lambda lost: count_line(lost, style))
        self.children = Children(seats, environ)
        self._left = data.left

    @property
    def url(self) -> str:
        """Return the URL under which clients on this machine reach the gateway."""
        return local_url(self.config.server, self.port)

    @property
    def status(self) -> str:
        """Return one phrase for the service manager."""
        return f"serving at {self.url} in {self.processes} processes"

    async def start(self, prices: Mapping[str, Prices]) -> None:
        """Start all children and wait until they accept connections. Raises ChildFailure."""
        self.ready = await self.children.start(
            self._maker(self.config, prices), _max_drain_s(self.config)
        )

    async def reload(self, config: Config) -> None:
        """Replace the children one by one by new ones with another configuration.

        Raises ConfigError, ListenFailure or ChildFailure; what runs then stays as it was.
        """
        for name in FIXED_SETTINGS:
            setting = attrgetter(name)
            if setting(config) != setting(self.config):
                raise ConfigError(f"{name} has changed: that needs a restart")
        load_certificate(config.server.tls_cert, config.server.tls_key)
        maker = self._maker(config, await _find_prices(config, self._environ))
        await self.children.replace_all(maker, _max_drain_s(config))
        logging.getLogger().setLevel(config.log.level.upper())
        self.config = config

    async def aclose(self) -> None:
        """Stop all children and write their last lines."""
        # Only the children hold the sockets now: when they close them, clients are refused at once
        # and do not wait here until the last answer has ended.
        close_all(seat.sockets for seat in self._seats)
        await self.children.aclose()
        await self.reporter.aclose()
        self.scheduler.close()
        self._lines.drain(1.0)
        self._log_lines.drain(1.0)

    def announce_reloads(self, reloads: str) -> None:
        """Write how often this gateway has reloaded, and how that ended, for `roxy reload`."""
        self._directory.announce(self.url, reloads)

    def _maker(self, config: Config, prices: Mapping[str, Prices]) -> MakeParts:
        """Return what makes the parts of each child that is started with a configuration."""
        share = config_of_child(config, self.processes)
        return partial(self._make_parts, share, dict(prices))

    def _make_parts(self, share: Config, prices: dict[str, Prices], service: Service) -> ChildParts:
        """Make the parts of one child, which the keeper answers by `service`."""
        tag = new_process_tag()
        # Each once: passed sockets are those of every seat.
        sockets = dict.fromkeys(sock.fileno() for seat in self._seats for sock in seat.sockets)
        welcome = Welcome(
            sockets=list(sockets),
            tag=tag,
            node_id=self.node_id,
            inner_sockets=str(self.inner_sockets),
            config=share,
            prices=prices,
        )
        return ChildParts(welcome, self._serve_child(service, tag), lambda: self.reporter.add(tag))

    def _serve_child(self, service: Service, tag: str) -> Callable[[Link], None]:
        """Fill the service of a child; return what to do with its link."""
        service.answer_at_once(LINES, self._write)
        notes = note_files(self._directory.path, tag)
        child = ChildService(self._keeper_data, service, notes.read)
        tickets = ChildTickets(self.scheduler)
        tickets.answer(service)
        answer_registry(service, self.registry, tag)

        def connect(link: Link) -> None:
            child.connect(link)
            tickets.connect(link)
            link.on_lost(lambda: self._forget(tag, notes, link))

        return connect

    def _forget(self, tag: str, notes: NoteFiles, link: Link) -> None:
        """Forget a child that has ended: its socket, its claims and its tag among the others.

        Requests that it has left are booked; its leases are settled by then.
        """
        self.reporter.remove(tag)
        (self.inner_sockets / f"{tag}{SUFFIX}").unlink(missing_ok=True)
        if self._left is not None and notes.exist():
            # Only after the rows that it has sent itself: they must be found.
            self._left.book_later(notes, after=link.aclose)

    def _write(self, lines: Lines) -> None:
        (self._log_lines if lines.is_log else self._lines).write(lines.text, lines.dropped)


@contextlib.asynccontextmanager
async def keeper(
    config: Config,
    environ: Mapping[str, str],
    processes: int,
    *,
    passed: Sequence[socket.socket] = (),
    patience: StorePatience | None = None,
) -> AsyncIterator[Keeper]:
    """Run a gateway in `processes` serving processes; leaving the block drains and ends them.

    `passed` are sockets that all of them listen on; else each gets its own of the configured port.
    Raises ListenFailure, StoreFailure and ChildFailure, each with one line.
    """
    async with contextlib.AsyncExitStack() as stack:
        directory = stack.enter_context(DataDirectory(Path(config.server.data_dir)))
        load_certificate(config.server.tls_cert, config.server.tls_key)
        prices_task = await stack.enter_async_context(_prices_task(config, environ))
        seats = await _open_seats(stack, config, processes, passed)
        data = await stack.enter_async_context(
            open_data(config, directory, time.monotonic, patience)
        )
        ledger = Ledger(data.store.record, data.counters, data.keys, unsaved=data.unsaved)
        stack.push_async_callback(ledger.aclose)
        announcements = Announcements(data.keys.take_over)
        stack.push_async_callback(announcements.aclose)
        data.store.on_foreign_change(announcements.announce_foreign)
        inner = stack.enter_context(_inner_sockets())
        registry = await stack.enter_async_context(open_registry(config, data.store, patience))
        running = Keeper(config, environ, data, seats, announcements, inner, registry)
        stack.push_async_callback(running.aclose)
        watch = asyncio.create_task(_watch(data, ledger, announcements), name="troubles")
        stack.callback(watch.cancel)
        if config.admin_api_key:
            await data.keys.owner.set_owner(config.admin_api_key)
        if not config.database_url:  # else commands use the database beside the gateway
            directory.command_secret = await data.keys.owner.make_command_secret()
        await running.start(await prices_task)
        if not config.admin_api_key:
            # After all that can fail: a key that is generated here is shown by this start only.
            running.new_owner_key = await _make_owner_key(data.keys, announcements)
        running.announce_reloads("0 none")
        yield running


async def _make_owner_key(keys: KeyRing, announcements: Announcements) -> str | None:
    """Make an owner key where there is none, and announce it to the children."""
    made = await keys.owner.set_owner(None)
    if made is not None:
        await announcements.announce(StoreChanges(owner=digest_of(made)))
    return made


@contextlib.contextmanager
def _inner_sockets() -> Iterator[Path]:
    """Make a private directory for the sockets of the children; remove those of killed keepers."""
    for left in Path(tempfile.gettempdir()).glob(f"{SOCKETS_PREFIX}*"):
        _remove_if_left(left)
    prefix = f"{SOCKETS_PREFIX}{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as made:
        yield Path(made)


def _remove_if_left(directory: Path) -> None:
    """Remove a directory of this user that names a process which has ended."""
    found = SOCKETS_NAME.fullmatch(directory.name)
    with contextlib.suppress(OSError):  # another start removes it as well
        if found is None or directory.lstat().st_uid != os.getuid():
            return
        try:
            os.kill(int(found[1]), 0)
            ended = int(found[1]) == os.getpid()  # a container's processes get the same ids again
        except ProcessLookupError:
            ended = True
        if ended:
            shutil.rmtree(directory)


def _max_drain_s(config: Config) -> float:
    """Return how long a child may take to end."""
    return config.server.stop_delay_s + config.server.drain_timeout_s


async def _find_prices(config: Config, environ: Mapping[str, str]) -> Mapping[str, Prices]:
    return await find_prices(load_catalog(config.models, environ, formats=TRANSLATORS))


@contextlib.asynccontextmanager
async def _prices_task(
    config: Config, environ: Mapping[str, str]
) -> AsyncIterator[asyncio.Task[Mapping[str, Prices]]]:
    """Find the prices while the data are opened."""
    task = asyncio.create_task(_find_prices(config, environ), name="catalog prices")
    try:
        yield task
    finally:
        await asyncio.wait([task])  # not cancelled: see `open_catalog` in server/app.py


async def _open_seats(
    stack: contextlib.AsyncExitStack,
    config: Config,
    processes: int,
    passed: Sequence[socket.socket],
) -> list[Seat]:
    """Return the seat of each process; their sockets are held here until the end."""
    if passed:
        bound = [list(passed)] * processes
    else:
        bound = await _bind_port(config.server.host, config.server.port, processes)
    stack.callback(close_all, bound)
    return [Seat(number, sockets) for number, sockets in enumerate(bound, 1)]


async def _bind_port(host: str, port: int, processes: int) -> list[list[socket.socket]]:
    """Bind the port; for a moment it may be that of children whose keeper has just been killed."""
    deadline = time.monotonic() + BIND_WITHIN_S
    while True:
        try:
            return bind_for_processes(host, port, processes)
        except ListenFailure:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(BIND_AGAIN_S)


async def _watch(data: GatewayData, ledger: Ledger, announcements: Announcements) -> None:
    """Report to the children when the store or the counters begin to fail, or to work again."""
    while True:
        store = data.store.trouble or ("counters cannot be saved" if ledger.degraded else None)
        announcements.announce_troubles(Troubles(store, data.counters.trouble))
        await asyncio.sleep(TROUBLES_EVERY_S)
