"""Serve what a read-only link shows, to anyone who has the link.

In: the token of a link.
Out: a page with a copy of a conversation, and its pictures; 404 once the link has ended.
"""
