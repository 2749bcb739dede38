"""Browsers as the gateway meets them: with cookies, Fetch Metadata and the page's XSRF token."""

from __future__ import annotations

import re
import time

import httpx
from support.front_door import Door

from server.identity.authentication import GUEST_COOKIE, XSRF_HEADER
from server.identity.visitor_tags import VISITOR_HEADER


def guest(door: Door) -> dict[str, str]:
    """Return the headers of a browser that has opened a page, without a key; each time another."""
    guests = door.gateway.services.guests
    cookie = guests.issue(time.time())
    return page_call(f"{GUEST_COOKIE}={cookie}", guests.xsrf_token(cookie))


def page_call(cookie: str, token: str | None = None) -> dict[str, str]:
    """Return the headers of a call that a page makes to its own server."""
    headers = {"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}
    return headers | ({XSRF_HEADER: token} if token is not None else {})


class Browser:
    """One browser: it keeps cookies, and what the page it has opened last has in its head."""

    def __init__(self, door: Door) -> None:
        self._client = door.client
        self.cookies: dict[str, str] = {}
        self.token = ""
        self.visitor = ""
        self.site = {"Sec-Fetch-Site": "same-origin"}

    async def open(self, path: str) -> httpx.Response:
        """Open a page by its address."""
        browsing = {"Sec-Fetch-Site": "none", "Accept": "text/html,*/*;q=0.8"}
        answer = await self._send("GET", path, browsing)
        token = re.search(r'<meta name="roxy-xsrf" content="(\w+)">', answer.text)
        if token:
            self.token = token[1]
        visitor = re.search(r'<meta name="roxy-visitor" content="([^"]*)">', answer.text)
        if visitor:
            self.visitor = visitor[1]
        return answer

    async def submit(
        self, path: str, site: dict[str, str] | None = None, **fields: str
    ) -> httpx.Response:
        """Send a form of the page, its hidden token included unless another is given."""
        form = {"xsrf": self.token} | fields
        return await self._send("POST", path, self.site if site is None else site, data=form)

    async def sign_in(self, key: str, **fields: str) -> httpx.Response:
        """Open the sign-in page, send the key and open the page after it."""
        await self.open("/login")
        answer = await self.submit("/login", None, key=key, **fields)
        if answer.status_code == 303:
            await self.open("/no-such-page")  # a page like any: it has the new token
        return answer

    async def call(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        visitor: str = "",
        **more: object,
    ) -> httpx.Response:
        """Call the API as a script of the page does; with `visitor` it says who that was for."""
        headers = self.site | {XSRF_HEADER: self.token if token is None else token}
        headers |= {VISITOR_HEADER: visitor} if visitor else {}
        return await self._send(method, f"/api/v1/{path}", headers, **more)

    async def _send(
        self, method: str, path: str, headers: dict[str, str], **more: object
    ) -> httpx.Response:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if cookie:
            headers = headers | {"Cookie": cookie}
        self._client.cookies.clear()
        raw = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
        answer = await self._client.request(method, path, headers=raw, **more)  # type: ignore[arg-type]
        for line in answer.headers.get_list("set-cookie"):
            name, value = line.partition(";")[0].split("=", 1)
            self.cookies.pop(name, None)
            if value:
                self.cookies[name] = value
        self._client.cookies.clear()
        return answer
