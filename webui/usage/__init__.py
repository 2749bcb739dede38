"""Serve the owner's usage page.

In: a span of days, filters, and the usage rows.
Out: figures, a chart, a table and a link to the CSV.
"""
