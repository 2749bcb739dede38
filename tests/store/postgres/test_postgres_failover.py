"""A standby takes over: the gateway finds it, whether the old primary is dead or silent."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.builders.rows import a_key, a_row
from support.fakes.raw_upstream import RawUpstream
from support.network.ports import free_port
from support.patience import HASTY_S
from support.servers.postgres_server import (
    PASSWORD,
    USER,
    PostgresServer,
    owned_directory,
    program,
    run_quietly,
)
from support.waiting import PATIENCE_S, eventually

from server.store.postgres.connector import Connector
from server.store.postgres.postgres_store import PostgresStore
from server.store.rows import Batch


@contextlib.contextmanager
def standby_of(primary: PostgresServer) -> Iterator[PostgresServer]:
    """Copy a server and start the copy as its streaming standby."""
    path = owned_directory()
    source = ("-h", "127.0.0.1", "-p", str(primary.port), "-U", USER)
    copy = ("-D", path / "data", "-R", "-X", "stream", "-c", "fast", "--no-sync")
    run_quietly(program("pg_basebackup"), *copy, *source, PGPASSWORD=PASSWORD)
    server = PostgresServer(path)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(path)


def url_of(database: str, *ports: int, query: str = "") -> str:
    """Return the URL of a database on several servers of this machine."""
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"postgresql://{USER}:{PASSWORD}@{hosts}/{database}{query}"


async def rows_of(store: PostgresStore, count: int) -> None:
    """Wait until so many requests are on record."""
    async with asyncio.timeout(PATIENCE_S):
        while len((await store.usage_rows()).rows) != count:
            await asyncio.sleep(0.02)


async def test_after_a_fail_over_the_standby_is_used_though_the_old_primary_only_hangs(
    tmp_path: Path,
) -> None:
    with PostgresServer.made({"wal_level": "replica"}) as primary, standby_of(primary) as standby:
        name = primary.new_database().rpartition("/")[2]
        url = url_of(name, primary.port, standby.port, query="?target_session_attrs=primary")
        async with PostgresStore(url, tmp_path / "spool", patience_s=2 * HASTY_S) as store:
            await store.add_keys([a_key(1)])
            await store.record(Batch(rows=[a_row(1)]))
            await rows_of(store, 1)
            await replayed(standby, name, "SELECT 1 / count(*) FROM usage")
            await asyncio.to_thread(primary.hang)  # as a machine that is gone: nothing answers
            await store.record(Batch(rows=[a_row(2)]))
            await eventually(lambda: store.trouble is not None)
            promote = (program("pg_ctl"), "promote", "-w", "-D", standby.path / "data")
            await asyncio.to_thread(run_quietly, *promote)
            await eventually(lambda: store.trouble is None)
            assert await store.find_key(a_key(1).id) == a_key(1)
            await rows_of(store, 2)
            # The old one comes back as a primary, and is not used.
            await asyncio.to_thread(primary.go_on)
            for version in (2, 3, 4):
                assert await store.replace_key(a_key(1, version=version))
        await replayed(standby, name, "SELECT 1 / (max(version) / 4) FROM keys")


async def replayed(server: PostgresServer, database: str, statement: str) -> None:
    """Wait until a statement works on a server; a division by zero says that it is not so yet."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await asyncio.to_thread(server.sql, statement, database=database)
                return
            except AssertionError:
                await asyncio.sleep(0.05)


async def test_of_several_hosts_the_one_that_answers_is_used_and_remembered(
    postgres: PostgresServer,
) -> None:
    name = postgres.new_database().rpartition("/")[2]
    async with RawUpstream(lambda peer: peer.gone()) as silent:
        for first in (free_port(), silent.port):
            connector = Connector(url_of(name, first, postgres.port))
            for _ in range(2):
                connection = await connector.open()
                assert await connection.fetchval("SELECT current_database()") == name
                await connection.close()
            await connector.aclose()
        nothing = Connector(url_of(name, free_port(), free_port()))
        with pytest.raises(ConnectionRefusedError):
            await nothing.open()
