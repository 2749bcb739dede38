"""`roxy migrate` and `roxy backup`: the database, be it the file or that of ROXY_DATABASE_URL."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from server.accounting.admission import ALL_GUESTS, guest_limits
from server.accounting.redis_counters.open_redis import open_redis_link
from server.cli.key_administration import CommandFailure
from server.config.loading import Config
from server.identity.client_addresses import GUEST_PREFIX
from server.store.data_directory import DataDirectory, DirectoryTaken
from server.store.key import Key, Limits
from server.store.postgres.postgres_opening import (
    carry_over_to_postgres,
    describe_postgres,
    migrate_postgres,
)
from server.store.rows import CounterRow
from server.store.sqlite.sqlite_file import backup_database
from server.store.sqlite.sqlite_store import SqliteStore
from workers.units import MILLION

if TYPE_CHECKING:
    from server.accounting.redis_counters.redis_link import RedisLink

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
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_unused(source))
        redis = None
        if config.redis_url:
            redis = await stack.enter_async_context(
                open_redis_link(config.redis_url, "roxy-migrate")
            )
        async with SqliteStore(source) as store:  # upgrades it to this version, and keeps a copy
            counters, keys = await store.load_counters(), await store.load_keys()
        if redis is not None:  # first of all: it can be repeated, and the copy cannot
            await _carry_levels(config, redis, counters, keys)
        carried = await carry_over_to_postgres(source, config.database_url)
    for table, rows, sums in carried:
        if table in SHOWN:
            money = f", {sums[0] / MILLION:.6f} dollars" if table == "usage" else ""
            print(f"{SHOWN[table]}: {rows}{money}")
    print(
        f"{source} was copied into {await describe_postgres(config.database_url)}; counts and sums"
        " are equal. The file was left as it is."
    )


async def _carry_levels(
    config: Config, redis: RedisLink, counters: list[CounterRow], keys: list[Key]
) -> None:
    """Write what is counted of the limits now into Redis, which counts from here on."""
    from server.accounting.redis_counters.carried_levels import carry_levels

    limits: dict[str, Limits] = {key.id: key.limits for key in keys}
    each_guest, limits[ALL_GUESTS] = guest_limits(config.guests)

    def limits_of(scope: str) -> Limits | None:
        return each_guest if scope.startswith(GUEST_PREFIX) else limits.get(scope)

    scopes = await carry_levels(redis, counters, limits_of)
    print(f"limits that are in use, copied into Redis: {scopes}")


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
