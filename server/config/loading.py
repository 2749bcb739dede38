"""Resolve the configuration once: defaults < `roxy.toml` < environment < command line.

The only module that reads the environment. Every fault raises ConfigError with one line that names
the file and path, the variable or the flag, and never repeats a secret. Unknown names are faults
too, because a misspelt limit would silently be no limit. An empty variable counts as not set,
except ROXY_ADMIN_API_KEY.
"""

from __future__ import annotations

import difflib
import functools
import ipaddress
import math
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec.structs import replace

from server.config.owner_key import find_fault
from server.config.redis_address import parse_redis_url
from server.config.settings import SECTIONS, Config
from server.config.settings_table import (
    CLIENT_VARIABLE,
    OWNER_KEY_VARIABLE,
    SHORT_VARIABLES,
    variable_of,
)
from server.config.store_urls import find_url_fault
from server.config.web_settings import find_web_fault
from workers.base_url import checked_base_url, checked_origin
from workers.catalog.catalog_file import load_catalog, merged_entries, parse_entries
from workers.catalog.entries import CatalogError, ModelEntry
from workers.providers.formats import TRANSLATORS
from workers.type_words import requirement, split_fault

__all__ = ["Config", "ConfigError", "environment", "load_config"]

DEFAULT_PATH = Path("roxy.toml")
SERVICE_LINK_NAME = re.compile(
    r"ROXY_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)"
    r"|ROXY_PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?"
)
SERVICE_LINK_URL = re.compile(r"(tcp|udp|sctp)://\S+:[0-9]+")

DATABASE_SCHEMES = ("postgresql", "postgres")

Tables = dict[str, dict[str, Any]]


class ConfigError(Exception):
    """The configuration cannot be used; the message is one line that says what to change."""


def environment() -> Mapping[str, str]:
    """Return the environment of the process."""
    return os.environ


def load_config(
    overrides: Mapping[str, Any], environ: Mapping[str, str], path: Path | str | None = None
) -> Config:
    """Resolve all sources into one frozen Config. Raises ConfigError.

    `overrides` come from the command line: names of `server` settings (`port`), any setting by its
    path (`guests.enabled`), or `demo`; None means not given. `path` is that of `--config`; the
    default is ROXY_CONFIG, else `./roxy.toml` if it exists.
    """
    _refuse_unknown_variables(environ)
    chosen = _config_path(environ, path)
    document = _read(chosen) if chosen else {}
    where = str(chosen) if chosen else ""
    models = document.pop("models", [])
    tables = _tables(document, where)
    _apply_environment(tables, environ)
    demo = _apply_options(tables, overrides)
    if demo is None:
        demo = bool(_from_text("ROXY_DEMO", environ.get("ROXY_DEMO") or "false", bool))
    sections = {name: _section(name, table, where) for name, table in tables.items()}
    config = Config(
        **sections,
        models=_models(models, where, environ),
        demo=demo,
        admin_api_key=_owner_key(environ),
        redis_url=_redis_url(environ),
        database_url=_store_url(environ, "ROXY_DATABASE_URL", DATABASE_SCHEMES),
        path=where,
    )
    return _checked_whole(config)


def _config_path(environ: Mapping[str, str], path: Path | str | None) -> Path | None:
    named = path or environ.get("ROXY_CONFIG")
    if named:
        return Path(named)
    # Also a directory or a broken link of this name: it is meant to be the configuration.
    return DEFAULT_PATH if os.path.lexists(DEFAULT_PATH) else None


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {_why_unreadable(path, error)}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def _why_unreadable(path: Path, error: OSError) -> str:
    """Return why a file cannot be read, and what may have made it so."""
    if path.is_dir():
        return (
            "it is a directory. Docker makes one when the file of a bind mount does not exist:"
            " remove the directory, create the file and start again"
        )
    if path.is_symlink() and not path.exists():
        return f"it is a link to {path.readlink()}, which does not exist"
    return error.strerror or str(error)


def _tables(document: dict[str, Any], where: str) -> Tables:
    """Return the tables of all sections, empty ones for those that the file does not have."""
    for name, table in document.items():
        if name not in SECTIONS:
            known = [*SECTIONS, "models"]
            raise ConfigError(f"{where}: unknown section `{name}`{_nearest(name, known)}")
        if not isinstance(table, dict):
            raise ConfigError(f"{where}: `{name}` must be a table, as in [{name}]")
        for setting in table:
            if setting not in SECTIONS[name].__struct_fields__:
                nearest = _nearest(setting, SECTIONS[name].__struct_fields__)
                raise ConfigError(f"{where}: unknown setting `{name}.{setting}`{nearest}")
    return {name: dict(document.get(name, {})) for name in SECTIONS}


def _refuse_unknown_variables(environ: Mapping[str, str]) -> None:
    known = [variable for variable, _, _, _ in _variables()]
    known += [short.env for short in SHORT_VARIABLES]
    foreign = _service_links(environ) | {CLIENT_VARIABLE}
    # Who renames a key of a user to this one makes it the owner key.
    offered = [variable for variable in known if variable != OWNER_KEY_VARIABLE]
    for variable in sorted(environ):
        if variable.startswith("ROXY_") and variable not in known and variable not in foreign:
            nearest = _nearest(variable, offered)
            raise ConfigError(f"unknown environment variable {variable}{nearest}")


def _service_links(environ: Mapping[str, str]) -> frozenset[str]:
    """Return the variables that Kubernetes sets in every container for a Service named `roxy`.

    ROXY_PORT is then a URL, and no misspelt ROXY_SERVER_PORT. Source:
    https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
    """
    if not SERVICE_LINK_URL.fullmatch(environ.get("ROXY_PORT", "")):
        return frozenset()
    return frozenset(name for name in environ if SERVICE_LINK_NAME.fullmatch(name))


@functools.cache
def _variables() -> Sequence[tuple[str, str, str, Any]]:
    """List the variable, section, name and type of every setting."""
    # Cached: msgspec evaluates the annotations of a class in each call of `fields`.
    return [
        (variable_of(section, field.name), section, field.name, field.type)
        for section, struct in SECTIONS.items()
        for field in msgspec.structs.fields(struct)
    ]


def _apply_environment(tables: Tables, environ: Mapping[str, str]) -> None:
    for variable, section, name, wanted in _variables():
        if text := environ.get(variable):
            tables[section][name] = _from_text(variable, text, wanted)
    if data_dir := environ.get("ROXY_DATA_DIR"):
        if environ.get("ROXY_SERVER_DATA_DIR", data_dir) != data_dir:
            raise ConfigError("ROXY_DATA_DIR and ROXY_SERVER_DATA_DIR differ; set one of them")
        tables["server"]["data_dir"] = data_dir


def _from_text(variable: str, text: str, wanted: Any) -> Any:
    """Convert a variable to the type of its setting; lists are separated by commas, or JSON."""
    value: Any = text.strip()
    if value.startswith("["):
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            raise ConfigError(f"{variable} is not valid JSON: {error}") from error
    elif get_origin(getattr(wanted, "__origin__", wanted)) is tuple:
        value = [part.strip() for part in text.split(",") if part.strip()]
    # Not strict: msgspec then reads numbers from strings, and booleans from true, false, 1 and 0.
    return _checked(variable, value, wanted, strict=False)


def _checked(label: str, value: Any, wanted: Any, *, strict: bool) -> Any:
    try:
        return msgspec.convert(value, wanted, strict=strict)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{label} {_requirement(split_fault(error)[0], wanted)}") from error


def _requirement(what: str, wanted: Any) -> str:
    """Return the broken rule of a setting; for one of a few words it lists them."""
    if get_origin(wanted) is Annotated:
        wanted = wanted.__origin__
    if get_origin(wanted) is Literal:
        return f"must be one of: {', '.join(get_args(wanted))}"
    if any(get_origin(one) is Literal for one in get_args(wanted)):
        return f"must be {' or '.join(_kind(one) for one in reversed(get_args(wanted)))}"
    return requirement(what)


def _kind(wanted: Any) -> str:
    """Describe one of several types that a setting may have: words, or whole numbers in a range."""
    if get_origin(wanted) is Literal:
        return " or ".join(f"`{word}`" for word in get_args(wanted))
    (span,) = wanted.__metadata__
    return f"a whole number from {span.ge} to {span.le}"


def _apply_options(tables: Tables, overrides: Mapping[str, Any]) -> bool | None:
    """Apply the options of the command line; return `demo`, which is no setting of the file."""
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
        # TOML has `inf` and `nan` (TOML 1.0, Float); NaN passes every check of a range.
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"the setting {name}.{setting} must be a finite number")
    try:
        return msgspec.convert(table, SECTIONS[name])
    except msgspec.ValidationError as error:
        what, path = split_fault(error)
        setting = path.partition("[")[0]
        rule = _requirement(what, get_type_hints(SECTIONS[name], include_extras=True).get(setting))
        raise ConfigError(f"{where or 'the configuration'}: {name}.{path} {rule}") from error


def _models(entries: Any, where: str, environ: Mapping[str, str]) -> tuple[ModelEntry, ...]:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f"{where}: `models` must be written as [[models]] tables")
    try:
        models = parse_entries(entries)
        load_catalog(models, environ, formats=TRANSLATORS)
    except CatalogError as error:
        message = str(error).replace("`$.", "`")
        raise ConfigError(f"{where}: {message}" if where else message) from error
    return models


def _owner_key(environ: Mapping[str, str]) -> str:
    key = environ.get(OWNER_KEY_VARIABLE)
    if key is None:
        return ""
    if not key:
        raise ConfigError(f"{OWNER_KEY_VARIABLE} is set but empty: unset it or give it a key")
    if fault := find_fault(key):
        raise ConfigError(f"{OWNER_KEY_VARIABLE} {fault}")
    return key


def _redis_url(environ: Mapping[str, str]) -> str:
    url = environ.get("ROXY_REDIS_URL", "").strip()
    try:
        if url:
            parse_redis_url(url)
    except ValueError as error:
        raise ConfigError(f"ROXY_REDIS_URL {error}") from error
    return url


def _store_url(environ: Mapping[str, str], variable: str, schemes: Sequence[str]) -> str:
    url = environ.get(variable, "")
    if url and (fault := find_url_fault(url, schemes)):
        raise ConfigError(f"{variable} {fault}")
    return url


def _checked_whole(config: Config) -> Config:
    """Check settings that depend on each other; return the config with a normal base_url."""
    server = config.server
    if bool(server.tls_cert) != bool(server.tls_key):
        raise ConfigError("server.tls_cert and server.tls_key must be set together, or neither")
    if server.max_bodies_bytes < server.max_body_bytes:
        raise ConfigError("server.max_bodies_bytes must be at least server.max_body_bytes")
    for network in server.trusted_proxies:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise ConfigError(f"server.trusted_proxies: {error}") from error
    for origin in server.allowed_origins:
        try:
            checked_origin(origin)
        except ValueError as error:
            raise ConfigError(f"server.allowed_origins: {error}") from error
    _check_models(config)
    if fault := find_web_fault(config.web):
        raise ConfigError(f"web.{fault}")
    if not server.base_url:
        return config
    try:
        base_url = checked_base_url(server.base_url)
    except ValueError as error:
        raise ConfigError(f"server.base_url: {error}") from error
    return replace(config, server=replace(server, base_url=base_url))


def _check_models(config: Config) -> None:
    known = [entry.id for entry in merged_entries(config.models)]
    named = [("guests.models", model) for model in config.guests.models]
    if config.web.default_model:
        named.append(("web.default_model", config.web.default_model))
    for setting, model in named:
        if model not in known:
            where = f"{config.path}: " if config.path else ""
            hint = _nearest(model, known) or f"; the models are {', '.join(known)}"
            raise ConfigError(f"{where}{setting}: unknown model {model!r}{hint}")


def _nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
