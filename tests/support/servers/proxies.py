"""Run nginx and Caddy with the sites in `deploy/`, in front of gateways on this machine.

    async with running_proxy(NGINX, tmp_path, door.port) as proxy:
        await proxy.client.get("/healthz")

The files are used as they are shipped, but for the names, addresses and ports that whoever copies
them changes too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import trustme
from support.network.ports import free_ports
from support.waiting import PATIENCE_S, soon

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
NODE = "127.0.0.1:8080"
"""The node that the shipped sites name."""
STARTS = 3
"""Another program on this machine may take a port before the proxy listens on it."""


@dataclass(frozen=True)
class Site:
    """One proxy, and how its shipped site is written into `path` for a test."""

    name: str
    write: Callable[[Path, int, int, tuple[str, ...]], list[str]]
    environ: Callable[[Path], Mapping[str, str]]
    stop: signal.Signals
    """Ends it at once, connections included."""


class Proxy:
    """A running proxy. `client` trusts its certificate and holds no key."""

    def __init__(self, name: str, port: int, plain_port: int, trust: ssl.SSLContext) -> None:
        self.name = name
        self.url = f"https://127.0.0.1:{port}"
        self.port = port
        self.plain_port = plain_port
        self.trust = trust
        self.client = self.client_from()

    def client_from(self, address: str = "127.0.0.1") -> httpx.AsyncClient:
        """Return a client that connects from another loopback address."""
        transport = httpx.AsyncHTTPTransport(
            verify=self.trust,
            local_address=address,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=50),
        )
        return httpx.AsyncClient(base_url=self.url, transport=transport, timeout=PATIENCE_S)


def program(name: str) -> str:
    """Return the path of a program that a package of the tests' environment or Debian carries."""
    places = [str(Path(sys.executable).parent), "/usr/sbin", os.environ.get("PATH", "")]
    found = shutil.which(name, path=os.pathsep.join(places))
    assert found, f"{name} is not installed: run tests/provision.py"
    return found


def changed(text: str, changes: Mapping[str, str]) -> str:
    """Replace parts of a shipped file. Each of them must be there."""
    for old, new in changes.items():
        assert old in text, f"the shipped file has no {old!r}"
        text = text.replace(old, new)
    return text


def _write_nginx(path: Path, port: int, plain_port: int, nodes: tuple[str, ...]) -> list[str]:
    site = changed(
        (DEPLOY / "nginx/roxy.conf").read_text(),
        {
            "    listen [::]:80;\n": "",
            "    listen [::]:443 ssl http2;\n": "",
            "listen 80;": f"listen 127.0.0.1:{plain_port};",
            "listen 443 ssl http2;": f"listen 127.0.0.1:{port} ssl http2;",
            "/etc/nginx/tls": str(path),
        },
    )
    upstream = (DEPLOY / "nginx/roxy-upstream.conf").read_text()
    (line,) = [one for one in upstream.splitlines(keepends=True) if f" server {NODE} " in one]
    lines = "".join(line.replace(NODE, node) for node in nodes)
    temporary = "".join(
        f"{kind}_temp_path {path}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""
    (path / "nginx.conf").write_text(
        f"{user}daemon off; worker_processes 1; pid {path}/nginx.pid; error_log stderr warn;\n"
        f"events {{ worker_connections 1024; }}\nhttp {{\n{temporary}access_log off;\n{site}\n"
        f"{changed(upstream, {line: lines})}\n}}\n"
    )
    return [program("nginx"), "-e", "stderr", "-c", str(path / "nginx.conf")]


def _write_caddy(path: Path, port: int, plain_port: int, nodes: tuple[str, ...]) -> list[str]:
    site = changed(
        (DEPLOY / "caddy/Caddyfile").read_text(),
        {
            "\nroxy.example {": f"\nhttps://127.0.0.1:{port} {{\n\tbind 127.0.0.1\n"
            f"\ttls {path}/fullchain.pem {path}/privkey.pem",
            f"reverse_proxy {NODE} {{": "reverse_proxy " + " ".join(nodes) + " {",
        },
    )
    options = f"{{\n\tadmin off\n\thttp_port {plain_port}\n\thttps_port {port}\n}}\n"
    (path / "Caddyfile").write_text(options + site)
    return [program("caddy"), "run", "--adapter", "caddyfile", "--config", str(path / "Caddyfile")]


NGINX = Site("nginx", _write_nginx, lambda _path: {}, signal.SIGTERM)
CADDY = Site(
    "caddy",
    _write_caddy,
    lambda path: {"HOME": str(path), "XDG_DATA_HOME": str(path), "XDG_CONFIG_HOME": str(path)},
    signal.SIGKILL,  # after SIGTERM it waits for open connections, without a limit
)


@contextlib.asynccontextmanager
async def running_proxy(site: Site, path: Path, *nodes: int | str) -> AsyncIterator[Proxy]:
    """Run a proxy in front of gateways, each a port of this host or `host:port`.

    Its files lie in `path`.
    """
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "roxy.example")
    path.mkdir(exist_ok=True)  # noqa: ASYNC240
    certificate.private_key_pem.write_to_path(path / "privkey.pem")
    for part in certificate.cert_chain_pems:
        part.write_to_path(path / "fullchain.pem", append=True)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    async with contextlib.AsyncExitStack() as stack:
        places = tuple(f"127.0.0.1:{node}" if isinstance(node, int) else node for node in nodes)
        ports = await _run(stack, site, path, places, trust)
        proxy = Proxy(site.name, *ports, trust)
        stack.push_async_callback(proxy.client.aclose)
        yield proxy


async def _run(
    stack: contextlib.AsyncExitStack,
    site: Site,
    path: Path,
    nodes: tuple[str, ...],
    trust: ssl.SSLContext,
) -> tuple[int, int]:
    """Start the proxy until it listens; return its ports for TLS and plain HTTP."""
    for _ in range(STARTS):
        port, plain_port = free_ports(2)
        command = site.write(path, port, plain_port, nodes)
        process = await _start(command, path / "log", site.environ(path))
        stack.push_async_callback(_end, process, site.stop)
        if await _serves(process, port, trust):
            return port, plain_port
    raise AssertionError((path / "log").read_text())


async def _start(
    command: list[str], log: Path, environ: Mapping[str, str]
) -> asyncio.subprocess.Process:
    with log.open("wb") as output:
        return await asyncio.create_subprocess_exec(
            *command,
            env={"PATH": "/usr/sbin:/usr/bin:/bin"} | dict(environ),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )


async def _serves(process: asyncio.subprocess.Process, port: int, trust: ssl.SSLContext) -> bool:
    """Wait until the proxy, and no other server, answers; False when the process has ended."""
    async with asyncio.timeout(PATIENCE_S):
        while process.returncode is None:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
                writer.close()
                return True
            await asyncio.sleep(0.01)
    return False


async def _end(process: asyncio.subprocess.Process, stop: signal.Signals) -> None:
    if process.returncode is None:
        process.send_signal(stop)
    await soon(process.wait())
