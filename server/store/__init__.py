"""Keep keys, sessions, counters and usage in a database in the data directory.

In: rows to write, and questions about them.
Out: rows, or StoreUnavailable and nothing changed; StoreFailure when the gateway cannot start.
"""
