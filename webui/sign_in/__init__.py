"""Serve the sign-in page, and end sessions.

In: a key, however it was copied.
Out: a session's cookie and the wanted page, or words that say what is wrong.
"""
