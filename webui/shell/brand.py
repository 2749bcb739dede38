"""Serve what the owner has changed about the pages: name, logo, manifest and notice.

All of it is in the HTML that the server sends, so no page changes after it is shown.
"""

from __future__ import annotations

import hashlib
import logging
import re
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
SVG_TAG = re.compile(rb"<svg\b[^>]*>")
SVG_BOX = re.compile(
    rb"""\bviewBox\s*=\s*["'][^"'\s,]+[\s,]+[^"'\s,]+[\s,]+([\d.]+)[\s,]+([\d.]+)"""
)
SVG_LENGTH = rb"""\s%s\s*=\s*["']([\d.]+)(?:px)?["']"""
MAX_SIDE_PX = 100_000


class Notice(NamedTuple):
    """A line above the pages. `mark` is its name in the cookie of those who closed it."""

    text: str
    link: str
    mark: str


class Brand(NamedTuple):
    """Notice, name and logo. `logo_path` is "" without a logo, `notice` None without one.

    `logo_size` is None for a logo whose size cannot be read.
    """

    name: str
    logo: Logo | None
    logo_path: str
    logo_size: tuple[int, int] | None
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
    return Brand(web.name, logo, path, logo_size(logo) if logo is not None else None, notice)


def _type(name: str) -> str:
    return TYPES[name.rpartition(".")[2]]


def _sizes(logo: Logo) -> str:
    size = logo_size(logo) if logo.ending == "png" else None
    return f"{size[0]}x{size[1]}" if size is not None else "any"


def logo_size(logo: Logo) -> tuple[int, int] | None:
    """Return the width and height that a logo states, None if they cannot be read.

    With them a page reserves the room for a logo before it has come.
    """
    data = logo.data
    try:
        if logo.ending == "png":
            width, height = struct.unpack(">II", data[PNG_SIZE])
        elif logo.ending == "webp":
            width, height = _webp_size(data)
        else:
            width, height = _svg_size(data)
    except (struct.error, ValueError, IndexError):
        return None
    fits = 0 < width <= MAX_SIDE_PX and 0 < height <= MAX_SIDE_PX
    return (width, height) if fits else None


def _webp_size(data: bytes) -> tuple[int, int]:
    """Return the size in a WebP file (RFC 9649, 2.5 to 2.7)."""
    if data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if data[12:16] == b"VP8L":
        (bits,) = struct.unpack("<I", data[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack("<HH", data[26:30])
    return width & 0x3FFF, height & 0x3FFF


def _svg_size(data: bytes) -> tuple[int, int]:
    """Return the size in the first tag of an SVG file: its view box, else its sides in pixels."""
    tag = SVG_TAG.search(data)
    found = SVG_BOX.search(tag[0]) if tag is not None else None
    if tag is None or found is not None:
        sides = found.groups() if found is not None else ()
    else:
        matches = [re.search(SVG_LENGTH % side, tag[0]) for side in (b"width", b"height")]
        sides = tuple(match[1] for match in matches if match is not None)
    width, height = (float(side) for side in sides)  # ValueError for fewer
    # Their ratio counts: a view box may be a few units wide.
    return round(width * 100), round(height * 100)


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
