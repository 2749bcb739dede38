"""Declare and check the settings of `[web]`: what the owner changes about the pages."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from workers.units import KIB

MAX_LOGO_BYTES = 512 * KIB
PNG, RIFF, WEBP = b"\x89PNG\r\n\x1a\n", b"RIFF", b"WEBP"
HEAD_CHARS = 1000
"""How far into a file the element `svg` is looked for."""


class Suggestion(Struct, frozen=True, forbid_unknown_fields=True):
    """A prompt below the box of a new chat: what its button says, and what it puts in the box."""

    name: Annotated[str, Meta(min_length=1, max_length=40)]
    text: Annotated[str, Meta(min_length=1, max_length=4000)]


class Web(Struct, frozen=True, forbid_unknown_fields=True):
    """Texts, name and logo of the pages."""

    name: Annotated[
        str, Meta(min_length=1, max_length=40, description="Name of this service on every page.")
    ] = "Roxy AI"
    logo: Annotated[
        str,
        Meta(
            description="Image file beside the name: PNG, SVG or WebP, at most 512 KiB; empty:"
            " Roxy's own."
        ),
    ] = ""
    welcome: Annotated[
        str, Meta(max_length=200, description="Greeting above the box of a new chat.")
    ] = "What would you like to know?"
    prompts: Annotated[
        Annotated[tuple[Suggestion, ...], Meta(max_length=50)] | None,
        Meta(
            description="Up to 50 prompts for everybody, as a list of `{ name, text }` (in the"
            " variable: as JSON). The first 8 stand below the box of a new chat; `/` in the box"
            " lists all of them. Unset: three examples below the box; `[]`: none."
        ),
    ] = None
    default_model: Annotated[
        str,
        Meta(
            description="Id of the model that a new visitor's chat starts with; empty: the first."
        ),
    ] = ""
    titles: Annotated[
        bool,
        Meta(
            description="Have a model write the titles of chats of people who sign in: the"
            " cheapest that the person may use. Each title is a request of its own, which counts"
            " for the person's key."
        ),
    ] = False
    notice: Annotated[
        str,
        Meta(
            max_length=300,
            description="Line above every page, which visitors can close; empty: none.",
        ),
    ] = ""
    notice_link: Annotated[
        str, Meta(max_length=2000, description="URL that the notice leads to; empty: none.")
    ] = ""


class Logo(Struct, frozen=True):
    """An image file: its bytes, and its type as the ending of its name."""

    data: bytes
    ending: str

    @property
    def mark(self) -> str:
        """A hash of the content, for its path."""
        return hashlib.sha256(self.data).hexdigest()[:12]


def read_logo(path: str) -> Logo:
    """Read a logo. Raises ValueError with what is wrong with the file."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_LOGO_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_LOGO_BYTES:
        raise ValueError(f"{path} is larger than {MAX_LOGO_BYTES // KIB} KiB")
    if data.startswith(PNG):
        return Logo(data, "png")
    if data[:4] == RIFF and data[8:12] == WEBP:
        return Logo(data, "webp")
    if b"<svg" in data[:HEAD_CHARS] and data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return Logo(data, "svg")
    raise ValueError(f"{path} is not a PNG, SVG or WebP image")


def find_web_fault(web: Web) -> str:
    """Return what is wrong with the settings, led by the setting's name; "" for nothing."""
    for setting in ("name", "welcome", "notice"):
        text = getattr(web, setting)
        if not all(letter.isprintable() for letter in text):
            return f"{setting} must be one line without control characters"
        if text and not text.strip():
            return f"{setting} must hold more than spaces"
    if web.notice_link:
        if not web.notice:
            return "notice_link needs a notice"
        if not _is_link(web.notice_link):
            return "notice_link must be an http(s) URL, or a path that begins with /"
    if web.logo:
        try:
            read_logo(web.logo)
        except ValueError as error:
            return f"logo: {error}"
    return ""


def _is_link(link: str) -> bool:
    if not link.isprintable() or " " in link:
        return False
    if link.startswith("/"):
        return not link.startswith("//") and "\\" not in link
    try:
        parts = urlsplit(link)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
