"""Read `api-keys.json`, which a gateway writes behind: not before it is ready, but soon after."""

from __future__ import annotations

from pathlib import Path

from server.keys.export_file import read_export
from server.store.key import Key


def exported_keys(path: Path) -> dict[str, Key]:
    """Return the keys of an export by their ids; none before it was written for the first time."""
    return {key.id: key for key in read_export(path)} if path.exists() else {}
