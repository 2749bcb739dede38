"""Describe in a phrase why PostgreSQL cannot be used, and distinguish outages from bugs.

Messages of the server are used only where they cannot hold a password; the URL is never shown.
SQLSTATE codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

import socket
import ssl

import asyncpg

from server.store.store import StoreFailure

DATA_ERRORS = (
    asyncpg.DataError,  # both the server's class 22 and what asyncpg cannot encode
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.CardinalityViolationError,
    OverflowError,
    TypeError,
    ValueError,
)
"""Raised for a value that a column cannot hold. UnicodeError is a ValueError, but so is the error
of a certificate, which is raised when a connection is opened."""

CALL_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,  # TimeoutError and errors of TLS, too
)
"""Raised by calls on a connection, and by opening one."""

STARTING = "57P03"
READ_ONLY = "25006"
CANCELED = "57014"
PHRASES = {
    STARTING: "it is starting up or stopping",
    READ_ONLY: "it is read-only: a standby, or a primary that was demoted",
    "28P01": "it refuses the user or the password",
    "28000": "it refuses the user, the password or the way of the connection",
    "3D000": "it has no such database",
    "42501": "the user lacks a right that it needs",
    "53100": "its disk is full",
    "53300": "it has no free connection left",
    "53200": "it is out of memory",
    "57P01": "it ended the connection",
    "57P02": "it has crashed and restarts",
    "55P03": "another transaction holds a lock for too long",
    "40P01": "another transaction was in the way",
    "40001": "another transaction was in the way",
    CANCELED: "a statement took too long",
}
"""SQLSTATE -> what to say about it."""
BROKE = "the connection broke"
KNOWN_PHRASES: tuple[tuple[type[BaseException], str], ...] = (
    (TimeoutError, "it does not answer"),
    (socket.gaierror, "its host name is not known"),
    (asyncpg.TargetServerAttributeNotMatched, PHRASES[READ_ONLY]),
    (ConnectionRefusedError, "it refuses connections: nothing listens there"),
    # A server that crashes sends its error while no call runs; asyncpg 0.32 then says "cannot
    # switch to state 15; another operation (2) is in progress" at the next call.
    (asyncpg.InternalClientError, BROKE),
)
OUTAGE_CLASSES = ("08", "28", "40", "53", "57", "58", "XX")
"""Classes of SQLSTATE whose cause is the server or the network, not a statement of the gateway."""
CONNECTION_CLASSES = ("08", "28", "3D", "57P")
OPTION_STATES = ("22023", "42704", "55P02")
"""What PostgreSQL says at a connection about an option of the URL that it does not know or take."""
NO_AUTHORITY = "root certificate file"
"""What asyncpg 0.32 says when `sslmode` needs authorities and `sslrootcert` names none."""
POOLER_FULL = ("too many connections", "no more connections allowed", "query_wait_timeout")
"""What pgbouncer says in class 08 or 53 when it has no connection to give."""


def outage_of(error: BaseException) -> str | None:
    """Return why the database cannot be used, or None for a fault of the gateway itself."""
    if isinstance(error, asyncpg.PostgresError):
        return _state_phrase(error)
    for kinds, phrase in KNOWN_PHRASES:
        if isinstance(error, kinds):
            return phrase
    if isinstance(error, OSError):
        return _network_phrase(error)
    if isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError):
        # "connection is closed", "the underlying connection is closed" and the like
        return BROKE if "clos" in str(error) else None
    return None


def _network_phrase(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its TLS certificate is not accepted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or 'no details'})"
    if isinstance(error, ConnectionError):
        # asyncpg says so when the server has no TLS and `sslmode` asks for it.
        refused_tls = "rejected SSL upgrade" in str(error)
        return "it offers no TLS, which sslmode asks for" if refused_tls else BROKE
    if isinstance(error, FileNotFoundError | PermissionError):
        what = "a file that its URL names, such as sslrootcert, cannot be opened"
        return f"{what} ({error.strerror})"
    return error.strerror or "the connection failed"


def _state_phrase(error: asyncpg.PostgresError) -> str | None:
    state = error.sqlstate or ""
    message = str(error)
    if any(words in message for words in POOLER_FULL):
        return PHRASES["53300"]
    if state in PHRASES:
        return PHRASES[state]
    if state.startswith(OUTAGE_CLASSES):
        return " ".join(message.split())[:200] if state.startswith("XX") else BROKE
    return None


def is_connection_lost(error: BaseException) -> bool:
    """Return whether a call failed because of its connection, so that another one may work."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(CONNECTION_CLASSES)
    return isinstance(error, CALL_ERRORS) and outage_of(error) is not None


def start_failure(address: str, error: BaseException) -> StoreFailure:
    """Return the error of a start: one line with what is wrong and what to do."""
    state = getattr(error, "sqlstate", None)
    phrase = outage_of(error)
    if state == "42501":
        detail = " ".join(str(error).split())
        return StoreFailure(
            f"The database {address} cannot be set up ({detail}): let its user create tables, for"
            " example with ALTER DATABASE ... OWNER TO ..., or run `roxy migrate` as the owner."
        )
    if state in OPTION_STATES:
        detail = " ".join(str(error).split())
        return StoreFailure(f"ROXY_DATABASE_URL has an option that is refused: {detail}.")
    if isinstance(error, asyncpg.ClientConfigurationError) and NO_AUTHORITY in str(error):
        return StoreFailure(
            "ROXY_DATABASE_URL has an sslmode that verifies the server's certificate, but no"
            " authority for it: add sslrootcert=/path/to/ca.pem."
        )
    if phrase is None and isinstance(error, asyncpg.ClientConfigurationError | ValueError):
        # Its text may quote the URL.
        return StoreFailure(
            "ROXY_DATABASE_URL cannot be used: write it as"
            " postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with special characters escaped."
        )
    if phrase is None:
        raise error
    return StoreFailure(f"The database {address} cannot be used: {phrase}. {_advice(error, state)}")


def _advice(error: BaseException, state: str | None) -> str:
    if state in ("28P01", "28000", "3D000"):
        return "Correct the user, the password or the database's name in ROXY_DATABASE_URL."
    if state == READ_ONLY or isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return "Point ROXY_DATABASE_URL at the primary."
    if state == "53300":
        return "Raise its max_connections, or use fewer nodes."
    if isinstance(error, ssl.SSLError) or "SSL" in str(error):
        return "Correct sslmode and sslrootcert in ROXY_DATABASE_URL, or the server's certificate."
    return "Start it, or correct the host and the port in ROXY_DATABASE_URL."


def write_trouble(error: BaseException | None) -> str | None:
    """Return why writes fail while reads may still work; None: another reason, or none."""
    state = getattr(error, "sqlstate", None) or ""
    if error is None or not (state in (READ_ONLY, "53100", "42501") or state[:2] in ("58", "XX")):
        return None
    return outage_of(error)
