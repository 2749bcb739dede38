"""Decide who sends a request.

In: the head of a request and the address of its client.
Out: a `Principal` (owner, key holder or guest), or InvalidKey.
"""
