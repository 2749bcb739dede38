"""The commands of `roxy keys` and their options; `keys_command` runs them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from server.cli.option_types import (
    MAX_COUNT,
    dollars,
    model_ids,
    positive,
    requests_number,
    valid_text,
    whole_number,
)
from server.keys.key_requests import INVITATION_S, MAX_GRACE_S, MAX_INVITATION_S
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
KEY_ID = "id of the key, as shown by `roxy keys list`"
AS_JSON = "print JSON as the API sends it"


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

    _describe_list(add("list", "list all keys, without their secrets"))
    shown = add("show", "show one key with its limits, models and note, without its secret")
    shown.add_argument("id", help="id or name of the key")
    shown.add_argument("--json", action="store_true", help=AS_JSON)
    _describe_new_key(add("create", "create a key and print its secret once"))
    revoke = add("revoke", "revoke a key, or an invitation that was not used, permanently")
    revoke.add_argument(
        "id", help=f"{KEY_ID}, or of the invitation, as shown by `roxy keys invitations`"
    )
    _describe_rotation(add("rotate", "give a key a new secret"))
    _describe_invitation(add("invite", "make a link that signs a person in once, and print it"))
    add("invitations", "list the newest 1,000 invitations, without their links")
    export = add("export", "write all keys as JSON, with the hashes of their secrets")
    export.add_argument(
        "file", nargs="?", type=Path, help="file to write (default: standard output)"
    )
    imported = add("import", "add the keys of an export; the gateway must be stopped")
    imported.add_argument("file", type=Path, help="export file to read")
    return parser


def _describe_list(listed: argparse.ArgumentParser) -> None:
    listed.add_argument("--wide", action="store_true", help="also show limits, models and notes")
    listed.add_argument("--json", action="store_true", help=f"{AS_JSON}, one key per line")


def _describe_rotation(rotate: argparse.ArgumentParser) -> None:
    rotate.add_argument("id", help=KEY_ID)
    rotate.add_argument(
        "--grace-s",
        type=whole_number(0, MAX_GRACE_S),
        default=0,
        metavar="N",
        help="accept the old secret for another N seconds; its running requests end with it"
        " (default: 0)",
    )


def _describe_invitation(invite: argparse.ArgumentParser) -> None:
    invite.add_argument("id", help=KEY_ID)
    longest = MAX_INVITATION_S // DAY_S
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
    create.add_argument("name", type=valid_text, help="name of the key, 1 to 100 characters")
    create.add_argument(
        "--note",
        type=valid_text,
        metavar="TEXT",
        help="note about the key, which only the owner sees",
    )
    for name, what in LIMIT_OPTIONS.items():
        create.add_argument(
            f"--{name.replace('_', '-')}",
            type=requests_number if name == "requests_per_minute" else whole_number(1, MAX_COUNT),
            metavar="N",
            help=f"limit to N {what}; 0: no limit (default: keys.requests_per_minute of roxy.toml)"
            if name == "requests_per_minute"
            else f"limit to N {what} (default: no limit)",
        )
    create.add_argument(
        "--budget-dollars",
        type=dollars,
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
        "--models", type=model_ids, metavar="ID,ID", help="allow only these models (default: all)"
    )
    create.add_argument(
        "--expires-in-days",
        type=positive,
        metavar="N",
        help="let the key expire after N days (default: never)",
    )


def check_usage(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the process with the usage if an option lacks the one that it needs."""
    if getattr(options, "budget_period", None) and options.budget_dollars is None:
        parser.error("argument --budget-period: needs --budget-dollars")
