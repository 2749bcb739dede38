"""Translate between chat completions and the wire format of each provider, without I/O.

In: a request and a deployment; then the bytes of the upstream's answer, however they are split.
Out: the upstream request; then OpenAI chunks, usage, or an UpstreamError for a rejection.
"""
