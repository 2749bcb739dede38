"""Run each process of a test run in a network of its own: a loopback that nothing else uses.

What runs at the same time can neither take a port of these tests nor listen in the place of one of
their servers, and Chromium does not see the interfaces that tests of other processes add: it ends
every request with ERR_NETWORK_CHANGED when an address of its network comes or goes.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1


def enter_own_network() -> bool:
    """Move this thread, and what it starts, into a new network; False without the right to.

    It has a loopback interface and no way out.
    """
    if os.geteuid() != 0 or ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        return False
    with socket.socket() as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    return True
