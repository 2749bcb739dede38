"""Speak OpenAI's wire format to an upstream.

In: a chat completion request; the upstream's events or its whole answer.
Out: the same bytes where they are right, with the catalog's model id and the usage read from them.
"""
