"""The version of the installed gateway."""

from __future__ import annotations

from importlib import metadata


def version() -> str:
    """Return the version of the installed package, or "0+unknown" where it is not installed."""
    try:
        return metadata.version("roxy-ai")
    except metadata.PackageNotFoundError:  # run from a checkout
        return "0+unknown"
