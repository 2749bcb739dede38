"""`roxy keys`: list, show, create, rotate and revoke keys, invite their holders, export, import.

Where a gateway runs, the commands use its API; otherwise they open the database
(`server/cli/key_administration.py`). Only an import creates a database where there is none: a key
that `create` put into a mistyped directory would be of no use.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import time
from collections.abc import Callable, Mapping
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
from server.config.loading import Config
from server.keys.export import encode_in_steps
from server.keys.export_file import iterate_export
from server.keys.key_requests import INVITATION_S, LONGEST_GRACE_S, LONGEST_INVITATION_S
from server.store.data_directory import DataDirectory, DirectoryTaken
from server.store.private_file import replacing
from workers.errors import NotFound
from workers.money import to_microusd
from workers.units import DAY_S

LIMIT_OPTIONS = {
    "requests_per_minute": "requests per minute",
    "tokens_per_minute": "tokens per minute",
    "concurrent_requests": "concurrent requests",
}
OPTIONS = {
    "models": "--models",
    "note": "--note",
    "grace_s": "--grace-s",
    "expires_at": "--expires-in-days",
    "limits.budget_microusd": "--budget-dollars",
} | {f"limits.{name}": f"--{name.replace('_', '-')}" for name in LIMIT_OPTIONS}
"""The options that set the fields of the API, which its errors name as `param`."""
INVITATION_PREFIX = "inv_"
KEY_PREFIX = "key_"
AS_JSON = "print JSON as the API sends it"
MOST = 1_000_000
"""Largest number of dollars or days: larger ones are typing mistakes."""


def add_keys_commands(commands: Any, shared: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add `roxy keys` and its commands to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "keys",
        help="list, show, create, rotate and revoke API keys, invite their holders, export and"
        " import",
        description="Manage API keys. While a gateway is running with the data directory, the"
        " commands go through its API and take effect at once. Otherwise they open the database in"
        " the data directory, which `roxy serve`, `roxy migrate` or `roxy keys import` must have"
        " created.",
    )
    inner = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="keys")

    def add(name: str, does: str) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = inner.add_parser(
            name, parents=[shared], help=does, description=f"{does[0].upper()}{does[1:]}."
        )
        return command

    listed = add("list", "list all keys, without their secrets")
    listed.add_argument("--wide", action="store_true", help="also show limits, models and notes")
    listed.add_argument("--json", action="store_true", help=f"{AS_JSON}, one key per line")
    shown = add("show", "show one key with its limits, models and note, without its secret")
    shown.add_argument("id", help="id or name of the key")
    shown.add_argument("--json", action="store_true", help=AS_JSON)
    _describe_new_key(add("create", "create a key and print its secret once"))
    revoke = add("revoke", "revoke a key, or an invitation that was not used, permanently")
    revoke.add_argument(
        "id",
        help="id of the key, as shown by `roxy keys list`, or of the invitation, as shown by"
        " `roxy keys invitations`",
    )
    rotate = add("rotate", "give a key a new secret")
    rotate.add_argument("id", help="id of the key, as shown by `roxy keys list`")
    rotate.add_argument(
        "--grace-s",
        type=whole_number(0, LONGEST_GRACE_S),
        default=0,
        metavar="N",
        help="accept the old secret for another N seconds; its running requests end with it"
        " (default: 0)",
    )
    _describe_invitation(add("invite", "make a link that signs a person in once, and print it"))
    add("invitations", "list the newest 1,000 invitations, without their links")
    export = add("export", "write all keys as JSON, with the hashes of their secrets")
    export.add_argument(
        "file", nargs="?", type=Path, help="file to write (default: standard output)"
    )
    imported = add("import", "add the keys of an export; the gateway must be stopped")
    imported.add_argument("file", type=Path, help="export file to read")
    return parser


def _describe_invitation(invite: argparse.ArgumentParser) -> None:
    invite.add_argument("id", help="id of the key, as shown by `roxy keys list`")
    longest = LONGEST_INVITATION_S // DAY_S
    invite.add_argument(
        "--expires-in-days",
        type=whole_number(1, longest),
        default=INVITATION_S // DAY_S,
        metavar="N",
        help=f"let the link work for N days, at most {longest} (default: %(default)s)",
    )
    invite.add_argument(
        "--gives-key",
        action="store_true",
        help="show the person a new secret of the key, for apps; the current secret ends when the"
        " link is used",
    )


def _describe_new_key(create: argparse.ArgumentParser) -> None:
    create.add_argument("name", type=_text, help="name of the key, 1 to 100 characters")
    create.add_argument(
        "--note", type=_text, metavar="TEXT", help="note about the key, which only the owner sees"
    )
    for name, what in LIMIT_OPTIONS.items():
        create.add_argument(
            f"--{name.replace('_', '-')}",
            type=_requests if name == "requests_per_minute" else whole_number(1, MOST_COUNT),
            metavar="N",
            help=f"limit to N {what}; 0: no limit (default: keys.requests_per_minute of roxy.toml)"
            if name == "requests_per_minute"
            else f"limit to N {what} (default: no limit)",
        )
    create.add_argument(
        "--budget-dollars",
        type=_dollars,
        metavar="D",
        help="limit the cost to D dollars per budget period (default: no limit)",
    )
    create.add_argument(
        "--budget-period",
        choices=("day", "week", "month", "total"),
        help="period after which the budget starts again, in UTC (default: month); needs"
        " --budget-dollars",
    )
    create.add_argument(
        "--models", type=_model_ids, metavar="ID,ID", help="allow only these models (default: all)"
    )
    create.add_argument(
        "--expires-in-days",
        type=_positive,
        metavar="N",
        help="let the key expire after N days (default: never)",
    )


def check_usage(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the process with the usage if an option lacks the one that it needs."""
    if getattr(options, "budget_period", None) and options.budget_dollars is None:
        parser.error("argument --budget-period: needs --budget-dollars")


def whole_number(least: int, most: int, words: str = "") -> Callable[[str], int]:
    """Return the type of an option that takes a whole number from `least` to `most`."""
    rule = words or f"must be a whole number from {least} to {most}"

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,20}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(rule)
        return int(text)

    return read


MOST_COUNT = 1_000_000_000_000
_requests = whole_number(0, MOST_COUNT, "must be a whole number, 0 or more (0: no limit)")


def _dollars(text: str) -> float:
    dollars = _positive(text)
    if dollars < 0.000001:  # money is counted in micro-dollars, and a part of one is rounded up
        raise argparse.ArgumentTypeError("must be at least 0.000001, one micro-dollar")
    return dollars


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and 0 < number <= MOST):
        raise argparse.ArgumentTypeError(f"must be a number greater than 0 and at most {MOST}")
    return number


def _text(argument: str) -> str:
    try:
        argument.encode()
    # Python decodes invalid bytes in arguments to lone surrogates (PEP 383).
    except UnicodeEncodeError as error:
        raise argparse.ArgumentTypeError("must be valid UTF-8") from error
    return argument


def _model_ids(text: str) -> list[str]:
    ids = [part.strip() for part in _text(text).split(",") if part.strip()]
    if not ids:
        raise argparse.ArgumentTypeError("needs at least one model id")
    return ids


async def keys_command(
    config: Config, environ: Mapping[str, str], options: argparse.Namespace
) -> None:
    """Run one of the commands and print its result. Raises CommandFailure and StoreFailure."""
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
        key = await keys.create(_new_key_body(options))
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
        key = await keys.rotate(options.id, options.grace_s)
        print("The new secret, shown only once:", file=sys.stderr)
        print(key["key"])


async def _invite(keys: KeyAdministration, config: Config, options: argparse.Namespace) -> None:
    """Print the link alone on standard output, so that LINK=$(roxy keys invite ID) holds it."""
    made = await keys.invite(
        {
            "key_id": options.id,
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
        same = [key for key in await keys.find(text) if key["name"] == text]
        if len(same) == 1:
            return same[0]
    return await keys.get(text)


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
