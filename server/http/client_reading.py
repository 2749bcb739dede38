"""What the kernel knows of how a client reads, and how slowly it may."""

from __future__ import annotations

import contextlib
import math
import socket
from typing import NamedTuple

UNSENT_BYTES = 128 * 1024
"""How much may wait in the kernel for a client that does not keep up.

Without this limit the kernel takes megabytes: a model would be paused, and a client judged, long
after it fell behind. What is on its way to the client does not count, so that fast clients get what
they got before (`TCP_NOTSENT_LOWAT` in tcp(7)).
"""
PEER_CLOSED = (7, 8)
"""TCP_CLOSE and TCP_CLOSE_WAIT (linux/include/net/tcp_states.h): after the peer's reset or FIN."""
ACKNOWLEDGED = slice(120, 128)
"""`tcpi_bytes_acked` in `struct tcp_info` (linux/tcp.h, since Linux 4.1)."""


def prepare_socket(sock: socket.socket) -> None:
    """Set the options of a client's TCP connection."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        with contextlib.suppress(OSError):  # a kernel that does not know it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def peer_has_left(sock: socket.socket) -> bool:
    """Return whether the peer has closed: while reading is paused, only the kernel knows."""
    info = _tcp_info(sock, 1)
    return bool(info) and info[0] in PEER_CLOSED


def acknowledged_bytes(sock: socket.socket) -> int | None:
    """Return how many bytes the client's system has taken so far; None: not known here."""
    info = _tcp_info(sock, ACKNOWLEDGED.stop)[ACKNOWLEDGED]
    return int.from_bytes(info, "little") if len(info) == 8 else None


def _tcp_info(sock: socket.socket, size: int) -> bytes:
    if hasattr(socket, "TCP_INFO"):
        with contextlib.suppress(OSError):
            return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
    return b""


class Pace(NamedTuple):
    """How slowly a client may read: nothing for `max_pause_s`, `bytes_per_s` on average (0: any).

    Only the time counts in which bytes wait for it.
    """

    max_pause_s: float
    bytes_per_s: int


class ReadingClient:
    """The patience with one client, in seconds. It begins with the longest that is allowed.

    Waiting takes from it, second by second; what the client has taken gives back, at the lowest
    rate. A steady reader above that rate is never cut, and one that takes a byte now and then is,
    even if its buffer runs empty in between.
    """

    __slots__ = ("_at", "_left_s", "_taken")

    def __init__(self, pace: Pace) -> None:
        self._left_s = pace.max_pause_s
        self._at = 0.0
        self._taken = 0

    def begin(self, pace: Pace, taken: int, now: float) -> None:
        """Note that bytes wait from now on. `taken` counts all that the client has ever taken."""
        self._credit(pace, taken)
        self._at = now

    def waits(self, pace: Pace, taken: int, now: float) -> bool:
        """Return whether to wait longer; also to be called when the wait is over."""
        self._left_s -= now - self._at
        self._at = now
        self._credit(pace, taken)
        return self._left_s >= 0

    def _credit(self, pace: Pace, taken: int) -> None:
        moved, self._taken = taken - self._taken, taken
        if moved > 0:
            earned_s = moved / pace.bytes_per_s if pace.bytes_per_s else math.inf
            self._left_s = min(self._left_s + earned_s, pace.max_pause_s)
