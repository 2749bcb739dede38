"""The link to Redis: it connects, checks the server, and connects again after a loss.

While the server is away, a command fails at once: only those that waited when it went away have
waited. A server that is back is found within two seconds, because the pause between two attempts
never exceeds `MAX_PAUSE_S`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from hiredis import ReplyError

from server.accounting.redis_counters.redis_connection import Done, Lost, RedisConnection
from server.accounting.redis_counters.redis_scripts import SCRIPTS, Script
from server.config.redis_address import RedisAddress
from server.store.patience import StorePatience
from server.store.store import StoreFailure

log = logging.getLogger("roxy.limits")

FIRST_PAUSE_S = 0.05
MAX_PAUSE_S = 0.8
OLDEST_VERSION = (7, 0)
"""Redis 7.0. Valkey 8 and 9 say that they are Redis 7.2.4."""
UNABLE = (
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "OOM",
    "MISCONF",
    "BUSY",
    "NOREPLICAS",
    "CLUSTERDOWN",
)
"""Errors by which a server says that it cannot write at the moment (redis.io, server.c)."""

Back = Callable[[RedisConnection], Awaitable[None]]


class Unsuitable(Exception):
    """The server answers and cannot be used; the message says what to change."""


class RedisLink:
    """The connection of this process to Redis.

    `on_back` is awaited with each new connection before it is used; when it fails, the server is
    away. `on_change` is called with the reason when the server goes away, and with None when it is
    back.
    """

    def __init__(
        self,
        address: RedisAddress,
        name: str,
        on_back: Back,
        on_change: Callable[[str | None], None],
        patience: StorePatience | None = None,
    ) -> None:
        self._address = address
        self._patience = patience or StorePatience()
        self._name = name
        self._on_back = on_back
        self._on_change = on_change
        self._connection: RedisConnection | None = None
        self._connector: asyncio.Task[None] | None = None
        self._warned = False
        self._tls: ssl.SSLContext | None = None
        self.trouble: str | None = "not connected"

    async def start(self) -> None:
        """Connect for the first time. Raises StoreFailure with one line that says what to do."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience.redis_start_s
        while True:
            try:
                self._use(await self._connect())
                return
            except (Unsuitable, ssl.SSLCertVerificationError) as error:
                raise StoreFailure(f"Redis at {self._address}: {error}") from error
            except (OSError, TimeoutError, Lost, ReplyError) as error:
                if loop.time() > until:
                    raise StoreFailure(
                        f"cannot reach Redis at {self._address}: {reason_of(error)}."
                        " Start it, or correct ROXY_REDIS_URL"
                    ) from error
            await asyncio.sleep(FIRST_PAUSE_S * 4)

    async def aclose(self) -> None:
        """Close the connection and stop connecting."""
        connector, self._connector = self._connector, None
        if connector is not None:
            connector.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await connector
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close("closed")

    def run(
        self, script: Script, keys: tuple[str, ...], args: tuple[str | int, ...], done: Done
    ) -> None:
        """Run a script; `done` gets its reply, a ReplyError, or Lost while the server is away."""
        connection = self._connection
        if connection is None:
            asyncio.get_running_loop().call_soon(done, Lost(self.trouble or "away"))
            return
        run_script(connection, script, keys, args, done)

    def fail(self, reason: str) -> None:
        """Treat the server as away: it answers, and cannot do what it must."""
        if self._connection is not None:
            self._connection.close(reason)

    def _use(self, connection: RedisConnection) -> None:
        if connection.lost:
            raise Lost("the connection was closed at once")
        self._connection = connection
        self.trouble = None
        self._on_change(None)

    def _lose(self, connection_of: list[RedisConnection], reason: str) -> None:
        if not connection_of or connection_of[0] is not self._connection:
            return  # closed on purpose, or before it was used
        self._connection = None
        self.trouble = reason
        self._on_change(reason)
        loop = asyncio.get_running_loop()
        self._connector = loop.create_task(self._connect_again(), name="redis")

    async def _connect_again(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                self._use(await self._connect())
                return
            except (OSError, TimeoutError, Lost, ReplyError, Unsuitable) as error:
                self.trouble = reason_of(error)
            except Exception as error:
                self.trouble = reason_of(error)
                log.error("connecting to Redis failed", exc_info=error)
            await asyncio.sleep(pause_s * random.uniform(0.7, 1.0))
            pause_s = min(pause_s * 2, MAX_PAUSE_S)

    async def _connect(self) -> RedisConnection:
        """Return a connection to a server that was checked and can write."""
        holder: list[RedisConnection] = []
        connection = RedisConnection(partial(self._lose, holder), self._patience)
        holder.append(connection)
        try:
            async with asyncio.timeout(self._patience.redis_connect_s):
                await self._open(connection)
                await self._sign_in(connection)
                await self._check(connection)
                for script in SCRIPTS:
                    await connection.ask("SCRIPT", "LOAD", script.text)
                await self._on_back(connection)
        except BaseException:
            connection.close("not usable")
            raise
        return connection

    async def _open(self, connection: RedisConnection) -> None:
        loop, address = asyncio.get_running_loop(), self._address
        if address.path:
            await loop.create_unix_connection(lambda: connection, address.path)
            return
        if address.tls and self._tls is None:
            self._tls = ssl.create_default_context(cafile=address.ca_file or None)
        await loop.create_connection(
            lambda: connection, address.host, address.port, ssl=self._tls if address.tls else None
        )

    async def _sign_in(self, connection: RedisConnection) -> None:
        address = self._address
        try:
            if address.password:
                user = (address.username,) if address.username else ()
                await connection.ask("AUTH", *user, address.password)
            if address.database:
                await connection.ask("SELECT", address.database)
            await connection.ask("CLIENT", "SETNAME", self._name)
        except ReplyError as error:
            if str(error).startswith(UNABLE):
                raise
            if str(error).startswith("NOAUTH"):
                raise Unsuitable("it wants a password; put it into ROXY_REDIS_URL") from error
            raise Unsuitable(
                f"it refuses the user, the password or the database: {error}"
            ) from error

    async def _check(self, connection: RedisConnection) -> None:
        """Raise Unsuitable for a server that is too old or a cluster; warn if it evicts keys."""
        try:
            said = parse_info(await connection.ask("INFO"))
        except ReplyError as error:
            raise Unsuitable(f"its user may not run INFO: {error}") from error
        version = said.get("redis_version", "0")
        numbers = [int(part) for part in version.split(".") if part.isdigit()]
        if tuple(numbers[:2]) < OLDEST_VERSION:
            raise Unsuitable(f"version {version} is too old; use Redis 7 or Valkey 8, or later")
        if said.get("cluster_enabled") == "1":
            slots = parse_info(await connection.ask("CLUSTER", "INFO"))
            if slots.get("cluster_size", "1") not in ("0", "1"):
                raise Unsuitable("a cluster of several shards needs a proxy that routes by slot")
        policy = said.get("maxmemory_policy", "noeviction")
        if policy != "noeviction" and not self._warned:
            self._warned = True
            log.warning(
                "Redis at %s may evict limits and budgets (maxmemory-policy %s); set noeviction",
                self._address,
                policy,
            )


def run_script(
    connection: RedisConnection,
    script: Script,
    keys: tuple[str, ...],
    args: tuple[str | int, ...],
    done: Done,
) -> None:
    """Run a script by its digest, and by its text if the server has forgotten it."""

    def answered(reply: Any) -> None:
        # After SCRIPT FLUSH or a fail-over. A script that is not known was not run.
        if isinstance(reply, ReplyError) and str(reply).startswith("NOSCRIPT"):
            connection.send(("EVAL", script.text, len(keys), *keys, *args), done)
        else:
            done(reply)

    connection.send(("EVALSHA", script.digest, len(keys), *keys, *args), answered)


def parse_info(reply: bytes) -> dict[str, str]:
    """Return the fields of an INFO reply."""
    lines = reply.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def reason_of(error: BaseException) -> str:
    """Return one phrase for a log line."""
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower() if error.errno else error.strerror
    return str(error) or type(error).__name__
