"""Serve the owner's pages for API keys.

In: forms of the owner.
Out: the list of keys, the pages of one key, and changes through the key ring.
"""
