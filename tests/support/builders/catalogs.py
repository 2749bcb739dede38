"""Build catalogs: as the gateway loads them, and a second model for a gateway of tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from support.fakes.upstream import FakeUpstream

from workers.catalog import catalog_file
from workers.catalog.catalog import Catalog
from workers.catalog.catalog_file import Entry
from workers.providers.formats import TRANSLATORS


def load_catalog(
    overrides: Sequence[Entry] = (), environ: Mapping[str, str] | None = None
) -> Catalog:
    """Build a catalog; see `workers.catalog.catalog_file.load_catalog`."""
    return catalog_file.load_catalog(overrides, environ, formats=TRANSLATORS)


def second_model(upstream: FakeUpstream, **fields: str) -> str:
    """Describe the model `test/two`, beside that of `front_door`; `fields` are values in TOML."""
    more = "\n".join(f"{name} = {value}" for name, value in fields.items())
    return f"""
[[models]]
id = "test/two"
name = "Test Two"
prices = {{ prompt = 1.0, completion = 2.0 }}
{more}
[[models.deployments]]
provider = "openai"
base_url = "{upstream.base_url}"
upstream_model = "second"
secret_env = "TEST_UPSTREAM_KEY"
"""
