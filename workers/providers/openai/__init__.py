"""Speak OpenAI's wire format to an upstream.

In: a chat completion request; the upstream's events or its whole answer.
Out: the same bytes with the catalog's model id, repaired where they are invalid, and the usage.
"""
