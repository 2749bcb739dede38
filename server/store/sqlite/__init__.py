"""Keep the data of one gateway in an SQLite file of its data directory.

In: rows and queries of the store.
Out: rows, or StoreUnavailable and nothing changed; StoreFailure for a file that cannot be used.
"""
