"""Count limits and budgets of several nodes in Redis or Valkey, exactly.

In: takes, settlements and give-backs of this process; the sums that the database knows.
Out: the same answers as counters in memory; while Redis is away, decisions by a local share.
"""
