"""The command line: `roxy serve|check|keys|migrate|backup`.

Every failure is one line on standard error that says what to do, and exit code 1; wrong usage is 2.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from server.app import StartFailure, serve
from server.cli.check_command import check
from server.cli.keys_command import add_keys_commands, keys_command
from server.config.loading import Config, ConfigError, environment, load_config
from server.log import set_up_logging
from server.store.data_directory import DataDirectory
from server.store.sqlite_file import backup_database
from server.store.sqlite_store import SqliteStore
from server.store.store import StoreFailure
from server.version import version
from workers.errors import GatewayError

T = TypeVar("T")

EPILOG = """\
Settings come from built-in defaults, then roxy.toml, then ROXY_* variables, then options.
Secrets come from the environment only: ROXY_ADMIN_API_KEY for the owner key, and for upstreams
AI_GATEWAY_API_KEY, OPENROUTER_API_KEY, GEMINI_API_KEY, ANTHROPIC_API_KEY, ZAI_API_KEY and
GROQ_API_KEY.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; gives the process's exit code."""
    options = build_parser().parse_args(arguments)
    try:
        config = load_config(overrides(options), environment(), options.config)
        set_up_logging(config.log.level, config.log.format)
        code = int(options.run(config, options) or 0)
        sys.stdout.flush()
        return code
    except (ConfigError, StartFailure, StoreFailure, GatewayError) as error:
        print(f"roxy: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor fail at the exit
        return 0


def build_parser() -> argparse.ArgumentParser:
    """Describe every command and option."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="the configuration file (default: roxy.toml, if there)",
    )
    shared.add_argument(
        "--data-dir",
        metavar="DIR",
        help="where the database and the key export are (default: ./data)",
    )
    parser = argparse.ArgumentParser(
        prog="roxy",
        description="A self-hosted, OpenAI-compatible gateway for language models.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"roxy {version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_serve(commands, shared)
    command = commands.add_parser(
        "check",
        parents=[shared],
        help="show which models can be served, and why not",
        description="Show which models can be served, by what, and why not. Asks each upstream that"
        " is configured for its list of models, which costs nothing. Exit code 1: none can.",
    )
    command.add_argument(
        "--offline", action="store_true", help="do not ask the upstreams whether they answer"
    )
    command.set_defaults(run=run_check)
    add_keys_commands(commands, shared).set_defaults(run=run_keys)
    command = commands.add_parser(
        "migrate",
        parents=[shared],
        help="bring the database up to this version",
        description="Bring the database up to this version, as `roxy serve` does when it starts. A"
        " copy is put beside it first.",
    )
    command.set_defaults(run=run_migrate)
    command = commands.add_parser(
        "backup",
        parents=[shared],
        help="copy the database aside, even while in use",
        description="Copy the database into a new file, also while the gateway runs. To go back to"
        " it, stop the gateway and put the copy in the place of roxy.db.",
    )
    command.add_argument("file", type=Path, help="the copy to write; it must not exist yet")
    command.set_defaults(run=run_backup)
    return parser


def _add_serve(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "serve",
        parents=[shared],
        help="run the gateway",
        description="Run the gateway until SIGTERM or Ctrl-C.",
    )
    command.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    command.add_argument(
        "--port", type=int, help="port to listen on (default: 8080; 0: any free one)"
    )
    command.add_argument("--processes", type=int, help="serving processes (this version: 1)")
    command.add_argument("--tls-cert", metavar="FILE", help="PEM certificate chain: serve TLS")
    command.add_argument("--tls-key", metavar="FILE", help="PEM private key of the certificate")
    command.add_argument(
        "--demo",
        action="store_true",
        default=None,
        help="answer every model from a built-in script: all can be tried without an account",
    )
    command.set_defaults(run=run_serve)


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    """Pick the options that are settings."""
    names = ("host", "port", "data_dir", "processes", "tls_cert", "tls_key", "demo")
    return {name: getattr(options, name, None) for name in names}


def run_serve(config: Config, _options: argparse.Namespace) -> None:
    """Serve until asked to stop."""
    _raise_descriptor_limit()
    _run(serve(config, environment()))


def run_check(config: Config, options: argparse.Namespace) -> int:
    """Show what is configured; exit code 1 when nothing can be served."""
    return _run(check(config, environment(), reach=not options.offline))


def run_keys(config: Config, options: argparse.Namespace) -> None:
    """Manage keys, through the running gateway or directly when none runs."""
    _run(keys_command(config, environment(), options))


def run_migrate(config: Config, _options: argparse.Namespace) -> None:
    """Migrate the database; a copy is made first."""

    async def migrate() -> None:
        with DataDirectory(Path(config.server.data_dir)) as directory:
            async with SqliteStore(directory.database):
                print(f"{directory.database} is up to date.")

    _run(migrate())


def run_backup(config: Config, options: argparse.Namespace) -> None:
    """Copy the database with SQLite's online backup."""
    source = DataDirectory(Path(config.server.data_dir)).database
    backup_database(source, options.file)
    print(f"{options.file} holds a copy of {source}.")


def _run(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _raise_descriptor_limit() -> None:
    """Allow as many connections as the system lets us; every stream takes two descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 1 << 16)), hard))
