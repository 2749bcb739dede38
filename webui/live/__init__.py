"""Serve the owner's page of running and waiting requests.

In: the jobs and workers of this moment.
Out: the page, which its script keeps current.
"""
