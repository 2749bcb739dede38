"""`roxy keys`: list, create, revoke, rotate, export and import keys.

While a gateway runs, it owns the data directory, so the commands go through its API (with the owner
key from ROXY_ADMIN_API_KEY) and take effect at once. When none runs they work on the database. Only
an import makes a database where there is none: a key in a mistyped directory would open nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import msgspec
from tornado.httpclient import AsyncHTTPClient, HTTPClientError

from server.config.loading import Config
from server.keys.export import KeyExport, read_export
from server.keys.key_requests import default_limits, parse_new_key, parse_rotation
from server.keys.key_ring import KeyRing
from server.shapes.key_object import KeyObject, key_object, key_with_secret
from server.store.data_directory import DataDirectory, DirectoryTaken
from server.store.private_file import write_private
from server.store.sqlite_store import SqliteStore
from server.store.store import StoreFailure
from workers.catalog.catalog_file import load_catalog
from workers.errors import NotFound
from workers.money import to_microusd
from workers.providers.formats import TRANSLATORS

LIMIT_OPTIONS = {
    "requests_per_minute": "requests a minute",
    "tokens_per_minute": "tokens a minute",
    "concurrent_requests": "requests at the same time",
}
IN_THE_SHELL = {
    "GET /api/v1/keys lists the keys.": "`roxy keys list` shows the keys.",
    "GET /api/v1/models lists what there is.": "`roxy check --offline` lists what there is.",
}
"""What the API advises, and what that is on the command line."""

MOST = 1_000_000
"""More dollars or days than anybody means."""


class KeysOffice(Protocol):
    """Where keys are managed: the database, or a running gateway."""

    async def list(self) -> list[dict[str, Any]]:
        """Give every key."""

    async def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Make a key; the answer carries its secret."""

    async def revoke(self, key_id: str) -> dict[str, Any]:
        """End a key for good."""

    async def rotate(self, key_id: str, grace_s: int) -> dict[str, Any]:
        """Give a key a new secret."""


def add_keys_commands(commands: Any, shared: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Describe `roxy keys` and its commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "keys",
        help="list, create, revoke, rotate, export, import",
        description="Manage keys. While a gateway runs it does the work and the change holds at"
        " once; ROXY_ADMIN_API_KEY must then be its owner key. Otherwise the commands work on the"
        " database in the data directory, which `roxy serve` or `roxy keys import` has made.",
    )
    inner = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="keys")

    def add(name: str, does: str) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = inner.add_parser(
            name, parents=[shared], help=does, description=f"{does[0].upper()}{does[1:]}."
        )
        return command

    add("list", "show every key, never a secret")
    _describe_new_key(add("create", "make a key and show its secret once"))
    revoke = add("revoke", "end a key for good")
    revoke.add_argument("id", help="the key's id, as `roxy keys list` shows it")
    rotate = add("rotate", "give a key a new secret")
    rotate.add_argument("id", help="the key's id, as `roxy keys list` shows it")
    rotate.add_argument(
        "--grace-s",
        type=int,
        default=0,
        metavar="N",
        help="keep the old secret, and requests running with it, good for N seconds (default: 0)",
    )
    export = add("export", "write the readable export (hashes, no secrets)")
    export.add_argument("file", nargs="?", type=Path, help="where to (default: standard output)")
    imported = add("import", "add the keys of an export to the database of a stopped gateway")
    imported.add_argument("file", type=Path, help="the export to read")
    return parser


def _describe_new_key(create: argparse.ArgumentParser) -> None:
    create.add_argument("name", type=_text, help="what the key is for, 1 to 100 characters")
    for name, what in LIMIT_OPTIONS.items():
        create.add_argument(
            f"--{name.replace('_', '-')}",
            type=int,
            metavar="N",
            help=f"allow N {what}; 0: no limit (default: that of roxy.toml for new keys)"
            if name == "requests_per_minute"
            else f"allow N {what} (default: no limit)",
        )
    create.add_argument(
        "--budget-dollars",
        type=_positive,
        metavar="D",
        help="spend at most so much per --budget-period (default: no limit)",
    )
    create.add_argument(
        "--budget-period",
        choices=("day", "week", "month", "total"),
        default="month",
        help="when the budget begins anew, in UTC (default: month)",
    )
    create.add_argument(
        "--models", type=_text, metavar="ID,ID", help="allow these models only (default: all)"
    )
    create.add_argument(
        "--expires-in-days", type=_positive, metavar="N", help="end the key by itself after N days"
    )


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and 0 < number <= MOST):
        raise argparse.ArgumentTypeError(f"must be a number above 0 and at most {MOST}")
    return number


def _text(argument: str) -> str:
    try:
        argument.encode()
    except UnicodeEncodeError as error:  # bytes of the command line that are no text
        raise argparse.ArgumentTypeError("must be valid UTF-8") from error
    return argument


async def keys_command(
    config: Config, environ: Mapping[str, str], options: argparse.Namespace
) -> None:
    """Run one of the commands and print its result."""
    if options.keys == "export":
        _export(config, options.file)
        return
    if options.keys == "import":
        await _import(config, options.file)
        return
    async with _office(config, environ) as office:
        try:
            await _ask_office(office, options)
        except NotFound as error:
            raise StoreFailure(_for_the_shell(str(error))) from error


async def _ask_office(office: KeysOffice, options: argparse.Namespace) -> None:
    """Have one thing done and print what came of it."""
    if options.keys == "list":
        _print_table(await office.list())
    elif options.keys == "create":
        key = await office.create(_new_key_body(options))
        print(f"{key['id']}  {key['name']}", file=sys.stderr)
        print("The secret, shown this once:", file=sys.stderr)
        print(key["key"])
    elif options.keys == "revoke":
        key = await office.revoke(options.id)
        print(f"{key['id']} ({key['name']}) is revoked.")
    else:
        key = await office.rotate(options.id, options.grace_s)
        print("The new secret, shown this once:", file=sys.stderr)
        print(key["key"])


@contextlib.asynccontextmanager
async def _office(config: Config, environ: Mapping[str, str]) -> AsyncIterator[KeysOffice]:
    try:
        async with _local(config) as keys:
            yield _LocalOffice(keys, config)
    except DirectoryTaken as error:
        owner_key = environ.get("ROXY_ADMIN_API_KEY")
        if not error.url:  # no gateway: another command, or one that is just starting
            raise
        if not owner_key:
            raise StoreFailure(
                f"{error} To have that gateway do it, set ROXY_ADMIN_API_KEY to its owner key."
            ) from error
        yield _RemoteOffice(error.url, owner_key)


@contextlib.asynccontextmanager
async def _local(config: Config, *, may_create: bool = False) -> AsyncIterator[KeyRing]:
    """Open the database's keys; the export is rewritten after a change."""
    async with contextlib.AsyncExitStack() as stack:
        directory = DataDirectory(Path(config.server.data_dir))
        if not may_create:
            directory.check_used()
        stack.enter_context(directory)
        store = await stack.enter_async_context(SqliteStore(directory.database))
        keys = KeyRing(store)
        await keys.load()
        stack.push_async_callback(keys.aclose)
        await stack.enter_async_context(KeyExport(directory.export, keys))
        yield keys


class _LocalOffice:
    """Work on the database of a gateway that does not run."""

    def __init__(self, keys: KeyRing, config: Config) -> None:
        self._keys = keys
        self._config = config

    async def list(self) -> list[dict[str, Any]]:
        return [_shown(key_object(key)) for key in self._keys.list()]

    async def create(self, body: dict[str, Any]) -> dict[str, Any]:
        new = parse_new_key(
            msgspec.json.encode(body),
            defaults=default_limits(self._config.keys),
            catalog_models=load_catalog(self._config.models, {}, formats=TRANSLATORS).models,
        )
        key, secret = await self._keys.create(new)
        return _shown(key_with_secret(key, secret))

    async def revoke(self, key_id: str) -> dict[str, Any]:
        return _shown(key_object(await self._keys.revoke(key_id)))

    async def rotate(self, key_id: str, grace_s: int) -> dict[str, Any]:
        grace_s = parse_rotation(msgspec.json.encode({"grace_s": grace_s}))
        key, secret = await self._keys.rotate(key_id, grace_s)
        return _shown(key_with_secret(key, secret))


def _shown(key: KeyObject) -> dict[str, Any]:
    """Return a key as the API's JSON would be decoded."""
    shown: dict[str, Any] = msgspec.to_builtins(key)
    return shown


class _RemoteOffice:
    """Ask the running gateway's own API."""

    def __init__(self, url: str, owner_key: str) -> None:
        self._url = f"{url}/api/v1/keys"
        self._headers = {"Authorization": f"Bearer {owner_key}", "Content-Type": "application/json"}

    async def list(self) -> list[dict[str, Any]]:
        keys: list[dict[str, Any]] = (await self._ask("GET", ""))["data"]
        return keys

    async def create(self, body: dict[str, Any]) -> dict[str, Any]:
        return await self._ask("POST", "", body)

    async def revoke(self, key_id: str) -> dict[str, Any]:
        return await self._ask("DELETE", f"/{_part(key_id)}")

    async def rotate(self, key_id: str, grace_s: int) -> dict[str, Any]:
        return await self._ask("POST", f"/{_part(key_id)}/rotate", {"grace_s": grace_s})

    async def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        client = AsyncHTTPClient()
        try:
            answer = await client.fetch(
                self._url + path,
                method=method,
                headers=self._headers,
                body=msgspec.json.encode(body) if body is not None else None,
                follow_redirects=False,
                validate_cert=False,  # our own gateway by address; its certificate names a host
            )
        except HTTPClientError as error:
            raise StoreFailure(f"The running gateway refused: {_message(error)}") from error
        except OSError as error:
            raise StoreFailure(
                f"The running gateway does not answer at {self._url}: {error}"
            ) from error
        finally:
            client.close()
        decoded: dict[str, Any] = msgspec.json.decode(answer.body)
        return decoded


def _part(key_id: str) -> str:
    """Make any text one part of a path."""
    return quote(key_id, safe="", errors="surrogateescape")


def _for_the_shell(message: str) -> str:
    for of_the_api, here in IN_THE_SHELL.items():
        message = message.replace(of_the_api, here)
    return message


def _message(error: HTTPClientError) -> str:
    if error.code in (401, 403):
        return "ROXY_ADMIN_API_KEY is not its owner key."
    try:
        message: str = msgspec.json.decode(error.response.body)["error"]["message"]  # type: ignore[union-attr]
    except (AttributeError, KeyError, TypeError, msgspec.DecodeError):
        return str(error)
    return _for_the_shell(message)


async def _import(config: Config, file: Path) -> None:
    keys_to_add = read_export(file)
    try:
        async with _local(config, may_create=True) as keys:
            imported = await keys.import_keys(keys_to_add)
    except DirectoryTaken as error:
        raise StoreFailure(f"{error} An import needs it to be stopped.") from error
    print(f"{len(imported.added)} keys added, {len(imported.kept)} were there already.")


def _export(config: Config, file: Path | None) -> None:
    """Copy the export that the gateway keeps up to date."""
    directory = DataDirectory(Path(config.server.data_dir))
    directory.check_used()
    source = directory.export
    try:
        data = source.read_bytes()
    except FileNotFoundError as error:
        raise StoreFailure(
            f"{source} is missing: `roxy keys list` writes it anew from the database."
        ) from error
    except OSError as error:
        raise StoreFailure(
            f"{source} cannot be read ({error.strerror}): give this user read access to it."
        ) from error
    if file is None:
        print(data.decode(), end="")
        return
    try:
        write_private(file, data)
    except OSError as error:
        raise StoreFailure(f"{file} cannot be written ({error.strerror}).") from error


def _new_key_body(options: argparse.Namespace) -> dict[str, Any]:
    stated = {name: getattr(options, name) for name in LIMIT_OPTIONS}
    limits: dict[str, Any] = {name: value for name, value in stated.items() if value is not None}
    if options.requests_per_minute == 0:  # only this one has a default to be lifted
        limits["requests_per_minute"] = None
    if options.budget_dollars is not None:
        limits["budget_microusd"] = to_microusd(options.budget_dollars)
        limits["budget_period"] = options.budget_period
    body: dict[str, Any] = {"name": options.name, "limits": limits}
    if options.models is not None:
        body["models"] = [part.strip() for part in options.models.split(",") if part.strip()]
    if options.expires_in_days is not None:
        body["expires_at"] = int(time.time() + options.expires_in_days * 86_400)
    return body


def _print_table(keys: list[dict[str, Any]]) -> None:
    if not keys:
        print("There are no keys. `roxy keys create NAME` makes one.")
        return
    rows = [("ID", "NAME", "KEY", "STATUS", "LAST USED"), *(_table_row(key) for key in keys)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def _table_row(key: dict[str, Any]) -> tuple[str, ...]:
    used = key["last_used_at"]
    stamp = time.strftime("%Y-%m-%d %H:%MZ", time.gmtime(used)) if used else "never"
    return key["id"], key["name"], key["redacted"], key["status"], stamp
