"""WebKitGTK, which is close to Safari: its small browser, driven by WebDriver over HTTP.

The browser keeps nothing when it ends, as a private window; it needs a display, which Xvfb gives.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
from support.browsing.engines.engine import FAULTS
from support.network.ports import free_port
from support.waiting import PATIENCE_S, soon

DRIVER = "WebKitWebDriver"
BROWSER = "webkit2gtk-4.1/MiniBrowser"
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class WebKit:
    """A running browser with one window."""

    name = "WebKit"

    def __init__(self, client: httpx.AsyncClient, session: str) -> None:
        self._client = client
        self._session = session

    async def _call(self, method: str, path: str, **body: Any) -> Any:
        answer = await self._client.request(
            method, f"/session/{self._session}/{path}", json=body if method == "POST" else None
        )
        value = answer.json()["value"]
        assert answer.is_success, f"{path}: {value}"
        return value

    async def fresh(self) -> None:
        """Forget cookies; everything else belongs to the port of a gateway."""
        await self._call("DELETE", "cookie")

    async def go(self, url: str) -> None:
        """Load a page."""
        await self._call("POST", "url", url=url)

    async def run(self, body: str, *args: Any) -> Any:
        """Run the body of an asynchronous function."""
        script = """const [args, done] = arguments;
        (async () => { BODY })().then((made) => done([true, made ?? null]),
          (error) => done([false, String(error)]));""".replace("BODY", body)
        good, made = await self._call("POST", "execute/async", script=script, args=[list(args)])
        assert good, made
        return made

    async def keys(self, text: str, *, holding: str = "") -> None:
        """Press keys."""
        actions = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        if holding:
            held = {"value": holding}
            actions = [{"type": "keyDown", **held}, *actions, {"type": "keyUp", **held}]
        await self._perform({"type": "key", "id": "keys", "actions": actions})

    async def press_at(self, x: float, y: float) -> None:
        """Click a point."""
        actions = [
            {"type": "pointerMove", "x": round(x), "y": round(y), "duration": 0},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        await self._perform({"type": "pointer", "id": "mouse", "actions": actions})

    async def _perform(self, source: dict[str, Any]) -> None:
        await self._call("POST", "actions", actions=[source])

    async def attach(self, selector: str, path: Path) -> None:
        """Choose a file for a field."""
        found = await self._call("POST", "element", using="css selector", value=selector)
        await self._call("POST", f"element/{found[ELEMENT]}/value", text=str(path))

    async def faults(self) -> list[str]:
        """Return exceptions and violations since the page was loaded."""
        found: list[str] = await self.run(FAULTS + "return globalThis.__faults;")
        return found


@contextlib.asynccontextmanager
async def running_webkit(program: Path, environ: Mapping[str, str]) -> AsyncIterator[WebKit]:
    """Run the browser at `program` and its driver, on the display of `environ`."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        DRIVER,
        f"--port={port}",
        env=environ,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    options = {"binary": str(program), "args": ["--automation"]}
    wanted = {"alwaysMatch": {"webkitgtk:browserOptions": options}}
    base = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=base, timeout=PATIENCE_S, trust_env=False) as client:
            async with asyncio.timeout(PATIENCE_S):
                while not await is_up(client):
                    await asyncio.sleep(0.05)
            answer = await client.post("/session", json={"capabilities": wanted})
            assert answer.is_success, answer.text
            session = answer.json()["value"]["sessionId"]
            yield WebKit(client, session)
            await client.delete(f"/session/{session}")
    finally:
        process.terminate()
        await soon(process.wait())


async def is_up(client: httpx.AsyncClient) -> bool:
    """Return whether the driver answers."""
    try:
        return (await client.get("/status")).is_success
    except httpx.TransportError:
        return False


@contextlib.asynccontextmanager
async def display() -> AsyncIterator[dict[str, str]]:
    """Run a display without a screen; give the environment of programs that use it."""
    process = await asyncio.create_subprocess_exec(
        "Xvfb",
        "-displayfd",
        "1",
        "-screen",
        "0",
        "1280x900x24",
        "-nolisten",
        "tcp",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout
    try:
        number = (await soon(process.stdout.readline())).decode().strip()
        yield os.environ | {"DISPLAY": f":{number}", "LIBGL_ALWAYS_SOFTWARE": "1"}
    finally:
        process.terminate()
        await soon(process.wait())


def find_browser() -> Path | None:
    """Return WebKitGTK's small browser."""
    return next(Path("/usr/lib").glob(f"*/{BROWSER}"), None)
