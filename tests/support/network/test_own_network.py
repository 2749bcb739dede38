"""The network of the tests, and the ports that they choose in it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from support.network.ports import free_port, free_ports


def test_the_tests_of_root_have_a_network_of_their_own() -> None:
    """Others share that of the machine, where only root adds interfaces."""
    pids = (os.getpid(), os.getppid())
    own, shared = (Path(f"/proc/{pid}/ns/net").readlink() for pid in pids)
    assert (own != shared) is (os.geteuid() == 0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


def test_a_port_is_given_once_and_is_none_that_the_kernel_gives_away_or_that_is_used() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    taken = free_port() + 1
    with socket.create_server(("127.0.0.1", taken)):
        ports = free_ports(300)
    assert len(set(ports)) == 300
    assert taken not in ports
    assert max(ports) < lowest
