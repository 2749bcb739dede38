"""Choose the ports of servers that cannot choose one themselves or must keep it when restarted.

They lie outside the range from which the kernel takes ports for connections and for servers that
listen on port 0: nothing takes one between the choice and the start, or while its server is down.
"""

from __future__ import annotations

import os
import socket
from itertools import count

FIRST = 20_000
PER_PROCESS = 1_000
PROCESSES = 12
"""All of them end below 32768, where Linux begins with the ports that it gives away itself."""

_handed_out = count(os.getpid() % PER_PROCESS)


def free_port() -> int:
    """Return a port without a listener, another one with every call."""
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = FIRST + process % PROCESSES * PER_PROCESS
    for number in _handed_out:
        port = first + number % PER_PROCESS
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("0.0.0.0", port))
            except OSError:
                continue
            return port
    raise AssertionError


def free_ports(amount: int) -> list[int]:
    """Return several."""
    return [free_port() for _ in range(amount)]
