"""Send HTTP/1.1 requests to upstreams over kept-alive connections.

In: a URL, headers and a body; a sink for the body of the answer.
Out: the head and the bytes of the answer, or an UpstreamError.
"""
