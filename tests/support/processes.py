"""Run the real command line, the gateway included, in separate processes.

    async with serving(tmp_path, upstream) as roxy:
        answer = await roxy.door.chat("hello")
        roxy.signal(signal.SIGTERM)
        assert await roxy.ended() == 0

A process gets only the environment that the test gives, so that a developer's own provider keys
cannot change a test. Its output is collected, and it is killed when the block ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import resource
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
from support.fakes.upstream import FakeUpstream
from support.front_door import NO_AUTHORITIES, OWNER, Door, roxy_toml
from support.patience import patient_stores
from support.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "server.cli")
PATIENT_SCRIPT = f"""
import sys
from server.cli.command_line import main
from server.store.patience import StorePatience
sys.exit(main(patience={patient_stores()!r}))
"""
PATIENT_COMMAND = (sys.executable, "-c", PATIENT_SCRIPT)
"""The same, whose stores are never away for being slow."""
READY = re.compile(r"ready in \S+ s at (\S+)/api/v1, (\d+) of (\d+) models")
OWNER_KEY = re.compile(r"\n\n    (\S+)\n\n")
UPSTREAM_SECRET = "upstream-secret-for-the-tests"


class Finished(NamedTuple):
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """Return the one line of a command that failed as it should: exit code 1, no traceback."""
        assert self.code == 1, self
        lines = [line for line in self.err.splitlines() if line.startswith("roxy: ")]
        assert len(lines) == 1, self.err  # log lines may follow: a thread writes them
        assert "Traceback" not in self.err, self.err
        return lines[0]


class FarDoor(Door):
    """A client of a gateway in another process, holding the owner key."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self.client = client
        self.url = url
        self.port = int(url.rpartition(":")[2])


class Roxy:
    """A process. `door` is there once it is ready; `err` and `out` are what it wrote so far.

    While `reading` is not set, its output is not read, so that its pipes fill up.
    """

    door: FarDoor

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.pid = process.pid
        self.served = ""
        self.reading = asyncio.Event()
        self.reading.set()
        self._err = bytearray()
        self._out = bytearray()
        self._said = asyncio.Condition()
        self._readers = [
            asyncio.create_task(self._read(process.stderr, self._err)),
            asyncio.create_task(self._read(process.stdout, self._out)),
        ]

    @property
    def err(self) -> str:
        """Return what it wrote to standard error."""
        return self._err.decode()

    @property
    def out(self) -> str:
        """Return what it wrote to standard output."""
        return self._out.decode()

    @property
    def owner_key(self) -> str:
        """Return the owner key that it printed; "" when it printed none."""
        found = OWNER_KEY.search(self.err)
        return found[1] if found else ""

    async def ready(self) -> str:
        """Wait for the line that says where it listens; gives the URL."""
        await self.says(READY.pattern)
        found = READY.search(self.err)
        assert found is not None
        self.served = f"{found[2]} of {found[3]}"
        return found[1]

    async def says(self, pattern: str) -> None:
        """Wait until standard error matches."""
        async with asyncio.timeout(PATIENCE_S), self._said:
            await self._said.wait_for(
                lambda: re.search(pattern, self.err) or all(one.done() for one in self._readers)
            )
        assert re.search(pattern, self.err), f"it ended without saying so:\n{self.err}"

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait until it has ended by itself; gives its exit code."""
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait(self._readers)
            code = await self.process.wait()
        assert "Traceback" not in self.err, self.err
        return code

    async def aclose(self) -> None:
        """Kill it if it still runs."""
        self.reading.set()
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        await asyncio.wait(self._readers)
        await self.process.wait()

    async def _read(self, stream: asyncio.StreamReader | None, into: bytearray) -> None:
        assert stream is not None
        while data := await stream.read(65536):
            await self.reading.wait()
            into += data
            async with self._said:
                self._said.notify_all()
        async with self._said:
            self._said.notify_all()


def surroundings(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a process: the owner key, the test upstream's secret, `environ`.

    An empty value takes a variable away.
    """
    variables = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "error",
        "ROXY_ADMIN_API_KEY": OWNER,
        "TEST_UPSTREAM_KEY": UPSTREAM_SECRET,
    } | dict(environ or {})
    return {name: value for name, value in variables.items() if value}


@contextlib.asynccontextmanager
async def started(
    *command: str | Path,
    cwd: Path,
    environ: Mapping[str, str] | None = None,
    open_files: int | None = None,
    program: Sequence[str] = COMMAND,
) -> AsyncIterator[Roxy]:
    """Start any command of Roxy, with a limit of open files if one is given."""
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_NOFILE)
    process = await asyncio.create_subprocess_exec(
        *program,
        *command,
        cwd=cwd,
        env=surroundings(environ),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=functools.partial(limit, (open_files, open_files)) if open_files else None,
    )
    roxy = Roxy(process)
    try:
        yield roxy
    finally:
        await roxy.aclose()


@contextlib.asynccontextmanager
async def serving(
    path: Path,
    *upstreams: FakeUpstream,
    options: tuple[str, ...] = (),
    settings: str = "",
    environ: Mapping[str, str] | None = None,
    open_files: int | None = None,
    patient: bool = True,
) -> AsyncIterator[Roxy]:
    """Run `roxy serve` in `path`, with the test model served by the upstreams, and its client.

    No store is away for being slow, unless it is not `patient`.
    """
    if upstreams or settings:
        urls = [one.base_url for one in upstreams]
        (path / "roxy.toml").write_text(roxy_toml(*urls, settings=settings) if urls else settings)
    async with started(
        *("serve", "--port", "0", *options),
        cwd=path,
        environ=environ,
        open_files=open_files,
        program=PATIENT_COMMAND if patient else COMMAND,
    ) as roxy:
        url = await roxy.ready()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
        async with httpx.AsyncClient(
            base_url=url,
            timeout=PATIENCE_S,
            limits=limits,
            trust_env=False,
            verify=NO_AUTHORITIES,
        ) as client:
            roxy.door = FarDoor(url, client)
            yield roxy


async def run(
    *command: str | Path, cwd: Path, environ: Mapping[str, str] | None = None
) -> Finished:
    """Run a command to its end."""
    async with started(*command, cwd=cwd, environ=environ) as roxy:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait(roxy._readers)
            code = await roxy.process.wait()
        return Finished(code, roxy.out, roxy.err)
