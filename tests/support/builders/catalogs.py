"""Load catalogs as the gateway does, with the translators of this version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from workers.catalog import catalog_file
from workers.catalog.catalog import Catalog
from workers.catalog.catalog_file import Entry
from workers.providers.formats import TRANSLATORS


def load_catalog(
    overrides: Sequence[Entry] = (), environ: Mapping[str, str] | None = None
) -> Catalog:
    """Build a catalog; see `workers.catalog.catalog_file.load_catalog`."""
    return catalog_file.load_catalog(overrides, environ, formats=TRANSLATORS)
