"""Serve the documentation, made from this server's own routes, errors, settings and models.

In: the OpenAPI document, the catalog and the base URL.
Out: the page at /docs and its Markdown.
"""
