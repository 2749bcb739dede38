"""Keep on the disk what the database does not have yet, and book it after a kill.

In: the running requests of this process, and the ended ones whose rows are not saved yet.
Out: files in the data directory; of a process that was killed, usage rows and corrected budgets.
"""
