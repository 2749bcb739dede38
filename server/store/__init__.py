"""Keep keys, sessions, counters and usage in a database in the data directory.

In: rows to write, and queries.
Out: rows, or StoreUnavailable and nothing changed; StoreFailure when the gateway cannot start.
"""
