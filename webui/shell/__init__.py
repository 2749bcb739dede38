"""Provide what all pages share: layout, assets, security headers, figures and charts.

In: page requests and the values a page shows.
Out: HTML pages, static files, and errors as pages.
"""
