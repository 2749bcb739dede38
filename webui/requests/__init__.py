"""Serve the owner's request log.

In: filters, or the id of one request.
Out: the list of requests, and the page of one request.
"""
