"""`roxy serve`: run the gateway until a signal stops it, and log how it has started."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from server.app import gateway
from server.config.loading import Config
from server.config.settings import Server
from server.http.listening import log_connection_limit, raise_limit
from server.identity.client_addresses import parse_address
from server.processes.child_calls import Ready
from server.processes.garbage_collection import tune_collector
from server.processes.keeper import keeper
from server.processes.process_shares import serving_processes
from server.processes.reloading import reload_at_signal
from server.processes.systemd import ServiceManager
from server.store.patience import StorePatience

log = logging.getLogger("roxy")

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """What signals have asked for, from the start on.

    The handlers are Python's own, not the loop's: a loop restores the default handlers when it
    closes, by which one more signal in the last moments would end the process with another exit
    code than 0.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.reload = asyncio.Event()
        for number in STOP_SIGNALS:
            self._handle(number, self.stop)

    def handle_reload(self) -> None:
        """Take SIGHUP as the request to reload; without this call it ends the process."""
        self._handle(signal.SIGHUP, self.reload)

    def close(self) -> None:
        """Ignore further signals; the process is about to end."""
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _handle(self, number: signal.Signals, event: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(event.set))


class Start(NamedTuple):
    """What a gateway is started with; `passed` are the sockets of the service manager."""

    config: Config
    environ: Mapping[str, str]
    passed: list[socket.socket]
    signals: Signals
    manager: ServiceManager
    patience: StorePatience | None = None


def config_on(config: Config, passed: list[socket.socket]) -> Config:
    """Return a configuration with the address of sockets that were passed, if there are any."""
    if not passed:
        return config
    host, port = passed[0].getsockname()[:2]
    return replace(config, server=replace(config.server, host=host, port=port))


async def serve(
    config: Config,
    environ: Mapping[str, str],
    load: Callable[[], Config] | None = None,
    patience: StorePatience | None = None,
) -> None:
    """Run a gateway until SIGTERM or SIGINT, then drain it. A signal during the start counts too.

    `load` reads the configuration again, for a reload; None: there is none. `patience` are the
    longest waits for the stores.
    """
    raise_limit()
    signals = Signals()
    manager = ServiceManager(environ)
    passed = manager.sockets()
    start = Start(config_on(config, passed), environ, passed, signals, manager, patience)
    processes = serving_processes(config)
    try:
        async with manager.watchdog():
            if processes == 1:
                await _serve_alone(start)
            else:
                await _serve_by_children(start, processes, load or (lambda: config))
    finally:
        signals.close()


async def _serve_alone(start: Start) -> None:
    started = time.monotonic()
    if not sys.stdin.isatty():  # a terminal that closes ends what it has started
        start.signals.handle_reload()
    async with gateway(
        start.config, start.environ, passed=start.passed, patience=start.patience
    ) as running:
        ready = Ready.of(running.services.catalog)
        _print_owner_key(running.new_owner_key)
        _warn(start.config, ready)
        _say_ready(started, running.url, ready)
        tune_collector()
        status = f"serving at {running.url}"
        start.manager.ready(status)
        refusing = asyncio.create_task(_refuse_reloads(start, status), name="refusing to reload")
        try:
            await start.signals.stop.wait()
        finally:
            refusing.cancel()
            await asyncio.wait([refusing])
        start.manager.stopping()
        log.info("stopping; running requests: %d", len(running.services.engine.jobs))


async def _refuse_reloads(start: Start, status: str) -> None:
    """Log that one process cannot reload, whenever a signal asks for it."""
    while True:
        await start.signals.reload.wait()
        start.signals.reload.clear()
        start.manager.reloading()
        log.error(
            "the configuration was not reloaded: one process cannot be replaced; restart it, or"
            " start it with --processes 2"
        )
        start.manager.ready(status)


async def _serve_by_children(start: Start, processes: int, load: Callable[[], Config]) -> None:
    started = time.monotonic()
    start.signals.handle_reload()
    async with keeper(
        start.config, start.environ, processes, passed=start.passed, patience=start.patience
    ) as running:
        _print_owner_key(running.new_owner_key)
        _warn(start.config, running.ready, processes)
        _say_ready(started, running.url, running.ready, f" in {processes} processes")
        tune_collector()
        start.manager.ready(running.status)
        reloading = asyncio.create_task(
            reload_at_signal(
                running,
                lambda: config_on(load(), start.passed),
                start.signals.reload,
                start.manager,
            ),
            name="reloading",
        )
        try:
            await start.signals.stop.wait()
            start.manager.stopping()
            log.info("stopping %d processes", processes)
        finally:
            reloading.cancel()
            await asyncio.wait([reloading])


def _print_owner_key(new_owner_key: str | None) -> None:
    """Print a new owner key."""
    if new_owner_key is not None:
        # Not logged: logs are kept, and this is the only place where the key appears.
        sys.stderr.write(
            f"\nOwner key, shown only once:\n\n    {new_owner_key}\n\n"
            "Set ROXY_ADMIN_API_KEY to choose your own.\n\n"
        )


def _warn(config: Config, ready: Ready, processes: int = 1) -> None:
    """Log the data directory, what is missing and what the system does not allow."""
    if _accepts_plain_http_from_others(config.server):
        log.warning(
            "keys are sent unencrypted: use --tls-cert and --tls-key, or a TLS proxy and"
            ' server.base_url = "https://..."'
        )
    log.info("data directory: %s", Path(config.server.data_dir).absolute())
    log_connection_limit(config.server.max_connections, processes)
    if not ready.served_models:
        log.warning(
            "no model can be served: run `roxy check` to see what is missing, or start with --demo"
        )
    elif config.demo:
        log.warning(
            "demo: models without an upstream are answered by a script, not by a language model"
        )


def _say_ready(started: float, url: str, ready: Ready, processes: str = "") -> None:
    log.info(
        "ready in %.2f s at %s/api/v1, %d of %d models configured%s",
        time.monotonic() - started,
        url,
        ready.served_models,
        ready.models,
        processes,
    )


def _accepts_plain_http_from_others(settings: Server) -> bool:
    """Return whether other machines can connect without TLS protecting what they send."""
    if settings.tls_cert or settings.base_url.startswith("https://"):
        return False
    address = parse_address(settings.host)
    return settings.host != "localhost" and (address is None or not address.is_loopback)
