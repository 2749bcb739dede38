"""Resolve the configuration once: defaults < `roxy.toml` < environment < command line.

The only module that reads the environment. Whatever is wrong raises ConfigError with one line that
names the file and path, the variable or the flag, and never repeats a secret. Unknown names stop
the start too: a misspelt limit must not be silently none. An empty variable counts as not set.
"""

from __future__ import annotations

import difflib
import ipaddress
import math
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_origin

import msgspec
from msgspec.structs import replace

from server.config.settings import (
    SECTIONS,
    SHORT_VARIABLES,
    Config,
    Setting,
    describe_settings,
    variable_of,
)
from workers.base_url import checked_base_url
from workers.catalog.catalog_file import load_catalog, merged_entries, parse_entries
from workers.catalog.entries import CatalogError, ModelEntry
from workers.providers.formats import TRANSLATORS

__all__ = ["Config", "ConfigError", "Setting", "describe_settings", "environment", "load_config"]

DEFAULT_PATH = Path("roxy.toml")
MIN_OWNER_KEY_LENGTH = 16
MIN_OWNER_KEY_LETTERS = 6
"""Different characters that an owner key must have at least."""
PLACEHOLDERS = (
    "changeme",
    "placeholder",
    "yourkey",
    "youradminkey",
    "yourownerkey",
    "ownerkeyhere",
)
"""What examples put where a key belongs, without punctuation."""
NOT_YET = {
    "ROXY_DATABASE_URL": "this version keeps keys and usage in its own SQLite file",
    "ROXY_REDIS_URL": "this version keeps counters in memory and its own SQLite file",
}

SERVICE_LINK_NAME = re.compile(
    r"ROXY_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)"
    r"|ROXY_PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?"
)
SERVICE_LINK_URL = re.compile(r"(tcp|udp|sctp)://\S+:[0-9]+")

Tables = dict[str, dict[str, Any]]


class ConfigError(Exception):
    """The configuration cannot be used; the message is one line that says what to change."""


def environment() -> Mapping[str, str]:
    """Give the process's environment; nobody else reads it."""
    return os.environ


def load_config(
    overrides: Mapping[str, Any], environ: Mapping[str, str], path: Path | str | None = None
) -> Config:
    """Resolve everything into one frozen Config; raises ConfigError.

    `overrides` are the command line's: names of `server` settings (`port`), any setting by its path
    (`guests.enabled`) or `demo`; None is not given. `path` is `--config`, else ROXY_CONFIG, else
    `./roxy.toml` where it exists.
    """
    _refuse_unknown_variables(environ)
    chosen = _config_path(environ, path)
    document = _read(chosen) if chosen else {}
    where = str(chosen) if chosen else ""
    models = document.pop("models", [])
    tables = _tables(document, where)
    _lay_environment(tables, environ)
    demo = _lay_flags(tables, overrides)
    if demo is None:
        demo = bool(_from_text("ROXY_DEMO", environ.get("ROXY_DEMO") or "false", bool))
    sections = {name: _section(name, table, where) for name, table in tables.items()}
    config = Config(
        **sections,
        models=_models(models, where, environ),
        demo=demo,
        admin_api_key=_owner_key(environ),
        path=where,
    )
    return _checked_whole(config)


def _config_path(environ: Mapping[str, str], path: Path | str | None) -> Path | None:
    named = path or environ.get("ROXY_CONFIG")
    if named:
        return Path(named)
    return DEFAULT_PATH if DEFAULT_PATH.is_file() else None


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def _tables(document: dict[str, Any], where: str) -> Tables:
    """Take the file's sections, each a table of its own, and add those it does not have."""
    for name, table in document.items():
        if name not in SECTIONS:
            known = [*SECTIONS, "models"]
            raise ConfigError(f"{where}: unknown section `$.{name}`{_nearest(name, known)}")
        if not isinstance(table, dict):
            raise ConfigError(f"{where}: `$.{name}` must be a table, as in [{name}]")
        for setting in table:
            if setting not in SECTIONS[name].__struct_fields__:
                nearest = _nearest(setting, SECTIONS[name].__struct_fields__)
                raise ConfigError(f"{where}: unknown setting `$.{name}.{setting}`{nearest}")
    return {name: dict(document.get(name, {})) for name in SECTIONS}


def _refuse_unknown_variables(environ: Mapping[str, str]) -> None:
    known = [variable for variable, _, _, _ in _variables()]
    known += [short.env for short in SHORT_VARIABLES]
    foreign = _service_links(environ)
    for variable in sorted(environ):
        if variable.startswith("ROXY_") and variable not in known and variable not in foreign:
            raise ConfigError(f"unknown environment variable {variable}{_nearest(variable, known)}")
    for variable, reason in NOT_YET.items():
        if environ.get(variable):
            raise ConfigError(f"{variable} cannot be used: {reason}; unset it")


def _service_links(environ: Mapping[str, str]) -> frozenset[str]:
    """Name the variables by which Kubernetes tells every container of a Service named `roxy`.

    They come together, and ROXY_PORT is a URL then: nobody's misspelt ROXY_SERVER_PORT. Source:
    https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
    """
    if not SERVICE_LINK_URL.fullmatch(environ.get("ROXY_PORT", "")):
        return frozenset()
    return frozenset(name for name in environ if SERVICE_LINK_NAME.fullmatch(name))


def _variables() -> Iterator[tuple[str, str, str, Any]]:
    """List variable, section, setting and type of every setting."""
    for section, struct in SECTIONS.items():
        for field in msgspec.structs.fields(struct):
            yield variable_of(section, field.name), section, field.name, field.type


def _lay_environment(tables: Tables, environ: Mapping[str, str]) -> None:
    for variable, section, name, wanted in _variables():
        if text := environ.get(variable):
            tables[section][name] = _from_text(variable, text, wanted)
    if data_dir := environ.get("ROXY_DATA_DIR"):
        if environ.get("ROXY_SERVER_DATA_DIR", data_dir) != data_dir:
            raise ConfigError("ROXY_DATA_DIR and ROXY_SERVER_DATA_DIR differ; set one of them")
        tables["server"]["data_dir"] = data_dir


def _from_text(variable: str, text: str, wanted: Any) -> Any:
    """Read a variable as its setting's type: lists by commas, booleans as true, false, 1 or 0."""
    value: Any = text.strip()
    if get_origin(getattr(wanted, "__origin__", wanted)) is tuple:
        value = [part.strip() for part in text.split(",") if part.strip()]
    return _checked(variable, value, wanted, strict=False)


def _checked(label: str, value: Any, wanted: Any, *, strict: bool) -> Any:
    try:
        return msgspec.convert(value, wanted, strict=strict)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{label}: {error}") from error


def _lay_flags(tables: Tables, overrides: Mapping[str, Any]) -> bool | None:
    """Put the command line's values on top; gives `demo`, which is no setting of the file."""
    types = {(section, name): wanted for _, section, name, wanted in _variables()}
    for name, value in overrides.items():
        if value is None or name == "demo":
            continue
        section, _, setting = name.rpartition(".")
        place = (section or "server", setting)
        if place not in types:
            raise ConfigError(f"unknown option {name!r}")
        plain = str(value) if isinstance(value, Path) else value
        flag = f"--{name.replace('_', '-')}"
        tables[place[0]][setting] = _checked(flag, plain, types[place], strict=True)
    demo = overrides.get("demo")
    return None if demo is None else bool(demo)


def _section(name: str, table: dict[str, Any], where: str) -> Any:
    for setting, value in table.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"the setting {name}.{setting} must be a finite number")
    try:
        return msgspec.convert(table, SECTIONS[name])
    except msgspec.ValidationError as error:
        message = str(error).replace("`$", f"`$.{name}", 1)
        raise ConfigError(f"{where or 'the configuration'}: {message}") from error


def _models(entries: Any, where: str, environ: Mapping[str, str]) -> tuple[ModelEntry, ...]:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f"{where}: `$.models` must be written as [[models]] tables")
    try:
        models = parse_entries(entries)
        load_catalog(models, environ, formats=TRANSLATORS)
    except CatalogError as error:
        raise ConfigError(f"{where}: {error}" if where else str(error)) from error
    return models


def _owner_key(environ: Mapping[str, str]) -> str:
    key = environ.get("ROXY_ADMIN_API_KEY")
    if key is None:
        return ""
    if len(key) < MIN_OWNER_KEY_LENGTH:
        raise ConfigError(
            f"ROXY_ADMIN_API_KEY must have at least {MIN_OWNER_KEY_LENGTH} characters, it has "
            f"{len(key)}; unset it to have a good one made and printed once"
        )
    letters = "".join(filter(str.isalnum, key.lower()))
    if len(set(key)) < MIN_OWNER_KEY_LETTERS or any(word in letters for word in PLACEHOLDERS):
        raise ConfigError(
            "ROXY_ADMIN_API_KEY is easily guessed; unset it to have a good one made and printed"
            " once"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(
            "ROXY_ADMIN_API_KEY must be ASCII without spaces or line breaks: "
            "clients send it in a header"
        )
    return key


def _checked_whole(config: Config) -> Config:
    """Check what no single field can say; gives the same with a tidy base_url."""
    server = config.server
    if server.processes != 1:
        raise ConfigError("server.processes must be 1: this version serves from one process")
    if bool(server.tls_cert) != bool(server.tls_key):
        raise ConfigError("server.tls_cert and server.tls_key belong together; set both or none")
    if server.max_bodies_bytes < server.max_body_bytes:
        raise ConfigError("server.max_bodies_bytes must be at least server.max_body_bytes")
    for network in server.trusted_proxies:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise ConfigError(f"server.trusted_proxies: {error}") from error
    _check_guest_models(config)
    if not server.base_url:
        return config
    try:
        base_url = checked_base_url(server.base_url)
    except ValueError as error:
        raise ConfigError(f"server.base_url: {error}") from error
    return replace(config, server=replace(server, base_url=base_url))


def _check_guest_models(config: Config) -> None:
    known = [entry.id for entry in merged_entries(config.models)]
    for model in config.guests.models:
        if model not in known:
            raise ConfigError(f"guests.models: unknown model {model!r}{_nearest(model, known)}")


def _nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
