"""The command line: `roxy serve|reload|check|keys|migrate|backup`.

A failure prints one line on standard error that says what to do, and the exit code is 1. Wrong
usage prints the usage, and the exit code is 2.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import textwrap
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from server.cli.check_command import check
from server.cli.key_administration import CommandFailure
from server.cli.keys_command import keys_command
from server.cli.keys_options import add_keys_commands, check_usage
from server.cli.option_types import whole_number
from server.cli.serve_command import serve
from server.cli.store_commands import backup, migrate
from server.config.loading import Config, ConfigError, environment, load_config
from server.http.listening import ListenFailure
from server.log import set_up_logging
from server.processes.child_process import ChildFailure
from server.processes.reloading import ReloadFailure, request_reload
from server.store.data_directory import DataDirectory
from server.store.patience import StorePatience
from server.store.store import StoreFailure
from server.version import version
from workers.catalog.catalog_file import load_catalog
from workers.errors import GatewayError
from workers.providers.formats import TRANSLATORS

T = TypeVar("T")

FAILURES = (
    ChildFailure,
    CommandFailure,
    ConfigError,
    GatewayError,
    ListenFailure,
    ReloadFailure,
    StoreFailure,
)
"""What ends a command with one line that says what to do."""
EPILOG_COLUMNS = 100


def main(arguments: list[str] | None = None, *, patience: StorePatience | None = None) -> int:
    """Run a command and return the exit code of the process.

    `patience` are the longest waits of the gateway for its stores.
    """
    parser = build_parser()
    parser.set_defaults(patience=patience)
    options = parser.parse_args(arguments)
    check_usage(parser, options)
    try:
        config = load_config(overrides(options), environment(), options.config)
        set_up_logging(config.log.level, config.log.format)
        code = int(options.run(config, options) or 0)
        sys.stdout.flush()
        return code
    except FAILURES as error:
        print(f"roxy: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe has ended, as `head` does
        # The interpreter flushes standard output once more at its exit and would fail there again
        # (Python documentation, signal, "Note on SIGPIPE").
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def epilog() -> str:
    """Return the end of the help, with the variables of the built-in catalog's secrets."""
    deployments = (one for model in load_catalog(formats=TRANSLATORS) for one in model.deployments)
    *names, last = dict.fromkeys(one.secret_env for one in deployments if one.secret_env)
    return textwrap.fill(
        "Options override ROXY_* environment variables, which override roxy.toml, which overrides"
        " the built-in defaults. Secrets are read from the environment only: ROXY_ADMIN_API_KEY for"
        f" the owner key; {', '.join(names)} and {last} for the upstreams.",
        EPILOG_COLUMNS,
        break_on_hyphens=False,
    )


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands and options."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="configuration file (default: roxy.toml, if it exists)",
    )
    shared.add_argument(
        "--data-dir",
        metavar="DIR",
        help="directory of the database and the key export (default: ./data)",
    )
    parser = argparse.ArgumentParser(
        prog="roxy",
        description="A self-hosted, OpenAI-compatible gateway for language models.",
        epilog=epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"roxy {version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_serve(commands, shared)
    command = commands.add_parser(
        "check",
        parents=[shared],
        help="show which models can be served, and why others cannot",
        description="Show which models can be served, by which deployments, and why others cannot."
        " Each configured upstream is asked for its list of models, which costs nothing. The exit"
        " code is 1 if no model can be served.",
    )
    command.add_argument("--offline", action="store_true", help="do not connect to the upstreams")
    command.add_argument(
        "--wide",
        action="store_true",
        help="also show the fields of deployments that differ from their defaults",
    )
    command.set_defaults(run=run_check)
    _add_reload(commands, shared)
    add_keys_commands(commands, shared).set_defaults(run=run_keys)
    _add_store_commands(commands, shared)
    return parser


def _add_store_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "migrate",
        parents=[shared],
        help="upgrade the database to this version",
        description="Upgrade the database to this version, as `roxy serve` does when it starts. A"
        " copy of roxy.db is kept beside it. With --from, copy a roxy.db into the empty PostgreSQL"
        " database of ROXY_DATABASE_URL: keys, usage, sessions and limits.",
    )
    command.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="the roxy.db to copy; its gateway must be stopped",
    )
    command.set_defaults(run=run_migrate)
    command = commands.add_parser(
        "backup",
        parents=[shared],
        help="copy the database, even while the gateway runs",
        description="Copy the database into a new file, even while the gateway runs. To restore the"
        " copy, stop the gateway, replace roxy.db with it and delete roxy.db-wal if there is one.",
    )
    command.add_argument("file", type=Path, help="file to write; it must not exist")
    command.set_defaults(run=run_backup)


def _add_serve(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "serve",
        parents=[shared],
        help="run the gateway",
        description="Run the gateway until SIGTERM or Ctrl-C.",
    )
    command.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    command.add_argument(
        "--port",
        type=whole_number(0, 65535),
        metavar="N",
        help="port to listen on (default: 8080; 0: any free port)",
    )
    command.add_argument(
        "--processes",
        type=_processes,
        metavar="N",
        help="number of serving processes (default: 1); auto: one per usable core",
    )
    command.add_argument("--tls-cert", metavar="FILE", help="PEM certificate chain; enables TLS")
    command.add_argument("--tls-key", metavar="FILE", help="PEM private key of the certificate")
    command.add_argument(
        "--demo",
        action="store_true",
        default=None,
        help="answer for models without an upstream from a built-in script, to try the gateway"
        " without an account",
    )
    command.set_defaults(run=run_serve)


def _add_reload(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "reload",
        parents=[shared],
        help="let the running gateway read its configuration again",
        description="Let the running gateway read its configuration again. Its serving processes"
        " are replaced one by one: no connection is refused and no answer is cut. It must run with"
        " --processes 2 or more. A configuration with a fault changes nothing.",
    )
    command.set_defaults(run=run_reload)


_processes_number = whole_number(1, 256, "must be `auto` or a whole number from 1 to 256")


def _processes(text: str) -> int | str:
    return text if text == "auto" else _processes_number(text)


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options that override settings."""
    names = ("host", "port", "data_dir", "processes", "tls_cert", "tls_key", "demo")
    return {name: getattr(options, name, None) for name in names}


def run_serve(config: Config, options: argparse.Namespace) -> None:
    """Run the gateway until SIGTERM or SIGINT."""

    def load() -> Config:
        return load_config(overrides(options), environment(), options.config)

    _run(serve(config, environment(), load, options.patience))


def run_reload(config: Config, _options: argparse.Namespace) -> None:
    """Ask the running gateway to read its configuration again, and wait until it has."""
    print(_run(request_reload(DataDirectory(Path(config.server.data_dir)))))


def run_check(config: Config, options: argparse.Namespace) -> int:
    """Show what is configured; return 1 when no model can be served, else 0."""
    return _run(check(config, environment(), reach=not options.offline, wide=options.wide))


def run_keys(config: Config, options: argparse.Namespace) -> None:
    """Manage keys, through the running gateway or else in the database."""
    _run(keys_command(config, environment(), options))


def run_migrate(config: Config, options: argparse.Namespace) -> None:
    """Migrate the database, or copy one into another."""
    _run(migrate(config, options))


def run_backup(config: Config, options: argparse.Namespace) -> None:
    """Copy the database."""
    backup(config, options)


def _run(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
