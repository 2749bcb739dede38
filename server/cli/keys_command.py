"""`roxy keys`: list, show, create, rotate and revoke keys, invite their holders, export, import.

Where a gateway runs, the commands use its API; otherwise they open the database
(`server/cli/key_administration.py`). Only an import creates a database where there is none: a key
that `create` put into a mistyped directory would be of no use.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Mapping
from itertools import chain, islice
from pathlib import Path
from shutil import copyfileobj
from typing import Any

from server.cli.key_administration import (
    CommandFailure,
    KeyAdministration,
    open_administration,
    open_keys,
)
from server.cli.key_tables import minute_of, print_invitations, print_key, print_keys
from server.cli.keys_options import LIMIT_OPTIONS, OPTIONS
from server.config.loading import Config
from server.keys.export import encode_in_steps
from server.keys.export_file import iterate_export
from server.store.data_directory import DataDirectory, DirectoryTaken
from server.store.private_file import replacing
from workers.errors import NotFound
from workers.money import to_microusd
from workers.units import DAY_S

INVITATION_PREFIX = "inv_"
KEY_PREFIX = "key_"


async def keys_command(
    config: Config, environ: Mapping[str, str], options: argparse.Namespace
) -> None:
    """Run one of the commands and print its result. Raises CommandFailure and StoreFailure."""
    if options.keys == "export" and options.file is not None and options.file.exists():
        raise CommandFailure(f"{options.file} exists already: name another file, or remove it.")
    if options.keys == "export" and config.database_url:
        await _export_shared(config, options.file)
    elif options.keys == "export":
        _export(config, options.file)
    elif options.keys == "import":
        await _import(config, options.file)
    else:
        async with open_administration(config, environ) as keys:
            try:
                await _administer(keys, config, options)
            except CommandFailure as error:
                named = await _named(keys, error, options)
                raise CommandFailure(named or _advise(error, options)) from error


async def _administer(keys: KeyAdministration, config: Config, options: argparse.Namespace) -> None:
    if options.keys == "list":
        await print_keys(keys.list(), wide=options.wide, as_json=options.json)
    elif options.keys == "show":
        print_key(await _find_one(keys, options.id), as_json=options.json)
    elif options.keys == "create":
        body = _new_key_body(options)
        same = await _with_name(keys, body["name"])
        key = await keys.create(body)
        if same:
            print(
                f"Note: {', '.join(one['id'] for one in same)} has the same name.", file=sys.stderr
            )
        # Only the secret goes to standard output, so that KEY=$(roxy keys create NAME) holds it.
        print(f"{key['id']}  {key['name']}", file=sys.stderr)
        print("The secret, shown only once:", file=sys.stderr)
        print(key["key"])
    elif options.keys == "invite":
        await _invite(keys, config, options)
    elif options.keys == "invitations":
        print_invitations(await keys.invitations())
    elif options.keys == "revoke" and options.id.startswith(INVITATION_PREFIX):
        ended = await keys.end_invitation(options.id)
        holder = ended["key_name"] or ended["key_id"]
        print(f"{ended['id']} (for {holder}) is {ended['status']}.")
    elif options.keys == "revoke":
        key = await keys.revoke(options.id)
        print(f"{key['id']} ({key['name']}) is revoked.")
    else:
        key = await keys.rotate(await _find_id(keys, options.id), options.grace_s)
        print("The new secret, shown only once:", file=sys.stderr)
        print(key["key"])


async def _invite(keys: KeyAdministration, config: Config, options: argparse.Namespace) -> None:
    """Print the link alone on standard output, so that LINK=$(roxy keys invite ID) holds it."""
    made = await keys.invite(
        {
            "key_id": await _find_id(keys, options.id),
            "expires_in_s": options.expires_in_days * DAY_S,
            "gives_key": options.gives_key,
        }
    )
    until = minute_of(made["expires_at"], "")
    print(f"{made['id']}  for {made['key_name']}, works once, until {until}", file=sys.stderr)
    print("The link, shown only once:", file=sys.stderr)
    print(made["url"])
    if not config.server.base_url:
        print(
            "The link begins with an address of this machine. For links that work elsewhere, set"
            " server.base_url in roxy.toml.",
            file=sys.stderr,
        )


async def _find_one(keys: KeyAdministration, text: str) -> dict[str, Any]:
    """Return the key with this id, or the only one with this name. Raises CommandFailure."""
    if not text.startswith(KEY_PREFIX):
        same = await _with_name(keys, text) or await _with_name(keys, text, revoked=True)
        if len(same) == 1:
            return same[0]
    return await keys.get(text)


async def _find_id(keys: KeyAdministration, text: str) -> str:
    """Return the id of the only key with this name, after naming it; else the text itself."""
    same = [] if text.startswith(KEY_PREFIX) else await _with_name(keys, text)
    if len(same) != 1:
        return text
    print(f"{same[0]['id']}  {same[0]['name']}", file=sys.stderr)
    return str(same[0]["id"])


async def _with_name(
    keys: KeyAdministration, name: str, *, revoked: bool = False
) -> list[dict[str, Any]]:
    """Return the keys with this name, either those that are revoked or the others."""
    same = [key for key in await keys.find(name) if key["name"] == name]
    return [key for key in same if (key["status"] == "revoked") == revoked]


async def _named(
    keys: KeyAdministration, error: CommandFailure, options: argparse.Namespace
) -> str:
    """Return which ids match when a name was given in place of an id, or ""."""
    if error.code != NotFound.code or "id" not in options:
        return ""
    found = await keys.find(options.id)
    if not found:
        return ""
    ids = ", ".join(f"{key['id']} ({key['name']})" for key in found)
    return f"{options.id!r} is not the id of a key. Use an id; these keys match: {ids}"


def _advise(error: CommandFailure, options: argparse.Namespace) -> str:
    """Return what to do at a shell prompt, by the error's `code` and `param`."""
    if error.code == NotFound.code and "id" in options:
        if options.id.startswith(INVITATION_PREFIX) and options.keys == "revoke":
            return f"There is no invitation {options.id!r}: `roxy keys invitations` lists them."
        return f"There is no key {options.id!r}: `roxy keys list` shows all keys."
    param = error.param or ""
    if one_model := re.fullmatch(r"models\[(\d+)\]", param):
        model = options.models[int(one_model[1])]
        return f"There is no model {model!r}: `roxy check --offline` lists the models."
    return f"{OPTIONS[param]}: {error}" if param in OPTIONS else str(error)


async def _import(config: Config, file: Path) -> None:
    found = iterate_export(file)
    first = list(islice(found, 1))  # before a database is created for a file that is no export
    try:
        async with open_keys(config, may_create=True) as keys:
            imported = await keys.import_keys(chain(first, found))
    except DirectoryTaken as error:
        raise CommandFailure(
            f"{error.holder} is running with {config.server.data_dir}: stop it before an import."
        ) from error
    print(f"Keys added: {imported.added}, already present: {imported.kept}.")


def _export(config: Config, file: Path | None) -> None:
    """Copy the export that the gateway keeps up to date; hashes only, so no owner key is needed."""
    directory = DataDirectory(Path(config.server.data_dir))
    directory.check_used()
    path = directory.export
    try:
        source = path.open("rb")
    except FileNotFoundError as error:
        raise CommandFailure(
            f"{path} is missing: `roxy keys list` writes it again from the database."
        ) from error
    except OSError as error:
        raise CommandFailure(
            f"{path} cannot be read ({error.strerror}): give this user read access to it."
        ) from error
    with source:
        if file is None:
            copyfileobj(source, sys.stdout.buffer)
            return
        try:
            with replacing(file) as copy:
                copyfileobj(source, copy)
        except OSError as error:
            raise CommandFailure(f"{file} cannot be written ({error.strerror}).") from error
        print(f"Copied {path} to {file}.")


async def _export_shared(config: Config, file: Path | None) -> None:
    """Write the keys of the database of ROXY_DATABASE_URL; hashes only."""
    async with open_keys(config) as keys:
        pieces = encode_in_steps(keys, int(time.time()))
        if file is None:
            async for piece in pieces:
                sys.stdout.buffer.write(piece)
            return
        try:
            with replacing(file) as copy:
                async for piece in pieces:
                    copy.write(piece)
        except OSError as error:
            raise CommandFailure(f"{file} cannot be written ({error.strerror}).") from error
        print(f"Wrote the keys of the shared database to {file}.")


def _new_key_body(options: argparse.Namespace) -> dict[str, Any]:
    stated = {name: getattr(options, name) for name in LIMIT_OPTIONS}
    limits: dict[str, Any] = {name: value for name, value in stated.items() if value is not None}
    if options.requests_per_minute == 0:  # 0 removes the default; other limits have none
        limits["requests_per_minute"] = None
    if options.budget_dollars is not None:
        limits["budget_microusd"] = to_microusd(options.budget_dollars)
        limits["budget_period"] = options.budget_period or "month"
    body: dict[str, Any] = {"name": options.name, "limits": limits}
    if options.note is not None:
        body["note"] = options.note
    if options.models is not None:
        body["models"] = options.models
    if options.expires_in_days is not None:
        body["expires_at"] = int(time.time() + options.expires_in_days * DAY_S)
    return body
