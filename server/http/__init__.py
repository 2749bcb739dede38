"""Serve HTTP/1.1 to clients underneath Tornado's handlers.

In: listening sockets and the bytes of clients.
Out: parsed heads, bounded bodies and written answers, within the limits of time and size.
"""
