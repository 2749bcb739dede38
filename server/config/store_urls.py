"""The rules for the URLs of shared stores, which hold passwords."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

HOST = r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?"
HOSTS = re.compile(rf"{HOST}(,{HOST})*")
"""libpq allows several hosts: https://www.postgresql.org/docs/current/libpq-connect.html"""


def find_url_fault(url: str, schemes: Sequence[str]) -> str | None:
    """Return what is wrong with a URL, to follow the variable's name, or None.

    The text never repeats a part of the URL: where a password has characters that are not escaped,
    it is not known which part is the password.
    """
    form = f"{schemes[0]}://USER:PASSWORD@HOST:PORT/NAME"
    escaped = f"must look like {form}, with special characters of the password escaped (%40 for @)"
    if not url.isascii() or not url.isprintable() or " " in url:
        return escaped
    try:
        parts = urlsplit(url)
    except ValueError:
        return escaped
    if parts.scheme not in schemes:
        return f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}"
    credentials, _, hosts = parts.netloc.rpartition("@")
    whole = HOSTS.fullmatch(hosts) or (not hosts and "host=" in parts.query)
    if not whole or "@" in credentials + parts.path + parts.fragment:
        return escaped
    return None
