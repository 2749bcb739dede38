"""Reach the requests of other processes: find them, pass requests on and sum up what runs.

In: ids of requests, and what the nodes report of themselves.
Out: the answers of the processes that have the requests.
"""
