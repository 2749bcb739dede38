"""Deliver answers to clients and keep those that are asked for again.

In: jobs, and readers that come and go.
Out: event streams, whole bodies, and the logs of kept answers.
"""
