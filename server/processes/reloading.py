"""Reload the configuration of a running gateway: at SIGHUP, and by `roxy reload`.

The command finds the process by the lock file of the data directory, sends SIGHUP, and waits until
the file says how the reload has ended: `COUNT OUTCOME`, where the outcome is `ok` or a fault.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable

from server.config.loading import Config, ConfigError
from server.http.listening import ListenFailure
from server.processes.child_process import ChildFailure
from server.processes.keeper import Keeper
from server.processes.systemd import ServiceManager
from server.store.data_directory import DataDirectory

log = logging.getLogger("roxy.keeper")

DONE = "ok"
POLL_S = 0.05
WAIT_S = 300.0
"""How long the command waits: the replacement of each process takes about a second."""


class ReloadFailure(Exception):
    """The running gateway was not reloaded; the message is one line that says what to do."""


async def reload_at_signal(
    running: Keeper, load: Callable[[], Config], asked: asyncio.Event, manager: ServiceManager
) -> None:
    """Reload whenever `asked` is set; requests during a reload share the next one."""
    count = 0
    while True:
        await asked.wait()
        asked.clear()
        count += 1
        manager.reloading()
        try:
            await running.reload(load())
        except (ConfigError, ListenFailure, ChildFailure) as error:
            log.error("the configuration was not reloaded: %s", error)
            running.announce_reloads(f"{count} {error}")
        except Exception:
            log.exception("the configuration was not reloaded")
            running.announce_reloads(f"{count} internal error; see the log")
        else:
            log.info(
                "the configuration was reloaded; %d processes were replaced", running.processes
            )
            running.announce_reloads(f"{count} {DONE}")
        manager.ready(running.status)


async def request_reload(directory: DataDirectory) -> str:
    """Make the gateway that holds the directory reload, and return a line when it has.

    Raises ReloadFailure.
    """
    holder = directory.read_holder()
    if holder is None:
        raise ReloadFailure(f"no gateway runs with the data directory {directory.path}")
    if not holder.reloads:
        raise ReloadFailure(
            f"the gateway at {holder.url} (process {holder.process}) cannot reload, because it"
            " serves in one process: restart it, or start it with --processes 2"
        )
    before = _count(holder.reloads)
    with contextlib.suppress(ProcessLookupError):
        os.kill(holder.process, signal.SIGHUP)
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                now = directory.read_holder()
                if now is None or now.process != holder.process:
                    raise ReloadFailure(f"the gateway (process {holder.process}) has ended")
                if _count(now.reloads) > before:
                    break
                await asyncio.sleep(POLL_S)
    except TimeoutError as error:
        raise ReloadFailure(
            f"the gateway (process {holder.process}) has not reloaded within {WAIT_S:g} s:"
            " see its log"
        ) from error
    outcome = now.reloads.partition(" ")[2]
    if outcome != DONE:
        raise ReloadFailure(f"the configuration was not reloaded: {outcome}")
    return f"Reloaded the gateway at {now.url}."


def _count(reloads: str) -> int:
    count = reloads.partition(" ")[0]
    return int(count) if count.isdecimal() else 0
