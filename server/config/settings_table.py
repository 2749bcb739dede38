"""The settings as rows: path, variable, default and description, and the other variables.

The documentation shows them, and `loading` accepts no other variables that begin with ROXY_.
"""

from __future__ import annotations

import msgspec
from msgspec import Meta, Struct

from server.config.settings import SECTIONS


class Setting(Struct, frozen=True):
    """One row of the settings in the documentation."""

    path: str
    env: str
    default: object
    doc: str


class Variable(Struct, frozen=True):
    """An environment variable outside the `ROXY_SECTION_NAME` scheme."""

    env: str
    doc: str


OWNER_KEY_VARIABLE = "ROXY_ADMIN_API_KEY"
CLIENT_VARIABLE = "ROXY_API_KEY"
"""The variable in which the examples and recipes keep a client's key; the gateway ignores it."""
SHORT_VARIABLES = (
    Variable("ROXY_CONFIG", "Path of the configuration file; default: ./roxy.toml, if it exists."),
    Variable("ROXY_DATA_DIR", "Short form of ROXY_SERVER_DATA_DIR."),
    Variable(
        OWNER_KEY_VARIABLE,
        "The owner key, at least 16 characters. Unset: the stored key stays valid; the first start"
        " generates one. To replace a lost key, start once with this variable.",
    ),
    Variable(
        "ROXY_DEMO",
        "Answer for models without a usable upstream by a script, at no cost (true or false).",
    ),
    Variable(
        "ROXY_REDIS_URL",
        "Redis 7 or Valkey 8, or later, which counts the limits of several nodes:"
        " redis://[user:password@]host[:port][/database], rediss://... for TLS or unix:///path."
        " Unset: each process counts in memory.",
    ),
    Variable(
        "ROXY_DATABASE_URL",
        "PostgreSQL database for keys, usage and sessions, shared by several nodes:"
        " postgresql://USER:PASSWORD@HOST:PORT/DATABASE. Unset: roxy.db in the data directory.",
    ),
)


def describe_settings() -> list[Setting]:
    """Return every setting of `roxy.toml` with its variable, default and description."""
    return [
        Setting(
            path=f"{section}.{field.name}",
            env=variable_of(section, field.name),
            default=field.default,
            doc=description_of(field),
        )
        for section, struct in SECTIONS.items()
        for field in msgspec.structs.fields(struct)
    ]


def variable_of(section: str, name: str) -> str:
    """Return the environment variable of a setting: `ROXY_SERVER_PORT` for `server.port`."""
    return f"ROXY_{section}_{name}".upper()


def description_of(field: msgspec.structs.FieldInfo) -> str:
    """Return the description in a field's `Meta`, or an empty string."""
    for meta in getattr(field.type, "__metadata__", ()):
        if isinstance(meta, Meta) and meta.description:
            return meta.description
    return ""
