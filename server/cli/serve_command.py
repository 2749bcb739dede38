"""`roxy serve`: run the gateway until a signal stops it, and greet whoever started it."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from server.app import Gateway, gateway
from server.config.loading import Config
from server.config.settings import Server
from server.http.listening import raise_limit
from server.identity.client_addresses import parse_address

log = logging.getLogger("roxy")

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def serve(config: Config, environ: Mapping[str, str]) -> None:
    """Run a gateway until SIGTERM or SIGINT, then drain it. A signal during the start counts too.

    The handlers are Python's own, not the loop's: a loop restores the default handlers when it
    closes, by which one more signal in the last moments would end the process with another exit
    code than 0.
    """
    started = time.monotonic()
    raise_limit()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        signal.signal(number, lambda _number, _frame: loop.call_soon_threadsafe(stop.set))
    try:
        async with gateway(config, environ) as running:
            _greet(running, time.monotonic() - started)
            _tune_collector()
            await stop.wait()
            log.info("stopping; running requests: %d", len(running.services.engine.jobs))
    finally:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _tune_collector() -> None:
    """Exclude what the start has built from garbage collection, and collect less often.

    With 1,000 open streams the default thresholds took 6 % of the CPU and freed almost nothing:
    what a request leaves behind is mostly free of cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _greet(running: Gateway, start_s: float) -> None:
    """Print a new owner key, and log the address, the data directory and what is missing."""
    services = running.services
    if running.new_owner_key is not None:
        # Not logged: logs are kept, and this is the only place where the key appears.
        sys.stderr.write(
            f"\nOwner key, shown only once:\n\n    {running.new_owner_key}\n\n"
            "Set ROXY_ADMIN_API_KEY to choose your own.\n\n"
        )
    if _accepts_plain_http_from_others(services.config.server):
        log.warning(
            "keys are sent unencrypted: use --tls-cert and --tls-key, or a TLS proxy and"
            ' server.base_url = "https://..."'
        )
    log.info("data directory: %s", Path(services.config.server.data_dir).absolute())
    served = [model.id for model in services.catalog if model.live_deployments()]
    if not served:
        log.warning(
            "no model can be served: run `roxy check` to see what is missing, or start with --demo"
        )
    elif services.config.demo:
        log.warning(
            "demo: models without an upstream are answered by a script, not by a language model"
        )
    log.info(
        "ready in %.2f s at %s/api/v1 with %d of %d models",
        start_s,
        running.url,
        len(served),
        len(services.catalog),
    )


def _accepts_plain_http_from_others(settings: Server) -> bool:
    """Return whether other machines can connect without TLS protecting what they send."""
    if settings.tls_cert or settings.base_url.startswith("https://"):
        return False
    address = parse_address(settings.host)
    return settings.host != "localhost" and (address is None or not address.is_loopback)
