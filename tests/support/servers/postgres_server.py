"""A real PostgreSQL server in a temporary directory, and pgbouncer in front of it.

    with PostgresServer.made() as server:
        url = server.new_database()
        server.kill()        # -9, all its processes
        server.start()

PostgreSQL and pgbouncer refuse to run as root, so they run as an ordinary user then.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from support.network.ports import free_port
from support.waiting import PATIENCE_S

from workers.units import MIB

USER = "roxy"
PASSWORD = "postgres-password-of-the-tests"
NOBODY = 65534
PROGRAMS = "/usr/lib/postgresql/*/bin"
BOUNCER = "/usr/sbin/pgbouncer"
MEMORY_BYTES = 2 * 1024 * MIB
"""The free memory from which the files of servers are kept there."""
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",  # the machine does not lose power; a killed server loses nothing
    "shared_buffers": "16MB",
    "max_connections": "60",
    "log_min_messages": "fatal",
}


def program(name: str) -> Path:
    """Return a program of the newest PostgreSQL that Debian has installed."""
    found = sorted(Path("/").glob(f"{PROGRAMS.lstrip('/')}/{name}"))
    assert found, "PostgreSQL is not installed: run `tox -e provision`"
    return found[-1]


def ordinary() -> dict[str, Any]:
    """Return the arguments of subprocess that give up the rights of root."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def run_quietly(*command: str | Path, **environ: str) -> None:
    """Run a program; an error shows what it wrote."""
    done = subprocess.run(
        command,
        env=os.environ | environ | {"LC_ALL": "C.UTF-8"},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        text=True,
        **ordinary(),
    )
    assert done.returncode == 0, done.stdout


def owned_directory() -> Path:
    """Make a directory that the servers may use; pytest's own is closed to other users."""
    memory = Path("/dev/shm")  # a database is made in a third of the time there
    roomy = memory.exists() and shutil.disk_usage(memory).free > MEMORY_BYTES
    path = Path(tempfile.mkdtemp(prefix="roxy-server-", dir=memory if roomy else None))
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    return path


def with_children(pid: int) -> list[int]:
    """Return a process and all below it: each child of PostgreSQL leads a group of its own."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


class Process:
    """A server that a test starts, stops, continues and kills."""

    command: Sequence[str | Path] = ()
    port = 0

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        self._process = subprocess.Popen(
            self.command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **ordinary(),
        )
        deadline = time.monotonic() + PATIENCE_S
        while not self.answers():
            assert self._process.poll() is None, f"{self.command[0]} has ended"
            assert time.monotonic() < deadline, f"{self.command[0]} does not answer"
            time.sleep(0.02)

    def answers(self) -> bool:
        """Return whether it accepts connections."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    @property
    def pid(self) -> int:
        """Return the id of its first process."""
        assert self._process is not None
        return self._process.pid

    def signal(self, number: int) -> None:
        """Send a signal to all its processes."""
        assert self._process is not None
        for pid in with_children(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def hang(self) -> None:
        """Stop all its processes; the kernel goes on to accept connections."""
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Continue after `hang`."""
        self.signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it in order; PostgreSQL removes its shared memory then."""
        if self._process is not None:
            self.go_on()
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE_S)
        self.kill()

    def kill(self) -> None:
        """Kill all its processes."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


class PostgresServer(Process):
    """One server with its files; `settings` are further ones of postgresql.conf."""

    def __init__(self, path: Path, settings: dict[str, str] | None = None) -> None:
        super().__init__()
        self.path = path
        self.port = free_port()
        self.newest = ""
        """The name of the database that was created last."""
        self._numbers = count(1)
        chosen = SETTINGS | {"port": str(self.port)} | (settings or {})
        options = [word for name, value in chosen.items() for word in ("-c", f"{name}={value}")]
        self.command = [program("postgres"), "-D", path / "data", *options]

    @classmethod
    @contextlib.contextmanager
    def made(
        cls, settings: dict[str, str] | None = None, files: Mapping[str, bytes] | None = None
    ) -> Iterator[PostgresServer]:
        """Create and start a server; leaving ends it and deletes its files.

        `files` are private ones of the server, which it finds in the directory above its data.
        """
        path = owned_directory()
        for name, content in (files or {}).items():
            (path / name).write_bytes(content)
            (path / name).chmod(0o600)
            if os.geteuid() == 0:
                os.chown(path / name, NOBODY, NOBODY)
        password = path / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        server = cls(path, settings)
        try:
            run_quietly(
                program("initdb"),
                *("-D", path / "data", "-U", USER, "--pwfile", password),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8"),
                "--no-sync",
            )
            server.start()
            yield server
        finally:
            server.stop()
            shutil.rmtree(path)

    def answers(self) -> bool:
        """Return whether it takes part in transactions: a port that is open is not enough."""
        command = [str(program("pg_isready")), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0

    def url(self, database: str, *, user: str = USER, password: str = PASSWORD) -> str:
        """Return the URL of a database."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Create an empty database and return its URL."""
        self.newest = f"t{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {self.newest} STRATEGY FILE_COPY")  # a quarter less CPU
        return self.url(self.newest)

    def sql(self, *statements: str, database: str = "postgres") -> None:
        """Run statements as the superuser."""
        words = [word for statement in statements for word in ("-c", statement)]
        run_quietly(
            program("psql"),
            *("-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port)),
            *("-U", USER, "-d", database, *words),
            PGPASSWORD=PASSWORD,
        )


class PgBouncer(Process):
    """pgbouncer in transaction mode, as Debian ships it, in front of a server."""

    def __init__(self, server: PostgresServer, path: Path, settings: dict[str, str]) -> None:
        super().__init__()
        self.port = free_port()
        self._settings = path / "pgbouncer.ini"
        users = path / "users.txt"
        users.write_text(f'"{USER}" "{PASSWORD}"\n')
        chosen = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": str(users),
            "pool_mode": "transaction",
            "default_pool_size": "4",
        } | settings
        lines = [f"{name} = {value}" for name, value in chosen.items()]
        databases = f"[databases]\n* = host=127.0.0.1 port={server.port}\n"
        self._settings.write_text("\n".join([databases, "[pgbouncer]", *lines]) + "\n")
        for file in (users, self._settings):
            file.chmod(0o644)
        self.command = [BOUNCER, "-q", self._settings]

    @classmethod
    @contextlib.contextmanager
    def made(cls, server: PostgresServer, **settings: str) -> Iterator[PgBouncer]:
        """Start one; leaving kills it."""
        assert Path(BOUNCER).exists(), "pgbouncer is not installed: run `tox -e provision`"
        path = owned_directory()
        bouncer = cls(server, path, settings)
        try:
            bouncer.start()
            yield bouncer
        finally:
            bouncer.kill()
            shutil.rmtree(path)

    def before(self, url: str) -> str:
        """Return the URL by which a database is reached through it."""
        server, _, database = url.rpartition("/")
        return f"{server.rpartition(':')[0]}:{self.port}/{database}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Return a server that many tests share, each with a database of its own."""
    with PostgresServer.made() as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """Return a server for one test, which may kill it."""
    with PostgresServer.made() as server:
        yield server
