"""`roxy migrate` and `roxy backup`: the database, be it the file or that of ROXY_DATABASE_URL."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

from server.cli.key_administration import CommandFailure
from server.config.loading import Config
from server.store.data_directory import DataDirectory, DirectoryTaken
from server.store.postgres.postgres_opening import (
    carry_over_to_postgres,
    describe_postgres,
    migrate_postgres,
)
from server.store.sqlite_file import backup_database
from server.store.sqlite_store import SqliteStore

SHOWN = {
    "keys": "keys",
    "sessions": "sessions",
    "counters": "limit counters",
    "usage": "requests",
    "usage_daily": "daily sums",
    "history_conversations": "conversations",
}
"""What each table is called when it was copied; the others are part of these."""


async def migrate(config: Config, options: argparse.Namespace) -> None:
    """Upgrade the database, or copy an SQLite one into it."""
    if options.source is not None:
        await _carry_over(config, options.source)
    elif config.database_url:
        print(f"{await migrate_postgres(config.database_url)} is up to date.")
    else:
        with DataDirectory(Path(config.server.data_dir)) as directory:
            async with SqliteStore(directory.database):
                print(f"{directory.database} is up to date.")


@contextlib.contextmanager
def _unused(source: Path) -> Iterator[None]:
    """Keep a gateway from starting with the file. Raises CommandFailure if one runs with it."""
    if not source.is_file():
        raise CommandFailure(f"{source} does not exist: name the roxy.db of a data directory.")
    # A copy elsewhere, such as a backup, has no lock file and no gateway.
    if not (source.parent / "roxy.lock").exists():
        yield
        return
    try:
        with DataDirectory(source.parent):
            yield
    except DirectoryTaken as error:
        raise CommandFailure(
            f"{error.holder} is running with {source.parent}: stop it before its data is copied."
        ) from error


async def _carry_over(config: Config, source: Path) -> None:
    if not config.database_url:
        raise CommandFailure("Set ROXY_DATABASE_URL to the PostgreSQL database into which to copy.")
    with _unused(source):
        async with SqliteStore(source):  # upgrades it to this version, and keeps a copy
            pass
        carried = await carry_over_to_postgres(source, config.database_url)
    for table, rows, sums in carried:
        if table in SHOWN:
            money = f", {sums[0] / 1_000_000:.6f} dollars" if table == "usage" else ""
            print(f"{SHOWN[table]}: {rows}{money}")
    print(
        f"{source} was copied into {await describe_postgres(config.database_url)}; counts and sums"
        " are equal. The file was left as it is."
    )


def backup(config: Config, options: argparse.Namespace) -> None:
    """Copy the database with SQLite's online backup."""
    if config.database_url:
        raise CommandFailure(
            "Keys and usage are in the PostgreSQL database of ROXY_DATABASE_URL: copy it with"
            " pg_dump."
        )
    source = DataDirectory(Path(config.server.data_dir)).database
    backup_database(source, options.file)
    print(f"Copied {source} to {options.file}.")
