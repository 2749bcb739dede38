"""Admit requests, count what they use and settle the count when they end.

In: a principal, a model and a request; later the job's outcome.
Out: a lease or a refusal; then counters, budgets and one usage row.
"""
