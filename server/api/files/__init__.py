"""Take files that are no part of a completion.

In: the bytes of a file.
Out: its text.
"""
