"""Serve what the owner has changed about the pages: name, logo, manifest and notice.

All of it is in the HTML that the server sends, so no page changes after it is shown.
"""

from __future__ import annotations

import hashlib
import logging
import struct
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import msgspec

from server.api.base import BaseHandler
from server.config.web_settings import Logo, Web, read_logo
from webui.shell.assets import TYPES, packaged_assets
from workers.errors import NotFound

log = logging.getLogger("roxy.pages")

ICONS = (
    ("icons/icon-192.png", "192x192", "any"),
    ("icons/icon-512.png", "512x512", "any"),
    ("icons/maskable-512.png", "512x512", "maskable"),
    ("favicon.svg", "any", "any"),
)
"""File, size and purpose of the icons in the manifest (W3C Web Application Manifest)."""
LOGO_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""An SVG that is opened by itself is a document: it runs no scripts and loads nothing."""
PNG_SIZE = slice(16, 24)
"""Width and height in a PNG file (PNG specification, IHDR)."""


class Notice(NamedTuple):
    """A line above the pages. `mark` is its name in the cookie of those who closed it."""

    text: str
    link: str
    mark: str


class Brand(NamedTuple):
    """Notice, name and logo. `logo_path` is "" without a logo, `notice` None without one."""

    name: str
    logo: Logo | None
    logo_path: str
    notice: Notice | None

    def icons(self) -> list[dict[str, str]]:
        """Return the icons of the manifest: the owner's logo, or Roxy's own."""
        if self.logo is None:
            path = packaged_assets().path
            return [
                {"src": path(name), "sizes": sizes, "type": _type(name), "purpose": purpose}
                for name, sizes, purpose in ICONS
            ]
        return [{"src": self.logo_path, "sizes": _sizes(self.logo), "type": _type(self.logo_path)}]


@lru_cache(maxsize=4)
def brand_of(web: Web) -> Brand:
    """Return what the settings of `[web]` make of the pages; the logo is read once."""
    logo = None
    if web.logo:
        try:
            logo = read_logo(web.logo)
        except ValueError as error:  # changed since the configuration was checked
            log.error("web.logo: %s; the pages show Roxy's own logo", error)
    path = f"/logo/{logo.mark}.{logo.ending}" if logo is not None else ""
    notice = None
    if web.notice:
        mark = hashlib.sha256(f"{web.notice}\0{web.notice_link}".encode()).hexdigest()[:12]
        notice = Notice(web.notice, web.notice_link, mark)
    return Brand(web.name, logo, path, notice)


def _type(name: str) -> str:
    return TYPES[name.rpartition(".")[2]]


def _sizes(logo: Logo) -> str:
    if logo.ending != "png":
        return "any"
    try:
        width, height = struct.unpack(">II", logo.data[PNG_SIZE])
    except struct.error:
        return "any"
    return f"{width}x{height}"


class LogoHandler(BaseHandler):
    """The owner's logo."""

    access = "anyone"
    cross_origin = False

    def get(self, mark: str) -> None:
        """Send the logo, if it is the one with this hash."""
        brand = brand_of(self.services.config.web)
        if brand.logo is None or brand.logo.mark != mark:
            raise NotFound("There is no such logo.")
        headers = {
            "Content-Type": _type(brand.logo_path),
            "Content-Security-Policy": LOGO_POLICY,
            "Cache-Control": "public, max-age=31536000, immutable",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        self.reply(200, brand.logo.data, headers)


class ManifestHandler(BaseHandler):
    """The manifest, with which phones put the chat on their home screen."""

    access = "anyone"
    cross_origin = False
    colours: ClassVar[dict[str, str]] = {
        "background_color": "#f9fafb",
        "theme_color": "#f0f3f5",
    }

    def get(self) -> None:
        """Send the manifest."""
        brand = brand_of(self.services.config.web)
        manifest: dict[str, Any] = {
            "name": brand.name,
            "short_name": brand.name,
            "id": "/",
            "start_url": "/",
            "display": "standalone",
            **self.colours,
            "icons": brand.icons(),
        }
        headers = {"Content-Type": TYPES["webmanifest"], "Cache-Control": "no-cache"}
        self.reply(200, msgspec.json.encode(manifest), headers)
