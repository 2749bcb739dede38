"""Serve the sign-in page, end sessions and keep the chosen language.

In: a key, however it was copied.
Out: a session's cookie and the wanted page, or words that say what is wrong.
"""
