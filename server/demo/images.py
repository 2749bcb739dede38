"""Read format and dimensions from the first bytes of a PNG, JPEG, GIF or WebP image, for the demo.

Sources: PNG 11.2.2, JPEG T.81 B.2.2, GIF89a section 18, WebP container (RFC 9649, 2.5 to 2.7).
"""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple


class Picture(NamedTuple):
    """What an image's header contains; `width` and `height` are 0 when they cannot be read."""

    format: str
    width: int
    height: int
    size_bytes: int

    def __str__(self) -> str:
        """Return it as part of a sentence."""
        size = f"{self.width} x {self.height} pixels" if self.width else "of unknown dimensions"
        return f"a {self.format} image, {size}, {self.size_bytes:,} bytes"


def data_url_bytes(url: str) -> bytes:
    """Decode a base64 data URL. Raises ValueError when it is not one."""
    head, comma, payload = url.partition(",")
    if not head.lower().startswith("data:") or not comma or not head.lower().endswith(";base64"):
        raise ValueError("not a base64 data URL")
    try:
        return base64.b64decode(payload, validate=True)
    except binascii.Error as error:
        raise ValueError("the data URL contains no valid base64") from error


def read_picture(data: bytes) -> Picture:
    """Return the format and dimensions of an image."""
    for reader in (_png, _gif, _webp, _jpeg):
        if found := reader(data):
            name, width, height = found
            return Picture(name, width, height, len(data))
    return Picture("file that is no PNG, JPEG, GIF or WebP", 0, 0, len(data))


Size = tuple[str, int, int]


def _png(data: bytes) -> Size | None:
    if not data.startswith(b"\x89PNG\r\n\x1a\n") or len(data) < 24:
        return None
    return "PNG", int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _gif(data: bytes) -> Size | None:
    if data[:6] not in (b"GIF87a", b"GIF89a") or len(data) < 10:
        return None
    return "GIF", int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")


def _webp(data: bytes) -> Size | None:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    if data[12:16] == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        return "WebP", width, int.from_bytes(data[27:30], "little") + 1
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return "WebP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width = int.from_bytes(data[26:28], "little") & 0x3FFF
    return "WebP", width, int.from_bytes(data[28:30], "little") & 0x3FFF


def _jpeg(data: bytes) -> Size | None:
    """Walk the segments to the first frame header (SOF0 to SOF15 but DHT, JPG and DAC)."""
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height = int.from_bytes(data[at + 5 : at + 7], "big")
            return "JPEG", int.from_bytes(data[at + 7 : at + 9], "big"), height
        # T.81 B.1.1.2: fill bytes (0xFF) may come before a marker; other segments have a length.
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return "JPEG", 0, 0
