"""Send files of people so that no browser runs them."""

from __future__ import annotations

RASTER_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp")
"""What browsers show without running anything; SVG is no picture but a document."""
FILE_POLICY = "default-src 'none'; sandbox"


def file_headers(kind: str) -> dict[str, str]:
    """Return the headers for a file; everything but pictures is a download."""
    headers = {
        "Content-Type": kind if kind in RASTER_IMAGES else "application/octet-stream",
        "Content-Security-Policy": FILE_POLICY,
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    if kind not in RASTER_IMAGES:
        headers["Content-Disposition"] = "attachment"
    return headers
