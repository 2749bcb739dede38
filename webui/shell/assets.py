"""Serve style sheets, scripts and icons from memory, under paths that change with their content.

The path holds a hash over all files, so browsers may keep every file for ever, and the relative
imports of a script stay within one version. After an upgrade the old paths do not exist any more:
a missing file is a 404, never a page.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import NamedTuple

from server.api.base import BaseHandler
from workers.errors import NotFound

TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "webmanifest": "application/manifest+json",
    "webp": "image/webp",
}
JOINED = {
    "css/chat.all.css": (
        "css/tokens.css",
        "css/base.css",
        "css/shell.css",
        "css/chat/frame.css",
        "css/chat/sidebar.css",
        "css/chat/head.css",
        "css/chat/transcript.css",
        "css/chat/markdown.css",
        "css/chat/composer.css",
        "css/chat/prompts.css",
        "css/chat/welcome.css",
        "css/chat/dialogs.css",
        "css/chat/print.css",
    ),
    "css/admin.all.css": (
        "css/tokens.css",
        "css/base.css",
        "css/shell.css",
        "css/admin/tables.css",
        "css/admin/keys.css",
        "css/admin/usage.css",
        "css/admin/requests.css",
        "css/admin/live.css",
        "css/admin/models.css",
        "css/admin/print.css",
    ),
    "css/share.all.css": (
        "css/tokens.css",
        "css/base.css",
        "css/shell.css",
        "css/chat/transcript.css",
        "css/chat/markdown.css",
        "css/chat/print.css",
        "css/share.css",
    ),
    "css/pages.all.css": ("css/tokens.css", "css/base.css", "css/shell.css"),
    "css/docs.all.css": ("css/tokens.css", "css/base.css", "css/shell.css", "css/docs.css"),
}
"""Files that are made by joining others, so that a page needs one request for its styles."""
COMMENTS = re.compile(
    rb"^[ \t]*(?://.*|/\*\*(?:(?!\*/)[\s\S])*\*/[ \t]*)$|/\*\* @type [^*\n]*\*/ ?", re.MULTILINE
)
"""Comments that fill whole lines, and types; other comments stay, as a string may look like one."""
HASH_LENGTH = 12
GZIP = 16 + zlib.MAX_WBITS
"""zlib writes a gzip header for window sizes from 16 on; the default is a zlib header."""


class Asset(NamedTuple):
    """A file as it is sent: plain, and compressed where that is smaller."""

    content_type: str
    plain: bytes
    gzipped: bytes | None


class Assets:
    """All files by name, and the hash that is part of every path."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = {name: _asset(name, data) for name, data in sorted(files.items())}
        mark = hashlib.sha256()
        for name, asset in self._files.items():
            mark.update(f"{name}\0{len(asset.plain)}\0".encode() + asset.plain)
        self.build = mark.hexdigest()[:HASH_LENGTH]

    def path(self, name: str) -> str:
        """Return the path of a file. Raises KeyError for an unknown file."""
        if name not in self._files:
            raise KeyError(name)
        return f"/static/{self.build}/{name}"

    def find(self, build: str, name: str) -> Asset:
        """Return a file of this build. Raises NotFound, also for another build."""
        asset = self._files.get(name) if build == self.build else None
        if asset is None:
            raise NotFound("There is no such file in this version.")
        return asset


def _asset(name: str, data: bytes) -> Asset:
    compressor = zlib.compressobj(9, zlib.DEFLATED, GZIP)
    gzipped = compressor.compress(data) + compressor.flush()
    kind = TYPES.get(name.rpartition(".")[2], "application/octet-stream")
    return Asset(kind, data, gzipped if len(gzipped) < len(data) else None)


def _read(folder: resources.abc.Traversable, prefix: str = "") -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            files |= _read(entry, f"{prefix}{entry.name}/")
        else:
            files[prefix + entry.name] = entry.read_bytes()
    return files


def without_comments(script: bytes) -> bytes:
    """Remove the comments of a script; every line keeps its number."""
    return COMMENTS.sub(lambda found: b"\n" * found[0].count(b"\n"), script)


@cache
def packaged_assets() -> Assets:
    """Return the files of this package, read on the first call."""
    files = _read(resources.files("webui") / "static")
    for name in files:
        if name.startswith("js/"):
            files[name] = without_comments(files[name])
    joined = {name: b"\n".join(files[part] for part in parts) for name, parts in JOINED.items()}
    return Assets(files | joined)


class AssetHandler(BaseHandler):
    """One static file."""

    access = "anyone"
    cross_origin = False

    def get(self, build: str, name: str) -> None:
        """Send the file from memory, compressed if the client accepts gzip."""
        asset = packaged_assets().find(build, name)
        headers = {
            "Content-Type": asset.content_type,
            # "immutable" (RFC 8246): a reload does not ask again.
            "Cache-Control": "public, max-age=31536000, immutable",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Vary": "Accept-Encoding",
        }
        body = asset.plain
        if asset.gzipped is not None and self._takes_gzip():
            headers["Content-Encoding"] = "gzip"
            body = asset.gzipped
        self.reply(200, body, headers)

    def _takes_gzip(self) -> bool:
        """Return True if the client accepts gzip (RFC 9110, section 12.5.3)."""
        for part in self.request.headers.get("Accept-Encoding", "").split(","):
            coding, _, quality = part.partition(";")
            if coding.strip().lower() in ("gzip", "*"):
                return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
        return False
