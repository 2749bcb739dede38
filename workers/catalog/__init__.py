"""Describe the models that clients can name, their deployments and their prices.

In: `catalog.toml`, the `[[models]]` of `roxy.toml`, the environment variables with secrets.
Out: a `Catalog` of models, or a CatalogError that names the wrong entry.
"""
