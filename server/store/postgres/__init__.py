"""Keep the same data in a PostgreSQL database that several nodes share.

In: rows and queries of the store, and what other nodes have changed.
Out: rows, changes of others, or StoreUnavailable; usage waits in files while the database is away.
"""
