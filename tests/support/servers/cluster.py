"""Two nodes of a gateway on hosts of their own, with their stores, a balancer and an upstream.

    async with Cluster.started(tmp_path) as cluster:
        secret = await cluster.mint(requests_per_minute=5)
        answer = await cluster.chat(secret)
        await cluster.nodes[0].kill()
        await cluster.nodes[0].start()

PostgreSQL, Valkey, nginx, the fake upstream and the clients are on the near host.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from support.fakes.upstream import FakeUpstream
from support.front_door import NO_AUTHORITIES, OWNER, bearer, request_body, roxy_toml
from support.network.ports import free_ports
from support.processes import COMMAND, PATIENT_COMMAND, Roxy, surroundings
from support.servers.far_hosts import Host, Hosts, far_hosts
from support.servers.postgres_server import PASSWORD, USER, PostgresServer
from support.servers.proxies import NGINX, Proxy, running_proxy
from support.servers.redis_server import RedisServer
from support.waiting import PATIENCE_S, soon

SETTINGS = """
[server]
host = "0.0.0.0"
stop_delay_s = 0.5
drain_timeout_s = 5.0
"""
HOUR_AHEAD = {
    "LD_PRELOAD": next(map(str, Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), ""),
    "FAKETIME": "+1h",
    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
}
"""Variables of a process whose wall clock is an hour ahead; from the Debian package libfaketime."""


class Node:
    """One node, which can be killed, stopped, continued and started again."""

    def __init__(self, name: str, host: Host, port: int, path: Path) -> None:
        self.name = name
        self.host = host
        self.port = port
        self.url = f"http://{host.address}:{port}"
        self.environ: dict[str, str] = {}
        self.program: Sequence[str] = COMMAND
        self._identity = {"ROXY_SERVER_NODE_ID": name, "ROXY_SERVER_NODE_URL": self.url}
        self.logs: list[str] = []
        """What its processes have written that have ended, in JSON, and when they did."""
        self.ends: list[float] = []
        self._path = path
        self._roxy: Roxy | None = None

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        options = ("serve", "--port", str(self.port))
        process = await asyncio.create_subprocess_exec(
            *self.host.command,
            *self.program,
            *options,
            cwd=self._path,
            env=surroundings(self.environ | self._identity),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self._roxy = Roxy(process)
        await self._roxy.ready()

    def signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self._roxy is not None and self._roxy.process.returncode is None:
            self._roxy.signal(number)

    async def stop(self) -> int:
        """Stop it in order; give its exit code."""
        assert self._roxy is not None
        self._roxy.signal(signal.SIGTERM)
        code = await soon(self._roxy.process.wait())
        await self.kill()
        return code

    async def kill(self) -> None:
        """Kill it, as `kill -9` does."""
        roxy, self._roxy = self._roxy, None
        if roxy is not None:
            await roxy.aclose()
            self.logs.append(roxy.err)
            self.ends.append(time.time())

    @property
    def log(self) -> str:
        """Return what it has written since its last start."""
        return self._roxy.err if self._roxy is not None else self.logs[-1]


class Cluster:
    """Everything that runs, and a client with the owner key that asks through the balancer."""

    def __init__(
        self,
        hosts: Hosts,
        nodes: list[Node],
        postgres: PostgresServer,
        redis: RedisServer,
        upstream: FakeUpstream,
        proxy: Proxy,
        direct: httpx.AsyncClient,
    ) -> None:
        self.hosts = hosts
        self.nodes = nodes
        self.postgres = postgres
        self.redis = redis
        self.upstream = upstream
        self.proxy = proxy
        self.client = proxy.client
        self._direct = direct

    async def chat(self, secret: str, user: str = "", **body: Any) -> httpx.Response:
        """Ask for a completion; `user` marks the request for the upstream."""
        asked = request_body(**body) | ({"user": user} if user else {})
        return await self.client.post(
            "/api/v1/chat/completions", json=asked, headers=bearer(secret)
        )

    async def mint(self, name: str = "key", **limits: Any) -> dict[str, Any]:
        """Create a key and give the answer."""
        answer = await self.client.post(
            "/api/v1/keys", json={"name": name, "limits": limits}, headers=bearer(OWNER)
        )
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def create_at(self, node: Node) -> dict[str, Any]:
        """Create a key at one node, past the balancer, and give the answer."""
        sent = {"name": f"made by {node.name}"}
        answer = await self._direct.post(
            f"{node.url}/api/v1/keys", json=sent, headers=bearer(OWNER)
        )
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def ask_node(self, node: Node, path: str, secret: str = OWNER) -> httpx.Response:
        """Ask one node, past the balancer."""
        return await self._direct.get(node.url + path, headers=bearer(secret))

    async def usage(self) -> list[dict[str, Any]]:
        """Return the sums of usage by key."""
        answer = await self.client.get("/api/v1/usage", headers=bearer(OWNER))
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()["data"]
        return rows

    @classmethod
    @contextlib.asynccontextmanager
    async def started(
        cls,
        path: Path,
        *,
        keeps: bool = True,
        environ: Mapping[str, str] | None = None,
        patient: bool = True,
    ) -> AsyncIterator[Cluster]:
        """Start everything; the second node has the further variables `environ`.

        `keeps`: Valkey keeps its data on disk. No store is away for being slow, unless the nodes
        are not `patient`.
        """
        async with contextlib.AsyncExitStack() as stack:
            hosts = await stack.enter_async_context(far_hosts(2))
            near = hosts.near.address
            postgres = stack.enter_context(PostgresServer.made({"listen_addresses": "*"}))
            admit_hosts(postgres, near)
            (path / "valkey").mkdir()
            open_to_all = ("--bind", "0.0.0.0", "--protected-mode", "no")
            redis = RedisServer(path / "valkey", "valkey", *open_to_all, keeps=keeps)
            await stack.enter_async_context(redis)
            upstream = await stack.enter_async_context(FakeUpstream(host=near))
            database = postgres.new_database().rpartition("/")[2]
            urls = {
                "ROXY_DATABASE_URL": f"postgresql://{USER}:{PASSWORD}@{near}:{postgres.port}/"
                f"{database}",
                "ROXY_REDIS_URL": f"redis://{near}:{redis.port}",
                "PYTHONWARNINGS": "",
            }
            nodes = make_nodes(hosts, path, upstream)
            for node, more in zip(nodes, ({}, environ or {}), strict=True):
                node.environ = urls | dict(more)
                node.program = PATIENT_COMMAND if patient else COMMAND
                stack.push_async_callback(node.kill)
            await asyncio.gather(*(node.start() for node in nodes))
            places = [f"{node.host.address}:{node.port}" for node in nodes]
            proxy = await stack.enter_async_context(running_proxy(NGINX, path / "proxy", *places))
            past_the_proxy = httpx.AsyncClient(
                timeout=PATIENCE_S, trust_env=False, verify=NO_AUTHORITIES
            )
            direct = await stack.enter_async_context(past_the_proxy)
            yield cls(hosts, nodes, postgres, redis, upstream, proxy, direct)


def make_nodes(hosts: Hosts, path: Path, upstream: FakeUpstream) -> list[Node]:
    """Write the configuration of the nodes, which differ in nothing."""
    nodes = []
    for host, port, name in zip(hosts.far, free_ports(2), ("node-a", "node-b"), strict=True):
        (path / name).mkdir()
        settings = f'{SETTINGS}\n[log]\naccess = false\nformat = "json"\n'
        trusted = f'host = "0.0.0.0"\ntrusted_proxies = ["{hosts.near.address}"]'
        settings = settings.replace('host = "0.0.0.0"', trusted)
        prices = "prices = { prompt = 1.0, completion = 2.0 }"
        toml = roxy_toml(upstream.base_url, settings=settings, prices=prices)
        (path / name / "roxy.toml").write_text(toml)
        nodes.append(Node(name, host, port, path / name))
    return nodes


def admit_hosts(postgres: PostgresServer, near: str) -> None:
    """Have PostgreSQL accept connections of the far hosts, with the same password."""
    network = near.rpartition(".")[0] + ".0/24"
    with (postgres.path / "data" / "pg_hba.conf").open("a") as file:
        file.write(f"host all all {network} scram-sha-256\n")
    postgres.sql("SELECT pg_reload_conf()")
