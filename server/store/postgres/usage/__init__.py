"""Write usage to PostgreSQL, once each, and read it; keep it in files while that is not possible.

In: batches of the ledger; spans of days, groups and filters.
Out: rows and sums in the database, or files that wait for it; sums, pages and percentiles.
"""
