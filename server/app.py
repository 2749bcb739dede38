"""The composition root: builds every part once, in order, and joins them.

    async with gateway(config, environ) as running:
        print(running.url)
        await running.stop_asked()

Everything is entered into one `AsyncExitStack`, so parts end in the reverse order of their making:
connections, then workers, then the ledger's last flush, then the store, then the directory's lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import secrets
import signal
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Mapping
from functools import cache
from pathlib import Path

import msgspec
from tornado.netutil import bind_sockets
from tornado.web import Application

from server.accounting.admission import Admission
from server.accounting.body_room import BodyRoom
from server.accounting.ledger import Ledger
from server.accounting.memory_counters import MemoryCounters
from server.accounting.model_health import ModelHealth
from server.answers.kept_answers import KeptAnswers
from server.answers.key_watch import KeyWatch
from server.api.routes import ROUTES, api_rules, shortcuts
from server.config.loading import Config
from server.config.settings import Server
from server.demo.upstream import DemoUpstream
from server.http.client_connection import HttpLimits
from server.http.listener import GatewayServer
from server.identity.attempts import Attempts
from server.identity.authentication import Authentication, GuestSessions
from server.identity.client_addresses import TrustedProxies, parse_address
from server.identity.sessions import Sessions
from server.keys.export import KeyExport
from server.keys.key_ring import KeyRing
from server.log import AccessLog
from server.services import Services
from server.store.data_directory import DataDirectory
from server.store.retention import Retention
from server.store.sqlite_store import SqliteStore
from server.store.store import Store, StoreFailure
from webui.page_routes import page_rules
from workers.catalog.catalog import Catalog
from workers.catalog.catalog_file import load_catalog
from workers.catalog.prices import find_prices
from workers.providers.formats import TRANSLATORS
from workers.run.pool import Engine, StreamSettings
from workers.transport.transport import Transport

log = logging.getLogger("roxy")

GUEST_META = "guest_cookie_secret"
LAST_WORDS_S = 1.0
SPARE_FILES = 64
"""Open files that are no connections: the database, the export, the log, the loop's own."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StartFailure(Exception):
    """The gateway cannot start; the message is one line that says what to do."""


class Gateway:
    """A running gateway. `made_owner_key` is set when this start had to make one: print it once."""

    def __init__(self, services: Services, server: GatewayServer, port: int) -> None:
        self.services = services
        self.server = server
        self.port = port
        self.made_owner_key: str | None = None
        self._stop = asyncio.Event()

    @property
    def url(self) -> str:
        """Give the address clients on this machine reach it at."""
        settings = self.services.config.server
        scheme = "https" if settings.tls_cert else "http"
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
        host = f"[{host}]" if ":" in host else host
        return f"{scheme}://{host}:{self.port}"

    def ask_to_stop(self) -> None:
        """Begin to stop; asking again changes nothing."""
        self._stop.set()

    async def stop_asked(self) -> None:
        """Wait until somebody asks to stop."""
        await self._stop.wait()

    async def drain(self) -> None:
        """Refuse new work and let running answers finish, within the configured time.

        Answers that outlast it get a moment more, for the clients to learn why they ended.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.services.config.server.drain_timeout_s
        await self.services.engine.drain(deadline - loop.time())
        await self.server.finish_answers(max(deadline - loop.time(), LAST_WORDS_S))


@contextlib.asynccontextmanager
async def gateway(config: Config, environ: Mapping[str, str]) -> AsyncIterator[Gateway]:
    """Build and run a gateway; leaving the block drains and ends it.

    Raises StartFailure and StoreFailure, each with one clear line.
    """
    async with contextlib.AsyncExitStack() as stack:
        catalog_task = await stack.enter_async_context(_catalog(config, environ))
        directory = stack.enter_context(DataDirectory(Path(config.server.data_dir)))
        tls, sockets = _tls(config), _bind(config)
        for sock in sockets:
            stack.callback(sock.close)
        services = await _build_services(stack, config, directory, catalog_task)
        server = _make_server(config, services, tls)
        stack.push_async_callback(server.aclose)
        running = Gateway(services, server, int(sockets[0].getsockname()[1]))
        # Last of all that can fail: a key that is made here is shown once, by a start that works.
        running.made_owner_key = await services.keys.set_owner(config.admin_api_key or None)
        directory.announce(running.url)
        await server.serve_on(sockets)
        stack.push_async_callback(running.drain)
        yield running


async def _build_services(
    stack: contextlib.AsyncExitStack,
    config: Config,
    directory: DataDirectory,
    catalog_task: asyncio.Task[Catalog],
) -> Services:
    """Build what the handlers are given, each part after those it leans on."""
    store = await stack.enter_async_context(SqliteStore(directory.database))
    keys = await _open_keys(stack, directory, store)
    catalog = await catalog_task
    sessions = await _open_sessions(stack, store, keys)
    counters = await _open_counters(store)
    health = ModelHealth()
    ledger = Ledger(store, counters, keys, on_row=health.note)
    stack.push_async_callback(ledger.aclose)
    transport = Transport(connect_timeout_s=config.stream.connect_timeout_s)
    stack.push_async_callback(transport.aclose)
    answers = stack.enter_context(contextlib.closing(KeptAnswers(config.answers)))
    engine = Engine(transport, _stream_settings(config), config.queue.max_waiting)
    stack.push_async_callback(engine.aclose)
    log_lines = AccessLog(config.log.access, config.log.format)
    access_log = stack.enter_context(contextlib.closing(log_lines))
    guests = GuestSessions(await _guest_secret(store))
    services = Services(
        config=config,
        catalog=catalog,
        keys=keys,
        store=store,
        counters=counters,
        admission=Admission(counters, config.guests),
        ledger=ledger,
        health=health,
        engine=engine,
        answers=answers,
        authentication=Authentication(keys, guests, sessions, guests_welcome=config.guests.enabled),
        guests=guests,
        sessions=sessions,
        attempts=Attempts(),
        wrong_keys=Attempts(),
        proxies=TrustedProxies(config.server.trusted_proxies),
        bodies=BodyRoom(config.server.max_body_bytes, config.server.max_bodies_bytes),
        access_log=access_log,
        unready=lambda: _reasons(engine, ledger, store),
        openapi=cache(lambda: _describe(catalog)),
    )
    stack.callback(KeyWatch(keys, engine, answers).close)
    stack.push_async_callback(Retention(store, config.usage.retention_days).aclose)
    return services


def _stream_settings(config: Config) -> StreamSettings:
    stream = config.stream
    return StreamSettings(
        first_content_timeout_s=stream.first_content_timeout_s,
        gap_timeout_s=stream.gap_timeout_s,
        total_timeout_s=stream.total_timeout_s,
        max_event_bytes=stream.max_event_bytes,
    )


@contextlib.asynccontextmanager
async def _catalog(
    config: Config, environ: Mapping[str, str]
) -> AsyncIterator[asyncio.Task[Catalog]]:
    """Load the catalog, with prices beside the rest of the start, and the demo if asked for."""
    async with contextlib.AsyncExitStack() as stack:
        catalog = load_catalog(config.models, environ, formats=TRANSLATORS)
        demo = await stack.enter_async_context(DemoUpstream()) if config.demo else None

        async def priced() -> Catalog:
            found = catalog.priced(await find_prices(catalog))
            return found.with_demo(demo.base_url, demo.secret) if demo is not None else found

        task = asyncio.get_running_loop().create_task(priced(), name="catalog prices")
        try:
            yield task
        finally:
            # Not cancelled: uvloop leaves a child that is just being started behind, noisily.
            await asyncio.wait([task])


async def _open_keys(
    stack: contextlib.AsyncExitStack, directory: DataDirectory, store: Store
) -> KeyRing:
    """Load the keys, from the export when the database is new."""
    keys = KeyRing(store)
    await keys.load()
    stack.push_async_callback(keys.aclose)
    await stack.enter_async_context(KeyExport(directory.export, keys))
    return keys


async def _open_counters(store: Store) -> MemoryCounters:
    counters = MemoryCounters()
    counters.restore(await store.load_counters())
    return counters


async def _open_sessions(stack: contextlib.AsyncExitStack, store: Store, keys: KeyRing) -> Sessions:
    """Load the sessions of browsers that have signed in."""
    sessions = Sessions(store, keys)
    await sessions.load()
    stack.push_async_callback(sessions.aclose)
    return sessions


async def _guest_secret(store: Store) -> bytes:
    secret = await store.load_meta(GUEST_META)
    if secret is None:
        secret = secrets.token_bytes(32)
        await store.put_meta(GUEST_META, secret)
    return secret


def _describe(catalog: Catalog) -> bytes:
    """Describe the API; most gateways are never asked, so a start does without."""
    from server.description.document import document

    return msgspec.json.encode(document(ROUTES, [model.id for model in catalog]))


def _reasons(engine: Engine, ledger: Ledger, store: SqliteStore) -> list[str]:
    """Tell why the gateway should not be sent work."""
    reasons = []
    if engine.draining:
        reasons.append("draining")
    if ledger.degraded or store.trouble is not None:
        reasons.append("the database cannot be written")
    return reasons


def _make_server(config: Config, services: Services, tls: ssl.SSLContext | None) -> GatewayServer:
    settings = config.server
    application = Application(
        [*api_rules(services), *page_rules(services)],
        log_function=lambda _handler: None,
    )
    limits = HttpLimits(
        head_timeout_s=settings.head_timeout_s,
        body_timeout_s=settings.body_timeout_s,
        idle_timeout_s=settings.idle_timeout_s,
        write_timeout_s=config.stream.write_timeout_s,
        max_header_bytes=settings.max_header_bytes,
        max_connections=_most_connections(settings.max_connections),
    )
    return GatewayServer(application, limits, shortcuts(services), tls)


def _most_connections(wanted: int) -> int:
    """Give how many connections of clients fit into the system's limit of open files.

    Each may need another to an upstream: without room for that nobody could be answered.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    fitting = (files - SPARE_FILES) // 2
    if files == resource.RLIM_INFINITY or fitting >= wanted:
        return wanted
    log.info("at most %d clients are connected: the system allows %d open files", fitting, files)
    return max(fitting, 1)


def _bind(config: Config) -> list[socket.socket]:
    """Take the port; whoever connects before the gateway is ready waits."""
    settings = config.server
    try:
        return bind_sockets(settings.port, settings.host, backlog=2048)
    except OSError as error:
        raise StartFailure(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}."
            " Choose another --port or --host, or stop what listens there."
        ) from error


def _tls(config: Config) -> ssl.SSLContext | None:
    settings = config.server
    if not settings.tls_cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key or None)
    except (OSError, ssl.SSLError) as error:
        raise StartFailure(
            f"cannot use the TLS certificate {settings.tls_cert}: {error}"
        ) from error
    return context


async def serve(config: Config, environ: Mapping[str, str]) -> None:
    """Run a gateway until SIGTERM or SIGINT, then drain."""
    started = time.monotonic()
    async with gateway(config, environ) as running:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, running.ask_to_stop)
        _greet(running, time.monotonic() - started)
        _calm_the_collector()
        await running.stop_asked()
        log.info("stopping: %d running", len(running.services.engine.jobs))
    # The loop takes its handlers along when it closes; a late signal must not change the exit code.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def _calm_the_collector() -> None:
    """Leave what lives as long as the process out of collections, and collect less often.

    With 1,000 streams open the default took 6 % of the CPU, nearly all for nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _greet(running: Gateway, start_s: float) -> None:
    """Tell a person at the terminal what there is; the owner key only when it was made now."""
    services = running.services
    if running.made_owner_key is not None:
        sys.stderr.write(
            f"\nOwner key, shown this once:\n\n    {running.made_owner_key}\n\n"
            "Set ROXY_ADMIN_API_KEY to choose your own.\n\n"
        )
    served = [model.id for model in services.catalog if model.live_deployments()]
    if _is_open_to_eavesdroppers(services.config.server):
        log.warning(
            "keys travel unprotected: use --tls-cert and --tls-key, or a proxy that speaks TLS and"
            ' server.base_url = "https://..."'
        )
    log.info("data directory %s", Path(services.config.server.data_dir).absolute())
    if not served:
        log.warning(
            "no model can be served: `roxy check` says what would help; --demo needs nothing"
        )
    elif services.config.demo:
        log.warning(
            "demo: models without an upstream of their own are answered by a script, not a model"
        )
    log.info(
        "ready in %.2f s at %s/api/v1 with %d of %d models",
        start_s,
        running.url,
        len(served),
        len(services.catalog),
    )


def _is_open_to_eavesdroppers(settings: Server) -> bool:
    """Say whether others on the network reach this server, and without TLS."""
    if settings.tls_cert or settings.base_url.startswith("https://"):
        return False
    address = parse_address(settings.host)
    return settings.host != "localhost" and (address is None or not address.is_loopback)


__all__ = ["Gateway", "StartFailure", "StoreFailure", "gateway", "serve"]
