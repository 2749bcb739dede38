"""How an upstream is reached: headers, CA file and proxy, from its quirks and the environment.

Messages never repeat a value, because it may contain a secret.
"""

from __future__ import annotations

import functools
import re
import ssl
from collections.abc import Mapping
from string import Template
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from workers.base_url import checked_upstream_url
from workers.catalog.deployment_checks import looks_like_a_secret
from workers.catalog.quirks import Quirks
from workers.upstream_route import (
    FRAMING_HEADERS,
    UpstreamRoute,
    environment_proxy,
    parse_proxy,
)

ENVIRONMENT = "environment"
"""Instead of a proxy or CA file: the one that the variables of the environment name."""
OWN_HEADERS = frozenset({"accept", "content-type"})
"""Headers that describe the body, which the gateway writes and reads."""
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
SECRET_HEADER = re.compile("auth|key|token|secret|cookie", re.IGNORECASE)


class Access(NamedTuple):
    """The resolved headers and route; `unset` are the variables without which it cannot be used."""

    headers: tuple[tuple[str, str], ...]
    route: UpstreamRoute
    unset: tuple[str, ...]


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise ValueError for a header that cannot be sent, or that holds a secret itself."""
    for name, value in headers.items():
        if not HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a header")
        if name.lower() in FRAMING_HEADERS | OWN_HEADERS:
            raise ValueError(f"the gateway sets the header {name!r} itself")
        _check_text(name, value)
        template = Template(value)
        if not template.is_valid():
            raise ValueError(f"write $NAME or ${{NAME}} in {name!r} for a variable, and $$ for a $")
        if template.get_identifiers():
            continue
        if looks_like_a_secret(value) and SECRET_HEADER.search(name):
            raise ValueError(
                f"the value of {name!r} looks like a secret; name the environment variable that "
                'holds it, such as "$AZURE_KEY"'
            )


def check_upstream_url(url: str) -> None:
    """Raise ValueError unless this is the base URL of an upstream, without a secret."""
    query = urlsplit(checked_upstream_url(url)).query
    if any(looks_like_a_secret(value) for _, value in parse_qsl(query)):
        raise ValueError("the query of the URL looks like it has a secret; send it in `headers`")


def check_proxy(proxy: str) -> None:
    """Raise ValueError unless this is the URL of an HTTP proxy, `environment` or empty."""
    if proxy not in ("", ENVIRONMENT):
        parse_proxy(proxy)


def find_access(quirks: Quirks, base_url: str, environ: Mapping[str, str]) -> Access:
    """Resolve what the quirks of a deployment name. Raises ValueError."""
    unset: dict[str, None] = {}
    headers = []
    for name, value in quirks.headers.items():
        template = Template(value)
        missing = [each for each in template.get_identifiers() if not environ.get(each)]
        unset.update(dict.fromkeys(missing))
        # Files of secrets end in a line break, and so do variables made of them.
        values = {each: environ.get(each, "").strip() for each in template.get_identifiers()}
        filled = template.substitute(values)
        _check_text(name, filled)
        headers.append((name, filled))
    proxy = quirks.proxy
    if proxy == ENVIRONMENT:
        try:
            proxy = environment_proxy(environ, base_url)
        except ValueError as error:
            raise ValueError(f"{error}; it comes from the environment") from error
    route = UpstreamRoute(_ca_file(quirks.ca_file, environ), proxy)
    return Access(tuple(headers), route, tuple(unset))


def _check_text(name: str, value: str) -> None:
    if not value.isascii() or not value.isprintable():
        raise ValueError(f"the value of {name!r} has line breaks or non-ASCII characters")


def _ca_file(named: str, environ: Mapping[str, str]) -> str:
    path = environ.get("SSL_CERT_FILE", "") if named == ENVIRONMENT else named
    if path:
        _check_ca_file(path)
    return path


@functools.lru_cache(maxsize=16)
def _check_ca_file(path: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:  # ssl.SSLError is one, and says nothing that helps
        why = "no certificates in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise ValueError(f"the file {path!r} cannot be used: {why}") from error
