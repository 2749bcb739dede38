"""Hosts that are far from each other: network namespaces, or ports where none can be made.

    async with far_hosts(2) as hosts:
        hosts.near.address      # of this process: stores, balancer, upstream
        hosts.far[0].command    # begins the command of a process that runs there
        await hosts.part(hosts.far[0])
        await hosts.heal(hosts.far[0])

Namespaces need root and iproute2. Parted hosts lose every packet to the near one, silently, as when
a cable is cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"
NOBODY_MAC = "02:00:00:00:00:ff"
"""No host has this address: what is sent to it is lost."""


class NoNamespaces(Exception):
    """This machine makes no network namespaces."""


@dataclass(frozen=True)
class Host:
    """One host. `command` begins the command line of what runs on it."""

    name: str
    address: str
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hosts:
    """The host of this process, and those that are far. `kind`: "namespaces" or "ports"."""

    kind: str
    near: Host
    far: tuple[Host, ...]

    async def part(self, host: Host) -> None:
        """Lose every packet between a far host and the near one."""
        neighbour = (self.near.address, "lladdr", NOBODY_MAC, "dev", "eth0", "nud", "permanent")
        await _ip("-n", host.name, "neigh", "replace", *neighbour)

    async def heal(self, host: Host) -> None:
        """Pass packets on again."""
        await _ip("-n", host.name, "neigh", "del", self.near.address, "dev", "eth0")


@contextlib.asynccontextmanager
async def far_hosts(count: int) -> AsyncIterator[Hosts]:
    """Make hosts in network namespaces; without the right to, all are this one."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            hosts = await _namespaces(stack, count)
        except NoNamespaces:
            far = tuple(Host(f"host {number}", LOOPBACK) for number in range(count))
            hosts = Hosts("ports", Host("near", LOOPBACK), far)
        yield hosts


async def _namespaces(stack: contextlib.AsyncExitStack, count: int) -> Hosts:
    if os.geteuid() != 0 or _program() is None:
        raise NoNamespaces
    tag = f"rx{os.getpid() % 100_000}"
    net = f"10.203.{os.getpid() % 250 + 1}"
    near = Host("near", f"{net}.1")
    bridge = f"{tag}b"
    await _ip("link", "add", bridge, "type", "bridge")
    stack.push_async_callback(_ip, "link", "del", bridge)
    await _ip("addr", "add", f"{near.address}/24", "dev", bridge)
    await _ip("link", "set", bridge, "up")
    far = []
    for number in range(count):
        name, wire = f"{tag}n{number}", f"{tag}v{number}"
        address = f"{net}.{number + 11}"
        await _ip("netns", "add", name)
        stack.push_async_callback(_ip, "netns", "del", name)
        peer = ("peer", "name", "eth0", "netns", name)
        await _ip("link", "add", wire, "type", "veth", *peer)
        await _ip("link", "set", wire, "master", bridge, "up")
        await _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            await _ip("-n", name, "link", "set", device, "up")
        # A host has a name of its own, too: it is the default name of a node.
        named = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name)
        far.append(Host(name, address, (_program() or "", "netns", "exec", name, *named)))
    return Hosts("namespaces", near, tuple(far))


def _program() -> str | None:
    return shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin")


async def _ip(*words: str) -> None:
    """Run `ip`. Raises NoNamespaces when it fails."""
    process = await asyncio.create_subprocess_exec(
        _program() or "ip",
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    if process.returncode:
        raise NoNamespaces(f"ip {' '.join(words)}: {said.decode().strip()}")
