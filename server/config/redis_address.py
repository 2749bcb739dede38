"""Read the address of Redis from its URL, as `ROXY_REDIS_URL` holds it.

    redis://[user[:password]@]host[:port][/database]
    rediss://...?ssl_ca_certs=PATH        TLS; the certificate is always verified
    unix://[user[:password]@]/path/to/socket[?db=database]

These are the forms of redis-py and redis-cli. The URL holds a password, so no error repeats it.
"""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

from msgspec import Struct

DEFAULT_PORT = 6379
SCHEMES = ("redis", "rediss", "unix")
FORM = "must be redis://[user:password@]host[:port][/database], rediss://... or unix:///path"


class RedisAddress(Struct, frozen=True):
    """Where Redis is and how to sign in. `path` is that of a Unix socket, or ""."""

    host: str = ""
    port: int = DEFAULT_PORT
    path: str = ""
    database: int = 0
    username: str = ""
    password: str = ""
    tls: bool = False
    ca_file: str = ""

    def __str__(self) -> str:
        """Return the place without the credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        place = self.path or f"{host}:{self.port}"
        return f"{place}/{self.database}" if self.database else place

    def __repr__(self) -> str:
        """Return the place without the credentials."""
        return f"RedisAddress({self})"


def parse_redis_url(url: str) -> RedisAddress:
    """Return the address in a URL. Raises ValueError with what must be changed."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORT
    except ValueError:
        raise ValueError(FORM) from None
    if parts.scheme not in SCHEMES or parts.fragment:
        raise ValueError(FORM)
    unix = parts.scheme == "unix"
    if bool(parts.hostname) == unix or (unix and not parts.path.strip("/")):
        raise ValueError(FORM)
    options = parse_qs(parts.query, keep_blank_values=True)
    known = {"db"} | ({"ssl_ca_certs"} if parts.scheme == "rediss" else set())
    if unknown := sorted(options.keys() - known):
        raise ValueError(f"has an option that is not supported: {unknown[0]!r}")
    database = options.get("db", ["0" if unix else parts.path.strip("/") or "0"])[-1]
    if not (database.isascii() and database.isdigit()):
        raise ValueError("must name the database by its number")
    return RedisAddress(
        host=parts.hostname or "",
        port=port,
        path=unquote(parts.path) if unix else "",
        database=int(database),
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        tls=parts.scheme == "rediss",
        ca_file=options.get("ssl_ca_certs", [""])[-1],
    )
