"""Take what a server needs before it can accept connections: its port and its certificate."""

from __future__ import annotations

import errno
import socket
import ssl
from pathlib import Path

from tornado.netutil import bind_sockets

BACKLOG = 2048
"""Connections that the kernel holds until they are accepted (`net.core.somaxconn` may be lower).

Clients that connect while the gateway starts wait there.
"""


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
