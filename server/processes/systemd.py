"""Report to systemd, and take the sockets that it passes: `sd_notify(3)`, `sd_listen_fds(3)`.

    manager = ServiceManager(environ)
    sockets = manager.sockets()         # those of a socket unit, if there are any
    async with manager.watchdog():      # WATCHDOG=1, at twice the rate that is asked for
        manager.ready("serving at ...")

Without systemd nothing is sent and no socket is passed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping

from server.http.listening import ListenFailure

log = logging.getLogger("roxy")

FIRST_DESCRIPTOR = 3
"""SD_LISTEN_FDS_START (sd_listen_fds(3))."""
MICROSECOND = 1e-6
AGAIN_S = 0.05


class ServiceManager:
    """The service manager that has started this process, if the environment names one.

    `process` is the id that sockets and the watchdog must be meant for.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        process: int | None = None,
        first_descriptor: int = FIRST_DESCRIPTOR,
    ) -> None:
        self._environ = environ
        self._process = str(os.getpid() if process is None else process)
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._first = first_descriptor
        self._failed = False
        self._unsent: deque[bytes] = deque()

    def sockets(self) -> list[socket.socket]:
        """Return the listening sockets of a socket unit. Raises ListenFailure for other ones."""
        if self._environ.get("LISTEN_PID") != self._process:
            return []
        count = self._environ.get("LISTEN_FDS", "")
        names = self._environ.get("LISTEN_FDNAMES", "").split(":")
        passed: list[socket.socket] = []
        for number in range(int(count) if count.isdecimal() else 0):
            sock = _listener(self._first + number)
            if sock is None:
                name = names[number] if number < len(names) else str(number)
                for one in passed:
                    one.close()
                raise ListenFailure(
                    f"the socket {name!r} of the service manager is no listening TCP socket:"
                    " use ListenStream= with an address and a port"
                )
            passed.append(sock)
        return passed

    def ready(self, status: str) -> None:
        """Report that the service has started, or has been reloaded."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Report that a reload has begun; `ready` reports its end."""
        # Without the time, systemd 253 and later would not know which reload this is.
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Report that the service is stopping."""
        self._send("STOPPING=1", "STATUS=stopping")

    @contextlib.asynccontextmanager
    async def watchdog(self) -> AsyncIterator[None]:
        """Report that the event loop runs, as often as the service manager asks for."""
        period_s = self._watchdog_s()
        if period_s is None:
            yield
            return
        task = asyncio.get_running_loop().create_task(self._keep_alive(period_s), name="watchdog")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def _watchdog_s(self) -> float | None:
        """Return half of the time after which silence counts as a failure; None: it does not."""
        period = self._environ.get("WATCHDOG_USEC", "")
        meant_for = self._environ.get("WATCHDOG_PID", self._process)
        if not self._address or meant_for != self._process or not period.isdecimal():
            return None
        return int(period) * MICROSECOND / 2 or None

    async def _keep_alive(self, period_s: float) -> None:
        while True:
            if not self._unsent:  # what waits says that this process runs, too
                self._send("WATCHDOG=1")
            await asyncio.sleep(period_s)

    def _send(self, *lines: str) -> None:
        if self._address:
            self._unsent.append("\n".join(lines).encode())
            if len(self._unsent) == 1:
                self._send_waiting()

    def _send_waiting(self) -> None:
        """Send what waits, in its order; try again later while the manager reads nothing."""
        # A leading @ stands for the NUL byte of Linux's abstract names (sd_notify(3)).
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(0)
                while self._unsent:
                    sock.sendto(self._unsent[0], address)
                    self._unsent.popleft()
        except BlockingIOError:  # Linux keeps only some ten messages (net.unix.max_dgram_qlen)
            asyncio.get_running_loop().call_later(AGAIN_S, self._send_waiting)
        except OSError as error:
            self._unsent.clear()
            if not self._failed:
                self._failed = True
                log.warning("the service manager cannot be reached: %s", error)


def _listener(descriptor: int) -> socket.socket | None:
    """Return the listening TCP socket with this descriptor; None: it is something else."""
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError:
        return None
    tcp = sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM
    if not tcp or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        return None
    sock.set_inheritable(False)
    sock.settimeout(0)
    return sock
