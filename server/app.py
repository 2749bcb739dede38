"""The composition root: build every part once, in order, and join them.

    async with gateway(config, environ) as running:
        print(running.url)
        ...

Every part is entered into one `AsyncExitStack`, so that parts end in the reverse order of their
start: connections, workers, the ledger's last flush, the store, the lock of the data directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from server.accounting.admission import Admission
from server.accounting.body_room import BodyRoom
from server.accounting.ledger import Ledger
from server.accounting.notes.note_files import note_files
from server.answers.kept_answers import KeptAnswers
from server.answers.key_watch import KeyWatch
from server.answers.model_health import ModelHealth
from server.answers.passing import Passing
from server.answers.passing_marks import PassingMarks
from server.answers.peers import NoPeers, Peers
from server.api.routes import ROUTES, api_rules, shortcuts
from server.config.loading import Config
from server.config.settings import Server
from server.data import GatewayData, open_data
from server.demo.upstream import DemoUpstream
from server.documents.reading import DocumentReader
from server.history.stored_files import FillingTurns
from server.http.client_connection import HttpLimits
from server.http.listener import GatewayServer
from server.http.listening import bind_port, connections_within_limit, load_certificate
from server.http.request_id import new_process_tag
from server.http.request_lifecycle import GatewayApplication
from server.identity.authentication import Authentication, GuestSessions
from server.identity.client_addresses import TrustedProxies
from server.identity.invitations import Invitations
from server.identity.sessions import Sessions
from server.identity.visitor_tags import tag_of
from server.keys.key_ring import KeyRing
from server.log import AccessLog
from server.nodes.peers.node_reporter import NodeReporter
from server.nodes.peers.open_registry import open_registry
from server.nodes.peers.process_peers import ProcessIdentity, ProcessPeers
from server.services import Services
from server.store.data_directory import DataDirectory
from server.store.patience import StorePatience
from server.store.store import Store
from webui.page_routes import page_rules
from workers.catalog.catalog import Catalog, Prices
from workers.catalog.catalog_file import load_catalog
from workers.catalog.prices import find_prices
from workers.providers.formats import TRANSLATORS
from workers.run.clock import StreamSettings
from workers.run.pool import Engine
from workers.run.scheduler import LocalScheduler, Scheduler
from workers.transport.transport import Transport

GUEST_META = "guest_cookie_secret"
PEER_CONNECT_TIMEOUT_S = 2.0
LAST_WORDS_S = 1.0
"""Time for clients to read why their answer ended when it outlasted the drain."""


class Membership(NamedTuple):
    """How a process belongs to a gateway of several: who gives turns, who the others are.

    On `inner_socket` it serves what the others pass on. `process` is its name among them, "": it is
    alone.
    """

    scheduler: Scheduler
    peers: Peers
    inner_socket: socket.socket | None = None
    process: str = ""


class Gateway:
    """A gateway, or one serving process of it, which accepts connections after `listen`.

    `new_owner_key` is set when this start generated one: print it once.
    """

    def __init__(
        self,
        services: Services,
        server: GatewayServer,
        sockets: list[socket.socket],
        inner: GatewayServer | None = None,
    ) -> None:
        self.services = services
        self.server = server
        self.inner = inner
        self.port = int(sockets[0].getsockname()[1])
        self.new_owner_key: str | None = None
        self._sockets = sockets

    @property
    def url(self) -> str:
        """Return the URL under which clients on this machine reach the gateway."""
        return local_url(self.services.config.server, self.port)

    async def listen(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections, on some of the sockets if they are given."""
        await self.server.serve_on(self._sockets if sockets is None else sockets)

    async def retire(self) -> None:
        """Serve the open connections, within `server.drain_timeout_s`; others serve new ones."""
        await self.server.depart(self.services.config.server.drain_timeout_s)

    async def drain(self) -> None:
        """Refuse new work and let running answers finish, within `server.drain_timeout_s`.

        Answers that take longer are ended, and get LAST_WORDS_S to send their error. Before,
        requests on open connections are still served for `server.stop_delay_s`.
        """
        loop = asyncio.get_running_loop()
        if (delay_s := self.services.config.server.stop_delay_s) > 0:
            self.services.engine.leaving = True
            await self.server.leave(delay_s)
            # A request on an idle connection would be refused while long answers run.
            self.server.stop_listening()
        deadline = loop.time() + self.services.config.server.drain_timeout_s
        await self.services.engine.drain(deadline - loop.time())
        await self.server.finish_answers(max(deadline - loop.time(), LAST_WORDS_S))
        if self.inner is not None:
            await self.inner.finish_answers(max(deadline - loop.time(), LAST_WORDS_S))


@contextlib.asynccontextmanager
async def gateway(
    config: Config,
    environ: Mapping[str, str],
    *,
    passed: Sequence[socket.socket] = (),
    clock: Callable[[], float] = time.monotonic,
    patience: StorePatience | None = None,
) -> AsyncIterator[Gateway]:
    """Build and run a gateway in one process; leaving the block drains and ends it.

    `passed` are sockets to listen on; else the configured port is bound. `clock` measures the
    limits per minute and day, in seconds. `patience` are the longest waits for the stores.
    Raises ListenFailure and StoreFailure, each with one line that says what to do.
    """
    async with contextlib.AsyncExitStack() as stack:
        catalog_task = await stack.enter_async_context(open_catalog(config, environ))
        directory = stack.enter_context(DataDirectory(Path(config.server.data_dir)))
        tls = load_certificate(config.server.tls_cert, config.server.tls_key)
        sockets = list(passed) or bind_port(config.server.host, config.server.port)
        for sock in sockets:
            stack.callback(sock.close)
        data = await stack.enter_async_context(open_data(config, directory, clock, patience))
        log_lines = AccessLog(config.log.access, config.log.format)
        member = await _join_nodes(stack, config, data.store, patience)
        running = await build_gateway(
            stack, config, data, catalog_task, log_lines, tls, sockets, member
        )
        # Last of all that can fail: a key that is generated here is shown by this start only.
        running.new_owner_key = await data.keys.owner.set_owner(config.admin_api_key or None)
        if not config.database_url:  # else commands use the database beside the gateway
            directory.command_secret = await data.keys.owner.make_command_secret()
        directory.announce(running.url)
        await running.listen()
        stack.push_async_callback(running.drain)
        yield running


async def _join_nodes(
    stack: contextlib.AsyncExitStack,
    config: Config,
    store: Store,
    patience: StorePatience | None,
) -> Membership:
    """Return how a gateway in one process belongs to others, with which it shares a store."""
    scheduler = LocalScheduler(config.queue.max_waiting)
    if not config.redis_url and not config.database_url:
        return Membership(scheduler, NoPeers(config.server.node_name))
    registry = await stack.enter_async_context(open_registry(config, store, patience))
    identity = ProcessIdentity(new_process_tag(), config.server.node_name)
    reporter = NodeReporter(registry, identity.node_id, config.server.node_url)
    stack.push_async_callback(reporter.aclose)
    reporter.add(identity.tag)
    peers = ProcessPeers(identity, registry)
    stack.push_async_callback(peers.aclose)
    return Membership(scheduler, peers)


async def build_gateway(
    stack: contextlib.AsyncExitStack,
    config: Config,
    data: GatewayData,
    catalog_task: asyncio.Task[Catalog],
    log_lines: AccessLog,
    tls: ssl.SSLContext | None,
    sockets: list[socket.socket],
    member: Membership,
) -> Gateway:
    """Build what serves requests, for any process: it does not accept connections yet.

    Every part is entered into `stack`; the data stay with the caller. `member` is how the
    process belongs to a gateway of several.
    """
    services = await _build_services(stack, config, data, await catalog_task, log_lines, member)
    server = _make_server(config, services, tls)
    stack.push_async_callback(server.aclose)
    inner = None
    if member.inner_socket is not None:
        inner = _make_server(config, services, None)
        stack.push_async_callback(inner.aclose)
        await inner.serve_on([member.inner_socket])
    return Gateway(services, server, sockets, inner)


async def _build_services(
    stack: contextlib.AsyncExitStack,
    config: Config,
    data: GatewayData,
    catalog: Catalog,
    log_lines: AccessLog,
    member: Membership,
) -> Services:
    """Build what the handlers are given, each part after those that it uses."""
    store, keys, counters = data.store, data.keys, data.counters
    health = ModelHealth()
    ledger = _open_ledger(stack, data, health, member)
    engine, answers = _open_engine(stack, config, member)
    guest_secret = await _guest_secret(store)
    guests = GuestSessions(guest_secret)
    sessions = await _open_sessions(stack, store, keys, guests)
    passing = _open_passing(stack, guest_secret)
    access_log = stack.enter_context(contextlib.closing(log_lines))
    services = Services(
        config=config,
        directory=data.directory,
        catalog=catalog,
        keys=keys,
        store=store,
        history=data.history,
        filling_turns=FillingTurns(),
        counters=counters,
        admission=Admission(counters, config.guests),
        ledger=ledger,
        health=health,
        engine=engine,
        answers=answers,
        peers=member.peers,
        passing=passing,
        authentication=Authentication(keys, guests, sessions, guests_welcome=config.guests.enabled),
        guests=guests,
        sessions=sessions,
        invitations=Invitations(store, keys, sessions),
        wrong_sign_ins=data.wrong_sign_ins,
        wrong_keys=data.wrong_keys,
        proxies=TrustedProxies(config.server.trusted_proxies),
        bodies=BodyRoom(config.server.max_body_bytes, config.server.max_bodies_bytes),
        documents=DocumentReader(),
        access_log=access_log,
        unready=lambda: _reasons(config, engine, ledger, store),
        openapi=partial(_describe, tuple(model.id for model in catalog)),
    )
    stack.callback(KeyWatch(keys, engine, answers).close)
    return services


def _open_ledger(
    stack: contextlib.AsyncExitStack, data: GatewayData, health: ModelHealth, member: Membership
) -> Ledger:
    """Make what books the requests of this process, and notes them while they run."""
    ledger = Ledger(
        data.store.record,
        data.counters,
        data.keys,
        unsaved=data.unsaved,
        on_row=health.note,
        # Alone, each start has files of its own: those of the last one may wait to be booked.
        notes=note_files(data.directory.path, member.process or new_process_tag()),
    )
    stack.push_async_callback(ledger.aclose)
    return ledger


def _open_engine(
    stack: contextlib.AsyncExitStack, config: Config, member: Membership
) -> tuple[Engine, KeptAnswers]:
    """Make what carries requests upstream, and what keeps the answers that are asked for again."""
    transport = Transport(connect_timeout_s=config.stream.connect_timeout_s)
    stack.push_async_callback(transport.aclose)
    answers = stack.enter_context(contextlib.closing(KeptAnswers(config.answers)))
    engine = Engine(transport, _stream_settings(config), member.scheduler)
    stack.push_async_callback(engine.aclose)
    _release_ids(engine, answers, member.peers)
    return engine, answers


def _open_passing(stack: contextlib.AsyncExitStack, secret: bytes) -> Passing:
    """Make what passes requests on to the processes that have their jobs."""
    transport = Transport(connect_timeout_s=PEER_CONNECT_TIMEOUT_S)
    stack.push_async_callback(transport.aclose)
    return Passing(PassingMarks(secret), transport)


def _release_ids(engine: Engine, answers: KeptAnswers, peers: Peers) -> None:
    """Release the claim of an id when no request and no kept answer has it any more."""
    if isinstance(peers, NoPeers):
        return  # one process claims nothing

    def release(request_id: str) -> None:
        if request_id not in engine.jobs and request_id not in answers:
            peers.release(request_id)

    engine.on_forgotten = answers.on_forgotten = release


def _stream_settings(config: Config) -> StreamSettings:
    stream = config.stream
    return StreamSettings(
        first_content_timeout_s=stream.first_content_timeout_s,
        gap_timeout_s=stream.gap_timeout_s,
        tools_gap_timeout_s=stream.tools_gap_timeout_s,
        total_timeout_s=stream.total_timeout_s,
        usage_wait_s=stream.usage_wait_s,
        max_event_bytes=stream.max_event_bytes,
    )


@contextlib.asynccontextmanager
async def open_catalog(
    config: Config, environ: Mapping[str, str], prices: Mapping[str, Prices] | None = None
) -> AsyncIterator[asyncio.Task[Catalog]]:
    """Load the catalog, with the demo if configured.

    `prices` are those that another process has found; None: find them while the rest is started.
    """
    async with contextlib.AsyncExitStack() as stack:
        catalog = load_catalog(config.models, environ, formats=TRANSLATORS)
        demo = await stack.enter_async_context(DemoUpstream()) if config.demo else None

        async def priced() -> Catalog:
            known = await find_prices(catalog) if prices is None else prices
            found = catalog.priced(known)
            return found.with_demo(demo.base_url, demo.secret) if demo is not None else found

        task = asyncio.get_running_loop().create_task(priced(), name="catalog prices")
        try:
            yield task
        finally:
            # Not cancelled: uvloop would leave a child process that is just being started behind,
            # with an error in the log.
            await asyncio.wait([task])


async def _open_sessions(
    stack: contextlib.AsyncExitStack, store: Store, keys: KeyRing, guests: GuestSessions
) -> Sessions:
    """Load the sessions of browsers that have signed in."""
    sessions = Sessions(store, keys, tag_of=partial(tag_of, mac=guests.tag_mac))
    await sessions.load()
    stack.push_async_callback(sessions.aclose)
    return sessions


async def _guest_secret(store: Store) -> bytes:
    secret = await store.load_meta(GUEST_META)
    return secret or await store.put_meta_if_absent(GUEST_META, secrets.token_bytes(32))


# Cached: it takes 0.2 s, and a reload describes the same models. Most gateways never do it.
@lru_cache(maxsize=2)
def _describe(models: tuple[str, ...]) -> bytes:
    """Return the OpenAPI document with the ids of the models as examples."""
    from server.description.document import document

    return msgspec.json.encode(document(ROUTES, models))


def local_url(settings: Server, port: int) -> str:
    """Return the URL under which clients on this machine reach a gateway."""
    scheme = "https" if settings.tls_cert else "http"
    # The wildcard addresses are for listening only; no client can connect to them everywhere.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}:{port}"


def _reasons(config: Config, engine: Engine, ledger: Ledger, store: Store) -> list[str]:
    """Return why a load balancer should send no requests here; empty: it may."""
    reasons = []
    if engine.leaving:
        reasons.append("draining")
    # Without a shared database this node still serves: known keys work, and usage waits on disk.
    if ledger.degraded or (store.trouble is not None and not config.database_url):
        reasons.append("the database cannot be written")
    return reasons


def _make_server(config: Config, services: Services, tls: ssl.SSLContext | None) -> GatewayServer:
    settings = config.server
    application = GatewayApplication(
        [*api_rules(services), *page_rules(services)],
        log_function=lambda _handler: None,
    )
    limits = HttpLimits(
        head_timeout_s=settings.head_timeout_s,
        body_timeout_s=settings.body_timeout_s,
        idle_timeout_s=settings.idle_timeout_s,
        write_timeout_s=config.stream.write_timeout_s,
        max_header_bytes=settings.max_header_bytes,
        max_connections=connections_within_limit(settings.max_connections),
        min_read_bytes_per_s=config.stream.min_read_bytes_per_s,
    )
    return GatewayServer(application, limits, shortcuts(services), tls)
