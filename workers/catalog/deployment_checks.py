"""Check the settings of deployments.

Messages never repeat a value, because it may contain a secret.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
# How keys of OpenAI, Anthropic and OpenRouter (sk-), Groq, Google, xAI, Hugging Face, Vercel,
# NVIDIA and Roxy begin, in lower case; `eyj` begins a JWT.
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
# What a request reserves and how its answer is read depend on these members. The value names the
# field of the deployment that changes the member; "": the gateway alone writes it.
OWN_MEMBERS = {
    "model": "upstream_model",
    "messages": "",
    "stream": "",
    "stream_options": "stream_options",
    "n": "",
    "max_tokens": "max_tokens_field",
    "max_completion_tokens": "max_tokens_field",
}
LONG_RUN = re.compile(r"[A-Za-z0-9]{20,}")


def checked_secret_env(name: str) -> str:
    """Return the variable's name. Raises ValueError when it is invalid, or looks like a secret."""
    if name == "":
        return name
    if looks_like_a_secret(name):
        raise ValueError(
            "this looks like the secret itself; write the name of the environment variable that "
            "holds it, and change the secret if others could read this file"
        )
    if not VARIABLE_NAME.fullmatch(name):
        raise ValueError(
            "this is not the name of an environment variable (letters, digits and underscores)"
        )
    return name


def looks_like_a_secret(value: str) -> bool:
    """Return whether this is a pasted secret and not a name such as `OPENROUTER_API_KEY`."""
    if value.lower().startswith(SECRET_PREFIXES) and not value.isupper():
        return True
    run = LONG_RUN.search(value)
    return run is not None and any(c.isdigit() for c in run[0]) and any(c.islower() for c in run[0])


def check_members(names: Iterable[str]) -> None:
    """Raise ValueError for a member that a deployment may neither add nor drop.

    Names are compared as servers in Go compare them, without regard to case.
    """
    for name in names:
        field = OWN_MEMBERS.get(name.casefold())
        if field is not None:
            hint = f"; use `{field}`" if field else ""
            raise ValueError(f"the gateway itself sets the member {name!r}{hint}")


def check_tool_types(types: Iterable[str]) -> None:
    """Raise ValueError for a type of tools with a `*` that is not at its end: it names no type."""
    for name in types:
        if "*" in name[:-1]:
            raise ValueError(f"in {name!r}, a `*` can only be at the end")


def checked_secret(value: str) -> str:
    """Return the secret without space around it. Raises ValueError when no header can carry it."""
    secret = value.strip()
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        raise ValueError("contains spaces, line breaks or non-ASCII characters, as no API key does")
    return secret


def host_label(base_url: str) -> str:
    """Return a short name of the host for ids and logs: `openrouter`, `groq`, `127.0.0.1`."""
    host = urlsplit(base_url).hostname or ""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        labels = host.split(".")
    if len(labels) < 2:
        return host
    return labels[-2] if len(labels[-2]) > 2 else ".".join(labels[-2:])
