"""Run a real gateway for a test and send requests to it.

    @pytest.mark.gateway(max_concurrency=1)
    async def test_an_answer(upstream: FakeUpstream, door: Door) -> None:
        upstream.plan(completion("Hello"))
        answer = await door.chat("Hi")

The gateway is built by its own composition root from a `roxy.toml`, listens on a free loopback
port, and has the models `test/one` (served by the fake upstream) and those of the built-in catalog.
The fixtures here are available to every test; the mark `gateway` carries the options of
`front_door`. A test that starts a gateway twice, or several, calls `front_door` itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from support.fakes.clocks import Clocks
from support.fakes.upstream import FakeUpstream
from support.patience import patient_stores
from support.waiting import PATIENCE_S

from server.app import Gateway, gateway
from server.config.loading import load_config
from server.store.patience import StorePatience
from server.store.usage_queries import RowsQuery

OWNER = "owner-key-for-the-tests"
MODEL = "test/one"
STOPPED = 5_000.0
"""What the clock of the limits says, in seconds."""
NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that speak plain HTTP: reading the system's authorities takes them 40 ms of CPU."""


class Door:
    """A client of one running gateway, holding the owner key."""

    def __init__(self, running: Gateway, client: httpx.AsyncClient) -> None:
        self.gateway = running
        self.client = client
        self.url = running.url
        self.port = running.port

    def hold_time_for_clients(self) -> Callable[[float], None]:
        """Stop the clock that limits clients; the result lets seconds pass and checks them all."""
        server, clock = self.gateway.server, Clocks()
        clock.at = server.connections.clock()
        server.connections.clock = clock.now

        def pass_s(seconds: float) -> None:
            clock.pass_s(seconds)
            server.check_connections()

        return pass_s

    def release_time_for_clients(self) -> None:
        """Start the clock that limits clients again, for a gateway that tests share."""
        self.gateway.server.connections.clock = monotonic

    async def chat(
        self, content: Any = "Hi", *, key: str = OWNER, max_wait_s: float = 120.0, **body: Any
    ) -> httpx.Response:
        """Ask for a completion; `body` adds or replaces members of the request."""
        headers = bearer(key) | {"X-Roxy-Max-Wait": str(max_wait_s)}
        return await self.client.post(
            "/api/v1/chat/completions", json=request_body(content, **body), headers=headers
        )

    @contextlib.asynccontextmanager
    async def stream(
        self,
        content: Any = "Hi",
        *,
        key: str = OWNER,
        headers: Mapping[str, str] | None = None,
        **body: Any,
    ) -> AsyncIterator[httpx.Response]:
        """Ask for a streamed completion and give the response while it lasts."""
        asked = request_body(content, stream=True, **body)
        async with self.client.stream(
            "POST",
            "/api/v1/chat/completions",
            json=asked,
            headers=bearer(key) | dict(headers or {}),
        ) as response:
            yield response

    async def stream_text(self, content: Any = "Hi", **body: Any) -> str:
        """Ask for a streamed completion and give the whole event stream."""
        async with self.stream(content, **body) as response:
            assert response.status_code == 200, await response.aread()
            return (await response.aread()).decode()

    async def get(self, path: str, key: str | None = OWNER) -> httpx.Response:
        """GET a path of the API."""
        return await self.client.get(path, headers=bearer(key) if key else {})

    async def mint(self, name: str = "test", **fields: Any) -> str:
        """Create a key and give its secret."""
        return str((await self.mint_key(name, **fields))["key"])

    async def mint_key(self, name: str = "test", **fields: Any) -> dict[str, Any]:
        """Create a key and give the whole answer."""
        answer = await self.client.post(
            "/api/v1/keys", json={"name": name, **fields}, headers=bearer(OWNER)
        )
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def raw(self, request: bytes, *, timeout_s: float = PATIENCE_S) -> bytes:
        """Send bytes on a connection of their own and read until the gateway closes it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            async with asyncio.timeout(timeout_s):
                return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def usage_rows(self, count: int = 1) -> list[Any]:
        """Wait until `count` usage rows are in the store and give them, newest first."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                page = await self.gateway.services.store.usage_rows(RowsQuery(limit=1000))
                if len(page.rows) >= count:
                    return list(page.rows)
                await asyncio.sleep(0.02)  # the ledger writes behind; there is no event to wait for


def bearer(key: str) -> dict[str, str]:
    """Return the header that carries a key."""
    return {"Authorization": f"Bearer {key}"}


def request_body(content: Any = "Hi", **more: Any) -> dict[str, Any]:
    """Return a chat request for the test model."""
    return {"model": MODEL, "messages": [{"role": "user", "content": content}]} | more


def parse_events(text: str) -> list[Any]:
    """Read a plain OpenAI event stream: every event's JSON, and "[DONE]" as text."""
    events: list[Any] = []
    for block in text.split("\n\n"):
        if not block or block.startswith(":"):
            continue
        assert block.startswith("data: "), f"not a plain event: {block!r}"
        payload = block.removeprefix("data: ")
        events.append(payload if payload == "[DONE]" else json.loads(payload))
    return events


def text_of(events: list[Any]) -> str:
    """Join the content of the chunks."""
    return "".join(
        choice["delta"].get("content") or ""
        for event in events
        if isinstance(event, dict)
        for choice in event.get("choices", [])
    )


def roxy_toml(
    *base_urls: str,
    settings: str = "",
    max_concurrency: int = 64,
    prices: str = "",
    quirks: str = "",
) -> str:
    """Write a configuration with the test model served by the given upstreams, in order."""
    lines = [
        settings,
        "[[models]]",
        f'id = "{MODEL}"',
        'name = "Test One"',
        'owned_by = "test"',
        prices,
    ]
    for order, base_url in enumerate(base_urls, 1):
        lines += [
            "[[models.deployments]]",
            'provider = "openai"',
            f'base_url = "{base_url}"',
            'upstream_model = "upstream-model"',
            'secret_env = "TEST_UPSTREAM_KEY"',
            f"order = {order}",
            f"max_concurrency = {max_concurrency}",
            quirks,
        ]
    return "\n".join(lines)


@contextlib.asynccontextmanager
async def front_door(
    path: Path,
    *upstreams: FakeUpstream | str,
    settings: str = "",
    prices: str = "prices = { prompt = 1.0, completion = 2.0 }",
    max_concurrency: int = 64,
    quirks: str = "",
    environ: Mapping[str, str] | None = None,
    demo: bool = False,
    port: int = 0,
    clock: Callable[[], float] = lambda: STOPPED,
    patience: StorePatience | None = None,
) -> AsyncIterator[Door]:
    """Run a gateway in `path` in front of the upstreams; `settings` are further lines of TOML.

    `prices` are lines for the model, `quirks` for each of its deployments.

    The clock of the limits stands still, so that nothing comes back to a limit while a slow machine
    runs the test. A test that waits for a limit passes `time.monotonic`. No store is away for being
    slow, unless `patience` says so.
    """
    urls = [one if isinstance(one, str) else one.base_url for one in upstreams]
    file = path / "roxy.toml"
    if urls:
        file.write_text(
            roxy_toml(
                *urls,
                settings=settings,
                max_concurrency=max_concurrency,
                prices=prices,
                quirks=quirks,
            )
        )
    else:
        file.write_text(settings)
    variables = {"ROXY_ADMIN_API_KEY": OWNER, "TEST_UPSTREAM_KEY": "upstream-secret"} | dict(
        environ or {}
    )
    config = load_config(
        {"port": port, "data_dir": str(path / "data"), "demo": demo}, variables, file
    )
    if demo:  # its answers take seconds, and a stop need not wait for those that a test left
        config = replace(config, server=replace(config.server, drain_timeout_s=0.5))
    async with gateway(
        config, variables, clock=clock, patience=patience or patient_stores()
    ) as running:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
        async with httpx.AsyncClient(
            base_url=running.url,
            timeout=PATIENCE_S,
            limits=limits,
            trust_env=False,
            verify=NO_AUTHORITIES,
        ) as client:
            yield Door(running, client)


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """Run a fake upstream, which completes every request until a test plans otherwise."""
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture
async def door(
    request: pytest.FixtureRequest, tmp_path: Path, upstream: FakeUpstream
) -> AsyncIterator[Door]:
    """Run a gateway in front of `upstream`, with its files in `tmp_path`."""
    async with front_door(tmp_path, upstream, **_options(request)) as opened:
        yield opened


@pytest.fixture
async def bare_door(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Door]:
    """Run a gateway without upstreams, which cannot serve its built-in catalog."""
    async with front_door(tmp_path, **_options(request)) as opened:
        yield opened


@pytest.fixture
async def demo_door(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Door]:
    """Run a gateway that serves the built-in catalog by the demo upstream."""
    async with front_door(tmp_path, demo=True, **_options(request)) as opened:
        yield opened


def _options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the options of the test's `gateway` mark."""
    mark = request.node.get_closest_marker("gateway")
    return dict(mark.kwargs) if mark else {}
