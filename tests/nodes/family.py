"""Look at the processes of a gateway that runs in several: its children and their connections.

async with serving(tmp_path, upstream, options=TWO) as roxy:
    first, second = children_of(roxy.pid)
    server = child_of(port_of(response), roxy.pid)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
from support.front_door import NO_AUTHORITIES
from support.processes import FarDoor
from support.waiting import PATIENCE_S, eventually

TWO = ("--processes", "2")


def family_of(pid: int) -> dict[int, str]:
    """Return the names of the children that run by their process ids, the oldest first."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    names = {child: name_of(child) for child in sorted(map(int, listed)) if runs(child)}
    return {child: name for child, name in names.items() if name.startswith("roxy")}


def name_of(pid: int) -> str:
    """Return the name of a process as `ps` shows it; "" when it has ended."""
    try:
        return proc_file(pid, "comm").decode().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children_of(pid: int) -> list[int]:
    """Return the process ids of the children that have a place, the oldest first."""
    return [child for child, name in family_of(pid).items() if name[-1].isdigit()]


async def spare_of(pid: int, *others: int) -> int:
    """Wait until there is a spare that needs only a place, none of `others`; return its id."""
    await eventually(lambda: len(spares_of(pid) - set(others)) == 1)
    return (spares_of(pid) - set(others)).pop()


def spares_of(pid: int) -> set[int]:
    """Return the children that have built everything and have no place."""
    return {child for child, name in family_of(pid).items() if name == "roxy spare"}


def proc_file(pid: int, name: str) -> bytes:
    """Return what the kernel says of a process."""
    return Path(f"/proc/{pid}/{name}").read_bytes()


def runs(pid: int) -> bool:
    """Return whether a process runs: it exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def ended(*pids: int) -> None:
    """Wait until none of the processes runs."""
    await eventually(lambda: not any(map(runs, pids)))


def child_of(client_port: int, keeper: int) -> int:
    """Return which child has the server's end of a loopback connection."""
    # Another test may have a server at a port of this number, so several sockets can match.
    sockets = {
        f"socket:[{fields[9]}]"
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if (fields := line.split())[2].endswith(f":{client_port:04X}")
    }
    for child in children_of(keeper):
        for descriptor in Path(f"/proc/{child}/fd").iterdir():
            with contextlib.suppress(OSError):
                if descriptor.readlink().name in sockets:
                    return child
    raise AssertionError(f"no child of {keeper} has the connection from port {client_port}")


def port_of(response: httpx.Response) -> int:
    """Return the local port of a response's connection."""
    stream = response.extensions["network_stream"]
    return int(stream.get_extra_info("client_addr")[1])


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to one process."""
    os.kill(pid, number)


@contextlib.asynccontextmanager
async def doors_to_each(door: FarDoor, keeper: int) -> AsyncIterator[dict[int, FarDoor]]:
    """Open connections until there is one to each child; yield a client for each of them.

    A client keeps its one connection alive, so all that it asks goes to the same child.
    """
    found: dict[int, FarDoor] = {}
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(PATIENCE_S):
        while set(found) != set(children_of(keeper)):
            client = await stack.enter_async_context(
                httpx.AsyncClient(
                    base_url=door.url,
                    timeout=PATIENCE_S,
                    limits=httpx.Limits(max_connections=1, keepalive_expiry=PATIENCE_S),
                    trust_env=False,
                    verify=NO_AUTHORITIES,
                )
            )
            answer = await client.get("/healthz")
            found.setdefault(child_of(port_of(answer), keeper), FarDoor(door.url, client))
        yield found
