"""What systemd receives and what it passes, with a stand-in for the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest
from nodes.family import TWO
from support.fakes.upstream import FakeUpstream
from support.front_door import NO_AUTHORITIES, roxy_toml
from support.processes import COMMAND, FarDoor, Roxy, serving, surroundings
from support.waiting import PATIENCE_S, soon

from server.http.listening import ListenFailure
from server.processes.systemd import ServiceManager

ONE: tuple[str, ...] = ()


class Manager:
    """A stand-in for systemd's end: the messages in their order.

    It reads all the time: the kernel keeps some ten messages, and a process that ends does not
    wait for a reader that is slow.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind("\0" + name[1:] if name.startswith("@") else name)
        self._sock.settimeout(0)
        self._unread: asyncio.Queue[str] = asyncio.Queue()

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Read while the block runs."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._sock, self._read)
        try:
            yield
        finally:
            loop.remove_reader(self._sock)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._unread.put_nowait(self._sock.recv(4096).decode())

    def close(self) -> None:
        """Stop to listen."""
        self._sock.close()

    async def until(self, line: str) -> list[str]:
        """Take messages until one has a line; return all of them."""
        messages: list[str] = []
        while not messages or line not in messages[-1].split("\n"):
            messages.append(await soon(self._unread.get()))
        return messages


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[Manager]:
    # Not in `tmp_path`, which may be longer than the 107 bytes of an address.
    with tempfile.TemporaryDirectory() as folder:
        name = f"@roxy-{os.getpid()}" if request.param == "abstract" else f"{folder}/notify"
        with contextlib.closing(Manager(name)) as opened:
            yield opened


@pytest.mark.parametrize("options", [ONE, TWO], ids=["alone", "keeper"])
async def test_start_reload_and_stop_are_reported_and_the_watchdog_is_kept_quiet(
    tmp_path: Path, manager: Manager, options: tuple[str, ...]
) -> None:
    environ = {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "400000"}
    async with FakeUpstream() as upstream:
        settings = roxy_toml(upstream.base_url)
        run = serving(tmp_path, settings=settings, options=options, environ=environ)
        async with manager.reading(), run as roxy:
            started = (await manager.until("READY=1"))[-1]
            assert f"STATUS=serving at {roxy.door.url}" in started
            for _ in range(3):
                await manager.until("WATCHDOG=1")
            roxy.signal(signal.SIGHUP)
            begun = (await manager.until("RELOADING=1"))[-1]
            assert "MONOTONIC_USEC=" in begun
            await manager.until("READY=1")
            assert (await roxy.door.chat()).status_code == 200
            roxy.signal(signal.SIGTERM)
            await manager.until("STOPPING=1")
            assert await roxy.ended() == 0


@contextlib.asynccontextmanager
async def activated(
    path: Path, sock: socket.socket, options: tuple[str, ...]
) -> AsyncIterator[Roxy]:
    """Run `roxy serve` as a socket unit does: the socket is descriptor 3."""
    process = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        'LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=roxy.socket exec "$@"',
        "sh",
        *COMMAND,
        "serve",
        *options,
        cwd=path,
        env=surroundings(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=(3,),
        preexec_fn=lambda: os.dup2(sock.fileno(), 3),
    )
    roxy = Roxy(process)
    try:
        url = await roxy.ready()
        async with httpx.AsyncClient(
            base_url=url, timeout=PATIENCE_S, trust_env=False, verify=NO_AUTHORITIES
        ) as client:
            roxy.door = FarDoor(url, client)
            yield roxy
    finally:
        await roxy.aclose()


@pytest.mark.parametrize("options", [ONE, TWO], ids=["alone", "keeper"])
async def test_a_passed_socket_is_served_and_keeps_its_clients_over_a_restart(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    async with FakeUpstream() as upstream:
        (tmp_path / "roxy.toml").write_text(roxy_toml(upstream.base_url))
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen(128)
            port = sock.getsockname()[1]
            async with activated(tmp_path, sock, options) as roxy:
                assert roxy.door.port == port
                assert (await roxy.door.chat()).status_code == 200
                roxy.signal(signal.SIGTERM)
                assert await roxy.ended() == 0
            # No process serves now, and a client that connects is not refused.
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            async with activated(tmp_path, sock, options):
                assert (await soon(reader.read())).startswith(b"HTTP/1.1 200")
            writer.close()


def test_sockets_for_another_process_are_left_alone() -> None:
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1"}
    assert ServiceManager(environ, process=2).sockets() == []
    assert ServiceManager({}, process=2).sockets() == []


def _pipe() -> int:
    end, other = os.pipe()
    os.close(other)
    return end


@pytest.mark.parametrize(
    "make",
    [
        _pipe,
        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach(),
        lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).detach(),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).detach(),
    ],
    ids=["pipe", "datagram", "unix", "not listening"],
)
def test_what_is_no_listening_socket_stops_the_start(make: Callable[[], int]) -> None:
    descriptor = make()
    environ = {"LISTEN_PID": "7", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "odd.socket"}
    try:
        with pytest.raises(ListenFailure, match=r"odd\.socket"):
            ServiceManager(environ, 7, descriptor).sockets()
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)


async def test_a_manager_that_cannot_be_reached_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    environ = {"NOTIFY_SOCKET": "/no/such/socket", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "9"}
    manager = ServiceManager(environ, process=8)
    async with manager.watchdog():
        manager.ready("x")
        manager.stopping()
    assert [one.message for one in caplog.records] == [
        "the service manager cannot be reached: [Errno 2] No such file or directory"
    ]
