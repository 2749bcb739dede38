"""Firefox ESR, driven by WebDriver BiDi: over a WebSocket, without a driver program."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from support.browsing.engines.engine import FAULTS
from support.waiting import soon
from tornado.websocket import WebSocketClientConnection, websocket_connect

PROGRAM = "firefox-esr"
SIZE = {"width": 390, "height": 844}
QUIET = {
    "app.update.enabled": False,
    "app.normandy.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "dom.events.testing.asyncClipboard": True,  # the clipboard works without a focused window
    "extensions.update.enabled": False,
    "focusmanager.testmode": True,  # as if the window had the focus, which a hidden one never has
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "toolkit.telemetry.enabled": False,
    "ui.prefersReducedMotion": 1,
}
"""Preferences: no calls home, and a focus."""


class Firefox:
    """A running Firefox with one tab."""

    name = "Firefox"

    def __init__(self, socket: WebSocketClientConnection) -> None:
        self._socket = socket
        self._count = 0
        self._events: list[dict[str, Any]] = []
        self._profile = ""
        self._tab = ""

    async def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        call = {"id": self._count, "method": method, "params": parameters}
        await self._socket.write_message(json.dumps(call))
        while True:
            text = await soon(self._socket.read_message())
            assert text is not None, "Firefox has ended"
            message = json.loads(text)
            if message.get("id") == self._count:
                assert message["type"] == "success", message
                result: dict[str, Any] = message["result"]
                return result
            self._events.append(message)

    async def begin(self) -> None:
        """Begin a session."""
        await self._call("session.new", capabilities={})
        await self._call("session.subscribe", events=["log.entryAdded"])
        await self._call("script.addPreloadScript", functionDeclaration=f"() => {{ {FAULTS} }}")

    async def fresh(self) -> None:
        """Open a tab in a new container, and close the one before."""
        before, tab = self._profile, self._tab
        self._profile = (await self._call("browser.createUserContext"))["userContext"]
        made = await self._call("browsingContext.create", type="tab", userContext=self._profile)
        self._tab = made["context"]
        if before:
            await self._call("browsingContext.close", context=tab)
            await self._call("browser.removeUserContext", userContext=before)
        await self._call("browsingContext.setViewport", context=self._tab, viewport=SIZE)
        self._events.clear()

    async def go(self, url: str) -> None:
        """Load a page."""
        await self._call("browsingContext.navigate", context=self._tab, url=url, wait="complete")

    async def run(self, body: str, *args: Any) -> Any:
        """Run the body of an asynchronous function; its result travels as JSON."""
        call = """async (given) => {
          const args = JSON.parse(given);
          const made = await (async () => { BODY })();
          return JSON.stringify(made ?? null);
        }"""
        result = await self._call(
            "script.callFunction",
            functionDeclaration=call.replace("BODY", body),
            arguments=[{"type": "string", "value": json.dumps(args)}],
            target={"context": self._tab},
            awaitPromise=True,
            userActivation=False,
        )
        assert result["type"] == "success", result["exceptionDetails"]["text"]
        return json.loads(result["result"]["value"])

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
            {"type": "pointerMove", "x": round(x), "y": round(y)},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        await self._perform({"type": "pointer", "id": "mouse", "actions": actions})

    async def _perform(self, source: dict[str, Any]) -> None:
        await self._call("input.performActions", context=self._tab, actions=[source])

    async def attach(self, selector: str, path: Path) -> None:
        """Choose a file for a field."""
        found = await self._call(
            "script.callFunction",
            functionDeclaration="(selector) => document.querySelector(selector)",
            arguments=[{"type": "string", "value": selector}],
            target={"context": self._tab},
            awaitPromise=False,
        )
        element = {"sharedId": found["result"]["sharedId"]}
        await self._call("input.setFiles", context=self._tab, element=element, files=[str(path)])

    async def faults(self) -> list[str]:
        """Return exceptions and violations of all pages of the visit."""
        kept: list[str] = await self.run("return globalThis.__faults ?? []")
        logged = [
            str(one["params"]["text"])
            for one in self._events
            if one.get("method") == "log.entryAdded"
            and one["params"]["type"] == "javascript"
            and one["params"]["level"] == "error"
        ]
        self._events.clear()
        return [*kept, *logged]

    async def end(self) -> None:
        """Close the browser."""
        with contextlib.suppress(AssertionError):
            await self._call("browser.close")
        self._socket.close()


@contextlib.asynccontextmanager
async def running_firefox(path: Path) -> AsyncIterator[Firefox]:
    """Run Firefox with its profile in `path`."""
    lines = [
        f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in QUIET.items()
    ]
    path.mkdir()  # noqa: ASYNC240
    (path / "user.js").write_text("\n".join(lines))
    options = ("--headless", "--no-remote", "--profile", str(path), "--remote-debugging-port", "0")
    process = await asyncio.create_subprocess_exec(
        PROGRAM, *options, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr
    try:
        while not (
            found := re.search(rb"listening on (ws://\S+)", await soon(process.stderr.readline()))
        ):
            assert process.returncode is None, "Firefox did not start"
        socket = await websocket_connect(found[1].decode() + "/session", max_message_size=2**26)
        firefox = Firefox(socket)
        await firefox.begin()
        yield firefox
        await firefox.end()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await soon(process.communicate())
