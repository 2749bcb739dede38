"""Take what a server needs to accept connections: its port, its certificate and open files."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import resource
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path

from tornado.netutil import bind_sockets

log = logging.getLogger("roxy")

BACKLOG = 2048
"""Connections that the kernel holds until they are accepted (`net.core.somaxconn` may be lower).

Clients that connect while the gateway starts wait there.
"""

MAX_FILES = 1 << 16
"""Hard limits can be a billion; some systems reserve memory for each file that is allowed."""
SPARE_FILES = 64
"""Open files that are no connections: the database, the export, the log, the event loop's own."""


class ListenFailure(Exception):
    """The port or the certificate cannot be used; the message is one line that says what to do."""


def bind_port(host: str, port: int) -> list[socket.socket]:
    """Bind the port, one socket per address of `host`. Raises ListenFailure."""
    try:
        return bind_sockets(port, host, backlog=BACKLOG)
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        advice = "choose another --port, or stop the program that uses it"
        raise ListenFailure(
            f"cannot listen on {host} port {port} ({error.strerror or error}):"
            f" {advice if in_use else 'check --host and --port'}"
        ) from error


def bind_unix(path: Path) -> socket.socket:
    """Bind a Unix socket that only this user can connect to. Raises ListenFailure."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(str(path))
        path.chmod(0o600)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ListenFailure(f"cannot listen on {path} ({error.strerror or error})") from error
    return sock


def bind_for_processes(host: str, port: int, processes: int) -> list[list[socket.socket]]:
    """Bind the port once for each of several processes, which then share its connections.

    Linux spreads new connections over sockets with SO_REUSEPORT, and each has a queue of its own,
    which lasts as long as one process has the socket open. Another program of the same user could
    bind such a port, too, so this first checks that nothing listens there. Raises ListenFailure.
    """
    if port:
        for sock in bind_port(host, port):
            sock.close()
    bound: list[list[socket.socket]] = []
    try:
        for _ in range(processes):
            bound.append(bind_sockets(port, host, backlog=BACKLOG, reuse_port=True))
            port = bound[0][0].getsockname()[1]
    except OSError as error:
        close_all(bound)
        raise ListenFailure(
            f"cannot listen on {host} port {port} for several processes"
            f" ({error.strerror or error}): choose another --port, or --processes 1"
        ) from error
    return bound


def close_all(bound: Iterable[Iterable[socket.socket]]) -> None:
    """Close the sockets of several processes, in this process."""
    for sockets in bound:
        for sock in sockets:
            sock.close()


def load_certificate(cert: str, key: str) -> ssl.SSLContext | None:
    """Load a certificate chain and its key; None when no chain is named. Raises ListenFailure."""
    if not cert:
        return None
    for file in (cert, key):
        try:  # OpenSSL's error does not name the file
            Path(file or cert).open("rb").close()
        except OSError as error:
            raise ListenFailure(f"cannot read {file}: {error.strerror}") from error
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key or None)
    except (OSError, ssl.SSLError) as error:
        raise ListenFailure(f"cannot use the TLS certificate {cert}: {error}") from error
    return context


def raise_limit() -> None:
    """Raise the soft limit of this process towards the hard one, where that is permitted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, MAX_FILES)), hard))


def connections_within_limit(wanted: int) -> int:
    """Return how many client connections fit into the limit of open files, at most `wanted`.

    Each may need a second one to an upstream; without a file for that it could not be answered.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return wanted
    return max(min((files - SPARE_FILES) // 2, wanted), 1)


def log_connection_limit(wanted: int, processes: int = 1) -> None:
    """Log once for all processes how many connections fit, if that is less than `wanted`."""
    share = math.ceil(wanted / processes)
    fitting = connections_within_limit(share)
    if fitting < share:
        log.info(
            "at most %d client connections: the system allows %d open files%s",
            fitting * processes,
            resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            " per process" if processes > 1 else "",
        )
