"""Answer as a scripted upstream, for `--demo` and for tests. It is no part of the gateway.

In: chat completion requests on a loopback socket.
Out: answers, refusals and faults in OpenAI's wire format.
"""
