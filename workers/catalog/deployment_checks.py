"""Check what an owner writes about an upstream.

Messages never repeat the value: it may hold a secret.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
SECRET_PREFIXES = (
    "sk-",
    "sk_",
    "pk-",
    "gsk_",
    "aiza",
    "xai-",
    "hf_",
    "vck_",
    "nvapi-",
    "roxy_",
    "eyj",
    "bearer ",
)
LONG_RUN = re.compile(r"[A-Za-z0-9]{20,}")


def checked_secret_env(name: str) -> str:
    """Give the variable's name back; raises ValueError when it is none, or is itself a secret."""
    if name == "":
        return name
    if looks_like_a_secret(name):
        raise ValueError(
            "this looks like the secret itself; write the name of the environment variable that "
            "holds it, and change the secret if others could read this file"
        )
    if not VARIABLE_NAME.fullmatch(name):
        raise ValueError(
            "this is no name of an environment variable (letters, digits and underscores)"
        )
    return name


def looks_like_a_secret(value: str) -> bool:
    """Tell pasted credentials from names such as `OPENROUTER_API_KEY`."""
    if value.lower().startswith(SECRET_PREFIXES) and not value.isupper():
        return True
    run = LONG_RUN.search(value)
    return run is not None and any(c.isdigit() for c in run[0]) and any(c.islower() for c in run[0])


def checked_secret(value: str) -> str:
    """Give the secret without space around it; raises ValueError when no header can hold it."""
    secret = value.strip()
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        raise ValueError("holds characters that no API key has (spaces, line breaks or non-ASCII)")
    return secret


def host_label(base_url: str) -> str:
    """Name the upstream shortly for deployment ids and logs: `openrouter`, `groq`, `127.0.0.1`."""
    host = urlsplit(base_url).hostname or ""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        labels = host.split(".")
    if len(labels) < 2:
        return host
    return labels[-2] if len(labels[-2]) > 2 else ".".join(labels[-2:])
