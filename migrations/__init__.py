"""The database's history: numbered `.sql` files, run in order by `server/store/migrate.py`.

A released file is never edited; the next change is the next number.
"""
