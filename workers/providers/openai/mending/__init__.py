"""Mend what OpenAI-shaped upstreams send, where it is not what OpenAI's schema promises.

In: chunks and whole answers as they came.
Out: the same with required members, one id and time, OpenAI's finish reasons, and the usage.
"""
