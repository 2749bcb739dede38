"""Serve the chat page.

In: a visitor and the catalog.
Out: the page with the data that its scripts start from.
"""
