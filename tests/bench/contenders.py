"""Build and start who is measured: the upstream itself, nginx as a bare proxy, the gateway, peers.

nginx neither parses nor authenticates nor logs; the gateway runs as shipped: a key it minted
itself, with limits so high that they work but never refuse, usage accounting and the access log on.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.processes import BenchError, child, cpu_ns, family, memory_kib

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODEL = "bench/model"
START_TIMEOUT_S = 120.0
LOG_TAIL = 2000
KEY_LIMITS = {"requests_per_minute": 1_000_000_000, "tokens_per_minute": 1_000_000_000_000}

Command = list[str | Path]

NGINX_CONF = """\
daemon off; master_process off; worker_processes 1; pid nginx.pid; error_log stderr;
events {{ worker_connections 8192; }}
http {{
    access_log off; tcp_nodelay on; keepalive_timeout 300s; keepalive_requests 1000000000;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi; client_max_body_size 64m;
    upstream bench {{
        server 127.0.0.1:{upstream}; keepalive 2048; keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://bench; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_buffering off; proxy_request_buffering off;
        }}
    }}
}}
"""

ROXY_TOML = """\
[[models]]
id = "{model}"
name = "Benchmark"
context_window = 10_000_000
max_output_tokens = 8192
input_modalities = ["text", "image"]
prices = {{ prompt = 0.6, completion = 2.2 }}

[[models.deployments]]
provider = "openai"
base_url = "http://127.0.0.1:{upstream}/v1"
upstream_model = "bench-upstream"
secret_env = ""
max_concurrency = 2000

[queue]
max_waiting = 4096

[log]
access = true
"""


@dataclass
class Contender:
    """One way to the upstream. Without a `pid` its CPU and memory are not known."""

    name: str
    host: str
    port: int
    prefix: str
    key: str = "none"
    model: str = MODEL
    pid: int | None = None
    start_s: list[float] = field(default_factory=list)
    idle_kib: int | None = None

    @property
    def pids(self) -> tuple[int, ...]:
        """Return its processes at this moment."""
        return family(self.pid) if self.pid else ()

    def cpu_ns(self) -> int:
        """Read the CPU time it has used."""
        return cpu_ns(self.pids)

    def memory_kib(self, field_name: str = "VmRSS") -> int:
        """Read its memory, now or (VmHWM) at its peak."""
        return memory_kib(self.pids, field_name)


@dataclass(frozen=True)
class Tools:
    """The compiled programs and where they and everything else may write."""

    upstream: Path
    load: Path
    directory: Path
    gateway_cpu: int
    load_cpu: int


def build(directory: Path, gateway_cpu: int, load_cpu: int) -> Tools:
    """Compile the upstream and the load generator."""
    compiler = shutil.which("cc")
    if not compiler:
        raise BenchError("no C compiler: `cc` is not installed")
    for name in ("upstream", "load"):
        command: Command = [
            compiler,
            "-std=c11",
            "-O2",
            "-Wall",
            "-o",
            directory / name,
            HERE / f"{name}.c",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"cc cannot compile {name}.c:\n{done.stderr}")
    return Tools(directory / "upstream", directory / "load", directory, gateway_cpu, load_cpu)


def free_port() -> int:
    """Find a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def ask(
    port: int, path: str, *, key: str = "", payload: object = None, timeout_s: float = 60
) -> tuple[int, bytes]:
    """Make one plain request; raises OSError or HTTPException when there is no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    with contextlib.closing(connection):
        if payload is None:
            connection.request("GET", path, headers=headers)
        else:
            connection.request("POST", path, json.dumps(payload).encode(), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


@contextlib.contextmanager
def upstream(tools: Tools, port: int = 0) -> Iterator[Contender]:
    """Run the fake upstream; asked directly it is the first contender, to compare with."""
    command: Command = [tools.upstream, str(port)]
    with child(command, tools.load_cpu, cwd=tools.directory, stdout=subprocess.PIPE) as process:
        line = process.stdout.readline() if process.stdout else b""
        if not line.startswith(b"port "):
            raise BenchError(f"the upstream did not start (port {port})")
        yield Contender("direct", "127.0.0.1", int(line.split()[1]), "/v1", pid=process.pid)


@contextlib.contextmanager
def nginx(tools: Tools, upstream_port: int) -> Iterator[Contender]:
    """Run nginx as a bare proxy: one process, keep-alive to the upstream, nothing buffered."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if not program:
        raise BenchError("nginx is not installed")
    home, port = tools.directory / "nginx", free_port()
    home.mkdir()
    (home / "nginx.conf").write_text(NGINX_CONF.format(port=port, upstream=upstream_port))
    command: Command = [program, "-p", home, "-e", "stderr", "-c", "nginx.conf"]
    with _served("nginx", command, tools, port, "/v1/models", home) as (process, start_s):
        yield _idle(Contender("nginx", "127.0.0.1", port, "/v1", pid=process.pid), [start_s])


@contextlib.contextmanager
def roxy(tools: Tools, upstream_port: int, starts: int, processes: int = 1) -> Iterator[Contender]:
    """Run the gateway, after having started it `starts - 1` times to see how long that takes."""
    name = "roxy" if processes == 1 else f"roxy-{processes}"
    home, times = tools.directory / name, []
    home.mkdir()
    config = home / "roxy.toml"
    config.write_text(ROXY_TOML.format(model=MODEL, upstream=upstream_port))
    owner_key = secrets.token_urlsafe(32)
    path = os.environ.get("PATH", "")
    env = {"PATH": path, "HOME": str(home), "ROXY_ADMIN_API_KEY": owner_key}
    env["PYTHONPATH"] = str(_source())
    for start in range(starts):
        port = free_port()
        command: Command = [
            *(sys.executable, "-m", "server.cli", "serve", "--config", config),
            *("--host", "127.0.0.1", "--port", str(port), "--data-dir", home / "data"),
            *("--processes", str(processes)),
        ]
        with _served(name, command, tools, port, "/healthz", home, env) as (process, start_s):
            times.append(start_s)
            if start < starts - 1:
                continue
            key = _mint(port, owner_key)
            found = Contender(name, "127.0.0.1", port, "/api/v1", key, pid=process.pid)
            yield _idle(found, times)


def peer(text: str) -> Contender:
    """Read `NAME=URL,KEY,MODEL[,PID]`: a gateway that someone else started."""
    name, _, rest = text.partition("=")
    url, key, model, *pid = rest.split(",")
    host, _, port = url.removeprefix("http://").partition("/")[0].partition(":")
    prefix = "/" + url.removeprefix("http://").partition("/")[2].strip("/")
    found = Contender(name, host, int(port or 80), prefix, key, model)
    if not pid:
        return found
    found.pid = int(pid[0])
    return _idle(found, [])


@contextlib.contextmanager
def _served(
    name: str,
    command: Command,
    tools: Tools,
    port: int,
    health: str,
    home: Path,
    env: dict[str, str] | None = None,
) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """Run a server until it answers; gives it and the seconds to its first healthy answer."""
    log_path = tools.directory / f"{name}.log"
    with log_path.open("ab") as log:
        began = time.monotonic()
        with child(command, tools.gateway_cpu, cwd=home, env=env, log=log) as process:
            while not _healthy(port, health):
                if process.poll() is not None or time.monotonic() > began + START_TIMEOUT_S:
                    raise BenchError(f"{name} did not start:\n{_tail(log_path)}")
                time.sleep(0.002)
            start_s = time.monotonic() - began
            try:
                yield process, start_s
            except BenchError as error:
                if process.poll() is None:
                    raise
                raise BenchError(f"{name} ended by itself:\n{_tail(log_path)}") from error


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-LOG_TAIL:]


def _source() -> Path:
    """Find the gateway: installed beside us, or else the source tree we are part of."""
    spec = importlib.util.find_spec("server")
    return Path(spec.origin).parents[1] if spec and spec.origin else ROOT


def _healthy(port: int, path: str) -> bool:
    try:
        return ask(port, path, timeout_s=START_TIMEOUT_S)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def _mint(port: int, owner_key: str) -> str:
    payload = {"name": "benchmark", "limits": KEY_LIMITS}
    status, body = ask(port, "/api/v1/keys", key=owner_key, payload=payload)
    if status != 201:
        raise BenchError(f"the gateway made no key: {status} {body.decode(errors='replace')}")
    return str(json.loads(body)["key"])


def _idle(contender: Contender, start_s: list[float]) -> Contender:
    contender.start_s = start_s
    contender.idle_kib = contender.memory_kib()
    return contender
