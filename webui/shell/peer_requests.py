"""Describe a page's request to the other processes of the gateway."""

from __future__ import annotations

from server.answers.passing import RequestOrigin
from server.identity.client_addresses import client_address
from webui.shell.pages import PageHandler


def asked_by(page: PageHandler) -> RequestOrigin:
    """Return what other processes need to know of the request for a page."""
    request, proxies = page.request, page.services.proxies
    client = client_address(request.remote_ip or "", request.headers, proxies)
    host = request.headers.get("Host", "")
    return RequestOrigin(request.headers, str(client), host, page.is_secure())
