"""Read the chat completion request that a client sent.

In: the bytes of a request body.
Out: the checked request, the size of its media, the usage an upstream reported, or InvalidRequest.
"""
